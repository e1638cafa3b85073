"""C-BSN: downsampled invariance and a blind-spot network that can be switched off (Jang et al., ICCV 2023, arXiv:2304.09507)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from ...tasks.requests import Request
from ..method import DataSpec
from ..nets.blindspot import permuted_cells, whole
from .blindspot_plain import BlindSpotMethod


class CBSN(BlindSpotMethod):
    """One set of weights, blind (f_b) or not (f); the answer is f(y), one pass that sees every pixel.

    L = L_blind + w(t) (L_self + lambda L_inv), all absolute differences:
    L_blind = | PD_s^-1(f_b(PD_s(y))) - y |, L_self = | f(y) - y |, L_inv = | D(f(y)) - stopgrad(f_b(D(y))) |, where D takes one random pixel of
    every 2 x 2 cell, the same in both. w rises to 1 over the first ``ramp`` of the training (published: 200,000 of 500,000 steps).
    """

    def __init__(
        self, data: DataSpec, blind_stride: int = 5, invariance: float = 2.0, ramp: float = 0.4, normalise: bool = False,
        width: int = 32, modules: int = 3, centre: float = 0.5, lr: float = 2e-3, batch_size: int = 2,
    ) -> None:  # fmt: skip
        super().__init__(data, width, modules, centre, lr, batch_size)
        self.blind_stride, self.invariance, self.ramp, self.normalise = blind_stride, invariance, ramp, normalise
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    taken: torch.Tensor
    """Training steps so far; the ramp follows it."""

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        y = whole(batch["input"], 2 * self.blind_stride)
        if self.normalise:
            y, _, _ = standardised(y)
        weight = min(1.0, float(self.taken) / max(1.0, self.ramp * getattr(self, "total_steps", 1)))
        self.taken += 1
        seen = self.network(y, blind=False)
        height, width = y.shape[-2] // 2, y.shape[-1] // 2
        order = torch.randint(4, (1, len(y), 1, height, width), device=y.device)
        with torch.no_grad():
            goal = self.network(permuted_cells(y, 2, order)[0])
        own, invariant = F.l1_loss(seen, y), F.l1_loss(permuted_cells(seen, 2, order)[0], goal)
        blind = F.l1_loss(self.shuffled(y, self.blind_stride), y)
        return blind + weight * (own + self.invariance * invariant)

    def denoise(self, request: Request) -> torch.Tensor:
        y = request.noisy
        if self.normalise:
            z, mean, std = standardised(y)
            return self._whole_picture(z) * std + mean
        return self._whole_picture(y)

    def _whole_picture(self, y: torch.Tensor) -> torch.Tensor:
        """One pass over the picture, continued by up to 32 pixels of reflection, as published."""
        p = min(32, y.shape[-2] - 1, y.shape[-1] - 1)
        return self.network(F.pad(y, (p, p, p, p), mode="reflect"), blind=False)[..., p:-p, p:-p] if p else self.network(y, blind=False)


def standardised(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (y - mean) / std of every picture and channel, and both; std is at least 1 over the picture's side."""
    mean = y.mean((-2, -1), keepdim=True)
    std = y.std((-2, -1), keepdim=True, correction=0).clamp(min=1 / (y.shape[-2] * y.shape[-1]) ** 0.5)
    return (y - mean) / std, mean, std
