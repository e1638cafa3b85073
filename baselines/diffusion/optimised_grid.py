"""Optimised time grids: times that minimise a bound on a multistep solver's error (Xue et al., CVPR 2024, arXiv:2402.17376)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from .schedule import Schedule

Array = NDArray[np.float64]
_NODES, _WEIGHTS = (np.asarray(v) for v in np.polynomial.legendre.leggauss(12))
ALONE = 3  # so many first steps are bounded one by one, without cancellation between steps (the authors' choice)


def integrals(knots: Array, a: Array, b: Array) -> Array:
    """Return int_a^b exp(lam) l_j(lam) dlam for the Lagrange polynomials l_j of ``knots`` (..., k): the weights of k predictions, (..., k)."""
    lam = a[..., None] + (b - a)[..., None] * (_NODES + 1) / 2
    mass = _WEIGHTS * np.exp(lam) * (b - a)[..., None] / 2
    out = np.empty_like(knots)
    for j in range(knots.shape[-1]):
        basis = np.ones_like(lam)
        for i in range(knots.shape[-1]):
            if i != j:
                basis = basis * (lam - knots[..., i, None]) / (knots[..., j, None] - knots[..., i, None])
        out[..., j] = (basis * mass).sum(-1)
    return out


def error_bound(lams: Array, order: int = 3, power: float = 2.0) -> float:
    """Return the paper's bound on the error of x_N / sigma_N for the grid ``lams`` (N + 1,), rising, solved with the data prediction.

    x_N/sigma_N = x_0/sigma_0 + sum_n c_n x_theta(lam_n): each step adds the integral of exp(lam) times the polynomial through its newest
    ``order`` predictions (fewer at both ends). A prediction at lam_n is wrong by at most a constant times sigma_n^power / alpha_n, so the
    bound is sum_n |c_n| sigma_n^power / alpha_n.
    """
    steps = len(lams) - 1
    error = (1 + np.exp(2 * lams)) ** (-power / 2) * np.sqrt(1 + np.exp(-2 * lams))
    shared, total = np.zeros(steps), 0.0
    taken = np.minimum(order, np.minimum(np.arange(steps) + 1, steps - np.arange(steps)))
    for k in range(1, order + 1):
        at = np.flatnonzero(taken == k)
        known = at[:, None] - np.arange(k)  # newest first
        part = integrals(lams[known], lams[at], lams[at + 1]) * error[known]
        total += float(np.linalg.norm(part[at < ALONE], axis=1).sum())
        np.add.at(shared, known[at >= ALONE], part[at >= ALONE])
    return total + float(np.abs(shared).sum())


@functools.lru_cache(maxsize=64)
def _optimised(low: float, high: float, inner: tuple[float, ...], order: int, power: float) -> tuple[float, ...]:
    """Return the lambdas between ``low`` and ``high`` that minimise the bound, found from ``inner``, by shares of the whole: they rise."""

    def lams(z: Array) -> Array:
        shares = np.exp(np.concatenate([z, [0.0]]) - max(z.max(), 0.0))
        return low + (high - low) * np.concatenate([[0.0], np.cumsum(shares / shares.sum())])

    gaps = np.diff([low, *inner, high])
    found = minimize(lambda z: np.log(error_bound(lams(z), order, power)), np.log(gaps[:-1] / gaps[-1]), method="BFGS",
                     options={"maxiter": 200, "gtol": 1e-4})  # fmt: skip
    return tuple(float(v) for v in lams(found.x)[1:-1])


def optimised_grid(
    schedule: Schedule, start: Tensor, order: int = 3, power: float = 2.0, bound: Callable[..., float] = error_bound
) -> Tensor:
    """Return a grid with as many times as ``start`` and its ends, float64 (N + 1,), whose `error_bound` is no larger than that of ``start``.

    A last time of 0, where lambda is infinite, stays outside: the times before it are optimised down to the one before it. Grids of one or two
    steps are returned as they are.
    """
    times = start.double()
    tail = times[-1:] if float(times[-1]) == 0 else times[:0]
    body = times[: len(times) - len(tail)]
    if len(body) < 3:
        return times
    lams = schedule.lam(body).tolist()
    inner = _optimised(lams[0], lams[-1], tuple(lams[1:-1]), order, power)
    if bound(np.array([lams[0], *inner, lams[-1]]), order, power) >= bound(np.array(lams), order, power):
        return times
    between = schedule.t_of_lam(torch.tensor(inner, dtype=torch.float64))
    return torch.cat([body[:1], between, body[-1:], tail])
