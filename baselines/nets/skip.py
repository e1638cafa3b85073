"""The hourglass with thin skip connections of the deep image prior (Ulyanov, Vedaldi and Lempitsky, arXiv:1711.10925, figure 21)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .padding import pad_to_multiple


def _block(before: int, after: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, after, size, stride, size // 2, padding_mode="reflect" if size > 1 else "zeros")
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.LeakyReLU(0.2))


class SkipNet(nn.Module):
    """(B, inputs, H, W) to (B, channels, H, W) in [0, 1] (a sigmoid at the end).

    Per level: two 3x3 convolutions down (the first with stride 2), a skip of ``skip`` channels by a 1x1 convolution, bilinear enlargement,
    batch norm, a 3x3 and a 1x1 convolution up; reflection padding, batch norm and LeakyReLU 0.2 everywhere. ``SkipNet(3, 32, 128, 5)`` is the
    published denoising network. Sides are continued to multiples of 2^levels.
    """

    def __init__(self, channels: int = 1, inputs: int = 32, width: int = 32, levels: int = 3, skip: int = 4) -> None:
        super().__init__()
        self.levels = levels
        self.down, self.skips, self.norms, self.up = (nn.ModuleList() for _ in range(4))
        for k in range(levels):
            before = inputs if k == 0 else width
            self.down.append(nn.Sequential(_block(before, width, stride=2), _block(width, width)))
            self.skips.append(_block(before, skip, 1))
            self.norms.append(nn.BatchNorm2d(width + skip))
            self.up.append(nn.Sequential(_block(width + skip, width), _block(width, width, 1)))
        self.out = nn.Conv2d(width, channels, 1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        height, width = z.shape[-2:]
        return torch.sigmoid(self.out(self._level(pad_to_multiple(z, 2**self.levels), 0)))[..., :height, :width]

    def _level(self, x: torch.Tensor, k: int) -> torch.Tensor:
        deep = self.down[k](x)
        if k + 1 < self.levels:
            deep = self._level(deep, k + 1)
        deep = F.interpolate(deep, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.up[k](self.norms[k](torch.cat([self.skips[k](x), deep], 1)))
