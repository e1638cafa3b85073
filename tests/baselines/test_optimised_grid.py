"""The optimised time grid: its weights against quadrature, its bound, and what every grid must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from scorebench.baselines.diffusion.grids import time_grid
from scorebench.baselines.diffusion.optimised_grid import error_bound, integrals, optimised_grid
from scorebench.baselines.diffusion.schedule import Schedule, VPCosine, VPDiscrete, VPLinear

SCHEDULES: list[Schedule] = [VPLinear(), VPCosine(), VPDiscrete.linear()]


@pytest.mark.parametrize("knots", [[0.3], [0.3, -0.5], [0.3, -0.5, -1.7]])
def test_the_weights_are_integrals_of_the_interpolant(knots: list[float]) -> None:
    def lagrange(lam: float, j: int) -> float:
        return math.prod((lam - o) / (knots[j] - o) for i, o in enumerate(knots) if i != j)

    got = integrals(np.array([knots]), np.array([0.3]), np.array([1.9]))[0]
    wanted = [quad(lambda lam, j=j: math.exp(lam) * lagrange(lam, j), 0.3, 1.9, epsabs=1e-13)[0] for j in range(len(knots))]
    assert got == pytest.approx(wanted, rel=1e-10)
    assert got.sum() == pytest.approx(math.exp(1.9) - math.exp(0.3))  # a constant prediction is integrated exactly


def test_the_bound_of_order_one_by_hand() -> None:
    """With order 1 every prediction is weighed by exp(lam_{n+1}) - exp(lam_n) alone."""
    lams = np.linspace(-3.0, 2.0, 8)
    sigma, alpha = (1 + np.exp(2 * lams)) ** -0.5, (1 + np.exp(-2 * lams)) ** -0.5
    assert error_bound(lams, order=1, power=2.0) == pytest.approx((np.diff(np.exp(lams)) * (sigma**2 / alpha)[:-1]).sum())


@settings(deadline=None, max_examples=15)
@given(
    schedule=st.sampled_from(SCHEDULES), steps=st.integers(1, 16), kind=st.sampled_from(["uniform-lambda", "uniform-t"]),
    order=st.integers(1, 3), to_data=st.booleans(),
)  # fmt: skip
def test_the_grid_keeps_its_ends_falls_and_lowers_the_bound(schedule: Schedule, steps: int, kind: str, order: int, to_data: bool) -> None:
    start = time_grid(schedule, steps, kind, 0.0 if to_data else schedule.t_min)  # type: ignore[arg-type]
    grid = optimised_grid(schedule, start, order)
    assert grid.shape == start.shape and bool((grid.diff() < 0).all())
    assert grid[0] == start[0] and grid[-1] == start[-1]
    finite = start.double() > 0
    if finite.sum() > 1:
        after, before = (error_bound(schedule.lam(g[finite]).numpy(), order) for g in (grid, start.double()))
        assert after <= before * (1 + 1e-9)


def test_no_small_move_of_a_time_lowers_the_bound() -> None:
    """At the minimum: moving any inner lambda by a hundredth of its gaps gains less than the rounding of the search."""
    schedule = VPLinear()
    grid = optimised_grid(schedule, time_grid(schedule, 6, "uniform-lambda", schedule.t_min))
    lams = schedule.lam(grid).numpy()
    least = error_bound(lams)
    assert least < 0.5 * error_bound(np.linspace(lams[0], lams[-1], 7))
    for i in range(1, 6):
        for sign in (-1, 1):
            moved = lams.copy()
            moved[i] += 0.01 * (lams[i + sign] - lams[i])
            assert error_bound(moved) > least * (1 - 1e-3)


def test_short_grids_and_a_bound_that_nothing_lowers_are_left_alone() -> None:
    schedule = VPLinear()
    for start in (torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.5, 0.0]), torch.tensor([1.0, 1e-3])):
        assert torch.equal(optimised_grid(schedule, start), start.double())
    start = time_grid(schedule, 8, "uniform-lambda", schedule.t_min)
    assert torch.equal(optimised_grid(schedule, start, bound=lambda *a: 1.0), start)
