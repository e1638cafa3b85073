"""PFGM++ and stochastic interpolants: kernels and laws against closed forms, exact fields through the samplers, short trainings, budgets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from scorebench.baselines.diffusion.exact import GaussianMixturePrior
from scorebench.baselines.diffusion.learning import network_of
from scorebench.baselines.diffusion.schedule import EDM
from scorebench.baselines.generation.pfgm_pp import PFGMpp
from scorebench.baselines.generation.stochastic_interpolants import TINY, Interpolant, StochasticInterpolants, integrate
from scorebench.baselines.method import DataSpec
from scorebench.configs.errors import RequestError
from scorebench.harness.training import fit
from scorebench.tasks import registry

from .ring import counted, request

POINTS = DataSpec("points", 2, (2,))
PICTURES = DataSpec("image", 1, (1, 8, 8))


# ------------------------------------------------------------------ PFGM++: the kernel
@pytest.mark.parametrize("dimension", [3, 16, 128])
def test_the_kernel_is_a_multivariate_t(dimension: int) -> None:
    """|x - y|^2 / (N sigma^2) has the F-distribution with N and D degrees of freedom (a t's squared norm), up to the clipping."""
    torch.manual_seed(0)
    method, n = PFGMpp(PICTURES, dimension=dimension), 20_000
    w2 = 2 * torch._standard_gamma(torch.full((n,), dimension / 2, dtype=torch.float64))
    found = method.perturbation(torch.randn(n, 1, 8, 8), w2).flatten(1).double().square().sum(1) / 64
    assert stats.kstest(found.numpy(), stats.f(64, dimension).cdf).statistic < 0.02


def test_it_tends_to_a_gaussian_as_d_grows() -> None:
    n, gaps = 20_000, []
    for dimension in (4, 64, 100_000):
        torch.manual_seed(1)
        w2 = 2 * torch._standard_gamma(torch.full((n,), dimension / 2, dtype=torch.float64))
        found = PFGMpp(PICTURES, dimension=dimension).perturbation(torch.randn(n, 1, 8, 8), w2).flatten(1).double().square().sum(1)
        gaps.append(stats.kstest(found.numpy(), stats.chi2(64).cdf).statistic)
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 0.02
    u = torch.randn(5, 1, 8, 8)
    assert torch.equal(PFGMpp(PICTURES, dimension=None).perturbation(u, torch.ones(5)), u)


def test_sampling_starts_from_the_kernel_at_sigma_max() -> None:
    """One step of one evaluation returns D(x, sigma_max); with D = identity it shows the first state itself."""
    method = PFGMpp(POINTS, dimension=5)
    method.denoised = lambda x, sigma: x  # type: ignore[method-assign]
    x = method.sample(request(8000, 1)) / 80
    assert stats.kstest((x.double().square().sum(1) / 2).numpy(), stats.f(2, 5).cdf).statistic < 0.03


def test_with_the_exact_denoiser_its_walk_is_edm_heun() -> None:
    """D = inf with E[x_0 | x] of a Gaussian N(m, v) ends where Heun's method on the linear ODE does, near the exact flow."""
    m, v, method = 0.7, 0.3, PFGMpp(POINTS, dimension=None)
    prior = GaussianMixturePrior([1.0], [[m, m]], [v * np.eye(2)], EDM())
    method.denoised = lambda x, sigma: prior.denoised(x, sigma)  # type: ignore[method-assign]
    asked = request(64, 99)
    x = method.sample(asked)
    start = 80 * request(64, 99).rng.at("x_T").normal((2,))
    exact = m + (start - m) * math.sqrt(v / (v + 80**2))
    assert torch.allclose(x, exact, atol=1e-2)


# ------------------------------------------------------------------ interpolants: exact fields
MEAN, SD = 0.8, 0.5


def exact_fields(path: Interpolant, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """(v, eta) where x_1 ~ N(MEAN, SD^2 I): everything is jointly Gaussian."""
    time = torch.tensor(t, dtype=torch.float64)
    i0, i1, d0, d1 = path.weights(time)
    g = path.gamma(time)
    total, away = i0**2 + i1**2 * SD**2 + g**2, x - i1 * MEAN
    return d1 * MEAN + (i0 * d0 + i1 * d1 * SD**2) / total * away, g / total * away


@pytest.mark.parametrize("kind", ["linear", "trig", "bridge"])
@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_ode_and_sde_reach_the_data_law_for_every_noise(kind: str, noise: float) -> None:
    path, g = Interpolant(kind), torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 1, generator=g, dtype=torch.float64)
    out = integrate(lambda y, t: exact_fields(path, y, t), path, x, 300, noise, lambda: torch.randn(x.shape, generator=g, dtype=x.dtype))
    assert out.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert out.std().item() == pytest.approx(SD, rel=0.05)


@pytest.mark.parametrize("kind", ["linear", "trig", "bridge"])
def test_derivatives_and_ends(kind: str) -> None:
    path, t = Interpolant(kind), torch.tensor([0.1, 0.37, 0.8], dtype=torch.float64)
    h = 1e-6
    assert torch.allclose(path.d_gamma(t), (path.gamma(t + h) - path.gamma(t - h)) / (2 * h), atol=1e-6)
    w, up, down = path.weights(t), path.weights(t + h), path.weights(t - h)
    for k in (0, 1):
        assert torch.allclose(w[k + 2], (up[k] - down[k]) / (2 * h), atol=1e-6)
    one = torch.tensor(1.0, dtype=torch.float64)
    assert abs(path.gamma(one)) < 1e-7 and path.weights(one)[1] == 1, "at t = 1 it is the data"
    zero = one - 1
    assert path.gamma(zero) ** 2 + path.weights(zero)[0] ** 2 == pytest.approx(1), "at t = 0 it is standard normal"


def test_clean_inverts_the_definition() -> None:
    g = torch.Generator().manual_seed(0)
    x0, x1, z = (torch.randn(5, 2, generator=g, dtype=torch.float64) for _ in range(3))
    for kind in ("linear", "trig", "bridge"):
        path = Interpolant(kind)
        for t in (TINY, 0.4, 1 - TINY):
            time = torch.tensor(t, dtype=torch.float64)
            i0, i1, d0, d1 = path.weights(time)
            x = i0 * x0 + i1 * x1 + path.gamma(time) * z
            assert torch.allclose(path.clean(x, time, d0 * x0 + d1 * x1, z), x1, atol=1e-8)


# ------------------------------------------------------------------ training and budgets
@pytest.mark.parametrize("make", [PFGMpp, StochasticInterpolants])
def test_a_short_training_finds_the_ring(make: type) -> None:
    task = registry.get("generation/gmm2d")
    options = {"sigma_data": 1.4} if make is PFGMpp else {}
    method, report = fit(lambda: make(data=POINTS, **options), task, "clean", gflops=40, seed=0)
    assert report.steps > 100
    with torch.no_grad():
        x = method.sample(request(500, 50))
    metric = task.metrics["sliced-wasserstein"]
    reference = metric.reference(task.reference_set("dev"))
    got, noise = (metric.value(metric.features(y, {}).numpy(), reference) for y in (x, 1.4 * torch.randn(500, 2)))
    assert got < 0.28 < noise, (got, noise)


@pytest.mark.parametrize("nfe", [1, 2, 5, 10, 20, 50])
def test_budgets(nfe: int) -> None:
    assert counted(StochasticInterpolants(POINTS), nfe) == nfe
    assert counted(PFGMpp(POINTS), nfe) == nfe - (nfe + 1) % 2, "n steps of Heun's method take 2n - 1 evaluations"


def test_networks_fit_the_data() -> None:
    for shape in ((2,), (1, 8, 8), (1, 28, 28), (3, 32, 32)):
        for outputs in (1, 2):
            network = network_of(shape, outputs=outputs)
            assert network(torch.randn(2, *shape), torch.zeros(2), None).shape == (2, outputs * shape[0], *shape[1:])
            assert sum(p.numel() for p in network.parameters()) <= 1_300_000
    with pytest.raises(RequestError, match="multiples of 4"):
        network_of((1, 30, 30))
    with pytest.raises(ValueError, match="whole number"):
        PFGMpp(POINTS, dimension=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="accepted: linear, trig, bridge"):
        Interpolant("cubic")
