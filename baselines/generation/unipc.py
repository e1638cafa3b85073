"""UniPC: a unified predictor-corrector for diffusion sampling (Zhao et al., NeurIPS 2023, arXiv:2302.04867)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..diffusion.exponential import Node, nodes
from ..diffusion.grids import Grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import Walk, begin
from ..method import Method, Request

Kind = Literal["bh1", "bh2"]


def moments(h: float, order: int, kind: Kind) -> tuple[float, list[float]]:
    """Return B(h) and b (order,), the right-hand side of eq. 5 in the data form (appendix, algorithm 7): b_n = n! h phi_{n+1}(-h) / B."""
    hh = -h
    big = math.expm1(hh) if kind == "bh2" else hh
    q, factorial, b = math.expm1(hh) / hh - 1, 1, []
    for n in range(1, order + 1):
        b.append(q * factorial / big)
        factorial *= n + 1
        q = q / hh - 1 / factorial
    return big, b


def weights(ratios: Sequence[float], b: Sequence[float]) -> list[float]:
    """Solve R rho = b, R_n = (r_1^(n-1), ..., r_p^(n-1)); one unknown is set to 1/2, which keeps order 2 (the authors' choice)."""
    if len(ratios) == 1:
        return [0.5]
    return np.linalg.solve(np.vander(ratios, increasing=True).T, b[: len(ratios)]).tolist()  # a numpy call costs a fifth of torch's here


class Step:
    """One step to ``t`` from the newest of ``points``, with the data predictions there, newest last: predict, then correct."""

    def __init__(self, points: Sequence[Node], data: Sequence[Tensor], t: Node, order: int, kind: Kind) -> None:
        s, self.newest = points[-1], data[-1]
        self.h, self.ratio, self.alpha = t.lam - s.lam, t.sigma / s.sigma, t.alpha
        self.ratios: list[float] = []
        self.slopes: list[Tensor] = []
        if math.isfinite(self.h):  # otherwise the step lands on the data prediction
            self.big, self.b = moments(self.h, order, kind)
            self.ratios = [(points[-k - 1].lam - s.lam) / self.h for k in range(1, order)]
            self.slopes = [(data[-k - 1] - self.newest) / r for k, r in enumerate(self.ratios, 1)]

    def _add(self, x: Tensor, rho: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
        x = torch.add(self.ratio * x, self.newest, alpha=-self.alpha * math.expm1(-self.h))
        for r, d in zip(rho, slopes, strict=True):
            x = torch.add(x, d, alpha=-self.alpha * self.big * r)
        return x

    def predict(self, x: Tensor) -> Tensor:
        """Return UniP's x_t (eq. 3, data form) from the state ``x`` at s."""
        return self._add(x, weights(self.ratios, self.b) if self.ratios else (), self.slopes)

    def correct(self, x: Tensor, new: Tensor) -> Tensor:
        """Return UniC's x_t (eq. 4), one order higher, from the same ``x`` and the data prediction ``new`` at the predicted x_t."""
        return self._add(x, weights([*self.ratios, 1.0], self.b), [*self.slopes, new - self.newest])


class UniPC(Method):
    """Multistep UniPC-p in the data form: the evaluation at each predicted state also corrects that state, so a step costs one evaluation.

    Orders rise from 1 at the start and, with ``lower_order_final``, fall back to 1 at the last step.
    """

    def __init__(
        self, prior: Prior, order: int = 3, kind: Kind = "bh2", corrector: bool = True, lower_order_final: bool = True,
        grid: Grid = "uniform-lambda", end: float = 0.0, steps: int = 50, guidance: float = 1.0, clip: bool = False,
        threshold: float | None = None,
    ) -> None:  # fmt: skip
        """``end``: the time at which the walk stops (0 is the data); ``steps`` counts where the budget does not bound the evaluations;
        ``threshold`` is the quantile of dynamic thresholding, None for none."""
        super().__init__()
        if order < 1 or kind not in ("bh1", "bh2"):
            raise ValueError(f"order is {order} and kind {kind!r}; accepted: order 1 or more, bh1 or bh2")
        self.prior = prior
        self.order, self.kind, self.corrector, self.lower_order_final = order, kind, corrector, lower_order_final
        self.grid, self.end, self.steps, self.guidance, self.clip = grid, end, steps, guidance, clip
        self.threshold = threshold

    def order_of(self, step: int, steps: int) -> int:
        """Return the order of step 1, 2, ..., ``steps``: no more than the predictions known, nor (at the end) than the steps left."""
        return min(self.order, step, steps + 1 - step if self.lower_order_final else step)

    def compensate(self, step: int, points: Sequence[Node], data: list[Tensor]) -> None:
        """Change the newest prediction before step ``step`` uses it; plain UniPC does not."""

    def advance(self, walk: Walk, points: Sequence[Node], i: int, x: Tensor, data: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Take step i = 1, 2, ... to ``points[i]``; return the state and the prediction at the uncorrected one (none at the last step)."""
        last = len(points) - 1
        step = Step(points[:i], data, points[i], self.order_of(i, last), self.kind)
        predicted = step.predict(x)
        if i == last:
            return predicted, None
        new = walk.predict(predicted, points[i].time, "data")
        return step.correct(x, new) if self.corrector else predicted, new

    def sample(self, request: Request) -> Tensor:
        walk = begin(
            request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, clip=self.clip, threshold=self.threshold,
            end=self.end,
        )  # fmt: skip
        points, x, data = nodes(walk.prior.schedule, walk.times), walk.x, [walk.predict(walk.x, walk.times[0], "data")]
        for i in range(1, len(points)):
            self.compensate(i, points[:i], data)
            x, new = self.advance(walk, points, i, x, data)
            if new is not None:
                data.append(new)
        return walk.prior.decode(x)
