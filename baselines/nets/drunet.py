"""DRUNet: a bias-free residual U-Net conditioned on the noise level (Zhang et al., IEEE TPAMI 2022, arXiv:2008.13751, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from .padding import pad_to_multiple


class ResBlock(nn.Module):
    """x + conv(ReLU(conv(x))), no biases, no normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.res = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.res(x)


class DRUNet(nn.Module):
    """U-Net over ``len(widths)`` scales with ``blocks`` residual blocks each way: 2x2 strided convolutions down, transposed ones up,
    additive skips. The noise level enters as a constant extra plane.

    Without biases the map (y, sigma) -> x is homogeneous: f(a y, a sigma) = a f(y, sigma) for a > 0, which is what lets it extrapolate in
    sigma. ``DRUNet()`` is the published size (widths 64 to 512, 4 blocks), with the parameter names of the official checkpoints
    (``m_head``, ``m_down1``, ...). y: (B, channels, H, W) of any size; sigma: a number or (B,), in the units of y.
    """

    def __init__(self, channels: int = 1, widths: Sequence[int] = (64, 128, 256, 512), blocks: int = 4) -> None:
        super().__init__()
        self.scales = len(widths)
        self.stride = 2 ** (self.scales - 1)
        # how far an output looks (see `tiling`): 2 pixels a block, at every scale there and back; head, tail and the strides' own windows
        self.halo = 2 + sum(4 * blocks * 2**k for k in range(self.scales - 1)) + (2 * blocks + 2) * self.stride
        self.m_head = nn.Conv2d(channels + 1, widths[0], 3, padding=1, bias=False)
        for k, (a, b) in enumerate(pairwise(widths), 1):
            down, up = nn.Conv2d(a, b, 2, stride=2, bias=False), nn.ConvTranspose2d(b, a, 2, stride=2, bias=False)
            self.add_module(f"m_down{k}", nn.Sequential(*(ResBlock(a) for _ in range(blocks)), down))
            self.add_module(f"m_up{k}", nn.Sequential(up, *(ResBlock(a) for _ in range(blocks))))
        self.m_body = nn.Sequential(*(ResBlock(widths[-1]) for _ in range(blocks)))
        self.m_tail = nn.Conv2d(widths[0], channels, 3, padding=1, bias=False)
        for m in self.modules():
            if isinstance(m, ResBlock):  # every block starts as the identity, so that depth does not scale the signal
                nn.init.zeros_(m.res[2].weight)  # type: ignore[arg-type]

    def forward(self, y: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        height, width = y.shape[-2:]
        level = torch.as_tensor(sigma, dtype=y.dtype, device=y.device).reshape(-1, 1, 1, 1)
        x = torch.cat([y, level.expand(y.shape[0], 1, height, width)], 1)
        x = self.m_head(pad_to_multiple(x, 2 ** (self.scales - 1)))
        skips = [x]
        for k in range(1, self.scales):
            skips.append(self.get_submodule(f"m_down{k}")(skips[-1]))
        x = self.m_body(skips[-1])
        for k in range(self.scales - 1, 0, -1):
            x = self.get_submodule(f"m_up{k}")(x + skips[k])
        return self.m_tail(x + skips[0])[..., :height, :width]
