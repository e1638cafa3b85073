"""What tests of solvers share: the ring of eight Gaussians with its exact score in float64, solved to high precision, and counted sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorebench.baselines.diffusion.exact import GaussianMixturePrior, ode_solution
from scorebench.baselines.diffusion.prior import Guided, Prior
from scorebench.baselines.method import Method
from scorebench.harness.cost import RowCounter
from scorebench.tasks.randomness import Rng
from scorebench.tasks.requests import Budget, Request, Returns

END = 1e-3


@lru_cache
def ring(std: float = 0.25) -> GaussianMixturePrior:
    """Return eight Gaussians of deviation ``std`` on a circle of radius 2, on the linear VP path."""
    angle = 2 * np.pi * np.arange(8) / 8
    means = 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    return GaussianMixturePrior(np.full(8, 1 / 8), means, np.tile(std**2 * np.eye(2), (8, 1, 1)))


class Given:
    """Stands for an Rng whose x_T is given, in its own precision."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.device = x, torch.device("cpu")

    def at(self, *name: Any) -> Given:
        return self

    def normal(self, shape: Any = ()) -> Tensor:
        return self.x


@lru_cache
def solved(n: int = 64, guidance: float = 1.0, label: int | None = None) -> tuple[Tensor, Tensor]:
    """Return ``n`` standard normal draws and where the (guided) ODE carries them, from t = 1 to END."""
    prior: Prior = ring()
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    cond = None if label is None else torch.full((n,), label)
    if guidance != 1:
        prior = Guided(prior, guidance)
    return z, ode_solution(prior, prior.start(z), 1.0, END, cond, rtol=1e-8)


def request(n: int, nfe: int | None = None, shape: tuple[int, ...] = (2,), rng: Any = None, **given: Any) -> Request:
    """Return a request for ``n`` samples under a budget."""
    rng = rng if rng is not None else Rng.for_samples([f"s{i}" for i in range(n)], 0)
    budget = Budget(f"nfe{nfe}", nfe) if nfe else None
    return Request("sample", given, n=n, rng=rng, returns=Returns("points", shape), budget=budget, task="generation/test")


def errors(make: Callable[[Prior], Method], sizes: Sequence[int], guidance: float = 1.0, label: int | None = None) -> np.ndarray:
    """Return the median distance to the ODE's solution for each number of evaluations; ``make`` builds a method that stops at END."""
    z, exact = solved(guidance=guidance, label=label)
    method, given = make(ring()), {} if label is None else {"label": torch.full((len(z),), label)}
    out = []
    for nfe in sizes:
        with torch.no_grad():
            x = method.sample(request(len(z), nfe, rng=Given(z), **given))  # type: ignore[operator]
        out.append((x - exact).norm(dim=1).median().item())
    return np.array(out)


def slope(make: Callable[[Prior], Method], sizes: Sequence[int] = (50, 100, 200, 400)) -> float:
    """Return the observed order of convergence: minus the slope of log error against log evaluations."""
    return float(-np.polyfit(np.log(sizes), np.log(errors(make, sizes)), 1)[0])


def counted(method: Method, nfe: int, n: int = 3, shape: tuple[int, ...] = (2,), **given: Any) -> float:
    """Return the network rows per sample that a method evaluates under a budget, as the harness counts them."""
    with RowCounter(method.networks()) as counter, torch.no_grad():
        x = method.sample(request(n, nfe, shape, **given))  # type: ignore[operator]
    assert x.shape == (n, *shape) and bool(torch.isfinite(x).all())
    return counter.forward / n
