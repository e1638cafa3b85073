"""Pseudo numerical methods for diffusion models on manifolds (Liu, Ren, Lin and Zhao, ICLR 2022, arXiv:2202.09778)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ..diffusion.exponential import Node, Step, nodes
from ..diffusion.grids import Grid, time_grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import Walk, begin
from ..method import Method, Request

Variant = Literal["f-pndm", "s-pndm", "plms"]
WARM_UP = {"f-pndm": 3, "s-pndm": 1, "plms": 0}  # first steps taken by a pseudo Runge-Kutta method ...
ASKED = {"f-pndm": 4, "s-pndm": 2, "plms": 1}  # ... of so many evaluations each
ADAMS_BASHFORTH = {1: (1.0,), 2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}


class PNDM(Method):
    """A gradient part (a combination of noise predictions) and a transfer part phi, eq. 11: DDIM's step with that noise.

    ``f-pndm``: three pseudo Runge-Kutta steps (eq. 13), then the linear multistep method of order 4 (eq. 12): N + 9 evaluations for N steps.
    ``s-pndm``: one pseudo improved Euler step, then the multistep method of order 2: N + 1. ``plms``: no Runge-Kutta steps, orders 1, 2, 3, 4
    instead (what is often run under the name PNDM): N. Despite the weights the global order is 2 at most, since phi is not linear in t.
    """

    def __init__(
        self,
        prior: Prior,
        variant: Variant = "f-pndm",
        grid: Grid = "uniform-t",
        end: float = 0.0,
        steps: int = 50,
        guidance: float = 1.0,
        clip: bool = False,
        threshold: float | None = None,
    ) -> None:
        """The multistep weights are those of equal steps, which only the grid uniform-t has. ``steps`` is N where the budget does not bound it.

        ``end`` is the time at which it stops; a run that is all warm-up stops at t_min, since it asks at the end of its last step.
        """
        super().__init__()
        if variant not in WARM_UP:
            raise ValueError(f"variant is {variant!r}; accepted: {', '.join(WARM_UP)}")
        self.prior = prior
        self.variant, self.grid, self.end, self.steps = variant, grid, end, steps
        self.guidance, self.clip, self.threshold = guidance, clip, threshold

    def plan(self, evaluations: int) -> int:
        """Return how many steps so many evaluations buy; below the cost of the warm-up, as many Runge-Kutta steps as they pay."""
        warm, each = WARM_UP[self.variant], ASKED[self.variant]
        extra = warm * (each - 1)
        return evaluations - extra if evaluations >= warm * each else evaluations // each

    def sample(self, request: Request) -> Tensor:
        warm = WARM_UP[self.variant]
        walk = begin(
            request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, clip=self.clip, threshold=self.threshold,
            end=self.end, plan=self.plan,
        )  # fmt: skip
        schedule, times = walk.prior.schedule, walk.times
        if len(times) - 1 <= warm:
            times = time_grid(schedule, len(times) - 1, self.grid, max(self.end, schedule.t_min))
        grid = nodes(schedule, times)
        x = walk.x
        known: list[Tensor] = []  # noise predictions at grid points, newest first
        for i, (s, t) in enumerate(pairwise(grid)):
            known = [walk.predict(x, s.time, "noise"), *known[:3]]
            if i >= warm:
                weights = ADAMS_BASHFORTH[min(len(known), 2 if self.variant == "s-pndm" else 4)]
                eps = _combine(weights, known)
            elif self.variant == "s-pndm":
                eps = _combine((0.5, 0.5), [known[0], walk.predict(transfer(x, known[0], s, t), t.time, "noise")])
            else:
                eps = runge_kutta(walk, x, known[0], s, t)
            x = transfer(x, eps, s, t)
        return walk.prior.decode(x)


def transfer(x: Tensor, eps: Tensor, s: Node, t: Node) -> Tensor:
    """Return phi(x, eps, s, t): exact if eps is the noise in x (eq. 11)."""
    return Step(s, t, "noise").advance(x, eps)


def runge_kutta(walk: Walk, x: Tensor, e1: Tensor, s: Node, t: Node) -> Tensor:
    """Return the noise of a pseudo Runge-Kutta step of order 4 (eq. 13), its half-way time in the middle of s and t: three evaluations."""
    middle = nodes(walk.prior.schedule, (s.time + t.time).reshape(1) / 2)[0]
    e2 = walk.predict(transfer(x, e1, s, middle), middle.time, "noise")
    e3 = walk.predict(transfer(x, e2, s, middle), middle.time, "noise")
    e4 = walk.predict(transfer(x, e3, s, t), t.time, "noise")
    return _combine((1 / 6, 1 / 3, 1 / 3, 1 / 6), [e1, e2, e3, e4])


def _combine(weights: tuple[float, ...], values: list[Tensor]) -> Tensor:
    out = weights[0] * values[0]
    for w, v in zip(weights[1:], values[1:], strict=False):
        out = torch.add(out, v, alpha=w)
    return out
