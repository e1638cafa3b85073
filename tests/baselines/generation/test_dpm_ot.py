"""DPM-OT: the semi-discrete map in closed form, the steps and the sampler."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from ring import counted, request, ring

from scorebench.baselines.diffusion.exact import GaussianMixturePrior
from scorebench.baselines.generation.dpm_ot import DPMOT, SemiDiscrete
from scorebench.tasks.finite import FiniteSet


def test_in_one_dimension_the_cells_are_the_quantiles() -> None:
    """From U[0, 1] the optimal map is monotone: the k-th smallest of n atoms has the k-th interval of length 1/n."""
    torch.manual_seed(0)
    atoms = torch.tensor([[0.3], [-1.0], [2.0], [0.9], [1.1]])
    solver = SemiDiscrete(atoms, torch.zeros(5))
    left = solver.solve(lambda n: torch.rand(n, 1), 400, rate=0.02)
    assert left < 0.05
    x = torch.linspace(0.02, 0.98, 97)[:, None]
    wanted = atoms[:, 0].sort().indices[(x[:, 0] * 5).long()]
    inside = ((x[:, 0] * 5) % 1 - 0.5).abs() < 0.35  # away from the borders, which are estimated
    assert torch.equal(solver.cells(x)[inside], wanted[inside])


def test_the_map_is_cyclically_monotone_and_even() -> None:
    """Each atom is hit about equally often, and no exchange of two images lowers the quadratic cost."""
    torch.manual_seed(0)
    atoms = torch.randn(40, 6)
    solver = SemiDiscrete(atoms, torch.zeros(40))
    before = (solver.masses(lambda n: torch.rand(n, 6), 8000, 4000) - 1 / 40).norm()
    solver.solve(lambda n: torch.rand(n, 6), 300, rate=0.02)
    after = solver.masses(lambda n: torch.rand(n, 6), 8000, 4000)
    assert (after - 1 / 40).norm() < 0.2 * before and after.min() > 0.3 / 40
    x = torch.rand(60, 6)
    y = atoms[solver.cells(x)]
    gain = (x * y).sum(1)[:, None] + (x * y).sum(1)[None] - x @ y.T - (x @ y.T).T
    assert gain.min() > -1e-5


def fitted(**options: object) -> tuple[DPMOT, torch.Tensor]:
    torch.manual_seed(0)
    component = torch.randint(8, (300,))
    points = (ring().network.means[component] + 0.25 * torch.randn(300, 2)).float()
    method = DPMOT(ring(), targets=200, rounds=200, rate=0.02, **options)  # type: ignore[arg-type]
    method.learn(FiniteSet({"target": points}))
    return method, points


@pytest.mark.parametrize("nfe", [5, 10, 20, 50])
@pytest.mark.parametrize("tail", ["langevin", "ode"])
def test_evaluations_are_as_planned(nfe: int, tail: str) -> None:
    method, _ = fitted(tail=tail)
    assert counted(method, nfe) == nfe


def test_the_released_settings_copy_and_a_large_level_does_not() -> None:
    """At the published noise level answers lie on the atoms (a copy); entered at level 2 and carried by the ODE they do not."""
    copies, _ = fitted()
    copies.sample(request(200, 11))
    near = copies.take_notes()[0]["nearest-training"][0]
    fresh, points = fitted(sigma=2.0, tail="ode")
    x = fresh.sample(request(200, 20))
    far = torch.cdist(x.double(), points.double()).amin(1)
    assert near.max() < 0.15 and near.median() < 0.03
    assert far.median() > 0.03 and torch.cdist(x.double(), ring().network.means).amin(1).median() < 0.45


def test_langevin_steps_keep_the_noised_law() -> None:
    """On a Gaussian, 49 steps at one level move samples of the noised law to within the step's bias of it, and denoising shrinks them."""
    v, level = 0.3, 0.4
    prior = GaussianMixturePrior([1.0], [[0.5]], [[[v]]])
    method = DPMOT(prior, targets=4000, sigma=level, floor=level, entry="random")
    torch.manual_seed(0)
    method.learn(FiniteSet({"target": 0.5 + v**0.5 * torch.randn(4000, 1)}))
    x = method.sample(request(4000, 50, shape=(1,)))
    a, total = 0.062 * level**2, v + level**2
    stationary = total / (1 - a / (2 * total))  # of x <- x - a (x - m)/total + sqrt(2a) z
    assert x.var().item() == pytest.approx(stationary * (v / total) ** 2, rel=0.1)
    assert x.mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_control_draws_atoms_at_random() -> None:
    method, _ = fitted(entry="random")
    assert method.spare == -1
    assert counted(method, 10) == 10


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="accepted: transport, random"):
        DPMOT(ring(), entry="nearest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 < floor <= sigma"):
        DPMOT(ring(), sigma=0.01)
