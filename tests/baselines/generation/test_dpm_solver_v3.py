"""DPM-Solver-v3: its statistics against closed forms, its degenerate case against DPM-Solver++, its gain on the exact ring."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import Tensor

from scorebench.baselines.diffusion.ems import refined, running, statistics
from scorebench.baselines.diffusion.exact import GaussianMixturePrior, ode_solution
from scorebench.baselines.diffusion.exponential import nodes
from scorebench.baselines.diffusion.prior import Prior
from scorebench.baselines.generation.dpm_solver_pp import DPMSolverPP
from scorebench.baselines.generation.dpm_solver_v3 import DPMSolverV3

from .ring import END, Given, counted, errors, request, ring, solved


@lru_cache
def learned() -> Tensor:
    torch.manual_seed(0)
    method = DPMSolverV3(ring(), points=100, states=256)
    method.learn(None)
    return method.coefficients


def solver(prior: Prior, **options: object) -> DPMSolverV3:
    method = DPMSolverV3(prior, points=100, **options)  # type: ignore[arg-type]
    method.coefficients.copy_(learned())
    return method


def test_statistics_of_a_gaussian() -> None:
    """For N(m, v): l = sigma^2/(alpha^2 v + sigma^2), and f = -l m depends on lambda alone, so the line has df/dlam in it."""
    m, v = 0.7, 0.3
    prior = GaussianMixturePrior([1.0], [[m]], [[[v]]])
    lams = torch.linspace(-3, 4, 29, dtype=torch.float64)
    points = nodes(prior.schedule, prior.schedule.t_of_lam(lams))
    start = prior.start(torch.randn(64, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    got = statistics(prior.noise, prior.schedule, start, lams)[..., 0]
    alpha, sigma = (torch.tensor([getattr(p, n) for p in points], dtype=torch.float64) for n in ("alpha", "sigma"))
    wanted = sigma**2 / (alpha**2 * v + sigma**2)
    assert torch.allclose(got[0], wanted, rtol=1e-8)
    # f = (sigma eps - l x)/alpha = -l m: its derivative, by finite differences inside the grid
    slope = torch.gradient(-wanted * m, spacing=(lams,))[0]
    assert torch.allclose((got[1] * -wanted * m + got[2])[1:-1], slope[1:-1], atol=2e-2)


def test_a_gaussian_is_solved_in_two_steps() -> None:
    """Where f depends on lambda alone the update is exact, up to the statistics' grid; DPM-Solver++ is not."""
    prior = GaussianMixturePrior([1.0], [[0.7]], [[[0.3]]])
    z = torch.randn(50, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = ode_solution(prior, prior.start(z), 1.0, END)
    torch.manual_seed(0)
    method = DPMSolverV3(prior, order=1, corrector=False, points=120, states=64)
    method.learn(None)
    ours, plain = (m.sample(request(50, 2, (1,), rng=Given(z))) for m in (method, DPMSolverPP(prior, order=1)))
    assert (ours - exact).abs().max() < 0.02 * (plain - exact).abs().max()


@pytest.mark.parametrize("nfe", [5, 20])
def test_degenerate_coefficients_are_dpm_solver_pp(nfe: int) -> None:
    z, _ = solved()
    asked = request(len(z), nfe, rng=Given(z))
    v3 = DPMSolverV3(ring(), order=1, corrector=False, degenerate=True).sample(asked)
    pp = DPMSolverPP(ring(), order=1).sample(asked)
    assert torch.allclose(v3, pp, atol=1e-3)  # what snapping to the table and quadrature leave


def test_the_degenerate_third_order_is_that_of_dpm_solver_pp() -> None:
    ours = errors(lambda p: DPMSolverV3(p, corrector=False, degenerate=True), (40,))[0]
    assert ours == pytest.approx(errors(lambda p: DPMSolverPP(p, order=3, released=False), (40,))[0], rel=0.05)


def test_statistics_lower_the_error_of_low_orders() -> None:
    """The claim where the catalogue saw it hold: order 1 and 2, ten and twenty evaluations, against the same orders of DPM-Solver++."""
    for order, share in ((1, 0.75), (2, 0.75)):
        ours = errors(lambda p, o=order: solver(p, order=o, corrector=False), (10, 20))  # type: ignore[misc]
        plain = errors(lambda p, o=order: _plain(p, o), (10, 20))  # type: ignore[misc]
        assert (ours < share * plain).all()


def _plain(prior: Prior, order: int) -> DPMSolverV3:
    return DPMSolverV3(prior, order=order, corrector=False, degenerate=True, points=100)


def test_the_corrector_costs_nothing_and_helps() -> None:
    for nfe in (5, 10, 20, 50):
        assert counted(solver(ring()), nfe) == nfe
        assert counted(solver(ring(), corrector=False), nfe) == nfe
    assert errors(lambda p: solver(p, order=1), (20,))[0] < errors(lambda p: solver(p, order=1, corrector=False), (20,))[0] / 1.5


def test_tables() -> None:
    lams = torch.linspace(0, 2, 21, dtype=torch.float64)
    assert torch.allclose(running(lams, lams), lams**2 / 2)  # trapezoids are exact for lines
    fine = refined(lams[:, None], 4)
    assert fine.shape == (81, 1) and torch.allclose(fine[:, 0], torch.linspace(0, 2, 81, dtype=torch.float64))


def test_learning_counts_and_is_seeded() -> None:
    torch.manual_seed(3)
    a = DPMSolverV3(ring(), points=6, states=16)
    a.learn(None)
    torch.manual_seed(3)
    b = DPMSolverV3(ring(), points=6, states=16)
    b.learn(None)
    assert torch.equal(a.coefficients, b.coefficients)
    with pytest.raises(ValueError, match="accepted: order 1, 2 or 3"):
        DPMSolverV3(ring(), order=4)
