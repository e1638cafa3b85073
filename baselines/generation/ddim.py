"""Denoising diffusion implicit models (Song, Meng and Ermon, ICLR 2021, arXiv:2010.02502)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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
        schedule, x, noise = walk.prior.schedule, walk.x, request.rng.at("noise")
        for t, s in walk.steps():
            data, eps = walk.both(x, t)
            a, sigma, sd = float(schedule.alpha(s)), float(schedule.sigma(s)), 0.0
            if self.eta > 0:
                # posterior variance sigma_s^2 (1 - (alpha_t sigma_s / alpha_s sigma_t)^2), written with lambda
                sd = self.eta * sigma * math.sqrt(-math.expm1(2 * float(schedule.lam(t) - schedule.lam(s))))
            x = torch.add(a * data, eps, alpha=math.sqrt(max(sigma**2 - sd**2, 0.0)))
            if sd > 0:
                x = x + sd * noise.normal(x.shape[1:])
        return walk.prior.decode(x)
