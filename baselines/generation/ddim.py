"""Denoising diffusion implicit models (Song, Meng and Ermon, ICLR 2021, arXiv:2010.02502)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from ..diffusion.exponential import nodes
from ..diffusion.grids import Grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import begin
from ..method import Method, Request


class DDIM(Method):
    """Eq. 12: x_s = alpha_s x_0 + sqrt(sigma_s^2 - sd^2) eps + sd z, with sd = eta times the posterior's standard deviation (eq. 16).

    ``eta = 0`` is deterministic given x_T, ``eta = 1`` is DDPM's ancestral sampling with the smaller variance. The prior may follow any path:
    the equations are written with alpha and sigma apart.
    """

    def __init__(
        self, prior: Prior, grid: Grid = "uniform-t", eta: float = 0.0, steps: int = 50, guidance: float = 1.0, clip: bool = False
    ) -> None:
        """``steps`` counts where the budget does not bound the network evaluations; ``clip`` keeps x_0 inside the data's range."""
        super().__init__()
        self.prior = prior
        self.grid, self.eta, self.steps, self.guidance, self.clip = grid, eta, steps, guidance, clip

    def sample(self, request: Request) -> Tensor:
        walk = begin(request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, clip=self.clip)
        x, noise = walk.x, request.rng.at("noise")
        for t, s in pairwise(nodes(walk.prior.schedule, walk.times)):
            data = walk.predict(x, t.time, "data")
            sd = 0.0
            if self.eta > 0:
                # posterior variance sigma_s^2 (1 - (alpha_t sigma_s / alpha_s sigma_t)^2), written with lambda
                sd = self.eta * s.sigma * math.sqrt(-math.expm1(2 * (t.lam - s.lam)))
            kept = math.sqrt(max(s.sigma**2 - sd**2, 0.0)) / t.sigma  # times sigma_t eps = x - alpha_t x_0
            x = torch.add(kept * x, data, alpha=s.alpha - kept * t.alpha)
            if sd > 0:
                x = torch.add(x, noise.normal(x.shape[1:]).to(x), alpha=sd)
        return walk.prior.decode(x)
