"""The EDM sampler: Heun's method on the probability-flow ODE, with or without churn (Karras et al., NeurIPS 2022, arXiv:2206.00364)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from ..diffusion.exponential import node_at_lambda, nodes
from ..diffusion.grids import Grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import begin
from ..method import Method, Request


class Heun(Method):
    """Algorithm 1 (deterministic) and 2 (stochastic), in the variables z = x / alpha, kappa = sigma / alpha of any path (eq. 3 to 5).

    Two evaluations per step, one in the last step to kappa = 0: N steps take 2N - 1, so budgets of an even number leave one unused.
    """

    def __init__(
        self,
        prior: Prior,
        churn: float = 0.0,
        churn_min: float = 0.0,
        churn_max: float | None = None,
        noise: float = 1.0,
        grid: Grid = "karras",
        end: float = 0.0,
        steps: int = 18,
        guidance: float = 1.0,
        clip: bool = False,
        threshold: float | None = None,
    ) -> None:
        """``churn, churn_min, churn_max, noise`` are S_churn, S_tmin, S_tmax, S_noise (table 5), ``steps`` is N without a budget.

        ``end``: the time at which it stops; if it is not 0 every step has two evaluations.
        """
        super().__init__()
        self.prior = prior
        self.churn, self.churn_min, self.churn_max, self.noise = churn, churn_min, churn_max, noise
        self.grid, self.end, self.steps, self.guidance, self.clip, self.threshold = grid, end, steps, guidance, clip, threshold

    def sample(self, request: Request) -> Tensor:
        walk = begin(
            request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, clip=self.clip, threshold=self.threshold,
            end=self.end, plan=lambda n: (n + 1) // 2 if self.end == 0 else n // 2,
        )  # fmt: skip
        schedule, stream = walk.prior.schedule, request.rng.at("noise")
        grid = nodes(schedule, walk.times)
        gamma = min(self.churn / (len(grid) - 1), math.sqrt(2) - 1)
        ceiling = math.inf if self.churn_max is None else self.churn_max
        z = walk.x / grid[0].alpha
        for s, t in pairwise(grid):
            # the network knows no noise above that of t_max, so the raised level stays below it
            raised = min(s.kappa * (1 + gamma), grid[0].kappa) if self.churn_min <= s.kappa <= ceiling else s.kappa
            if raised > s.kappa:
                z = z + self.noise * math.sqrt(raised**2 - s.kappa**2) * stream.normal(z.shape[1:])
                s = node_at_lambda(schedule, -math.log(raised))
            slope = (z - walk.predict(s.alpha * z, s.time, "data")) / s.kappa
            z_t = torch.add(z, slope, alpha=t.kappa - s.kappa)
            if t.kappa > 0:
                slope = slope + (z_t - walk.predict(t.alpha * z_t, t.time, "data")) / t.kappa
                z_t = torch.add(z, slope, alpha=(t.kappa - s.kappa) / 2)
            z = z_t
        return walk.prior.decode(grid[-1].alpha * z)
