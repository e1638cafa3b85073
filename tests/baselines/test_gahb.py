"""The bias-free denoiser, its basis and its sampler against closed forms; C^alpha pictures; two networks on two disjoint sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scorebench.baselines.denoising.gahb import GAHBDenoiser, cosine, sample
from scorebench.baselines.denoising.gahb_analysis import jacobian, shrinkage_basis, stein_error
from scorebench.baselines.denoising.gahb_rate import ALPHAS, SIGMAS, near_optimal, slope
from scorebench.baselines.method import DataSpec
from scorebench.baselines.nets.bias_free import BiasFreeUNet
from scorebench.datasets import registry as datasets
from scorebench.harness.training import fit
from scorebench.tasks import registry
from scorebench.tasks.randomness import Rng
from scorebench.tasks.requests import Request, Returns

TASK = "denoising/c-alpha2-gaussian15"
DATA = DataSpec("image", 1, (1, 32, 32))


@pytest.fixture(scope="module", params=[True, False], ids=["normed", "plain"])
def network(request: pytest.FixtureRequest) -> BiasFreeUNet:
    """A small network, in eval mode; where it is normed, with running deviations that are not one."""
    torch.manual_seed(0)
    net = BiasFreeUNet(1, 6, 2, norm=request.param)
    for _ in range(5):
        net(torch.randn(4, 1, 12, 12))
    return net.eval().requires_grad_(False)


# ---------------------------------------------------------------------- pictures
def test_pictures_fill_their_range_and_are_smoother_for_larger_alpha():
    def curvature(name):
        d = datasets.get(name)
        x = np.stack([d.sample("test", i)["image"][0] for i in d.ids("test")]).astype(np.float64)
        assert x.min() >= 0 and x.max() <= 1 and (x.max((1, 2)) > 0.9).mean() > 0.8
        return np.median(np.abs(np.diff(x, 2, axis=2)))

    rough = [curvature(f"c-alpha{a}") for a in (1, 2, 4)]
    assert rough[0] > 1.5 * rough[1] > 2 * rough[2]


def test_training_pictures_never_end_and_are_whole():
    task = registry.get(TASK)
    clean, paired = task.training_set("clean", 0), task.training_set("paired", 0)
    assert clean[0]["target"].shape == (1, 32, 32) and torch.equal(clean[7]["target"], paired[7]["target"])
    noise = torch.stack([paired[i]["input"] - paired[i]["target"] for i in range(30)])
    assert noise.std().item() == pytest.approx(15 / 255, rel=0.02) and paired[0]["noise_level"] == pytest.approx(15 / 255)
    assert not torch.equal(clean[0]["target"], task.training_set("clean", 1)[0]["target"])
    pairs = task.training_set("noisy-pairs", 0)[3]
    assert set(pairs) == {"input", "input2", "noise_level"} and not torch.equal(pairs["input"], pairs["input2"])


def test_levels_of_one_alpha_share_a_fit():
    keys = {t: repr(registry.get(f"denoising/c-alpha{t}").training_key("clean")) for t in ("2-gaussian5", "2-gaussian50", "4-gaussian5")}
    assert keys["2-gaussian5"] == keys["2-gaussian50"] != keys["4-gaussian5"]


# ---------------------------------------------------------------------- the denoiser and its basis
def test_denoiser_is_homogeneous_and_equals_its_jacobian(network):
    y = torch.randn(1, 1, 12, 12)
    for a in (0.1, 2.0, 30.0):
        torch.testing.assert_close(network(a * y), a * network(y), rtol=1e-4, atol=1e-5 * a)
    f = GAHBDenoiser.denoiser(network.double())
    y = y.double()
    torch.testing.assert_close((jacobian(f, y) @ y.flatten()).reshape(y.shape), f(y), rtol=1e-9, atol=1e-9)
    network.float()
    assert not any("bias" in name for name, _ in network.named_parameters())


def test_basis_rebuilds_a_symmetric_denoiser_and_measures_asymmetry():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(16, 16, generator=g, dtype=torch.float64)
    symmetric, y = a @ a.T / 32, torch.randn(1, 1, 4, 4, generator=g, dtype=torch.float64)
    f = lambda v: (v.flatten(1) @ symmetric.T).reshape(v.shape)  # noqa: E731
    values, vectors, asymmetry = shrinkage_basis(f, y)
    assert asymmetry < 1e-12 and (values.diff() <= 0).all()
    rebuilt = vectors @ (values * (vectors.T @ y.flatten()))
    torch.testing.assert_close(rebuilt.reshape(y.shape), f(y))
    assert shrinkage_basis(lambda v: (v.flatten(1) @ a.T).reshape(v.shape), y)[2] > 0.5


def test_stein_error_is_unbiased():
    g = torch.Generator().manual_seed(1)
    x, sigma = torch.rand(1, 1, 6, 6, generator=g, dtype=torch.float64), 0.3
    f = lambda v: 0.7 * v - 0.1 * v.roll(1, -1)  # noqa: E731
    estimated, true = [], []
    for _ in range(400):
        y = x + sigma * torch.randn(x.shape, generator=g, dtype=torch.float64)
        estimated.append(stein_error(f, y, sigma))
        true.append(float((f(y) - x).square().sum()))
    gap = np.array(estimated) - np.array(true)
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(gap)) and np.std(estimated) > 0


def test_sampler_draws_from_the_prior_of_an_exact_denoiser():
    """For x ~ N(m, s^2) the denoiser at a level that it estimates itself leads to samples of mean m and deviation about s."""
    m, s, n = 0.4, 0.3, 4096

    def f(y):  # the residual's size gives the level: ||y - m||^2 = s^2 + sigma^2
        sigma2 = ((y - m).flatten(1).square().mean(1) - s**2).clamp(min=0).reshape(-1, 1, 1, 1)
        return m + (y - m) * s**2 / (s**2 + sigma2)

    g = torch.Generator().manual_seed(2)
    start = 0.5 + torch.randn(4, 1, 64, 64, generator=g)
    out = sample(f, start, lambda k: torch.randn(start.shape, generator=g))
    assert out.mean().item() == pytest.approx(m, abs=4 * s / math.sqrt(n)) and out.std().item() == pytest.approx(s, rel=0.1)
    again = sample(f, start, lambda k: torch.zeros(()), most=0)
    torch.testing.assert_close(again, f(start))


def test_cosine_is_about_the_means():
    a = torch.rand(3, 1, 5, 5)
    torch.testing.assert_close(cosine(a, 0.2 + 3 * a), torch.ones(3))
    torch.testing.assert_close(cosine(a, -a), -torch.ones(3))
    assert cosine(a[:1], a).shape == (3,)


# ---------------------------------------------------------------------- two networks
def test_two_networks_learn_disjoint_pictures_and_are_compared():
    task = registry.get(TASK)
    method, report = fit(lambda: GAHBDenoiser(DATA, width=4, images=3, draw_steps=12, batch_size=2), task, "clean", gflops=0.3, seed=0)
    items = task.training_set("clean", 0)
    pictures = torch.stack([items[i]["target"] for i in range(6)])
    torch.testing.assert_close(method.learned.float(), pictures[:3], atol=1e-3, rtol=0)
    assert report.steps > 2 and not method.pools
    seen: list[torch.Tensor] = []
    method.train()
    method.pools = list(pictures.split(3))
    method.loss = lambda net, clean: seen.append((net is method.second, clean)) or clean.sum()  # type: ignore[assignment]
    for _ in range(8):
        method.training_step({"target": torch.zeros(4, 1, 32, 32)})
    for second, clean in seen:
        own = pictures[3:] if second else pictures[:3]
        assert len(clean) == 2 and all(any(torch.equal(c, p) for p in own) for c in clean)
    del method.loss
    method.eval()
    noisy = torch.rand(2, 1, 32, 32)
    request = Request("denoise", {"noisy": noisy, "noise_level": 0.1}, n=2, rng=Rng([0, 1]), returns=Returns("image"))
    out = method.denoise(request)
    notes, _ = method.take_notes()
    assert out.shape == noisy.shape and set(notes) == {"agreement", "nearest", "train-psnr"}
    assert all(v[0].shape == (2,) and (v[0].abs() <= 1 + 1e-6).all() for n, v in notes.items() if n != "train-psnr")


def test_equal_networks_agree_since_start_and_steps_share_their_noise():
    torch.manual_seed(3)
    method = GAHBDenoiser(DATA, width=4, images=3, draw_steps=30).eval()
    method.second.load_state_dict(method.network.state_dict())
    method.learned.copy_(torch.rand(3, 1, 32, 32))

    def notes(seeds: list[int], size: int) -> dict[str, torch.Tensor]:
        found: dict[str, list[torch.Tensor]] = {}
        for k in range(0, len(seeds), size):
            part = seeds[k : k + size]
            noisy = torch.full((len(part), 1, 32, 32), 0.5)
            method.denoise(Request("denoise", {"noisy": noisy, "noise_level": 0.1}, n=len(part), rng=Rng(part), returns=Returns("image")))
            for name, v in method.take_notes()[0].items():
                found.setdefault(name, []).append(v[0])
        return {name: torch.cat(v) for name, v in found.items()}

    whole, alone = notes([5, 6, 7, 8], 4), notes([5, 6, 7, 8], 1)
    torch.testing.assert_close(whole["agreement"], torch.ones(4, dtype=torch.float64))
    for name in whole:
        torch.testing.assert_close(whole[name], alone[name], atol=1e-4, rtol=1e-4, msg=f"{name} depends on the size of the batch")
    with torch.no_grad():
        method.second.load_state_dict({k: v + 0.1 * torch.randn_like(v) for k, v in method.network.state_dict().items()})
    assert notes([5, 6], 2)["agreement"].max() < 0.999


# ---------------------------------------------------------------------- the claim about the rate
def records(slopes: dict[int, float], seeds: int = 3) -> list[dict]:
    out = []
    for a in ALPHAS:
        for g in SIGMAS:
            psnr = 20 + slopes[a] * -20 * math.log10(g / 255)
            out += [{"variant": "gahb-denoiser", "task": f"denoising/c-alpha{a}-gaussian{g}", "seed": s, "unit_id": f"{a}{g}{s}",
                     "metrics": {"psnr": {"value": psnr + 0.01 * s * (g - 15)}}} for s in range(seeds)]  # fmt: skip
    return out


def test_rate_is_read_from_nine_tasks():
    assert slope([10.0, 20.0, 40.0], [1.0, 6.0, 16.0]) == pytest.approx(0.5)
    optimal = {a: a / (a + 1) for a in ALPHAS}
    found = near_optimal(records(optimal))
    assert found["verdict"] == "supported" and found["effect"] < 0.05 and "alpha 2: slope 0.6" in found["note"]
    far = near_optimal(records({**optimal, 4: 0.5}))
    assert far["verdict"] == "inconclusive" and far["effect"] == pytest.approx(0.3, abs=0.05) and "not seen" in far["note"]
    worse = records(optimal)
    for r in worse:
        r["metrics"]["psnr"]["value"] -= 5  # the slopes are as before; at alpha 1, sigma 5 it is now below the noisy picture
    spoilt = near_optimal(worse)
    assert spoilt["verdict"] == "inconclusive" and spoilt["effect"] < 0.05
    assert "below the noisy picture itself at alpha 1, sigma 5" in spoilt["note"]
    assert near_optimal(records(optimal, seeds=1))["verdict"] == "inconclusive"
    assert near_optimal(records(optimal)[:5])["verdict"] == "not-run"
