"""Denoising diffusion probabilistic models: ancestral sampling (Ho, Jain and Abbeel, NeurIPS 2020, arXiv:2006.11239), respaced to the
budget (Nichol and Dhariwal, ICML 2021, arXiv:2102.09672, section 4)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ..diffusion.exponential import nodes
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
        x, noise = walk.x, request.rng.at("noise")
        for t, s in pairwise(nodes(walk.prior.schedule, walk.times)):
            data = walk.predict(x, t.time, "data")
            share = -math.expm1(2 * (t.lam - s.lam))  # beta / sigma_t^2 of the step t -> s; 1 when s is the data
            x = torch.add((t.alpha * s.sigma**2) / (s.alpha * t.sigma**2) * x, data, alpha=s.alpha * share)
            if s.sigma > 0:
                sd = math.sqrt(share) * (s.sigma if self.variance == "small" else t.sigma)
                x = torch.add(x, noise.normal(x.shape[1:]).to(x), alpha=sd)
        return walk.prior.decode(x)
