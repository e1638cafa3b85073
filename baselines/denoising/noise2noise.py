"""Noise2Noise (Lehtinen et al. 2018, arXiv:1803.04189): a network trained to turn one noisy copy of a picture into another."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from ..method import DataSpec
from .selfsup import SelfSupervised, crops


class Noise2Noise(SelfSupervised):
    """min E |f(y1) - y2|^2 (eq. 6): with zero-mean noise in y2, independent of y1, the minimiser is that of clean targets, E[x | y1].

    ``swap`` also trains on the pair in the other order, which costs nothing but an order: each item's copies are exchanged at random.
    """

    def __init__(self, data: DataSpec, swap: bool = True, lr: float = 4e-3, batch_size: int = 4) -> None:
        super().__init__(data, lr, batch_size)
        self.swap = swap

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        y1, y2 = crops(batch), crops(batch, "input2")
        if self.swap and bool(torch.rand(()) < 0.5):
            y1, y2 = y2, y1
        return F.mse_loss(self.network(y1), y2)
