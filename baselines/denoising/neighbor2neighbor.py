"""Neighbor2Neighbor (Huang et al. 2021, arXiv:2101.02824): two half-size pictures of neighbouring pixels stand for two noisy copies."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from ..method import DataSpec
from .selfsup import SelfSupervised, crops

PAIRS = torch.tensor([[0, 1], [0, 2], [1, 3], [2, 3], [1, 0], [2, 0], [3, 1], [3, 2]])
"""Ordered pairs of pixels of a 2 x 2 cell (numbered by rows) that share a side."""

Choice = torch.Tensor
"""Int64 (B, 1, H / 2, W / 2): the pixel taken in every cell, 0 to 3."""


def choose(y: torch.Tensor) -> tuple[Choice, Choice]:
    """Draw a pair of adjacent pixels for every cell of (B, C, H, W); the same for all channels."""
    drawn = torch.randint(len(PAIRS), (len(y), 1, y.shape[-2] // 2, y.shape[-1] // 2), device=y.device)
    pair = PAIRS.to(y.device)[drawn]
    return pair[..., 0], pair[..., 1]


def subsampled(y: torch.Tensor, choice: Choice) -> torch.Tensor:
    """Return g(y), (B, C, H / 2, W / 2): the pixel ``choice`` of every cell. An odd last row or column is left out."""
    b, c, h, w = y.shape
    cells = F.pixel_unshuffle(y[..., : h - h % 2, : w - w % 2], 2).reshape(b, c, 4, h // 2, w // 2)
    return cells.gather(2, choice[:, :, None].expand(b, c, 1, h // 2, w // 2))[:, :, 0]


class Neighbor2Neighbor(SelfSupervised):
    """With a random sub-sampler (g1, g2) of adjacent pixels, the same in all four places,

        L = |f(g1 y) - g2 y|^2 + gamma |f(g1 y) - g2 y - (g1 f(y) - g2 f(y))|^2,

    f(y) without gradient. The second term allows for the true difference of neighbouring pixels. The published code lets its weight grow
    linearly from 0 to ``gamma`` over the training.
    """

    def __init__(self, data: DataSpec, gamma: float = 2.0, lr: float = 4e-3, batch_size: int = 4) -> None:
        super().__init__(data, lr, batch_size)
        self.gamma = gamma

    def loss(self, y: torch.Tensor, one: Choice, two: Choice, gamma: float) -> torch.Tensor:
        """Return L for noisy crops and the pixels drawn."""
        with torch.no_grad():
            whole = self.network(y)
        difference = self.network(subsampled(y, one)) - subsampled(y, two)
        expected = subsampled(whole, one) - subsampled(whole, two)
        return difference.square().mean() + gamma * (difference - expected).square().mean()

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        y = crops(batch)
        return self.loss(y, *choose(y), self.gamma * self.progress())
