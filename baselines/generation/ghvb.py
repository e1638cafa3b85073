"""Momentum for diffusion solvers: heavy ball (HB) and generalised heavy ball (GHVB) (Wizadwongsa et al., 2023, arXiv:2307.11118)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ..diffusion.exponential import nodes
from ..diffusion.grids import Grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import begin
from ..method import Method, Request

Momentum = Literal["generalised", "heavy-ball", "nesterov"]


def mixture(order: int, b: float = 1.0) -> list[float]:
    """Return the weights of the last ``order`` velocities, newest first, for damping b (GHVB, appendix, order 1 to 5).

    With b = 1 they are the Adams-Bashforth weights; in general they make the direction u_n of velocities v_n = (1 - b) v_{n-1} + b eps_n
    agree with the slope's mean over the next step to ``order``.
    """
    rows: dict[int, tuple[list[float], float]] = {
        1: ([1.0], 1.0),
        2: ([2 + b, -(2 - b)], 2 * b),
        3: ([18 + 5 * b, -(24 - 8 * b), 6 - b], 12 * b),
        4: ([46 + 9 * b, -(78 - 19 * b), 42 - 5 * b, -(10 - b)], 24 * b),
        5: ([1650 + 251 * b, -(3420 - 646 * b), 2880 - 264 * b, -(1380 - 106 * b), 270 - 19 * b], 720 * b),
    }
    top, bottom = rows[order]
    return [v / bottom for v in top]


def mixed(weights: Sequence[float], newest_last: Sequence[Tensor]) -> Tensor:
    """Return sum_j weights_j values_{n-j}."""
    out = weights[0] * newest_last[-1]
    for w, v in zip(weights[1:], reversed(newest_last[:-1]), strict=False):
        out = torch.add(out, v, alpha=w)
    return out


class GHVB(Method):
    """Adams-Bashforth steps in kappa = sigma / alpha, of x / alpha, whose slope is eps, with momentum against divergence at few steps.

    ``generalised`` damps eps first and mixes the velocities with weights made for it (order kept); ``heavy-ball`` damps the mixed direction
    (first order for beta < 1), ``nesterov`` damps it once more. ``order`` r means ceil(r) velocities and beta = r - floor(r) (1 for whole
    numbers), as in the paper's name GHVB2.8. ``host: dpm-solver-pp`` puts heavy-ball momentum on DPM-Solver++(2M) in the data form.
    """

    def __init__(
        self, prior: Prior, order: float = 3.8, momentum: Momentum = "generalised", host: Literal["plms", "dpm-solver-pp"] = "plms",
        grid: Grid = "uniform-t", end: float = 0.0, steps: int = 50, guidance: float = 1.0, clip: bool = False,
    ) -> None:  # fmt: skip
        """``end``: the time at which the walk stops (0 is the data); ``steps`` counts where the budget does not bound the evaluations."""
        super().__init__()
        if not 0 < order <= 5:
            raise ValueError(f"order is {order}; accepted: more than 0, at most 5")
        if momentum not in ("generalised", "heavy-ball", "nesterov") or host not in ("plms", "dpm-solver-pp"):
            raise ValueError(f"momentum is {momentum!r} and host {host!r}; accepted: generalised, heavy-ball, nesterov; plms, dpm-solver-pp")
        if host == "dpm-solver-pp" and (momentum != "heavy-ball" or math.ceil(order) != 2):
            raise ValueError("dpm-solver-pp is hosted as 2M with heavy-ball momentum: order above 1, at most 2")
        self.prior, self.order, self.momentum, self.host = prior, order, momentum, host
        self.count, part = math.ceil(order), order - math.floor(order)
        self.beta = round(part, 12) if part else 1.0
        self.grid, self.end, self.steps, self.guidance, self.clip = grid, end, steps, guidance, clip

    def sample(self, request: Request) -> Tensor:
        walk = begin(
            request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, clip=self.clip, end=self.end
        )  # fmt: skip
        points, x = nodes(walk.prior.schedule, walk.times), walk.x
        history: list[Tensor] = []
        velocity: Tensor | None = None
        for i, (s, t) in enumerate(pairwise(points)):
            if self.host == "dpm-solver-pp":
                history = [*history[-1:], walk.predict(x, s.time, "data")]
                direction = history[-1]
                if len(history) == 2 and math.isfinite(t.lam):  # D = X_s + (h / 2 h_prev) (X_s - X_prev)
                    ratio = (t.lam - s.lam) / (s.lam - points[i - 1].lam)
                    direction = direction + 0.5 * ratio * (history[-1] - history[-2])
                velocity = self._damped(velocity, direction) if math.isfinite(t.lam) else direction
                x = torch.add((t.sigma / s.sigma) * x, velocity, alpha=-t.alpha * math.expm1(s.lam - t.lam))
                continue
            eps = walk.predict(x, s.time, "noise")
            if self.momentum == "generalised":
                velocity = self._damped(velocity, eps)
                history = [*history[1 - self.count :], velocity] if self.count > 1 else [velocity]
                u = mixed(mixture(len(history), self.beta), history)
            else:
                history = [*history[1 - self.count :], eps] if self.count > 1 else [eps]
                direction = mixed(mixture(len(history)), history)
                u = velocity = self._damped(velocity, direction)
                if self.momentum == "nesterov":
                    u = self._damped(velocity, direction)
            x = t.alpha * torch.add(x / s.alpha, u, alpha=t.kappa - s.kappa)
        span = walk.prior.span
        if span is not None and x.ndim == 4:
            pooled = torch.nn.functional.avg_pool2d(x, max(1, x.shape[-1] // 8)).flatten(1)
            self.diagnose("out-of-range", ((pooled < span[0]) | (pooled > span[1])).double().mean(1))
        return walk.prior.decode(x)

    def _damped(self, velocity: Tensor | None, new: Tensor) -> Tensor:
        return new if velocity is None else torch.lerp(velocity, new, self.beta)
