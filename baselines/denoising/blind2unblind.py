"""Blind2Unblind (Wang et al., CVPR 2022): blind spots over the whole picture, and a loss that makes them visible again."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import DataSpec
from .selfsup import SelfSupervised, crops, grid, neighbours


class Blind2Unblind(SelfSupervised):
    """h(y) is the J-invariant answer for the whole picture: width^2 masked copies, each answer read on its own set of pixels. With f(y) the
    plain answer, without gradient,

        L = |h(y) + beta f(y) - (1 + beta) y|^2 + |h(y) - y|^2,

    beta kept at ``beta_first`` for the first ``hold`` of the training, then rising linearly to ``beta_last``, as in the published code
    (``hold`` 0.8 at sigma 25 and Poisson 30, 0.4 elsewhere). The answer is (h(y) + beta f(y)) / (1 + beta) at the last beta. ``width`` 4 in
    that code; a step then takes 17 passes, with 2 it takes 5.
    """

    def __init__(
        self,
        data: DataSpec,
        width: int = 2,
        beta_first: float = 2.0,
        beta_last: float = 20.0,
        hold: float = 0.8,
        skip: bool = False,
        lr: float = 4e-3,
        batch_size: int = 4,
    ) -> None:
        super().__init__(data, lr, batch_size, skip)
        if width < 2 or not 0 <= hold < 1:
            raise RequestError(f"width is {width} and hold {hold}; width must be at least 2, and hold from 0 to below 1.")
        self.width, self.betas, self.hold = width, (beta_first, beta_last), hold

    def masked(self, y: torch.Tensor) -> torch.Tensor:
        """Return h(y), (B, C, H, W): no pixel of it depends on the same pixel of y."""
        mean, sets = neighbours(y), [grid(y, self.width, number) for number in range(self.width**2)]
        answers = self.network(torch.cat([torch.where(inside, mean, y) for inside in sets])).chunk(len(sets))
        return sum((answer * inside for answer, inside in zip(answers, sets, strict=True)), torch.zeros_like(y))

    def beta(self) -> float:
        """Return the weight of the visible answer at this step."""
        part = max(0.0, (self.progress() - self.hold) / (1 - self.hold))
        return self.betas[0] + part * (self.betas[1] - self.betas[0])

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        y = crops(batch)
        with torch.no_grad():
            visible = self.network(y) - y
        blind = self.masked(y) - y
        return (blind + self.beta() * visible).square().mean() + blind.square().mean()

    def denoise(self, request: Request) -> torch.Tensor:
        y, beta = request.noisy, self.betas[1]
        return (self.masked(y) + beta * self.network(y)) / (1 + beta)
