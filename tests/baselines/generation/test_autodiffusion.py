"""AutoDiffusion: what candidates are, that the search improves its own fitness on the exact prior, and the budget."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scorebench.baselines.generation.autodiffusion import AutoDiffusion, fitness
from scorebench.baselines.generation.ddim import DDIM
from scorebench.baselines.method import DataSpec
from scorebench.harness.cost import RowCounter
from scorebench.tasks.finite import FiniteSet, column, samples
from scorebench.tasks.requests import Budget

from .ring import counted, request, ring

POINTS = DataSpec("points", 2, (2,))


def made(nfe: int | None = 4, **options: Any) -> AutoDiffusion:
    budget = Budget(f"nfe{nfe}", nfe) if nfe else Budget()
    return AutoDiffusion(ring(), data=POINTS, budget=budget, **{"samples": 200, "population": 10, "rows": 40_000, **options})


def ring_points(n: int = 2000) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    means = ring().network.means[torch.randint(8, (n,), generator=g)]
    return (means + 0.25 * torch.randn(n, 2, generator=g, dtype=torch.float64)).float()


@pytest.mark.parametrize("nfe", [1, 5, 10, 20, 50])
def test_one_evaluation_a_step(nfe: int) -> None:
    assert counted(made(nfe), nfe) == nfe
    assert len(made(nfe).times) == nfe


def test_before_the_search_it_is_ddim_on_uniform_times() -> None:
    ours, theirs = made(10).sample(request(16, 10)), DDIM(ring()).sample(request(16, 10))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_candidates_are_sorted_sets_of_k_places() -> None:
    method, draw = made(6), torch.Generator().manual_seed(0)
    a, b = method._redrawn((), draw), method._redrawn((), draw)
    for c in (a, b, method._mutant(a, 0.5, draw), method._child(a, b, draw), method._child(a, a, draw), method._uniform()):
        assert len(set(c)) == 6 and list(c) == sorted(c, reverse=True) and min(c) >= 1 and max(c) <= 1000
    assert method._mutant(a, 0.0, draw) == a == method._child(a, a, draw)
    assert set(method._mutant(a, 1.0, draw)) != set(a)


def test_the_search_lowers_its_fitness_and_keeps_to_its_rows() -> None:
    torch.manual_seed(0)
    points, method = ring_points(), made(4)
    distance = fitness(points, "points")
    x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(5))  # fresh noise
    before = distance(method._walk(x, method.times))
    with RowCounter(method.networks()) as rows:
        method.learn(FiniteSet({"target": points}))
    assert rows.forward <= 40_000
    after = distance(method._walk(x, method.times))
    assert after < 0.8 * before, (before, after)
    times = method.times.clone()
    torch.manual_seed(0)
    again = made(4)
    again.learn(FiniteSet({"target": points}))
    assert torch.equal(again.times, times), "a seed gives one search"


def test_pictures_are_compared_by_the_shipped_features() -> None:
    real = column(samples("digits", "train"), "image")
    distance = fitness(real, "image")
    test = column(samples("digits", "test"), "image")
    assert distance(test) < distance(torch.rand(200, 1, 8, 8)) / 5
    other = fitness(torch.rand(300, 3, 20, 20), "image")
    assert other(torch.rand(200, 3, 20, 20)) < other(torch.zeros(200, 3, 20, 20))


def test_an_unknown_search_is_refused() -> None:
    with pytest.raises(ValueError, match="accepted: evolution, random"):
        made(search="annealing")
