"""Time grids: at which times a solver with a given number of steps asks the prior."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .schedule import Schedule

Grid = Literal["uniform-t", "quadratic", "uniform-lambda", "karras"]
GRIDS: tuple[Grid, ...] = ("uniform-t", "quadratic", "uniform-lambda", "karras")


def time_grid(schedule: Schedule, steps: int, kind: Grid = "uniform-t", end: float = 0.0, rho: float = 7.0) -> Tensor:
    """Return ``steps + 1`` strictly decreasing times from ``schedule.t_max`` to ``end``, float64 (steps + 1,).

    uniform-t: equally spaced; quadratic: equally spaced in sqrt(t) (Song et al. 2021, DDIM, appendix D.2); uniform-lambda: equally spaced in
    lambda (Lu et al. 2022); karras: equally spaced in kappa^(1/rho), kappa = sigma / alpha (Karras et al. 2022, eq. 5). The last two cannot
    reach the data in finitely many steps: with ``end = 0`` they go down to ``schedule.t_min`` in ``steps - 1`` steps and then to 0.
    """
    if steps < 1:
        raise ValueError(f"a time grid needs at least 1 step, got {steps}")
    if not 0 <= end < schedule.t_max:
        raise ValueError(f"a time grid must end inside [0, {schedule.t_max}), got {end}")
    top = torch.tensor(schedule.t_max, dtype=torch.float64)
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    bottom = torch.tensor(end, dtype=torch.float64)
    if kind not in GRIDS:
        raise ValueError(f"unknown time grid {kind!r}; accepted: {', '.join(GRIDS)}")
    if end == 0 and kind in ("uniform-lambda", "karras"):
        if steps == 1:
            return torch.stack([top, torch.zeros_like(top)])
        inner = time_grid(schedule, steps - 1, kind, schedule.t_min, rho)
        return torch.cat([inner, inner.new_zeros(1)])
    if kind in ("uniform-lambda", "karras") and not schedule.lam(top).isfinite():
        raise ValueError(f"a {kind} grid needs a finite lambda at t_max = {schedule.t_max}; use a schedule that stops short of pure noise")
    if kind == "uniform-t":
        grid = top + u * (bottom - top)
    elif kind == "quadratic":
        grid = (top.sqrt() + u * (bottom.sqrt() - top.sqrt())) ** 2
    elif kind == "uniform-lambda":
        high, low = schedule.lam(bottom), schedule.lam(top)
        grid = schedule.t_of_lam(low + u * (high - low))
    else:
        high, low = schedule.kappa(top) ** (1 / rho), schedule.kappa(bottom) ** (1 / rho)
        grid = schedule.t_of_lam(-torch.log((high + u * (low - high)) ** rho))
    grid[0], grid[-1] = top, bottom  # exactly, not up to rounding
    return grid
