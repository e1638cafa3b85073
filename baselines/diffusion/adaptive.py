"""DPM-Solver-12 and -23: steps in lambda whose size an embedded pair controls (Lu et al. 2022, arXiv:2206.00927, appendix C)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .sampling import Walk
from .schedule import along

FIRST_STEP, SAFETY = 0.05, 0.9  # h_0 in lambda, and theta (Jolicoeur-Martineau et al. 2021)


def walk_adaptively(
    walk: Walk, end: float, order: int, rtol: float, atol: float, budget: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Carry ``walk.x`` (B, ...) to time ``end``; return x, the steps accepted and the evaluations used, both (B,).

    Every sample has steps of its own, so its result does not depend on its batch. With a ``budget`` of evaluations per sample no step is
    shorter than what is left divided by the attempts that the budget still pays, and a step of that length is taken whatever its error.
    """
    schedule, x = walk.prior.schedule, walk.x.clone()
    n = len(x)
    ends = torch.full((n,), end, dtype=torch.float64, device=x.device)
    lam_end = schedule.lam(ends)
    lam = schedule.lam(walk.times[0].to(x.device).expand(n).clone())
    h, previous = torch.full_like(lam, FIRST_STEP), x.clone()
    accepted, used = torch.zeros_like(lam), torch.zeros_like(lam)
    while bool((lam < lam_end).any()):
        at = (lam < lam_end).nonzero()[:, 0]
        left = lam_end[at] - lam[at]
        least = torch.zeros_like(left) if budget is None else left / torch.div(budget - used[at], order, rounding_mode="floor")
        forced = h[at] <= least
        size = torch.maximum(h[at], least)
        target = torch.where(size >= left * (1 - 1e-9), lam_end[at], lam[at] + size)
        part = replace(walk, cond=None if walk.cond is None else walk.cond[at.to(walk.cond.device)])
        low, high = _pair(part, x[at], lam[at], target, order)
        scale = (rtol * torch.maximum(low.abs(), previous[at].abs())).clamp_min(atol)
        error = ((high - low) / scale).flatten(1).double().square().mean(1).sqrt()
        good = forced | (error <= 1)
        step = target - lam[at]
        h[at] = SAFETY * step * error.clamp_min(1e-12) ** (-1 / order)
        used[at] += order
        accepted[at] += good.to(accepted.dtype)
        kept = at[good]
        x[kept], previous[kept], lam[kept] = high[good], low[good], target[good]
    return x, accepted, used


def _pair(walk: Walk, x: Tensor, lam_s: Tensor, lam_t: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Return the steps of order - 1 and ``order`` from lam_s to lam_t (B,), which share their evaluations."""
    schedule, h = walk.prior.schedule, lam_t - lam_s

    def ask(u: Tensor, lam: Tensor) -> Tensor:
        return walk.predict(u, schedule.t_of_lam(lam), "noise")

    def advance(lam: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
        s, t = schedule.t_of_lam(lam_s), schedule.t_of_lam(lam)
        out = along(schedule.alpha(t) / schedule.alpha(s), x) * x
        for factor, value in terms:
            out = out - along(schedule.sigma(t) * factor, x) * value
        return out

    r = 1 / order
    eps = ask(x, lam_s)
    lam_1 = lam_s + r * h
    slope = (ask(advance(lam_1, (torch.expm1(r * h), eps)), lam_1) - eps) / along(r * h, x)
    first, second = torch.expm1(h), torch.expm1(h) - h  # h phi_1, h^2 phi_2
    if order == 2:
        return advance(lam_t, (first, eps)), advance(lam_t, (first, eps), (h * first / 2, slope))
    lam_2, z = lam_s + 2 * r * h, 2 * r * h
    late = (ask(advance(lam_2, (torch.expm1(z), eps), (torch.expm1(z) - z, slope)), lam_2) - eps) / along(z, x)
    return advance(lam_t, (first, eps), (h * first / 2, slope)), advance(lam_t, (first, eps), (second, late))
