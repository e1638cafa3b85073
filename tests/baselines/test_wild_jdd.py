"""Joint demosaicking and denoising: the bound against numerical integration, L2 as a special case, filters against their paper's figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from scorebench.baselines.restoration import wild_jdd
from scorebench.baselines.restoration.demosaic import ACROSS, ALONG, GREEN, Malvar, bilinear, malvar
from scorebench.baselines.restoration.wild_jdd import WildJDD
from scorebench.configs.errors import RequestError
from scorebench.harness.training import fit
from scorebench.tasks import isp, registry
from scorebench.tasks.randomness import Rng, keyed

TASK = "restoration/jdd-bayer"


def t(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def log_nig(z, v, mu, lam, a, b):
    return stats.norm.logpdf(z, mu, np.sqrt(v / lam)) + stats.invgamma.logpdf(v, a, scale=b)


def expectation(f, mu, lam, a, b) -> float:
    """E_q f(z, v), by quadrature over v (as quantiles) and z (as standard normals)."""
    z, w = np.polynomial.hermite_e.hermegauss(40)

    def inner(u: float) -> float:
        v = stats.invgamma.ppf(u, a, scale=b)
        return float((w * f(mu + np.sqrt(v / lam) * z, v)).sum() / np.sqrt(2 * np.pi))

    return integrate.quad(inner, 1e-10, 1 - 1e-10, epsabs=1e-8, limit=400)[0]


@pytest.mark.parametrize("q", [(0.3, 2.0, 3.0, 0.5), (0.1, 0.7, 2.2, 1.5)])
def test_the_bound_is_what_integration_says(q):
    y, prior = 0.5, (0.5, 1.0, 2.0, 0.3)
    numeric = expectation(lambda z, v: stats.norm.logpdf(y, z, np.sqrt(v)), *q)
    assert float(wild_jdd.expected_log_likelihood(*t(y, *q))) == pytest.approx(numeric, abs=2e-4)
    kl = expectation(lambda z, v: log_nig(z, v, *q) - log_nig(z, v, *prior), *q)
    assert float(wild_jdd.divergence(*t(*q), *t(*prior))) == pytest.approx(kl, abs=2e-4)
    assert float(wild_jdd.divergence(*t(*q), *t(*q))) == pytest.approx(0, abs=1e-12)


def test_with_frozen_uncertainty_the_loss_is_a_squared_error():
    y, mu = torch.rand(2, 50, dtype=torch.float64)
    lam, a, b, b0 = (torch.full_like(y, v) for v in (1.3, 2.5, 0.2, 0.3))

    def loss(m: torch.Tensor) -> torch.Tensor:
        return wild_jdd.divergence(m, lam, a, b, y, 0.8, 2.0, b0) - wild_jdd.expected_log_likelihood(y, m, lam, a, b)

    assert torch.allclose(loss(mu) - loss(y), 0.5 * (1 + 0.8) * 2.5 / 0.2 * (y - mu) ** 2)


def test_the_best_bound_is_the_evidence():
    """By conjugacy the bound is tight at the posterior: there it is the log density of a Student law, finite for a perfect fit too."""
    lam0, a0, b0 = 1.0, 2.0, 1e-4
    for y in (0.4, 0.41):
        posterior = ((lam0 * 0.4 + y) / (lam0 + 1), lam0 + 1, a0 + 0.5, b0 + 0.5 * lam0 / (lam0 + 1) * (y - 0.4) ** 2)
        evidence = stats.t.logpdf(y, 2 * a0, 0.4, np.sqrt(b0 * (lam0 + 1) / (a0 * lam0)))

        def bound(q, y=y):
            return float(wild_jdd.expected_log_likelihood(*t(y, *q)) - wild_jdd.divergence(*t(*q), *t(0.4, lam0, a0, b0)))

        assert bound(posterior) == pytest.approx(evidence, abs=1e-9)
        assert bound((posterior[0], 5.0, 2.5, 2e-4)) < evidence


def test_the_bound_of_the_input_holds_the_answer_near_the_target(monkeypatch):
    """In the paper's bound y stands in the prior and the input in the likelihood: for any lam, a, b the best mu is their conjugate mean."""
    method = WildJDD(lam0=100.0, width=4, blocks=1)
    sparse = torch.from_numpy(isp.sparse(keyed("bound").random((12, 12)).astype(np.float32)))[None]
    y = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    mu = ((bilinear(sparse) + 100.0 * y) / 101.0).requires_grad_()
    lam, a, b = (torch.full_like(y, v) for v in (101.0, 24.0, 0.05))
    monkeypatch.setattr(method, "law", lambda *_: (mu, lam, a, b))
    (slope,) = torch.autograd.grad(method.objective(sparse, torch.zeros(1), y), mu)
    assert slope.abs().max() < 1e-6 * (a / b).max()
    assert method.a0 == method.box**2 / 2 - 1


def test_malvars_filters_keep_flat_colours_and_lines():
    assert all(float(k.sum()) == pytest.approx(1) for k in (GREEN, ALONG, ACROSS))
    y, x = np.mgrid[0:16, 0:16] / 40.0
    for picture in (np.stack([0 * x + 0.2, 0 * x + 0.5, 0 * x + 0.7]), np.stack([x + y, x + y, x + y])):
        sparse = torch.from_numpy(isp.sparse(isp.mosaic(picture)))[None]
        out = malvar(sparse)[0].numpy()[:, 2:-2, 2:-2]
        assert np.allclose(out, picture[:, 2:-2, 2:-2])
        assert np.allclose(isp.mosaic(malvar(sparse)[0].numpy()), isp.mosaic(picture)), "what was sampled stays"


def test_malvars_filters_one_by_one():
    """Each missing colour, at each kind of place, computed by hand from the samples around it (figure 2 of the paper)."""
    samples = keyed("malvar").random((12, 12))
    out = malvar(torch.from_numpy(isp.sparse(samples))[None])[0].numpy()
    kernels = {"green": GREEN, "along": ALONG, "down": ALONG.T, "across": ACROSS}
    at = {
        ("green", 1): [(4, 4), (5, 5)], ("along", 0): [(4, 5)], ("down", 0): [(5, 4)], ("across", 0): [(5, 5)],
        ("along", 2): [(5, 4)], ("down", 2): [(4, 5)], ("across", 2): [(4, 4)],
    }  # fmt: skip
    for (name, channel), places in at.items():
        for r, c in places:
            expected = float((kernels[name].numpy() * samples[r - 2 : r + 3, c - 2 : c + 3]).sum())
            assert out[channel, r, c] == pytest.approx(expected), (name, channel)


def test_bilinear_is_numpys():
    samples = keyed("bilinear").random((10, 14))
    ours = bilinear(torch.from_numpy(isp.sparse(samples))[None])[0].numpy()
    assert np.allclose(ours, isp.bilinear(samples))


# ---------------------------------------------------------------------- the task and the trained network
def test_targets_are_imperfect_and_inputs_are_not_made_from_them():
    task = registry.get(TASK)
    items = [task.training_set("paired", 0)[i] for i in range(3)]
    assert set(items[0]) == {"input", "target", "noise_level"}
    whole, spoiled = task.training_pictures(), task._targets()
    error = spoiled[0] - np.asarray(whole[0], dtype=np.float32) / 255
    smooth = np.abs(error).reshape(3, -1).mean()
    assert 3 / 255 * 0.7 < error.std() < 0.1 and smooth > 0.79 * 3 / 255
    assert np.array_equal(spoiled[0], task._targets()[0]), "one version of each target"
    for item in items:
        assert torch.equal(torch.from_numpy(isp.sparse(item["input"].sum(0).numpy())), item["input"])
        assert 0 <= float(item["noise_level"]) <= 20 / 255


@pytest.mark.parametrize("loss", ["elbo", "target", "nll", "l2", "l1"])
def test_every_loss_trains(loss):
    task = registry.get(TASK)
    method, report = fit(lambda: WildJDD(loss, width=8, blocks=1, lr=5e-3), task, "paired", gflops=4, seed=0)
    first, last = report.losses[0][1], np.mean([v for _, v in report.losses[-10:]])
    assert last < first
    observations = [task.observe("test", i) for i in task.ids()[:2]]
    request = task.request(observations, Rng(range(2)))
    with torch.no_grad():
        answer = task.accept(method.restore(request), request, observations)
    assert answer.shape == (2, 3, 96, 96)
    with pytest.raises(RequestError, match="elbo, target, nll, l2, l1"):
        WildJDD("huber")


def test_malvar_is_above_bilinear_without_noise():
    task = registry.get(TASK)
    clean = torch.stack([task.observe("test", i).target["clean"] for i in task.ids()[:6]])
    sparse = torch.stack([torch.from_numpy(isp.sparse(isp.mosaic(c.numpy()))) for c in clean])
    ours, theirs = (((f(sparse) - clean) ** 2).mean((1, 2, 3)) for f in (malvar, bilinear))
    assert bool((ours < theirs).all()), "on every scene"
    assert float((ours / theirs).median()) < 0.6 and isinstance(Malvar(), Malvar)
