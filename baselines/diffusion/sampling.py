"""What every solver of the generation family does before and after its own equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...configs.errors import RequestError
from ..method import Request
from .conversions import Form, convert
from .grids import Grid, time_grid
from .prior import Guided, Prior
from .thresholding import Thresholded


@dataclass(frozen=True)
class Walk:
    """A sampling run about to start: the (guided) prior, its condition, the first state and the times, largest first.

    ``evaluations`` is how many times the budget lets the prior be asked for each sample, None where there is no bound.
    """

    prior: Prior
    cond: Tensor | None
    x: Tensor
    times: Tensor
    clip: bool = False
    evaluations: int | None = None

    def steps(self) -> list[tuple[Tensor, Tensor]]:
        """Return the pairs (t, s) of times, s < t, one per step."""
        return list(zip(self.times[:-1], self.times[1:], strict=True))

    def predict(self, x: Tensor, t: Tensor, form: Form) -> Tensor:
        """Return one prediction of ``form`` at (x, t); with clipping on, the one that belongs to the clipped x_0."""
        if not self.clip or self.prior.span is None:
            return self.prior.predict(x, t, self.cond, form)
        data = self.prior.denoised(x, t, self.cond).clamp(*self.prior.span)
        return convert(data, x, t, self.prior.schedule, "data", form)

    def both(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x_0, eps) as the prior sees them at (x, t), from one evaluation; x_0 inside the prior's range if clipping is on."""
        data = self.prior.denoised(x, t, self.cond)
        if self.clip and self.prior.span is not None:
            data = data.clamp(*self.prior.span)
        return data, convert(data, x, t, self.prior.schedule, "data", "noise")


def begin(
    request: Request,
    prior: Prior,
    *,
    steps: int,
    grid: Grid = "uniform-t",
    guidance: float = 1.0,
    clip: bool = False,
    threshold: float | None = None,
    end: float = 0.0,
    plan: Callable[[int], int] | None = None,
) -> Walk:
    """Draw x_T and lay the grid: as many steps as the budget buys, ``steps`` where it is unbounded.

    ``plan(evaluations)`` is the number of steps that so many evaluations of the prior buy (None: one evaluation per step). Guidance (a weight
    other than 1, where the task gives a condition) takes two network rows per evaluation. ``threshold`` is the quantile of dynamic
    thresholding, None for none.
    """
    cond = prior.condition(request)
    if cond is not None and guidance != 1:
        prior = Guided(prior, guidance)
    if threshold is not None:
        prior = Thresholded(prior, threshold)
    shape = check_shape(prior, request)
    evaluations = None if request.budget.nfe is None else request.budget.nfe // prior.evaluations
    count = steps if evaluations is None else evaluations if plan is None else plan(evaluations)
    if count < 1:
        least = next((n for n in range(1, 1000) if plan(n) >= 1), 1000) if plan is not None else 1
        raise RequestError(
            f"budget {request.budget.name} allows {request.budget.nfe} network evaluations a sample, and one step takes "
            f"{least * prior.evaluations}; use a larger budget{' or guidance=1' if prior.evaluations > 1 else ''}."
        )
    x = prior.start(request.rng.at("x_T").normal(shape))
    return Walk(prior, cond, x, time_grid(prior.schedule, count, grid, end), clip, evaluations)


def check_shape(prior: Prior, request: Request) -> tuple[int, ...]:
    """Return the shape of one state; RequestError when the prior does not make what the task asks for."""
    asked = request.returns.shape
    made = tuple(prior.decode(torch.zeros(1, *prior.shape)).shape[1:]) if asked is not None else None
    if asked is not None and made != tuple(asked):
        raise RequestError(
            f"task {request.task} asks for samples of shape {tuple(asked)}, and the prior makes {made}; use a prior of its data."
        )
    return prior.shape
