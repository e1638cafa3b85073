"""Noise2Score: Tweedie's formulas against posterior means in closed form, and the score's loss against a known density."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import digamma

from scorebench.baselines.denoising.noise2score import CANDIDATES, Noise2Score, ar_dae, penalty, tweedie
from scorebench.baselines.diffusion.exact import MixtureDenoiser
from scorebench.baselines.method import DataSpec
from scorebench.configs.errors import RequestError
from scorebench.datasets import registry as datasets
from scorebench.tasks import noise, registry
from scorebench.tasks.randomness import Rng, keyed
from scorebench.tasks.requests import Request, Returns

D = torch.float64


# ---------------------------------------------------------------------- Tweedie's formulas
def test_gaussian_noise_on_a_gaussian_gives_the_wiener_estimate():
    rng = keyed("wiener")
    root, m = torch.from_numpy(rng.standard_normal((5, 5))), torch.from_numpy(rng.standard_normal(5))
    C, sigma = root @ root.T, 0.7
    y = torch.from_numpy(rng.standard_normal((9, 5)))
    S = torch.linalg.inv(C + sigma**2 * torch.eye(5, dtype=D))
    score = -(y - m) @ S
    wiener = m + (y - m) @ S @ C
    assert torch.allclose(tweedie("gaussian", y, score, torch.tensor(sigma, dtype=D)), wiener, atol=1e-10)


def test_gaussian_noise_on_gmm2d_gives_the_exact_posterior_mean():
    gmm = datasets.get("gmm2d-uneven")
    exact = MixtureDenoiser(gmm.weights, gmm.means, gmm.covariances)
    one, sigma = torch.ones((), dtype=D), torch.tensor(0.4, dtype=D)
    y = torch.from_numpy(keyed("gmm").normal(0, 1.5, (50, 2))).requires_grad_(True)
    (score,) = torch.autograd.grad(exact.log_prob(y, one, sigma).sum(), y)
    assert torch.allclose(tweedie("gaussian", y, score, sigma), exact(y, one, sigma), atol=1e-9)


@pytest.mark.parametrize("eta", [0.01, 0.05])
def test_poisson_noise_with_a_gamma_prior_is_half_a_count_from_the_posterior_mean(eta):
    """x / eta ~ Gamma(a, rate b): p(k) is negative binomial, E[x | k] = eta (k + a) / (1 + b). The formula is that mean at k - 1/2."""
    a, b = 12.0, 12.0 * eta / 0.5
    k = np.arange(5, 200, dtype=np.float64)
    score_k = digamma(k + a) - digamma(k + 1) - np.log1p(b)  # d/dk of log p(k), Gamma functions for factorials
    answer = tweedie("poisson", torch.from_numpy(eta * k), torch.from_numpy(score_k / eta), torch.tensor(eta, dtype=D)).numpy()
    exact = eta * (k + a) / (1 + b)
    assert np.allclose(answer, exact - eta / 2 / (1 + b), atol=0.03 * eta, rtol=0)
    without_half = eta * k * np.exp(score_k)
    assert (np.abs(answer - exact) < np.abs(without_half - exact)).all(), "the half count matters"


def test_gamma_noise_with_a_conjugate_prior_gives_the_harmonic_posterior_mean():
    """1 / x ~ Gamma(a, rate b): 1 / x given y is Gamma(a + z, b + z y), so 1 / E[1 / x | y] = (b + z y) / (a + z)."""
    a, b, z = 4.0, 1.5, 50.0
    y = torch.linspace(0.05, 1.5, 40, dtype=D).requires_grad_(True)
    log_p = (z - 1) * y.log() - (a + z) * (b + z * y).log()
    (score,) = torch.autograd.grad(log_p.sum(), y)
    answer = tweedie("gamma", y, score, torch.tensor(z, dtype=D))
    assert torch.allclose(answer, (b + z * y) / (a + z), rtol=1e-9)
    wild = tweedie("gamma", y, 10 * torch.ones_like(y) * z, torch.tensor(z, dtype=D))
    assert torch.isfinite(wild).all() and (wild > 0).all()


# ---------------------------------------------------------------------- the score
def test_the_loss_leads_to_the_score_of_a_known_density():
    """A small network on a mixture of two Gaussians in one dimension."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(1, 48), torch.nn.SiLU(), torch.nn.Linear(48, 48), torch.nn.SiLU(), torch.nn.Linear(48, 1))
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    centres, s = torch.tensor([-1.0, 1.0]), 0.5
    steps = 700
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        y = centres[torch.randint(2, (4096, 1))] + s * torch.randn(4096, 1)
        loss = ar_dae(net, y, 0.3 * (1 - step / steps) + 0.1 * step / steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    y = torch.linspace(-1.5, 1.5, 61)[:, None].requires_grad_(True)
    log_p = torch.logsumexp(-(y - centres).square() / (2 * s**2), 1)
    (exact,) = torch.autograd.grad(log_p.sum(), y)
    with torch.no_grad():
        error = (net(y) - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert error < 0.2  # the straight line of a single Gaussian is off by 1.1


def test_without_a_score_the_loss_is_one():
    assert float(ar_dae(lambda y: torch.zeros_like(y), torch.zeros(100_000), 0.1)) == pytest.approx(1, abs=0.02)


def test_poisson_training_is_in_counts():
    """The same seed gives the same loss from y / eta with noise in counts as from y with noise eta times as large."""
    method = Noise2Score(DataSpec("image", 1)).eval()
    with torch.no_grad():
        for p in method.network.dncnn[-1].parameters():
            p.fill_(0.01)
    y = torch.from_numpy(noise.Poisson(20).sample(np.full((2, 1, 8, 8), 0.5), keyed("c"))).float()
    torch.manual_seed(2)
    loss = method.training_step({"input": y, "peak": torch.tensor([20.0, 20.0])})  # no trainer: the first and last step
    torch.manual_seed(2)
    assert float(loss.detach()) == pytest.approx(float(ar_dae(method.score, y, 0.5 / 20).detach()), rel=1e-5)


# ---------------------------------------------------------------------- the sweep
def exact_pictures(family: str, value: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A Gaussian white picture (mean 0.5, deviation 0.05, smooth enough for a prior), its noisy copy and the true score."""
    rng = keyed("sweep", family)
    x = 0.5 + 0.02 * torch.from_numpy(rng.standard_normal((1, 1, 64, 64)))
    y = x + value * torch.from_numpy(rng.standard_normal(x.shape))
    return x, y, -(y - 0.5) / (0.02**2 + value**2)


def test_with_the_true_score_the_sweep_finds_the_level():
    _, y, score = exact_pictures("gaussian", 25 / 255)
    costs = torch.stack([penalty("gaussian", tweedie("gaussian", y, score, v.to(D)), y) for v in CANDIDATES["gaussian"]])[:, 0]
    assert float(CANDIDATES["gaussian"][costs.argmin()]) * 255 == pytest.approx(25, abs=2)


def test_the_blind_answer_reads_no_level_and_takes_pictures_one_by_one():
    method = Noise2Score(DataSpec("image", 1), level="swept").eval()
    with torch.no_grad():
        method.network.dncnn[-1].weight.copy_(torch.from_numpy(keyed("w").normal(0, 0.02, method.network.dncnn[-1].weight.shape)))
    y = torch.from_numpy(keyed("b").normal(0.5, 0.1, (3, 1, 16, 16))).float()

    def ask(v: torch.Tensor, model: str) -> torch.Tensor:
        given = {"noisy": v, "noise_model": model}
        with torch.no_grad():
            return method.denoise(Request("denoise", given, n=len(v), rng=Rng(range(len(v))), returns=Returns("image")))

    for model in ("gaussian", "gaussian-blind", "poisson", "gamma"):
        together = ask(y, model)
        assert torch.allclose(together[1:2], ask(y[1:2], model), atol=1e-6) and not torch.equal(together, y)
    with pytest.raises(RequestError, match="correlated"):
        ask(y, "correlated")
    with pytest.raises(RequestError, match="given, swept"):
        Noise2Score(DataSpec("image", 1), level="guessed")


def test_the_task_of_unknown_level_gets_the_sweep():
    from scorebench.baselines import card as cards

    task = "denoising/photos-gaussian-blind"
    assert cards.get("noise2score").preset("default", task) == {"level": "swept"}
    assert "noise_level" not in registry.get_spec(task).gives
