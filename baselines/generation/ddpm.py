"""Denoising diffusion probabilistic models: ancestral sampling (Ho, Jain and Abbeel, NeurIPS 2020, arXiv:2006.11239), respaced to the
budget (Nichol and Dhariwal, ICML 2021, arXiv:2102.09672, section 4)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..diffusion.grids import Grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import begin
from ..method import Method, Request


class DDPM(Method):
    """Draws x_s from the Gaussian q(x_s | x_t, x_0), eq. 6 and 7, with x_0 predicted, along a shortened chain.

    ``variance``: ``small`` is the posterior's, beta-tilde; ``large`` is beta of the shortened chain (Ho et al., section 3.2, the two extreme
    choices). The last step adds no noise.
    """

    def __init__(
        self,
        prior: Prior,
        variance: Literal["small", "large"] = "small",
        grid: Grid = "uniform-t",
        steps: int = 50,
        guidance: float = 1.0,
        clip: bool = True,
    ) -> None:
        """``clip`` keeps the predicted x_0 inside the data's range, where it has one (as the authors' code does)."""
        super().__init__()
        if variance not in ("small", "large"):
            raise ValueError(f"variance is {variance!r}; accepted: small, large")
        self.prior = prior
        self.variance, self.grid, self.steps, self.guidance, self.clip = variance, grid, steps, guidance, clip

    def sample(self, request: Request) -> Tensor:
        walk = begin(request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, clip=self.clip)
        schedule, x, noise = walk.prior.schedule, walk.x, request.rng.at("noise")
        for t, s in walk.steps():
            data, _ = walk.both(x, t)
            a_t, a_s, v_t, v_s = schedule.alpha(t), schedule.alpha(s), schedule.sigma(t) ** 2, schedule.sigma(s) ** 2
            share = -torch.expm1(2 * (schedule.lam(t) - schedule.lam(s)))  # beta / sigma_t^2 of the step t -> s; 1 when s is the data
            x = (a_t * v_s) / (a_s * v_t) * x + a_s * share * data
            if s > 0:
                sd = (share * (v_s if self.variance == "small" else v_t)).sqrt()
                x = x + sd * noise.normal(x.shape[1:])
        return walk.prior.decode(x)
