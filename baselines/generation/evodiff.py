"""EVODiff: entropy-aware variance-optimised diffusion inference (Li et al., NeurIPS 2025, arXiv:2509.26096), as released for EDM."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...configs.errors import RequestError
from ..diffusion.exponential import Node, nodes
from ..diffusion.prior import Prior
from ..diffusion.sampling import begin
from ..diffusion.schedule import EDM
from ..method import Method, Request


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return <a, b> over the places of each channel of pictures (B, C, 1, 1), over everything of points (B, 1)."""
    dims = tuple(range(2, a.ndim)) or (1,)
    return (a * b).sum(dims, keepdim=True)


def projected(a: Tensor, b: Tensor) -> Tensor:
    """Return <a, b> / <b, b> inside [-2, 2], and 0 where b vanishes."""
    square = dot(b, b)
    return torch.where(square > 0, dot(a, b) / square.clamp_min(1e-30), 0.0).clamp(-2, 2)


class EVODiff(Method):
    """A two-step predictor-corrector on the data prediction, whose weights minimise the variance of the combined estimate for each sample.

    Steps follow the EDM view of the prior on a grid uniform in lambda. One evaluation a step, at the probe; the last one denoises. The
    constants (0.25, 0.5, the sigmoids, the last step's formula) are those of the released code, not derived in the paper.
    """

    def __init__(
        self, prior: Prior, sigma_max: float = 80.0, sigma_min: float = 0.002, steps: int = 50, guidance: float = 1.0, clip: bool = False
    ) -> None:
        """Noise levels run from ``sigma_max`` to ``sigma_min``, or as far as the prior goes; ``steps`` counts evaluations without a bound."""
        super().__init__()
        self.prior, self.steps, self.guidance, self.clip = prior, steps, guidance, clip
        reach = prior.as_edm().schedule
        self.view = EDM(t_max=min(sigma_max, reach.t_max), t_min=max(sigma_min, reach.t_min))

    def sample(self, request: Request) -> Tensor:
        walk = begin(request, self.prior.view(self.view), steps=self.steps, grid="uniform-lambda", guidance=self.guidance, clip=self.clip)
        points = nodes(walk.prior.schedule, walk.times)[:-1]  # the last one is the data, where the final denoising lands
        if len(points) < 3:
            raise RequestError("evodiff needs at least 3 evaluations a sample (two steps and the denoising); use a larger budget.")
        last, x = len(points) - 1, walk.x
        older = walk.predict(x, points[0].time, "data")
        x = self._euler(x, older, points[0], points[1])
        newer = walk.predict(x, points[1].time, "data")
        for i in range(2, last):
            base = self._euler(x, newer, points[i - 1], points[i])
            probe, state = self._probe(base, newer, older, points, i)
            new = walk.predict(probe, points[i].time, "data")
            x = state(new)
            older, newer = newer, new
        x = self._final(x, newer, older, points[-2], points[-1])
        return walk.prior.decode(walk.predict(x, points[-1].time, "data"))

    @staticmethod
    def _euler(x: Tensor, data: Tensor, s: Node, t: Node) -> Tensor:
        """The DDIM step: (sigma_t / sigma_s) x + sigma_t h X with h = 1/kappa_t - 1/kappa_s."""
        return torch.add((t.sigma / s.sigma) * x, data, alpha=t.sigma * (1 / t.kappa - 1 / s.kappa))

    def _probe(self, base: Tensor, x0: Tensor, x1: Tensor, points: list[Node], i: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the probed state at point i, and what makes the step's state from the prediction there."""
        p, s, t = points[i - 2], points[i - 1], points[i]
        low, high = points[-1].sigma, points[0].sigma
        h = 1 / t.kappa - 1 / s.kappa
        rl = math.log(p.kappa / s.kappa) / math.log(s.kappa / t.kappa)
        w = 0.5 * (1 - ((float(t.time) + low) / (high + low)) ** 2)
        even = math.sqrt((t.sigma / s.sigma) / (s.sigma / p.sigma))
        r1 = (1 - w) * even + w * projected(x0, x1)
        d1 = x0 - r1 * x1
        ri = (torch.sigmoid(0.25 * r1.abs()) * rl).clamp(0.25 * rl, 1.5 * rl)
        half = 0.5 * t.sigma * h
        probe = base + half / ri * d1

        def state(new: Tensor) -> Tensor:
            d2 = new - ((1 - w) * even + w * projected(new, x0)) * x0
            back, ahead = d1 / (rl * h), rl * d2 / h
            eta = 0.5 * torch.sigmoid((0.5 * projected(ahead + back, ahead - back)).abs())
            mix = -(eta / rl) * d1 + rl * (1 - eta) * d2
            size = (projected(probe - base - half / ri * mix, d1) / (h * t.sigma)).abs() - 0.5
            if len(points) - 1 > 20:
                agree = torch.sigmoid(projected(x0, (x0 - x1) / h) * (2 - (t.sigma / s.sigma) ** 2))
                zeta = torch.sigmoid(-size * agree)
            else:
                zeta = torch.sigmoid(size)
            return base + half / zeta * mix

        return probe, state

    def _final(self, x: Tensor, x0: Tensor, x1: Tensor, s: Node, t: Node) -> Tensor:
        """The last step, of order 1 with a share of the last difference."""
        q = t.sigma / s.sigma
        rd = 1 - 0.5 * math.sqrt(q if q < 0.5 else q - 0.5)
        h = 1 / t.kappa - 1 / s.kappa
        return torch.add((1 - math.sqrt(t.sigma * s.sigma)) * self._euler(x, x0, s, t), x0 - rd * x1, alpha=0.5 * t.sigma * h)
