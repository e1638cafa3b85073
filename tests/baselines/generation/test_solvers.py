"""Euler, Heun, DPM-Solver, DPM-Solver++ and PNDM: orders on the exact ring, closed forms, budgets, guidance, batches and views."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from scorebench.baselines.diffusion.exact import GaussianMixturePrior
from scorebench.baselines.diffusion.grids import time_grid
from scorebench.baselines.diffusion.prior import Prior
from scorebench.baselines.diffusion.schedule import VPLinear
from scorebench.baselines.generation.ddim import DDIM
from scorebench.baselines.generation.dpm_solver import DPMSolver, fast_orders
from scorebench.baselines.generation.dpm_solver_pp import DPMSolverPP
from scorebench.baselines.generation.euler import Euler
from scorebench.baselines.generation.heun import Heun
from scorebench.baselines.generation.pndm import PNDM
from scorebench.baselines.method import Method
from scorebench.configs.errors import RequestError

from .ring import END, Given, counted, errors, request, ring, slope, solved

Make = Callable[[Prior], Method]
FLAT = {"lower_order_final": False}


# ------------------------------------------------------------------ orders of convergence
@pytest.mark.parametrize(
    ("make", "sizes", "low", "high"),
    [
        (lambda p: Euler(p, end=END), (40, 80, 160), 0.9, 1.15),
        (lambda p: Heun(p, end=END), (80, 160, 320), 1.8, 2.3),
        (lambda p: DPMSolver(p, "singlestep", 1), (40, 80, 160), 0.9, 1.15),
        (lambda p: DPMSolver(p, "singlestep", 2), (80, 160, 320), 1.8, 2.2),
        (lambda p: DPMSolver(p, "singlestep", 3), (90, 180, 360), 2.8, 3.4),
        (lambda p: DPMSolverPP(p, **FLAT), (80, 160, 320), 1.8, 2.2),
        (lambda p: DPMSolverPP(p, "singlestep"), (80, 160, 320), 1.8, 2.2),
        (lambda p: DPMSolverPP(p, order=3, **FLAT), (160, 320, 640), 1.7, 2.3),
        (lambda p: DPMSolverPP(p, order=3, released=False, **FLAT), (80, 160, 320), 2.7, 3.5),
        (lambda p: PNDM(p, "s-pndm", end=END), (100, 200, 400), 1.6, 2.2),
        (lambda p: PNDM(p, "f-pndm", end=END), (200, 400, 800), 1.5, 2.2),
    ],
    ids=["euler", "heun", "dpm-1", "dpm-2", "dpm-3", "pp-2m", "pp-2s", "pp-3m", "pp-3m-taylor", "s-pndm", "f-pndm"],
)
def test_order_of_convergence(make: Make, sizes: tuple[int, ...], low: float, high: float) -> None:
    """Median endpoint error on the ring, float64, in the number of evaluations; PNDM's global order is 2 in spite of its weights."""
    assert low < slope(make, sizes) < high


def test_many_evaluations_favour_high_orders() -> None:
    """At 50 evaluations DPM-Solver-fast, 2M and PNDM are nearer to the ODE's solution than DDIM (papers' claims where they hold here)."""
    ddim = errors(lambda p: DPMSolver(p, "singlestep", 1), (50,))[0]
    for make in (lambda p: DPMSolver(p), lambda p: DPMSolverPP(p), lambda p: PNDM(p, "f-pndm", end=END), lambda p: PNDM(p, "s-pndm", end=END)):
        assert errors(make, (50,))[0] < ddim / 3


def test_2m_survives_guidance_where_a_singlestep_noise_solver_does_not() -> None:
    """Weight 7.5, 10 evaluations, against the same guided ODE: the claim of DPM-Solver++ over DPM-Solver-2."""
    pp, noise = (
        errors(make, (20,), guidance=7.5, label=0)[0]  # 20 rows are 10 guided evaluations
        for make in (lambda p: DPMSolverPP(p, guidance=7.5), lambda p: DPMSolver(p, "singlestep", 2, guidance=7.5))
    )
    assert pp < noise / 3


# ------------------------------------------------------------------ identities and closed forms
def test_first_orders_are_ddim() -> None:
    """Euler in the EDM form, DPM-Solver-1 and DPM-Solver++(1) take DDIM's steps; only the grid is theirs."""
    z, _ = solved()
    prior = ring()
    cases = [
        (Euler(prior), DDIM(prior, grid="karras")),
        (DPMSolver(prior, "singlestep", 1, end=0.0), DDIM(prior, grid="uniform-lambda")),
        (DPMSolverPP(prior, order=1, end=0.0), DDIM(prior, grid="uniform-lambda")),
        (PNDM(prior, "plms"), DDIM(prior)),
    ]
    for ours, ddim in cases:
        nfe = 1 if isinstance(ours, PNDM) else 7
        a, b = (m.sample(request(len(z), nfe, rng=Given(z))) for m in (ours, ddim))  # type: ignore[operator]
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9), type(ours).__name__


def gaussian() -> tuple[GaussianMixturePrior, float, float]:
    return GaussianMixturePrior([1.0], [[0.7]], [[[0.3]]]), 0.7, 0.3


def test_heun_on_a_gaussian_is_algorithm_1() -> None:
    """D(z; s) = m + v (z - m)/(v + s^2) for N(m, v): Heun's steps by hand in the EDM form, on its own grid."""
    prior, m, v = gaussian()
    z = torch.randn(40, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    schedule = prior.schedule
    top, low = (float(schedule.kappa(torch.tensor(t, dtype=torch.float64))) for t in (1.0, 1e-3))
    n = 6
    levels = [(top ** (1 / 7) + i / (n - 1) * (low ** (1 / 7) - top ** (1 / 7))) ** 7 for i in range(n)] + [0.0]
    x = top * z
    for s, t in pairwise(levels):
        slope_s = (x - (m + v * (x - m) / (v + s**2))) / s
        step = x + (t - s) * slope_s
        if t > 0:
            slope_t = (step - (m + v * (step - m) / (v + t**2))) / t
            step = x + (t - s) * (slope_s + slope_t) / 2
        x = step
    got = Heun(prior).sample(request(40, 2 * n - 1, (1,), rng=Given(z)))
    assert torch.allclose(got, x, rtol=1e-8, atol=1e-10)


def test_churn_keeps_the_marginals() -> None:
    """Adding noise and removing it again leaves a Gaussian's mean and variance; S_noise = 1, many steps. Without churn nothing is random."""
    prior, m, v = gaussian()
    n = 4000
    x = Heun(prior, churn=20, churn_min=0.01, churn_max=50).sample(request(n, 79, (1,))).double()
    assert x.mean().item() == pytest.approx(m, abs=5 * math.sqrt(v / n))
    assert x.var().item() == pytest.approx(v, rel=5 * math.sqrt(2 / n))
    z = torch.zeros(3, 1, dtype=torch.float64)
    still = Heun(prior).sample(request(3, 19, (1,), rng=Given(z)))
    assert (still == still[0]).all()


@pytest.mark.parametrize("order", [1, 2])
def test_the_sde_version_has_the_variance_of_its_steps(order: int) -> None:
    """On N(m, v) the steps are affine with Gaussian noise: the joint covariance of state and last prediction follows a recursion."""
    prior, m, v = gaussian()
    steps, n = 12, 20_000
    t = time_grid(VPLinear(), steps, "uniform-lambda", END)
    a, s, lam = (f(t).tolist() for f in (prior.schedule.alpha, prior.schedule.sigma, prior.schedule.lam))
    mean, cov = np.zeros(2), np.array([[s[0] ** 2, 0.0], [0.0, 0.0]])  # of (x, previous prediction)
    for i in range(steps):
        h = lam[i + 1] - lam[i]
        gain = a[i] * v / (a[i] ** 2 * v + s[i] ** 2)
        predict, offset = np.array([gain, 0.0]), m - gain * a[i] * m
        extra = h / (2 * (lam[i] - lam[i - 1])) if order == 2 and i > 0 and i < steps - 1 else 0.0
        combined, shift = (1 + extra) * predict - extra * np.array([0.0, 1.0]), (1 + extra) * offset
        share = 1 - math.exp(-2 * h)
        move = np.stack([s[i + 1] / s[i] * math.exp(-h) * np.array([1.0, 0.0]) + a[i + 1] * share * combined, predict])
        mean = move @ mean + np.array([a[i + 1] * share * shift, offset])
        cov = move @ cov @ move.T + np.diag([s[i + 1] ** 2 * share, 0.0])
    x = DPMSolverPP(prior, "sde", order).sample(request(n, steps, (1,))).double()
    assert x.mean().item() == pytest.approx(mean[0], abs=5 * math.sqrt(cov[0, 0] / n))
    assert x.var().item() == pytest.approx(cov[0, 0], rel=5 * math.sqrt(2 / n))


def test_the_last_evaluation_denoises() -> None:
    """``final`` returns the data prediction at t_min, and pays for it."""
    prior = ring()
    for make in (lambda final: DPMSolver(prior, final=final), lambda final: DPMSolverPP(prior, final=final)):
        z, _ = solved()
        plain = make(False).sample(request(len(z), 9, rng=Given(z)))
        denoised = make(True).sample(request(len(z), 10, rng=Given(z)))
        assert torch.allclose(denoised, prior.denoised(plain, END), rtol=1e-10)
        assert counted(make(True), 10) == 10


# ------------------------------------------------------------------ adaptive steps
def test_adaptive_steps_keep_the_error_in_bounds() -> None:
    z, exact = solved()
    got = []
    for tolerance in (0.05, 0.005):
        for order in (2, 3):
            method = DPMSolver(ring(), "adaptive", order, rtol=tolerance, atol=tolerance * 0.16)
            x = method.sample(request(len(z), rng=Given(z)))
            notes, _ = method.take_notes()
            got.append(((x - exact).norm(dim=1).median().item(), notes["evaluations"][0].mean().item()))
    (e2, n2), (e3, n3), (f2, m2), (f3, m3) = got
    assert f2 < e2 / 2 and f3 < e3 / 2 and m2 > n2 and m3 > n3  # a tighter tolerance: nearer, for more
    assert f2 < 0.02 and f3 < 0.02


def test_adaptive_steps_are_each_sample_s_own() -> None:
    z, _ = solved()
    method = DPMSolver(ring(), "adaptive", 3)
    together = method.sample(request(8, 30, rng=Given(z[:8])))
    for i in range(8):
        assert torch.allclose(method.sample(request(1, 30, rng=Given(z[i : i + 1]))), together[i : i + 1], rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------ budgets
PLANS: dict[str, tuple[Make, dict[int, int]]] = {
    "euler": (Euler, {5: 5, 10: 10, 20: 20, 50: 50}),
    "heun": (Heun, {5: 5, 10: 9, 20: 19, 50: 49}),
    "heun-churn": (lambda p: Heun(p, churn=40, churn_min=0.05, churn_max=50, noise=1.003), {5: 5, 10: 9, 20: 19, 50: 49}),
    "dpm-1": (lambda p: DPMSolver(p, "singlestep", 1), {5: 5, 10: 10, 20: 20, 50: 50}),
    "dpm-2": (lambda p: DPMSolver(p, "singlestep", 2), {5: 4, 10: 10, 20: 20, 50: 50}),
    "dpm-3": (lambda p: DPMSolver(p, "singlestep", 3), {5: 3, 10: 9, 20: 18, 50: 48}),
    "dpm-fast": (DPMSolver, {5: 5, 10: 10, 20: 20, 50: 50}),
    "dpm-fast-uniform-t": (lambda p: DPMSolver(p, grid="uniform-t"), {5: 5, 10: 10, 20: 20, 50: 50}),
    "pp-2m": (DPMSolverPP, {5: 5, 10: 10, 20: 20, 50: 50}),
    "pp-3m": (lambda p: DPMSolverPP(p, order=3), {5: 5, 10: 10, 20: 20, 50: 50}),
    "pp-2s": (lambda p: DPMSolverPP(p, "singlestep"), {5: 4, 10: 10, 20: 20, 50: 50}),
    "pp-sde": (lambda p: DPMSolverPP(p, "sde"), {5: 5, 10: 10, 20: 20, 50: 50}),
    "f-pndm": (PNDM, {5: 4, 10: 8, 20: 20, 50: 50}),
    "s-pndm": (lambda p: PNDM(p, "s-pndm"), {5: 5, 10: 10, 20: 20, 50: 50}),
    "plms": (lambda p: PNDM(p, "plms"), {5: 5, 10: 10, 20: 20, 50: 50}),
}


@pytest.mark.parametrize("name", PLANS)
def test_counted_evaluations_are_the_planned(name: str) -> None:
    make, planned = PLANS[name]
    for nfe, wanted in planned.items():
        assert counted(make(ring()), nfe) == wanted


def test_adaptive_steps_stop_at_the_budget() -> None:
    for order in (2, 3):
        for nfe in (5, 10, 20, 50):
            method = DPMSolver(ring(), "adaptive", order, rtol=1e-4, atol=1e-4)
            assert nfe - 2 * order < counted(method, nfe) <= nfe
            notes, _ = method.take_notes()
            assert notes["evaluations"][0].max() <= nfe


def test_fast_orders_use_every_evaluation() -> None:
    for n in range(1, 60):
        for order in (1, 2, 3):
            assert sum(fast_orders(n, order)) == n
    assert [fast_orders(n) for n in (10, 12, 14)] == [[3, 3, 3, 1], [3, 3, 3, 2, 1], [3, 3, 3, 3, 2]]


def test_guidance_is_paid_for() -> None:
    label = torch.tensor([0, 3, 5])
    for make, rows in (
        (lambda p: Heun(p, guidance=3.0), 18), (lambda p: DPMSolverPP(p, guidance=3.0), 20), (lambda p: PNDM(p, "plms", guidance=3.0), 20),
        (lambda p: DPMSolver(p, guidance=3.0), 20), (lambda p: DPMSolver(p, "adaptive", 2, rtol=1e-4, atol=1e-4, guidance=3.0), 20),
    ):  # fmt: skip
        assert counted(make(ring()), 21, label=label) == rows
        x = make(ring()).sample(request(3, 80, label=label)).double()
        assert (torch.cdist(x, ring().network.means).argmin(1) == label).all()  # type: ignore[arg-type]


def test_too_small_a_budget_says_what_is_needed() -> None:
    with pytest.raises(RequestError, match="one step takes 3;"):
        DPMSolver(ring(), "singlestep", 3).sample(request(2, 2))
    with pytest.raises(RequestError, match="one step takes 4;"):
        PNDM(ring()).sample(request(2, 3))


# ------------------------------------------------------------------ batches, views, thresholding, wrong arguments
@pytest.mark.parametrize("make", [lambda p: Heun(p, churn=10), lambda p: DPMSolverPP(p, "sde"), lambda p: DPMSolver(p, "adaptive", 2)])
def test_samples_do_not_depend_on_the_batch(make: Make) -> None:
    method = make(ring())
    together = method.sample(request(6, 20))
    asked = request(6, 20)
    for part in ([0], [1, 2], [3, 4, 5]):
        alone = method.sample(request(len(part), 20, rng=asked.rng[part]))
        assert torch.allclose(alone, together[part], atol=1e-4)


@pytest.mark.parametrize("make", [Euler, Heun, DPMSolver, DPMSolverPP, lambda p: DPMSolverPP(p, order=3)])
@pytest.mark.parametrize("form", ["as_edm", "as_flow"])
def test_views_give_the_same_samples(make: Make, form: str) -> None:
    """In the EDM and flow views of the prior the same steps are taken, up to the scale alpha of where they stop."""
    z, _ = solved()
    prior = ring()
    view: Prior = getattr(prior, form)()
    ends = []
    for p in (prior, view):
        x = make(p).sample(request(len(z), 30, rng=Given(z)))  # type: ignore[operator]
        stops = make(p).end is None  # the others go down to the data
        ends.append(x / p.schedule.alpha(torch.tensor(p.schedule.t_min, dtype=torch.float64)) if stops else x)
    assert torch.allclose(*ends, rtol=1e-7, atol=1e-9)


def test_thresholding_keeps_guided_samples_in_range() -> None:
    prior = GaussianMixturePrior(ring().network.log_weights.exp(), ring().network.means / 2.4, np.tile(0.01 * np.eye(2), (8, 1, 1)))
    prior.span = (-1.0, 1.0)
    label = torch.arange(8)
    loud, kept = (
        DPMSolverPP(prior, guidance=15.0, threshold=t, final=True).sample(request(8, 40, label=label)).abs().max() for t in (None, 0.995)
    )
    assert loud > 1.1 and kept <= 1 + 1e-5


def test_wrong_arguments_are_refused() -> None:
    for make, message in (
        (lambda: DPMSolver(ring(), "quick"), "accepted: singlestep, fast, adaptive"),  # type: ignore[arg-type]
        (lambda: DPMSolver(ring(), "adaptive", 1), "2 or 3 in mode adaptive"),
        (lambda: DPMSolverPP(ring(), "fast"), "accepted: multistep, singlestep, sde"),  # type: ignore[arg-type]
        (lambda: DPMSolverPP(ring(), "sde", 3), "accepted with form sde: 1, 2"),
        (lambda: PNDM(ring(), "pndm"), "accepted: f-pndm, s-pndm, plms"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_states_stay_float32() -> None:
    for make in (Euler, Heun, DPMSolver, DPMSolverPP, PNDM, lambda p: DPMSolver(p, "adaptive", 3)):
        x: Tensor = make(ring()).sample(request(3, 20))
        assert x.dtype == torch.float32
