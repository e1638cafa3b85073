"""Denoising MCMC: the plan of evaluations, the walk, the chain's law against the exact one, and the classifier against Bayes' rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scorebench.baselines.diffusion.exact import GaussianMixturePrior
from scorebench.baselines.generation.dmcmc import DenoisingMCMC
from scorebench.harness.cost import RowCounter
from scorebench.tasks.finite import FiniteSet

from .ring import counted, request, ring


def made(**options: Any) -> DenoisingMCMC:
    torch.manual_seed(0)
    return DenoisingMCMC(ring(), **{"chains": 16, "windows": 4, "train_steps": 300, "classes": 60, **options}).eval()


def points(n: int = 4000) -> FiniteSet:
    g = torch.Generator().manual_seed(0)
    means = ring().network.means[torch.randint(8, (n,), generator=g)]
    return FiniteSet({"target": (means + 0.25 * torch.randn(n, 2, generator=g, dtype=torch.float64)).float()})


@pytest.mark.parametrize("nfe", [1, 2, 3, 5, 10, 20, 50])
def test_the_budget_is_used_exactly(nfe: int) -> None:
    method = made()
    skip, steps = method.plan(nfe)
    assert skip + 2 * steps - 1 == nfe and steps >= 1
    method.levels.fill_(1.0)
    assert counted(method, nfe) == nfe


def test_the_walk_follows_the_exact_flow() -> None:
    """From N(m, v + sigma^2) the ODE carries x to m + (x - m) sqrt(v / (v + sigma^2)), each sample from its own sigma."""
    m, v = 0.4, 0.2
    prior = GaussianMixturePrior([1.0], [[m]], [[[v]]])
    method = DenoisingMCMC(prior, sigma_min=0.002)
    x, sigma = torch.linspace(-2, 2, 9)[:, None], torch.linspace(0.1, 3, 9)
    with torch.no_grad():
        got = method.walk(x, sigma, 60, lambda shape: torch.zeros(9, *shape))
    assert torch.allclose(got[:, 0], m + (x[:, 0] - m) * (v / (v + sigma**2)).sqrt(), atol=5e-3)


def test_langevin_steps_keep_the_law_at_a_fixed_level() -> None:
    """With sigma held, the chain on N(0, v) is linear: its variance tends to that of the unadjusted Langevin recursion."""
    v, s, eta, n = 0.5, 0.8, 0.1, 8000
    prior = GaussianMixturePrior([1.0], [[0.0]], [[[v]]])
    method = DenoisingMCMC(prior, eta=eta, keep="last")
    method.infer = lambda x, uniform: torch.full((n,), s)  # type: ignore[method-assign]
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        x, sigma = method.chain(
            torch.zeros(n, 1), torch.full((n,), s), 120, lambda shape: torch.randn(n, *shape, generator=g), lambda shape: torch.rand(n)
        )
    factor = 1 - eta / 2 / (v + s**2)
    assert x.var().item() == pytest.approx(eta / (1 - factor**2), rel=0.06)
    assert (sigma == s).all()


def test_the_classifier_learns_bayes_rule() -> None:
    """Against p(sigma_j | x) ~ p_sigma_j(x) from the exact density, on fresh noisy points: mean cross-entropy within 0.15 nats of the best."""
    method, data = made(train_steps=1500), points()
    with torch.enable_grad():
        method._learn_levels(data.columns["target"])
    g = torch.Generator().manual_seed(1)
    j = torch.randint(60, (2000,), generator=g)
    x = data.columns["target"][:2000] + method.grid[j, None] * torch.randn(2000, 2, generator=g)
    prior = ring()
    ve = prior.as_edm()
    exact = []
    for s in method.grid.tolist():
        t = prior.schedule.t_of_lam(ve.schedule.lam(torch.tensor(s, dtype=torch.float64)))
        a = prior.schedule.alpha(t)
        exact.append(prior.log_prob(x.double() * a, t) + 2 * a.log())
    best = torch.nn.functional.cross_entropy(torch.stack(exact, 1), j).item()
    with torch.no_grad():
        found = torch.nn.functional.cross_entropy(method.classifier(x), j).item()
    assert best < found < best + 0.15, (best, found)


def test_learning_leaves_states_near_the_data_and_samples_come_from_them() -> None:
    method = made()
    with RowCounter(method.networks()) as rows:
        method.learn(points())
    assert rows.forward == 16 * (2 * 18 - 1 + 20 + 4 * 10)
    assert method.states.abs().sum() > 0 and (method.levels < 20).all()
    with torch.no_grad():
        x = method.sample(request(200, 20)).double()
    distance = torch.cdist(x, ring().network.means).min(1).values
    assert distance.median() < 0.6
    notes, _ = method.take_notes()
    assert notes["start-level"][0].shape == (200,)


def test_the_smallest_level_is_kept_or_the_last() -> None:
    levels = iter([3.0, 1.0, 2.0] * 2)
    for keep, wanted in (("smallest", 1.0), ("last", 2.0)):
        method = made(keep=keep)
        method.infer = lambda x, uniform: torch.full((4,), next(levels))  # type: ignore[method-assign]
        with torch.no_grad():
            _, sigma = method.chain(torch.zeros(4, 2), torch.ones(4), 3, lambda shape: torch.zeros(4, *shape), lambda shape: torch.zeros(4))
        assert (sigma == wanted).all()
    with pytest.raises(ValueError, match="accepted: argmax, sample"):
        made(level="mean")
