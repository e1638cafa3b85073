"""Exact diffusion inversion by bi-directional integration approximation (Zhang, Lewis and Kleijn, ECCV 2024, arXiv:2307.10829)."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor

from ..diffusion.conversions import convert
from ..diffusion.grids import Grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import begin
from ..method import Method, Request


class BDIA(Method):
    """BDIA-DDIM. One evaluation at z_i makes two DDIM moves, F_i to t_{i-1} and B_i back to t_{i+1}, and

        z_{i-1} = z_{i+1} - (1 - gamma)(z_{i+1} - z_i) - gamma (B_i - z_i) + (F_i - z_i) = gamma (z_{i+1} - B_i) + F_i,

    after one plain DDIM step. ``gamma = 0`` is DDIM; for gamma > 0 the step can be solved for z_{i+1}, with the same evaluation:

        z_{i+1} = (z_{i-1} - F_i) / gamma + B_i,

    so a pair of neighbouring states determines all others exactly, either way (`encoded`, `decoded`). States are float64 whatever the
    network's precision, since errors grow by 1/gamma a step on the way to the noise; nothing may clip them.
    """

    def __init__(
        self, prior: Prior, gamma: float = 0.5, grid: Grid = "uniform-t", steps: int = 50, guidance: float = 1.0, end: float = 0.0
    ) -> None:
        """``gamma`` in [0, 1]; the authors suggest 0.5 at 10 steps and 1 at 40 or more, and 1 for editing. ``end``: the last time."""
        super().__init__()
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma is {gamma}; accepted: a number from 0 to 1")
        self.prior, self.gamma, self.grid, self.steps, self.guidance, self.end = prior, gamma, grid, steps, guidance, end

    def sample(self, request: Request) -> Tensor:
        walk = begin(request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, end=self.end)
        z, prior, times = walk.x.double(), walk.prior, walk.times
        data, eps = _seen(prior, z, times[0], walk.cond)
        first = _moved(prior, data, eps, times[1])
        return prior.decode(self.decoded(prior, z, first, times, walk.cond).to(walk.x.dtype))

    def decoded(self, prior: Prior, last: Tensor, z: Tensor, times: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return z_0 from the pair (z_N, z_{N-1}) with N - 1 evaluations; ``times`` (N + 1,) fall from t_N to t_0."""
        for before, t, after in zip(times[:-2], times[1:-1], times[2:], strict=True):
            data, eps = _seen(prior, z, t, cond)
            last, z = z, self.gamma * (last - _moved(prior, data, eps, before)) + _moved(prior, data, eps, after)
        return z

    def encoded(self, prior: Prior, z: Tensor, times: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return (z_N, z_{N-1}) of z_0, a clean signal in the prior's space, with N evaluations; `decoded` takes the pair back to z_0.

        The one approximation is z_1, which must be guessed from z_0 alone: a DDIM step back, with eps asked at (z_0, t_1).
        """
        if self.gamma == 0:
            raise ValueError("gamma = 0 is DDIM, which has no exact inverse")
        z, schedule, t1 = z.double(), prior.schedule, times[-2]
        _, eps = _seen(prior, z, t1, cond)
        data = (z - schedule.sigma(times[-1]) * eps) / schedule.alpha(times[-1])
        last, z = z, _moved(prior, data, eps, t1)
        for before, t, after in zip(times[:-2].flip(0), times[1:-1].flip(0), times[2:].flip(0), strict=True):
            data, eps = _seen(prior, z, t, cond)
            last, z = z, (last - _moved(prior, data, eps, after)) / self.gamma + _moved(prior, data, eps, before)
        return z, last


def _seen(prior: Prior, z: Tensor, t: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return (x_0, eps) at a float64 state, in float64, from one evaluation in the precision of the prior's own numbers."""
    networks = list(prior.counted_networks())
    numbers = chain.from_iterable(chain(m.parameters(), m.buffers()) for m in networks)
    dtype = next((n.dtype for n in numbers if n.is_floating_point()), torch.float32)
    data = prior.denoised(z.to(dtype), t, cond).double()
    return data, convert(data, z, t, prior.schedule, "data", "noise")


def _moved(prior: Prior, data: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Return a DDIM move's end: alpha(t) x_0 + sigma(t) eps."""
    return prior.schedule.alpha(t) * data + prior.schedule.sigma(t) * eps
