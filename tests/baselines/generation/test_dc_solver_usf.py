"""DC-Solver and USF's unified step with its search: equal to their known special cases, better than them where the papers say so."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from ring import END, Given, counted, request, ring

from scorebench.baselines.diffusion.grids import GRIDS, time_grid
from scorebench.baselines.diffusion.prior import Guided
from scorebench.baselines.diffusion.sampling import Walk
from scorebench.baselines.diffusion.unified import Choice, derivative_weights, factor
from scorebench.baselines.generation.dc_solver import DCSolver, compensated
from scorebench.baselines.generation.ddim import DDIM
from scorebench.baselines.generation.unipc import UniPC
from scorebench.baselines.generation.usf_s3 import KINDS, USFS3, _choice, _row, encoded, integrate, known_solvers, mutated, ranked
from scorebench.configs.errors import RequestError
from scorebench.harness.weights import rounded
from scorebench.tasks.requests import Budget


# ------------------------------------------------------------------ DC-Solver
def test_compensation_interpolates_in_t() -> None:
    """A parabola in t is found again anywhere; ratio 1 leaves the newest prediction as it is."""
    times = [torch.tensor(t, dtype=torch.float64) for t in (0.9, 0.7, 0.6)]
    data = [torch.tensor([2 * t**2 - t + 1]) for t in times]
    assert torch.equal(compensated(data, times, 1.0), data[-1])
    where = 1.4 * 0.6 - 0.4 * 0.7
    assert compensated(data, times, 1.4).item() == pytest.approx(2 * where**2 - where + 1)


def test_without_a_search_it_is_unipc() -> None:
    a = DCSolver(ring(), Budget("nfe10", 10)).sample(request(8, 10))
    assert torch.allclose(a, UniPC(ring(), grid="uniform-t").sample(request(8, 10)), atol=1e-5)


def distances(nfe: int, guidance: float) -> tuple[float, float]:
    """Return the mean squared distance to DDIM's endpoint on 200 fresh draws, of DC-Solver and of UniPC-3, uniform in t."""
    torch.manual_seed(0)
    rows = nfe * (2 if guidance != 1 else 1)
    ours = DCSolver(ring(), Budget("b", rows), guidance=guidance, end=END, reference_steps=250)
    ours.learn()
    z = torch.randn(200, 2, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    label = torch.arange(200) % 8
    given = {"label": label} if guidance != 1 else {}
    prior = Guided(ring(), guidance) if guidance != 1 else ring()
    span = torch.tensor([1.0, END], dtype=torch.float64)
    wanted = ours.reference(Walk(prior, label if guidance != 1 else None, prior.start(z), span))[-1]
    return tuple(  # type: ignore[return-value]
        (m.sample(request(200, rows, rng=Given(z), **given)) - wanted).square().mean().item()
        for m in (ours, UniPC(ring(), grid="uniform-t", guidance=guidance, end=END))
    )


def test_searched_ratios_help_under_guidance() -> None:
    """Catalogue: at weight 7.5 and 10 steps, uniform in t, 0.0008 against 0.083 for UniPC-3, on draws that the search did not see."""
    ours, plain = distances(10, 7.5)
    assert ours < 0.05 * plain and plain == pytest.approx(0.083, rel=0.5)


def test_searched_ratios_help_at_five_steps() -> None:
    ours, plain = distances(5, 1.0)
    assert ours < plain


def test_ratios_belong_to_their_number_of_steps() -> None:
    method = DCSolver(ring(), Budget("nfe5", 5), samples=2, iterations=1, reference_steps=5)
    method.learn()
    assert counted(method, 5) == 5
    with pytest.raises(RequestError, match="searched for 5 steps, and this request takes 10"):
        method.sample(request(2, 10))
    again = DCSolver(ring(), Budget("nfe5", 5))
    again.load_state_dict(method.state_dict())
    assert torch.equal(again.sample(request(4, 5)), method.sample(request(4, 5)))


# ------------------------------------------------------------------ the unified step
def test_the_unified_step_contains_the_known_solvers() -> None:
    """DDIM, 2M, UniP-3, UniPC-2 and UniPC-3 on four grids: the same samples as their own implementations, in float64."""
    prior, z = ring(), torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    walk = Walk(prior, None, prior.start(z), time_grid(prior.schedule, 9))
    solvers = known_solvers(prior, 9)
    for g, grid in enumerate(GRIDS):
        for place, order, corrector in ((0, 1, False), (2, 2, False), (3, 3, False), (4, 2, True), (5, 3, True)):
            mine = integrate(walk, solvers[6 * g + place])
            theirs = UniPC(prior, order, corrector=corrector, grid=grid).sample(request(8, 9, rng=Given(z)))
            assert torch.allclose(mine, theirs, atol=1e-8), (grid, order, corrector)


def test_derivative_weights_are_exact_for_polynomials() -> None:
    offsets = [-0.4, -1.1, -1.5]
    for k, wanted in ((1, 0.7), (2, -2.0), (3, 3.0)):  # of 5 + 0.7 d - 2 d^2/2 + 3 d^3/6
        values = [0.7 * d - d**2 + 0.5 * d**3 for d in offsets]
        assert sum(c * v for c, v in zip(derivative_weights(offsets, k), values, strict=True)) == pytest.approx(wanted)


def test_scalings_tend_to_one() -> None:
    for scaling in ("r2", "bh1", "linear"):
        for kind in ("noise", "data"):
            assert factor(scaling, 1e-3, kind, 0.5) == pytest.approx(1, abs=1e-3)  # type: ignore[arg-type]


def test_choices_survive_their_table_and_children_stay_schedules() -> None:
    rng, prior = random.Random(0), ring()
    for seed in known_solvers(prior, 6):
        assert [_choice(_row(c)) for c in seed] == seed
        child = seed
        for _ in range(20):
            child = mutated(child, rng, 1.0)
        times = [c.time for c in child]
        assert times[-1] == 0 and all(a > b for a, b in zip([1.0, *times[:-1]], times, strict=True))
        assert len(encoded(child)) == 15 * 6


def test_any_schedule_can_be_walked() -> None:
    """Whatever mutation makes: steps back, orders beyond the history and correctors included; finite and exactly one evaluation a step."""
    rng, prior = random.Random(1), ring()
    walk = Walk(prior, None, torch.randn(4, 2), time_grid(prior.schedule, 5))
    for _ in range(30):
        schedule = [
            Choice(t, rng.choice(KINDS), rng.randint(0, 2), rng.randint(1, 4), rng.random() < 0.5, "r2", 0.0, rng.random() < 0.5)
            for t in (0.8, 0.5, 0.3, 0.1, 0.0)
        ]
        assert integrate(walk, schedule).isfinite().all()


def test_the_predictor_ranks_what_it_has_seen() -> None:
    torch.manual_seed(0)
    solvers = known_solvers(ring(), 4)
    scored = [(float(k), s) for k, s in enumerate(solvers)]
    places = [solvers.index(s) for s in ranked(scored, list(reversed(solvers)))]
    assert sum(abs(p - k) for k, p in enumerate(places)) < 0.25 * len(places) ** 2 / 3  # a third of n^2 is what chance gives


def test_the_search_beats_every_known_solver_on_fresh_noise() -> None:
    """The paper's first claim at 5 evaluations: below the best of six solvers on four grids, on draws that the search did not see."""
    torch.manual_seed(0)
    method = USFS3(ring(), Budget("nfe5", 5), candidates=160, samples=48, reference_steps=60)
    method.learn()
    assert method.scores[1] < method.scores[0]
    z = torch.randn(200, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    walk = Walk(ring(), None, ring().start(z), time_grid(ring().schedule, 5))
    fine = time_grid(ring().schedule, 100, "uniform-lambda")[1:].tolist()
    exact = integrate(walk, [Choice(t, order=min(3, i + 1, 100 - i)) for i, t in enumerate(fine)])
    best = min((integrate(walk, s) - exact).norm(dim=1).mean().item() for s in known_solvers(ring(), 5))
    ours = (method.sample(request(200, 5, rng=Given(z))) - exact).norm(dim=1).mean().item()
    assert ours < best
    assert counted(method, 5) == 5
    stored = USFS3(ring(), Budget("nfe5", 5))
    stored.load_state_dict({**stored.state_dict(), **rounded({k: v for k, v in method.state_dict().items() if k in ("table", "scores")})})
    assert torch.allclose(stored.sample(request(8, 5)), method.sample(request(8, 5)), atol=1e-4)
    with pytest.raises(RequestError, match="searched for 5 steps"):
        method.sample(request(2, 10))


@pytest.mark.parametrize("nfe", [5, 10, 20, 50])
def test_evaluations_are_as_planned(nfe: int) -> None:
    budget = Budget(f"nfe{nfe}", nfe)
    assert counted(DCSolver(ring(), budget), nfe) == nfe
    assert counted(USFS3(ring(), budget), nfe) == nfe
    label = torch.tensor([0, 1, 2])
    assert counted(DCSolver(ring(), budget, guidance=3.0), nfe, label=label) == nfe // 2 * 2
    assert counted(USFS3(ring(), budget, guidance=3.0), nfe, label=label) == nfe // 2 * 2


def test_the_default_schedule_is_ddim() -> None:
    assert torch.allclose(USFS3(ring(), Budget("nfe8", 8)).sample(request(4, 8)), DDIM(ring()).sample(request(4, 8)), atol=1e-4)
