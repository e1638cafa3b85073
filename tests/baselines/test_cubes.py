"""The methods of cubes: the module's form, DDS2M's update and chain, the truncated decomposition; the data they are asked about."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scorebench.baselines.denoising.cube_claims import degrades_less
from scorebench.baselines.denoising.dds2m import DDS2M
from scorebench.baselines.denoising.ds2dp import DS2DP
from scorebench.baselines.denoising.truncated_svd import TruncatedSVD, threshold
from scorebench.baselines.denoising.vs2m import VS2M
from scorebench.datasets import registry as datasets
from scorebench.tasks import registry
from scorebench.tasks.randomness import Rng
from scorebench.tasks.requests import Request, Returns

SMALL = {"rank": 3, "widths": (4, 6), "kernels": (3, 3), "skips": (0, 2), "hidden": (8,)}


def ask(noisy: torch.Tensor, level: float) -> Request:
    return Request("denoise", {"noisy": noisy, "noise_level": level}, n=len(noisy), rng=Rng([0]), returns=Returns("image"))


def test_cubes_are_mixtures_of_four_or_five_spectra():
    cubes = datasets.get("cubes")
    sharpness = []
    for sample_id in cubes.ids("test"):
        sample = cubes.sample("test", sample_id)
        cube = sample["image"].astype(np.float64)
        values = np.linalg.svd(cube.reshape(16, -1), compute_uv=False)
        assert values[sample["rank"] - 1] > 50 * values[sample["rank"]], "the rank is that of the spectra, up to rounding"
        sharpness.append(np.abs(np.diff(cube, axis=-1)).max() / np.abs(np.diff(cube, axis=-1)).mean())
    assert min(sharpness[1::2]) > 1.2 * max(sharpness[::2]), "odd cubes have edges, even ones have not"


def test_module_is_of_rank_r_and_its_networks_do_not_see_each_other():
    torch.manual_seed(0)
    module = VS2M((10, 13, 9), **SMALL)
    cube = module()
    assert cube.shape == (10, 13, 9)
    assert torch.linalg.matrix_rank(cube.detach().double().flatten(1), rtol=1e-5) == 3
    maps, spectra = module.factors()
    for out in (maps, spectra):
        (out[1].sum()).backward(retain_graph=True)
    touched = [p.grad for p in module.spatial.parameters() if p.grad is not None]
    assert touched
    for grad in touched:  # grouped parameters: (3 x something, ...)
        parts = grad.reshape(3, -1).abs().sum(1)
        assert parts[0] == 0 and parts[2] == 0
    for p in module.spectral.parameters():
        assert p.grad is not None and p.grad[0].abs().sum() == 0 and p.grad[2].abs().sum() == 0


@pytest.mark.parametrize("sigma", [0.05, 0.2, 1.0])
def test_update_has_the_marginal_of_the_noise_level(sigma):
    """With x0 the truth, an updated entry is the truth plus noise of deviation sigma, seen or not (Kawar et al., theorem 3.2)."""
    method, g = DDS2M(), torch.Generator().manual_seed(0)
    truth = torch.full((200_000,), 0.3)
    sigma0 = 0.2 - 1e-9
    y = truth + sigma0 * torch.randn(truth.shape, generator=g)
    s = torch.arange(len(truth)).remainder(2).float()
    out = method.conditioned(truth, torch.randn(truth.shape, generator=g), y, s, sigma0, sigma, torch.randn(truth.shape, generator=g))
    for seen in (0, 1):
        error = out[s == seen] - truth[s == seen]
        assert error.mean().abs() < 5 * sigma / math.sqrt(len(error)) and error.std() == pytest.approx(sigma, rel=0.02)


def test_chain_ends_where_the_released_schedule_ends():
    beta = np.linspace(1e-4, 5e-3, 2000)
    released = float(np.prod(1 - beta))
    for steps in (200, 600, 2000):
        abar = DDS2M(steps=steps).alphas()
        assert len(abar) == steps + 1 and abar[0] == 1
        assert math.log(float(abar[-1])) == pytest.approx(math.log(released), rel=0.03)
    np.testing.assert_allclose(DDS2M(steps=2000).alphas()[1:], np.cumprod(1 - beta), rtol=1e-12)


def test_last_update_returns_the_estimate_itself():
    method = DDS2M()
    x0, y = torch.rand(4), torch.rand(4)
    assert torch.equal(method.conditioned(x0, torch.randn(4), y, torch.ones(4), 0.2, 0.0, torch.randn(4)), x0)


def test_fits_lower_the_error_of_a_small_cube():
    torch.manual_seed(1)
    a, c = torch.rand(2, 12, 12), torch.rand(2, 6)
    clean = torch.einsum("rhw,rb->bhw", torch.nn.functional.avg_pool2d(a[None], 5, 1, 2)[0], c).clamp(0, 1)[None]
    noisy = clean + 0.2 * torch.randn(clean.shape)
    before = (noisy - clean).square().mean()
    for method in (DDS2M(steps=120, updates=100, lr=1e-2, average=0.9, **SMALL), DS2DP(steps=100, lr=1e-2, average=0.9, **SMALL)):
        with torch.enable_grad():
            out = method.denoise(ask(noisy, 0.2))
        assert out.shape == clean.shape and (out - clean).square().mean() < 0.4 * before


def test_truncated_svd_recovers_low_rank_and_counts_it():
    rng = np.random.default_rng(0)
    clean = torch.tensor(np.einsum("rhw,rb->bhw", rng.random((2, 16, 16)), rng.random((2, 8))), dtype=torch.float32)[None]
    exact = TruncatedSVD(rank=2).denoise(ask(clean, 0.0))
    torch.testing.assert_close(exact, clean, atol=1e-5, rtol=0)
    noise = 0.05 * torch.tensor(rng.standard_normal((50, 8, 16, 16)), dtype=torch.float32)
    top = torch.linalg.svdvals(noise.flatten(2)).max(1).values
    assert (top < threshold(8, 256, 0.05) * 1.08).all() and top.mean() > 0.9 * threshold(8, 256, 0.05), "the edge is where noise alone ends"
    errors = {}
    for name, method in {"cut": TruncatedSVD(), "shrunk": TruncatedSVD(shrink=True)}.items():
        noisy = clean + 6 * noise
        out = method.denoise(ask(noisy, 0.3))
        errors[name] = float((out - clean).square().mean())
        assert errors[name] < 0.5 * 0.3**2
    assert errors["shrunk"] < errors["cut"]


def record(variant, level, seed, psnr):
    return {"variant": variant, "task": f"denoising/cubes-gaussian{level}", "seed": seed, "draw": 0, "unit_id": f"{variant}{level}{seed}",
            "metrics": {"psnr": {"value": psnr}}}  # fmt: skip


def test_degradation_is_compared_over_equal_runs():
    def records(loss):
        out = []
        for seed in range(3):
            out += [record("ds2dp", "01", seed, 30), record("ds2dp", "02", seed, 22 + 0.1 * seed)]
            out += [record("dds2m", "01", seed, 33), record("dds2m", "02", seed, 33 - loss)]
        return out

    found = degrades_less(records(5))
    assert found["verdict"] == "supported" and found["effect"] == pytest.approx(2.9) and found["low"] < 2.9 < found["high"]
    assert degrades_less(records(9))["verdict"] == "inconclusive"
    assert degrades_less(records(5)[:4])["verdict"] == "inconclusive", "one run has no spread"
    assert degrades_less([])["verdict"] == "not-run"


def test_completion_hides_entries_and_methods_use_the_observed_ones_only():
    task = registry.get("inverse/cubes-complete20")
    o = task.observe("dev", task.ids("dev")[0])
    mask = o.shared["physics"].mask.reshape(16, 32, 32)
    assert mask.sum() == round(0.2 * mask.numel()) and mask.mean((1, 2)).std() > 0 and not torch.equal(mask[0], mask[1])
    seen = mask > 0
    assert (o.given["y"] - o.target["clean"])[seen].std().item() == pytest.approx(0.05, rel=0.05)
    other = torch.where(seen, o.given["y"], torch.full_like(o.given["y"], 7.0))  # what lost entries hold must not matter
    for method in (DDS2M(steps=12, updates=8, **SMALL), DS2DP(steps=8, **SMALL)):
        answers = []
        for y in (o.given["y"], other):
            torch.manual_seed(0)
            given = {"y": y[None], "physics": o.shared["physics"], "noise_level": 0.05}
            with torch.enable_grad():
                answers.append(method.reconstruct(Request("reconstruct", given, n=1, rng=Rng([0]), returns=Returns("image"))))
        assert answers[0].shape == (1, 16, 32, 32) and torch.equal(*answers)
