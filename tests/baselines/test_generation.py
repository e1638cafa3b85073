"""DDIM, DDPM and the moment-matched Gaussian against closed forms, orders of convergence and the budget."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scorebench.baselines.diffusion.exact import GaussianMixturePrior, ode_solution, of_dataset
from scorebench.baselines.diffusion.grids import time_grid
from scorebench.baselines.diffusion.prior import Prior
from scorebench.baselines.diffusion.schedule import VPDiscrete, VPLinear
from scorebench.baselines.generation.ddim import DDIM
from scorebench.baselines.generation.ddpm import DDPM
from scorebench.baselines.generation.moment_gaussian import MomentGaussian
from scorebench.baselines.method import DataSpec, Method
from scorebench.configs.errors import RequestError
from scorebench.harness.cost import RowCounter
from scorebench.tasks.finite import FiniteSet
from scorebench.tasks.randomness import Rng
from scorebench.tasks.requests import Budget, Request, Returns


def request(n: int, shape: tuple[int, ...], nfe: int | None = None, seed: int = 0, kind: str = "points", **given: Any) -> Request:
    budget = Budget(f"nfe{nfe}", nfe) if nfe else None
    rng = Rng.for_samples([f"s{i}" for i in range(n)], seed)
    return Request("sample", given, n=n, rng=rng, returns=Returns(kind, shape), budget=budget, task="generation/test")


def numbers(*values: float) -> Iterable[Tensor]:
    return (torch.tensor(v, dtype=torch.float64) for v in values)


# ------------------------------------------------------------------ DDIM
def test_ddim_on_a_gaussian_is_the_product_of_its_linear_maps() -> None:
    """On N(m, v) each DDIM step is affine; composed by hand from eq. 12 and E[x_0|x] = m + a v (x - a m)/(a^2 v + s^2)."""
    m, v, steps = 0.7, 0.3, 12
    prior = GaussianMixturePrior([1.0], [[m]], [[[v]]])
    t = np.linspace(1, 0, steps + 1)
    a = np.exp(-19.9 * t**2 / 4 - 0.1 * t / 2)
    s = np.sqrt(1 - a**2)
    asked = request(50, (1,))
    z = Rng.for_samples([f"s{i}" for i in range(50)], 0).at("x_T").normal((1,)).double().numpy()[:, 0]
    x = s[0] * z
    for i in range(steps):
        x0 = m + a[i] * v * (x - a[i] * m) / (a[i] ** 2 * v + s[i] ** 2)
        x = a[i + 1] * x0 + s[i + 1] * (x - a[i] * x0) / s[i]
    got = DDIM(prior, steps=steps).sample(asked)
    assert np.allclose(got[:, 0].numpy(), x, atol=2e-5)


@pytest.fixture(scope="module")
def reference() -> tuple[Tensor, Tensor]:
    """64 states at t = 1 and where the exact ODE on the ring carries them, to t = 1e-3."""
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return x, ode_solution(of_dataset("gmm2d"), x, 1.0, 1e-3)


@pytest.mark.parametrize("grid", ["uniform-t", "quadratic", "uniform-lambda"])
def test_ddim_is_of_order_one(grid: str, reference: tuple[Tensor, Tensor]) -> None:
    """The median endpoint error on the ring falls like 1/steps (slope 1), against the ODE solved to 1e-10 from the same x_T."""
    prior, end, (x, exact) = of_dataset("gmm2d"), 1e-3, reference
    sizes, errors = [50, 100, 200, 400], []
    for steps in sizes:
        walk = x.clone()
        times = time_grid(prior.schedule, steps, grid, end)  # type: ignore[arg-type]
        for t, s in pairwise(times):
            data = prior.denoised(walk, t)
            eps = (walk - prior.schedule.alpha(t) * data) / prior.schedule.sigma(t)
            walk = prior.schedule.alpha(s) * data + prior.schedule.sigma(s) * eps
        errors.append((walk - exact).norm(dim=1).median().item())
    slope = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert 0.9 < slope < 1.12, (slope, errors)


def test_the_method_follows_the_ode_of_its_prior() -> None:
    """The registered DDIM itself, through a Request, ends near the exact ODE solution, nearer with more steps."""
    prior = of_dataset("gmm2d")
    start = prior.start(Rng.for_samples([f"s{i}" for i in range(64)], 0).at("x_T").normal((2,))).double()
    exact = ode_solution(prior, start, 1.0, 1e-4, rtol=1e-6)
    errors = [(DDIM(prior).sample(request(64, (2,), nfe)).double() - exact).norm(dim=1).median().item() for nfe in (10, 40, 160)]
    assert errors[0] > 2.5 * errors[1] > 6 * errors[2]


def test_ddim_eta_one_is_ddpm_with_the_small_variance() -> None:
    """Song et al., section 4.1: the same mean and the same variance, so with the same noise the same sample."""
    prior = of_dataset("gmm2d")
    ddim, ddpm = DDIM(prior, eta=1.0), DDPM(prior, variance="small")
    assert torch.allclose(ddim.sample(request(32, (2,), 20)), ddpm.sample(request(32, (2,), 20)), atol=2e-4)


# ------------------------------------------------------------------ DDPM
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_on_a_gaussian_has_the_variance_of_its_chain(variance: str) -> None:
    """On N(m, v) the chain is Gaussian: mean and variance follow two recursions, written here with betas as in Ho et al."""
    m, v, steps, n = 0.5, 0.4, 8, 20_000
    prior = GaussianMixturePrior([1.0], [[m]], [[[v]]])
    t = np.linspace(1, 0, steps + 1)
    bar = np.exp(-19.9 * t**2 / 2 - 0.1 * t)  # alpha-bar
    mean, var = 0.0, 1 - bar[0]
    for i in range(steps):
        beta = 1 - bar[i] / bar[i + 1]
        gain = math.sqrt(bar[i]) * v / (bar[i] * v + 1 - bar[i])
        on_x0 = math.sqrt(bar[i + 1]) * beta / (1 - bar[i])
        on_x = math.sqrt(1 - beta) * (1 - bar[i + 1]) / (1 - bar[i])
        scale = on_x + on_x0 * gain
        mean = scale * mean + on_x0 * (m - gain * math.sqrt(bar[i]) * m)
        noise = 0.0 if i == steps - 1 else beta * (1 - bar[i + 1]) / (1 - bar[i]) if variance == "small" else beta
        var = scale**2 * var + noise
    got = DDPM(prior, variance=variance).sample(request(n, (1,), steps))[:, 0].double()  # type: ignore[arg-type]
    assert got.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(var / n))
    assert got.var().item() == pytest.approx(var, rel=5 * math.sqrt(2 / n))


def test_more_steps_bring_ddpm_to_the_data() -> None:
    prior = GaussianMixturePrior([1.0], [[0.5]], [[[0.4]]])
    got = DDPM(prior).sample(request(4000, (1,), 150))[:, 0]
    assert got.var().item() == pytest.approx(0.4, rel=0.12)
    assert got.mean().item() == pytest.approx(0.5, abs=0.05)


# ------------------------------------------------------------------ budget, batches, conditions
@pytest.mark.parametrize("method", [DDIM, DDPM])
@pytest.mark.parametrize("nfe", [1, 5, 20])
def test_the_budget_is_used_exactly(method: type[Method], nfe: int) -> None:
    sampler = method(of_dataset("gmm2d"))  # type: ignore[arg-type]
    with RowCounter(sampler.networks()) as counter:
        sampler.sample(request(7, (2,), nfe))
    assert counter.forward == 7 * nfe


def test_without_a_bound_the_hyper_parameter_counts() -> None:
    sampler = DDIM(of_dataset("gmm2d"), steps=13)
    with RowCounter(sampler.networks()) as counter:
        sampler.sample(request(2, (2,)))
    assert counter.forward == 26


def test_guidance_halves_the_steps_and_needs_two() -> None:
    sampler, label = DDIM(of_dataset("gmm2d"), guidance=3.0), torch.tensor([0, 1, 2])
    with RowCounter(sampler.networks()) as counter:
        sampler.sample(request(3, (2,), 11, label=label))
    assert counter.forward == 3 * 10  # five steps of two rows
    with pytest.raises(RequestError, match="one step takes 2"):
        sampler.sample(request(3, (2,), 1, label=label))
    with RowCounter(sampler.networks()) as counter:
        sampler.sample(request(3, (2,), 11))  # nothing to guide to
    assert counter.forward == 33


@pytest.mark.parametrize("method", [DDIM, DDPM])
def test_a_label_is_obeyed(method: type[Method]) -> None:
    prior = of_dataset("gmm2d")
    label = torch.arange(40) % 8
    x = method(prior).sample(request(40, (2,), 25, label=label)).double()  # type: ignore[arg-type, operator]
    means = prior.network.means
    assert (torch.cdist(x, means).argmin(1) == label).all()


@pytest.mark.parametrize("method", [lambda p: DDIM(p, eta=0.5), lambda p: DDPM(p)])
def test_samples_do_not_depend_on_the_batch(method: Any) -> None:
    sampler = method(of_dataset("gmm2d"))
    together = sampler.sample(request(6, (2,), 10))
    for part in ([0], [1, 2], [3, 4, 5]):
        rng = Rng.for_samples([f"s{i}" for i in part], 0)
        alone = Request("sample", {}, n=len(part), rng=rng, returns=Returns("points", (2,)), budget=Budget("nfe10", 10))
        assert torch.allclose(sampler.sample(alone), together[part], atol=1e-5)


def test_views_give_the_same_deterministic_walk() -> None:
    """DDIM through the EDM view, on the grid of equal lambda, is the same numbers."""
    prior = of_dataset("gmm2d")
    view = prior.as_edm()
    z = torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = []
    for p in (prior, view):
        x = p.start(z)
        times = time_grid(p.schedule, 10, "uniform-lambda")
        for t, s in pairwise(times):
            data, eps = p.denoised(x, t), p.noise(x, t)
            x = p.schedule.alpha(s) * data + p.schedule.sigma(s) * eps
        ends.append(x)
    assert torch.allclose(*ends, rtol=1e-8)


def test_clipping_keeps_the_prediction_in_range() -> None:
    class Loud(Prior):
        schedule, shape, span, counted = VPLinear(), (1,), (-1.0, 1.0), ()

        def raw(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            return 5 * torch.ones_like(x)

    assert torch.allclose(DDIM(Loud(), clip=True).sample(request(3, (1,), 4)), torch.ones(3, 1))
    assert torch.allclose(DDIM(Loud()).sample(request(3, (1,), 4)), 5 * torch.ones(3, 1))
    assert torch.allclose(DDPM(Loud()).sample(request(3, (1,), 4)), torch.ones(3, 1))


def test_a_prior_of_other_data_is_refused() -> None:
    with pytest.raises(RequestError, match=r"asks for samples of shape \(3,\), and the prior makes \(2,\)"):
        DDIM(of_dataset("gmm2d")).sample(request(2, (3,), 5))


def test_bad_variance_is_refused() -> None:
    with pytest.raises(ValueError, match="accepted: small, large"):
        DDPM(of_dataset("gmm2d"), variance="learned")  # type: ignore[arg-type]


# ------------------------------------------------------------------ agreement with diffusers
class _Tabled(Prior):
    """A mixture's exact noise prediction on DDPM's table, asked by integer step: what a diffusers scheduler is handed."""

    counted = ()

    def __init__(self) -> None:
        super().__init__()
        self.schedule, self.shape = VPDiscrete.linear(), (2,)
        self.inner = GaussianMixturePrior([0.4, 0.6], [[-1.0, 0.3], [0.5, 0.8]], [np.eye(2) * 0.05, np.eye(2) * 0.1], self.schedule)

    def raw(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return self.inner.raw(x, t, cond)


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("which", ["ddim", "ddpm"])
def test_agreement_with_diffusers(which: str, steps: int) -> None:
    """The same network, table and steps ("trailing" spacing: t = 1, 1 - 1/n, ...) give the same samples to 1e-4 relative."""
    diffusers = pytest.importorskip("diffusers", reason="parity needs the extra: pip install 'scorebench[diffusers]'")
    common = {
        "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": False,
        "timestep_spacing": "trailing",
    }  # fmt: skip
    prior = _Tabled()
    x = torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if which == "ddim":
        scheduler = diffusers.DDIMScheduler(**common, set_alpha_to_one=True)
    else:
        scheduler = diffusers.DDPMScheduler(**common, variance_type="fixed_small")
    scheduler.set_timesteps(steps)
    theirs = x.clone()
    generator = torch.Generator().manual_seed(1)
    for step in scheduler.timesteps:
        noise = prior.noise(theirs, (step.double() + 1) / 1000)
        extra = {} if which == "ddim" else {"generator": generator}
        theirs = scheduler.step(noise, step, theirs, **extra).prev_sample
    draws = torch.Generator().manual_seed(1)
    rng = _Replay(x / float(prior.schedule.sigma(torch.tensor(1.0, dtype=torch.float64))), draws)
    sampler = DDIM(prior) if which == "ddim" else DDPM(prior)
    asked = Request("sample", {}, n=16, rng=rng, returns=Returns("points", (2,)), budget=Budget("n", steps))  # type: ignore[arg-type]
    ours = sampler.sample(asked)
    assert (ours - theirs).abs().max() / theirs.abs().max() < 1e-4


class _Replay:
    """Stands for an Rng: the given x_T, then noise drawn as diffusers draws it."""

    def __init__(self, first: Tensor, generator: torch.Generator) -> None:
        self.first, self.generator, self.name = first, generator, ""

    def at(self, *name: Any) -> _Replay:
        out = _Replay(self.first, self.generator)
        out.name = name[0]
        return out

    def normal(self, shape: Any = ()) -> Tensor:
        if self.name == "x_T":
            return self.first
        return torch.randn(self.first.shape, generator=self.generator, dtype=self.first.dtype)


# ------------------------------------------------------------------ moment-matched Gaussian
@pytest.mark.parametrize("rank", [256, 7, 3])
def test_moment_gaussian_matches_mean_and_variance(rank: int) -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.standard_normal((400, 12)) @ rng.standard_normal((12, 12)) + 3).float()
    method = MomentGaussian(DataSpec("image", 1, (1, 3, 4)), rank=rank)
    method.learn(FiniteSet({"target": rows.reshape(-1, 1, 3, 4)}))
    cov = np.cov(rows.double().numpy().T)
    model = (method.factor @ method.factor.T).double().numpy() + method.residual.item() ** 2 * np.eye(12)
    if rank == 256:
        assert np.allclose(model, cov, atol=1e-4)
    else:
        assert np.trace(model) == pytest.approx(np.trace(cov), rel=1e-5)
        assert np.linalg.eigvalsh(model)[-3:] == pytest.approx(np.linalg.eigvalsh(cov)[-3:], rel=1e-4)
    x = method.sample(request(20_000, (1, 3, 4), kind="image")).flatten(1).double().numpy()
    assert x.mean(0) == pytest.approx(rows.numpy().mean(0), abs=5 * math.sqrt(np.diag(cov).max() / 20_000))
    assert np.cov(x.T) == pytest.approx(model, abs=0.06 * np.diag(cov).max())


def test_moment_gaussian_of_fewer_samples_than_directions() -> None:
    rows = torch.rand(40, 600, generator=torch.Generator().manual_seed(0))
    method = MomentGaussian(DataSpec("image", 1, (1, 20, 30)), rank=100)
    method.learn(FiniteSet({"target": rows.reshape(-1, 1, 20, 30)}))
    model = (method.factor @ method.factor.T).double() + method.residual.double() ** 2 * torch.eye(600)
    cov = torch.from_numpy(np.cov(rows.double().numpy().T))
    assert model.trace().item() == pytest.approx(cov.trace().item(), rel=1e-4)
    assert torch.allclose(method.mean, rows.mean(0), atol=1e-5)
