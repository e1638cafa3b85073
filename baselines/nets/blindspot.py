"""The dilated blind-spot network in its light form, D-BSN light, with a switch for the centre tap.

Wu et al., ECCV 2020, arXiv:2008.13711; light form: Lee et al., AP-BSN, CVPR 2022, arXiv:2203.11799, supplement; the switch: Jang et al., C-BSN,
ICCV 2023, arXiv:2304.09507, section 3.3. Also the ways in which the methods built on it take a picture apart into smaller ones.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .nafnet import Pointwise


class CentreMasked(nn.Conv2d):
    """A square convolution of odd size whose centre tap counts only when ``blind`` is false; zero padded to equal size."""

    mask: torch.Tensor

    def __init__(self, before: int, after: int, size: int) -> None:
        super().__init__(before, after, size, padding=size // 2)
        mask = torch.ones(1, 1, size, size)
        mask[..., size // 2, size // 2] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: torch.Tensor, blind: bool = True) -> torch.Tensor:
        weight = self.weight * self.mask if blind else self.weight
        return F.conv2d(x, weight, self.bias, padding=self.padding)


class DilatedModule(nn.Module):
    """x + 1x1(ReLU(3x3 dilated x)): every tap lies a multiple of ``dilation`` pixels away, so the hole in the middle stays open."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.far = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.near = Pointwise(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.near(F.relu(self.far(x)))


class Branch(nn.Module):
    """A masked (2s - 1) x (2s - 1) convolution, two 1x1, then modules of dilation s, then 1x1; s = 2 or 3."""

    def __init__(self, dilation: int, width: int, modules: int) -> None:
        super().__init__()
        self.enter = CentreMasked(width, width, 2 * dilation - 1)
        self.mix1, self.mix2, self.leave = Pointwise(width, width), Pointwise(width, width), Pointwise(width, width)
        self.far = nn.Sequential(*(DilatedModule(width, dilation) for _ in range(modules)))

    def forward(self, x: torch.Tensor, blind: bool) -> torch.Tensor:
        x = F.relu(self.enter(x, blind))
        return F.relu(self.leave(self.far(F.relu(self.mix2(F.relu(self.mix1(x)))))))


class BlindSpotNet(nn.Module):
    """``net(y)`` estimates every pixel from its surroundings, never from itself; ``net(y, blind=False)`` also sees it, with the same weights.

    (B, channels, H, W) of any size in and out. ``BlindSpotNet(3, 128, 9)`` is the published size (3.66 M parameters). ``centre`` is
    subtracted from what the layers see and added to the answer: without normalisation the mean grey costs a short training much.
    """

    def __init__(self, channels: int = 1, width: int = 32, modules: int = 3, centre: float = 0.5) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width {width} must be even")
        self.centre = centre
        self.head = Pointwise(channels, width)
        self.branch1, self.branch2 = Branch(2, width, modules), Branch(3, width, modules)
        self.tail = nn.Sequential(
            Pointwise(2 * width, width), nn.ReLU(), Pointwise(width, width // 2), nn.ReLU(),
            Pointwise(width // 2, width // 2), nn.ReLU(), Pointwise(width // 2, channels),
        )  # fmt: skip
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
                nn.init.zeros_(m.bias)  # type: ignore[arg-type]
        for module in (*self.branch1.far, *self.branch2.far):
            nn.init.zeros_(module.near.weight)  # type: ignore[union-attr, arg-type]
        nn.init.zeros_(self.tail[-1].weight)  # type: ignore[arg-type]

    def forward(self, y: torch.Tensor, blind: bool = True) -> torch.Tensor:
        x = F.relu(self.head(y - self.centre))
        both = torch.cat([self.branch1(x, blind), self.branch2(x, blind)], 1)
        return self.tail(both) + self.centre


# ---------------------------------------------------------------------- taking a picture apart
def whole(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Cut (B, C, H, W) at the right and bottom to sides that ``stride`` divides."""
    return x[..., : x.shape[-2] - x.shape[-2] % stride, : x.shape[-1] - x.shape[-1] % stride]


def apart(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Pixel-shuffle downsampling: the stride^2 pictures of every stride-th pixel, (stride^2 B, C, H / stride, W / stride).

    The sub-picture with offset (i, j) of sample b is row (i stride + j) B + b. Sides must be divisible by ``stride``.
    """
    b, c, h, w = x.shape
    cells = x.reshape(b, c, h // stride, stride, w // stride, stride)
    return cells.permute(3, 5, 0, 1, 2, 4).reshape(stride * stride * b, c, h // stride, w // stride)


def together(parts: torch.Tensor, stride: int) -> torch.Tensor:
    """Undo `apart`."""
    n, c, h, w = parts.shape
    cells = parts.reshape(stride, stride, n // stride**2, c, h, w)
    return cells.permute(2, 3, 4, 0, 5, 1).reshape(n // stride**2, c, h * stride, w * stride)


def cells(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the stride x stride cells of (B, C, H, W) as (stride^2, B, C, H / stride, W / stride): entry i stride + j is offset (i, j)."""
    return apart(x, stride).reshape(stride * stride, *x.shape[:2], x.shape[-2] // stride, x.shape[-1] // stride)


def permuted_cells(x: torch.Tensor, stride: int, order: torch.Tensor) -> torch.Tensor:
    """Return random sub-samples: entry k takes from every cell the pixel ``order[k]``.

    ``order`` int64 (K, B, 1, H / stride, W / stride), numbers of pixels within a cell; the result is (K, B, C, H / stride, W / stride).
    """
    return cells(x, stride).gather(0, order.expand(-1, -1, x.shape[1], -1, -1))
