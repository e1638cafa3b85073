"""AP-BSN: asymmetric pixel-shuffle downsampling for a blind-spot network (Lee, Son and Lee, CVPR 2022, arXiv:2203.11799)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from ...tasks.requests import Request
from ..method import DataSpec
from ..nets.blindspot import whole
from .blindspot_plain import BlindSpotMethod


class APBSN(BlindSpotMethod):
    """Trained where noise is decorrelated (stride a), asked where little is lost (stride b).

    Loss (eq. 5): | PD_a^-1(f(PD_a(y))) - y |, and x_1 = PD_b^-1(f(PD_b(y))) at inference (a = 5, b = 2). ``refinements`` T > 0 adds R3
    (section 3.4): in T copies of x_1 every value is replaced by that of y with probability ``share``, f at full resolution answers each, and
    the answers are averaged.
    """

    def __init__(
        self, data: DataSpec, train_stride: int = 5, test_stride: int = 2, refinements: int = 0, share: float = 0.16,
        width: int = 32, modules: int = 3, centre: float = 0.5, lr: float = 2e-3, batch_size: int = 2,
    ) -> None:  # fmt: skip
        super().__init__(data, width, modules, centre, lr, batch_size)
        self.train_stride, self.test_stride, self.refinements, self.share = train_stride, test_stride, refinements, share

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        y = whole(batch["input"], self.train_stride)
        return F.l1_loss(self.shuffled(y, self.train_stride), y)

    def denoise(self, request: Request) -> torch.Tensor:
        y = request.noisy
        x1 = self.shuffled(y, self.test_stride)
        if not self.refinements:
            return x1
        total = torch.zeros_like(y)
        for t in range(self.refinements):
            replaced = request.rng.at("R3", t).uniform(y.shape[1:]) < self.share
            mixed = F.pad(torch.where(replaced, y, x1), (2, 2, 2, 2), mode="reflect")
            total += self.network(mixed)[..., 2:-2, 2:-2]
        return total / self.refinements
