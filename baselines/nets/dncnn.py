"""DnCNN: a plain stack of 3x3 convolutions that predicts the noise (Zhang et al., IEEE TIP 2017, arXiv:1608.03981, section III)."""

from __future__ import annotations

import torch
from torch import nn


class DnCNN(nn.Module):
    """x = y - R(y), with R: conv + ReLU, (depth - 2) x (conv + batch norm + ReLU), conv; all 3x3, zero padded.

    ``DnCNN()`` is the published 17-layer network for one known noise level (0.556 M parameters), with the parameter names of the common
    PyTorch checkpoints (``dncnn.N.*``). ``norm=False`` leaves batch norm out; with ``bias=False`` and ``centre=0`` the network is then
    homogeneous, f(a y) = a f(y) for a > 0 (Mohan et al., arXiv:1906.05478). ``centre`` is subtracted from what R sees: without batch
    norm the mean grey otherwise dominates every activation, and a short training suffers (by 1 dB at 500 steps on photographs).
    Takes and returns (B, channels, H, W) of any size.
    """

    def __init__(
        self, channels: int = 1, depth: int = 17, width: int = 64, norm: bool = True, bias: bool = False, centre: float = 0.0
    ) -> None:
        super().__init__()
        self.centre = centre
        self.halo, self.stride = depth, 1  # how far an output looks, and on which grid a tile may begin (see `tiling`)

        def conv(a: int, b: int) -> nn.Conv2d:
            return nn.Conv2d(a, b, 3, padding=1, bias=bias)

        layers: list[nn.Module] = [conv(channels, width), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [conv(width, width), *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU(inplace=True)]
        self.dncnn = nn.Sequential(*layers, conv(width, channels))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.orthogonal_(m.weight, gain=2**0.5)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        if not norm:  # start at f(y) = y: without normalisation a random residual is as large as the image
            nn.init.zeros_(self.dncnn[-1].weight)  # type: ignore[arg-type]

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return y - self.dncnn(y - self.centre if self.centre else y)
