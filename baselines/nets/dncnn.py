"""DnCNN: a plain stack of 3x3 convolutions that predicts the noise (Zhang et al., IEEE TIP 2017, arXiv:1608.03981, section III)."""

from __future__ import annotations

import torch
from torch import nn


class DnCNN(nn.Module):
    """x = y - R(y), with R: conv + ReLU, (depth - 2) x (conv + batch norm + ReLU), conv; all 3x3, zero padded, no biases in convolutions.

    ``DnCNN()`` is the published 17-layer network for one known noise level (0.556 M parameters), with the parameter names of the common
    PyTorch checkpoints (``dncnn.N.*``). ``norm=False`` leaves batch norm out; the network is then bias-free, hence homogeneous:
    f(a y) = a f(y) for a > 0 (Mohan et al., arXiv:1906.05478). Takes and returns (B, channels, H, W) of any size.
    """

    def __init__(self, channels: int = 1, depth: int = 17, width: int = 64, norm: bool = True) -> None:
        super().__init__()

        def conv(a: int, b: int) -> nn.Conv2d:
            return nn.Conv2d(a, b, 3, padding=1, bias=False)

        layers: list[nn.Module] = [conv(channels, width), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [conv(width, width), *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU(inplace=True)]
        self.dncnn = nn.Sequential(*layers, conv(width, channels))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
        if not norm:  # start at f(y) = y: without normalisation a random residual is as large as the image
            nn.init.zeros_(self.dncnn[-1].weight)  # type: ignore[arg-type]

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return y - self.dncnn(y)
