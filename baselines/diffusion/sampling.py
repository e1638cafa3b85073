"""What every solver of the generation family does before and after its own equations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...configs.errors import RequestError
from ..method import Request
from .conversions import convert
from .grids import Grid, time_grid
from .prior import Guided, Prior


@dataclass(frozen=True)
class Walk:
    """A sampling run about to start: the (guided) prior, its condition, the first state and the times, largest first."""

    prior: Prior
    cond: Tensor | None
    x: Tensor
    times: Tensor
    clip: bool = False

    def steps(self) -> list[tuple[Tensor, Tensor]]:
        """Return the pairs (t, s) of times, s < t, one per step."""
        return list(zip(self.times[:-1], self.times[1:], strict=True))

    def both(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x_0, eps) as the prior sees them at (x, t), from one evaluation; x_0 inside the prior's range if clipping is on."""
        data = self.prior.denoised(x, t, self.cond)
        if self.clip and self.prior.span is not None:
            data = data.clamp(*self.prior.span)
        return data, convert(data, x, t, self.prior.schedule, "data", "noise")


def begin(
    request: Request, prior: Prior, *, steps: int, grid: Grid = "uniform-t", guidance: float = 1.0, clip: bool = False, end: float = 0.0
) -> Walk:
    """Draw x_T and lay the grid for one evaluation per step: as many steps as the budget buys, ``steps`` where it is unbounded.

    Guidance (a weight other than 1, where the task gives a condition) takes two evaluations per step, so half the steps.
    """
    cond = prior.condition(request)
    if cond is not None and guidance != 1:
        prior = Guided(prior, guidance)
    shape = check_shape(prior, request)
    count = steps if request.budget.nfe is None else request.budget.nfe // prior.evaluations
    if count < 1:
        raise RequestError(
            f"budget {request.budget.name} allows {request.budget.nfe} network evaluations a sample, and one step takes {prior.evaluations}; "
            "use a larger budget or guidance=1."
        )
    x = prior.start(request.rng.at("x_T").normal(shape))
    return Walk(prior, cond, x, time_grid(prior.schedule, count, grid, end), clip)


def check_shape(prior: Prior, request: Request) -> tuple[int, ...]:
    """Return the shape of one state; RequestError when the prior does not make what the task asks for."""
    asked = request.returns.shape
    made = tuple(prior.decode(torch.zeros(1, *prior.shape)).shape[1:]) if asked is not None else None
    if asked is not None and made != tuple(asked):
        raise RequestError(
            f"task {request.task} asks for samples of shape {tuple(asked)}, and the prior makes {made}; use a prior of its data."
        )
    return prior.shape
