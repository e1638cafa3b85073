"""DPM-Solver: exponential Runge-Kutta steps on the noise prediction (Lu et al., NeurIPS 2022, arXiv:2206.00927)."""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from ..diffusion.adaptive import walk_adaptively
from ..diffusion.exponential import Node, Step, node_at_lambda, nodes
from ..diffusion.grids import Grid, time_grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import Walk, begin
from ..method import Method, Request

Mode = Literal["singlestep", "fast", "adaptive"]


def fast_orders(evaluations: int, order: int = 3) -> list[int]:
    """Return the orders of the steps that use all evaluations: order 3 as far as they go, then what is left (section 3.4, "DPM-Solver-fast").

    Order 3: n = 3k gives k - 1 thirds, a second and a first; n = 3k + 1 ends with a first, n = 3k + 2 with a second. Order 2 likewise.
    """
    if evaluations < 1 or order == 1:
        return [1] * evaluations
    k, rest = divmod(evaluations, order)
    if rest:
        return [order] * k + [rest]
    return [order] * k if order == 2 else [3] * (k - 1) + [2, 1]


class DPMSolver(Method):
    """Steps of order 1 (DDIM), 2 (algorithm 1, r_1 = 1/2) and 3 (algorithm 2, r_1 = 1/3, r_2 = 2/3) in lambda; order k takes k evaluations.

    ``singlestep`` repeats one order, and leaves up to order - 1 evaluations of a budget unused; ``fast`` mixes orders to use all;
    ``adaptive`` controls the step by an embedded pair, separately for every sample (the authors' code: one step size for the batch).
    It stops at t_min and returns that state; with ``final`` one evaluation is kept for a last step to the data ("denoise to zero").
    """

    def __init__(
        self,
        prior: Prior,
        mode: Mode = "fast",
        order: int = 3,
        grid: Grid = "uniform-lambda",
        end: float | None = None,
        final: bool = False,
        rtol: float = 0.05,
        atol: float = 0.0078,
        steps: int = 20,
        guidance: float = 1.0,
        clip: bool = False,
        threshold: float | None = None,
    ) -> None:
        """``end``: None for the prior's t_min. ``steps`` counts evaluations where the budget does not bound them (adaptive: none does).

        ``rtol``, ``atol``: tolerances of the adaptive mode, in units of x (appendix C: 2/256 for pictures in [-1, 1]).
        """
        super().__init__()
        if mode not in ("singlestep", "fast", "adaptive"):
            raise ValueError(f"mode is {mode!r}; accepted: singlestep, fast, adaptive")
        if order not in (1, 2, 3) or (mode == "adaptive" and order == 1):
            raise ValueError(f"order is {order}; accepted: 1, 2, 3, and 2 or 3 in mode adaptive")
        self.prior = prior
        self.mode, self.order, self.grid, self.end, self.final = mode, order, grid, end, final
        self.rtol, self.atol, self.steps, self.guidance, self.clip, self.threshold = rtol, atol, steps, guidance, clip, threshold

    def orders(self, evaluations: int) -> list[int]:
        """Return the plan: the order of each step that ``evaluations`` buy, without the final step to the data."""
        left = evaluations - int(self.final)
        return fast_orders(left, self.order) if self.mode == "fast" else [self.order] * (left // self.order)

    def sample(self, request: Request) -> Tensor:
        end = self.prior.schedule.t_min if self.end is None else self.end
        orders = self.orders(self.steps)
        walk = begin(
            request, self.prior, steps=len(orders), grid=self.grid, guidance=self.guidance, clip=self.clip, threshold=self.threshold,
            end=end, plan=lambda n: len(self.orders(n)),
        )  # fmt: skip
        if self.mode == "adaptive":
            kept = int(self.final)
            budget = None if walk.evaluations is None else walk.evaluations - kept
            x, accepted, used = walk_adaptively(walk, end, self.order, self.rtol, self.atol, budget)
            self.diagnose("steps-accepted", accepted)
            self.diagnose("evaluations", used + kept)
            last = nodes(walk.prior.schedule, walk.times[-1:])[0]
        else:
            orders = orders if walk.evaluations is None else self.orders(walk.evaluations)
            pieces = self._pieces(walk, orders, end)
            x = walk.x
            for piece in pieces:
                x = singlestep(walk, x, piece)
            last = pieces[-1][-1]
        return walk.prior.decode(walk.predict(x, last.time, "data") if self.final else x)

    def _pieces(self, walk: Walk, orders: list[int], end: float) -> list[list[Node]]:
        """Return each step's nodes: its start, the order - 1 places inside at which the prior is asked, its end."""
        schedule = walk.prior.schedule
        if self.grid == "uniform-lambda":  # equal steps whatever their order, equally divided
            outer = nodes(schedule, walk.times)
            return [
                [s, *(node_at_lambda(schedule, s.lam + i / k * (t.lam - s.lam)) for i in range(1, k)), t]
                for s, t, k in zip(outer[:-1], outer[1:], orders, strict=True)
            ]
        # other grids: one time per evaluation, and a step of order k spans k of them (the authors' rule for high-resolution pictures)
        fine = nodes(schedule, time_grid(schedule, sum(orders), self.grid, end))
        return [fine[i - k : i + 1] for i, k in zip(accumulate(orders), orders, strict=True)]


def singlestep(walk: Walk, x: Tensor, at: list[Node]) -> Tensor:
    """Return x at ``at[-1]`` from x at ``at[0]``: one step of order len(at) - 1, asking the prior at all nodes but the last."""
    s, t, h = at[0], at[-1], at[-1].lam - at[0].lam
    step, eps = Step(s, t, "noise"), walk.predict(x, s.time, "noise")
    if len(at) == 2:
        return step.advance(x, eps)
    u = Step(s, at[1], "noise").advance(x, eps)
    slope = (walk.predict(u, at[1].time, "noise") - eps) / (at[1].lam - s.lam)
    if len(at) == 3:  # algorithm 1: (e^h - 1)/(2 r_1) on the difference, which is h w_1 / 2 on the slope
        return torch.add(step.advance(x, eps), slope, alpha=h * step.weight(1) / 2)
    u = Step(s, at[2], "noise").advance(x, eps, slope)
    slope = (walk.predict(u, at[2].time, "noise") - eps) / (at[2].lam - s.lam)
    return step.advance(x, eps, slope)  # algorithm 2
