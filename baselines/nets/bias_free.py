"""A bias-free U-Net (Mohan et al. 2020; Kadkhodaie et al. 2023): no additive constant anywhere, so it is positively homogeneous."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class ScaleNorm(nn.Module):
    """Batch norm without mean and shift: x times a learned gain over the standard deviation, the batch's in training, the running one after."""

    running: torch.Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("running", torch.ones(1, channels, 1, 1))
        self.momentum = momentum

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x * (self.gain / self.running)
        deviation = (x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
        with torch.no_grad():
            self.running.lerp_(deviation, self.momentum)
        return x * (self.gain / deviation)


def block(inside: int, out: int, norm: bool, first: bool = False, last: int = 0) -> nn.Sequential:
    """Return two 3 x 3 convolutions with ReLU; with ``norm`` they are normed, but for the network's first.

    With ``last`` the second gives ``last`` channels, plain.
    """
    conv = lambda i, o: nn.Conv2d(i, o, 3, padding=1, bias=False)  # noqa: E731
    scale = lambda: [ScaleNorm(out)] if norm else []  # noqa: E731
    head: list[nn.Module] = [conv(inside, out), *([] if first else scale()), nn.ReLU()]
    return nn.Sequential(*head, *([conv(out, last)] if last else [conv(out, out), *scale(), nn.ReLU()]))


class BiasFreeUNet(nn.Module):
    """``forward`` returns like x (B, C, H, W), sides divisible by 2^levels: mean pooling down, transposed convolutions up, skips by
    concatenation.

    ``width`` channels at full resolution, twice as many at each of ``levels`` coarser ones. In eval mode net(a x) = a net(x) for a >= 0.
    ``norm``: the published network's scaling by running deviations. Its batches have 512 pictures; with a few, whose noise levels differ, the
    deviations in training are not those of answers.
    """

    def __init__(self, channels: int, width: int = 24, levels: int = 2, norm: bool = False) -> None:
        super().__init__()
        self.down, self.raise_, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        inside = channels
        for level in range(levels):
            self.down.append(block(inside, width * 2**level, norm, first=level == 0))
            inside = width * 2**level
        self.middle = block(inside, 2 * inside, norm)
        for level in reversed(range(levels)):
            w = width * 2**level
            self.raise_.append(nn.ConvTranspose2d(2 * w, w, 2, 2, bias=False))
            self.up.append(block(2 * w, w, norm, last=channels if level == 0 else 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for down in self.down:
            x = down(x)
            kept.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.middle(x)
        for raise_, up in zip(self.raise_, self.up, strict=True):
            x = up(torch.cat([kept.pop(), raise_(x)], 1))
        return x
