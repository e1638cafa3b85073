"""Euler's method on the probability-flow ODE in the form of Karras, Aittala, Aila and Laine (NeurIPS 2022, arXiv:2206.00364)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..diffusion.exponential import nodes
from ..diffusion.grids import Grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import begin
from ..method import Method, Request


class Euler(Method):
    """dz/dkappa = (z - D(z; kappa)) / kappa (eq. 1 and 3 with sigma(t) = t, s(t) = 1), one evaluation of D per step.

    z = x / alpha and kappa = sigma / alpha turn any path into this form, so no separate EDM network is needed. On equal times the step is
    DDIM's; what differs is the grid, by default equally spaced in kappa^(1/7) (eq. 5) with a last step to kappa = 0.
    """

    def __init__(
        self,
        prior: Prior,
        grid: Grid = "karras",
        end: float = 0.0,
        steps: int = 50,
        guidance: float = 1.0,
        clip: bool = False,
        threshold: float | None = None,
    ) -> None:
        """``end``: the time at which it stops; ``threshold``: quantile of dynamic thresholding; ``steps`` counts where the budget does not."""
        super().__init__()
        self.prior = prior
        self.grid, self.end, self.steps, self.guidance, self.clip, self.threshold = grid, end, steps, guidance, clip, threshold

    def sample(self, request: Request) -> Tensor:
        walk = begin(
            request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, clip=self.clip, threshold=self.threshold,
            end=self.end,
        )  # fmt: skip
        grid = nodes(walk.prior.schedule, walk.times)
        z = walk.x / grid[0].alpha
        for s, t in pairwise(grid):
            data = walk.predict(s.alpha * z, s.time, "data")
            share = t.kappa / s.kappa  # z + (kappa_t - kappa_s) (z - D) / kappa_s
            z = torch.add(share * z, data, alpha=1 - share)
        return walk.prior.decode(grid[-1].alpha * z)
