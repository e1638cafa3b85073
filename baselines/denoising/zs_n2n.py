"""ZS-N2N: zero-shot Noise2Noise on the two diagonals of one picture (Mansour and Heckel, CVPR 2023, arXiv:2303.11253)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ...tasks.randomness import Rng
from ...tasks.requests import Request
from ..method import DataSpec
from .single_image import SingleImage, adam_step, diagonal_pair, renew


class ZSN2N(SingleImage):
    """A network of two hidden layers, f, is fitted to one picture y; the answer is y - f(y).

    Residual loss (eq. 6) with D1, D2 the diagonals: 1/2 (|D1 - f(D1) - D2|^2 + |D2 - f(D2) - D1|^2); consistency (eq. 7):
    1/2 (|D1 - f(D1) - D1(y - f(y))|^2 + the same with D2). Adam; the learning rate is halved in the middle of ``steps`` (published: after
    1000 of 2000).
    """

    network: nn.Sequential

    def __init__(self, data: DataSpec, width: int = 48, steps: int = 400, lr: float = 1e-3) -> None:
        super().__init__()
        c = data.channels
        self.network = nn.Sequential(
            nn.Conv2d(c, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, c, 1),
        )
        self.steps, self.lr = steps, lr

    def denoise(self, request: Request) -> torch.Tensor:
        return torch.cat([self._one(y[None], request.rng[k]) for k, y in enumerate(request.noisy)])

    def _one(self, y: torch.Tensor, rng: Rng) -> torch.Tensor:
        optimiser = torch.optim.Adam(renew(rng, self.network), lr=self.lr)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, max(1, self.steps // 2), 0.5)
        for _ in range(self.steps):
            adam_step(optimiser, self.loss(y), [schedule])
        with torch.no_grad():
            return y - self.network(y)

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """Return the residual and the consistency loss of one picture (1, C, H, W)."""
        d1, d2 = diagonal_pair(y)
        one, two = d1 - self.network(d1), d2 - self.network(d2)
        whole1, whole2 = diagonal_pair(y - self.network(y))
        residual = F.mse_loss(one, d2) + F.mse_loss(two, d1)
        return (residual + F.mse_loss(one, whole1) + F.mse_loss(two, whole2)) / 2
