"""DPM-Solver++: exponential steps on the data prediction, for guided sampling (Lu et al. 2022, arXiv:2211.01095)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ..diffusion.exponential import Node, Step, differences, node_at_lambda, nodes
from ..diffusion.grids import Grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import Walk, begin
from ..method import Method, Request

Form = Literal["multistep", "singlestep", "sde"]
FEW = 15  # with fewer steps than this, the last ones fall back to lower orders (section 4.2 and appendix)


class DPMSolverPP(Method):
    """Multistep 1M, 2M (algorithm 2), 3M; singlestep 2S (algorithm 1); and the SDE versions of 1 and 2M (section 5).

    A multistep step takes one evaluation, a 2S step two. The history holds the data prediction as it was used: guided, and thresholded where
    ``threshold`` (a quantile, 0.995 in the paper) asks for it. It stops at t_min; with ``final`` one evaluation is kept for a last step to
    the data.
    """

    def __init__(
        self,
        prior: Prior,
        form: Form = "multistep",
        order: int = 2,
        grid: Grid = "uniform-lambda",
        lower_order_final: bool | None = None,
        released: bool = True,
        end: float | None = None,
        final: bool = False,
        steps: int = 20,
        guidance: float = 1.0,
        clip: bool = False,
        threshold: float | None = None,
    ) -> None:
        """``lower_order_final``: None for "with fewer than 15 steps". ``end``: None for the prior's t_min.

        ``released``: 3M with the authors' code's half of the second derivative, which makes it a method of order 2; False for the whole of
        it, and order 3. ``steps`` counts where the budget does not.
        """
        super().__init__()
        orders = {"multistep": (1, 2, 3), "singlestep": (2,), "sde": (1, 2)}
        if form not in orders:
            raise ValueError(f"form is {form!r}; accepted: {', '.join(orders)}")
        if order not in orders[form]:
            raise ValueError(f"order is {order}; accepted with form {form}: {', '.join(map(str, orders[form]))}")
        self.prior = prior
        self.form, self.order, self.grid, self.lower_order_final, self.released = form, order, grid, lower_order_final, released
        self.end, self.final, self.steps = end, final, steps
        self.guidance, self.clip, self.threshold = guidance, clip, threshold

    def plan(self, evaluations: int) -> int:
        """Return how many steps so many evaluations buy."""
        left = evaluations - int(self.final)
        return left // 2 if self.form == "singlestep" else left

    def sample(self, request: Request) -> Tensor:
        end = self.prior.schedule.t_min if self.end is None else self.end
        walk = begin(
            request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, clip=self.clip, threshold=self.threshold,
            end=end, plan=self.plan,
        )  # fmt: skip
        grid, noise = nodes(walk.prior.schedule, walk.times), request.rng.at("noise")
        falling = self.lower_order_final if self.lower_order_final is not None else len(grid) - 1 < FEW
        x = walk.x
        known: list[Tensor] = []
        lams: list[float] = []  # data predictions and their lambdas, newest first
        for i, (s, t) in enumerate(pairwise(grid)):
            data = walk.predict(x, s.time, "data")
            known, lams = [data, *known[:2]], [s.lam, *lams[:2]]
            if self.form == "singlestep":
                x = singlestep(walk, x, s, t, data)
                continue
            order = min(self.order, i + 1, len(grid) - 1 - i if falling else self.order)
            if math.isinf(t.lam):
                order = 1
            if self.form == "sde":
                x = _sde(x, s, t, known[:order], lams[:order], noise.normal(x.shape[1:]))
            else:
                x = multistep(x, s, t, known[:order], lams[:order], 0.5 if self.released else 1.0)
        return walk.prior.decode(walk.predict(x, grid[-1].time, "data") if self.final else x)


def multistep(x: Tensor, s: Node, t: Node, known: list[Tensor], lams: list[float], bend: float = 1.0) -> Tensor:
    """Return x_t from x_s and the data predictions at ``lams``, newest (that at s) first: 1M, 2M or 3M by their number.

    Two are combined as in algorithm 2, with h w_1 / 2 on the slope where the Taylor polynomial has w_2; three by the polynomial of the
    parabola through them, ``bend`` times its second derivative.
    """
    step = Step(s, t, "data")
    if len(known) == 1:
        return step.advance(x, known[0])
    slopes = differences(lams, known)
    if len(known) == 2:
        return torch.add(step.advance(x, known[0]), slopes[0], alpha=step.h * step.weight(1) / 2)
    return step.advance(x, known[0], slopes[0], bend * slopes[1])


def singlestep(walk: Walk, x: Tensor, s: Node, t: Node, data: Tensor) -> Tensor:
    """Return x_t by 2S (algorithm 1, r_1 = 1/2), given the data prediction at s: one more evaluation, half-way in lambda."""
    step = Step(s, t, "data")
    if math.isinf(t.lam):
        return step.advance(x, data)
    middle = node_at_lambda(walk.prior.schedule, (s.lam + t.lam) / 2)
    there = walk.predict(Step(s, middle, "data").advance(x, data), middle.time, "data")
    return step.advance(x, there)  # X_s + (X_middle - X_s)/(2 r_1) = X_middle


def _sde(x: Tensor, s: Node, t: Node, known: list[Tensor], lams: list[float], z: Tensor) -> Tensor:
    """Return x_t of SDE-DPM-Solver++(1) or (2M): (sigma_t/sigma_s) e^-h x + alpha_t (1 - e^-2h) D + sigma_t sqrt(1 - e^-2h) z."""
    h = t.lam - s.lam
    share = -math.expm1(-2 * h)
    data = known[0] if len(known) == 1 else torch.add(known[0], differences(lams, known)[0], alpha=h / 2)
    kept = t.sigma / s.sigma * math.exp(-h)
    x = torch.add(kept * x, data, alpha=t.alpha * share)
    return x if t.sigma == 0 else torch.add(x, z.to(x), alpha=t.sigma * math.sqrt(share))
