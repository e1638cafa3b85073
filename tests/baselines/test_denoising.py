"""Denoising methods: their equations, their facts, and that they denoise."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.restoration import denoise_nl_means

from scorebench.baselines import card as cards
from scorebench.baselines import components
from scorebench.baselines.denoising import anscombe, wavelets
from scorebench.baselines.denoising.dncnn import DnCNNMethod
from scorebench.baselines.denoising.drunet import DRUNetDenoiser, DRUNetMethod
from scorebench.baselines.denoising.nlm import NonLocalMeans
from scorebench.baselines.denoising.noisy_input import NoisyInput
from scorebench.baselines.denoising.tv import TotalVariation
from scorebench.baselines.denoising.wavelet_shrinkage import OPPONENT, WaveletShrinkage, soft
from scorebench.baselines.method import DataSpec
from scorebench.baselines.registry import hyper_parameters, method_class
from scorebench.configs.errors import RequestError
from scorebench.harness.training import fit
from scorebench.tasks import noise, registry
from scorebench.tasks.randomness import Rng, keyed
from scorebench.tasks.requests import NotGiven, Request, Returns

TASKS = [f"denoising/photos-{n}" for n in ("gaussian15", "gaussian25", "gaussian50", "poisson")]
FILTERS = ("nlm", "tv", "wavelet-shrinkage")


def build(method: str, task: str, preset: str = "default", **overrides):
    """Return the method as the harness would resolve it."""
    card = cards.get(method)
    cls = method_class(card)
    return cls(**hyper_parameters(card, cls, preset, task, overrides)).eval()


def psnr(method, task_id: str, split: str = "test", count: int = 8) -> float:
    task = registry.get(task_id)
    observations = [task.observe(split, i) for i in task.ids(split)[:count]]
    request = task.request(observations, Rng(range(count)))
    with torch.no_grad():
        answer = task.accept(method.denoise(request), request, observations)
    return float(task.metrics["psnr"].per_sample(answer, task.target(observations)).mean())


def ask(noisy: np.ndarray, **given) -> Request:
    """A denoising request of one batch (B, C, H, W)."""
    given = {"noisy": torch.from_numpy(noisy.astype(np.float32)), **given}
    return Request("denoise", given, n=len(noisy), rng=Rng([0]), returns=Returns("image"))


# ---------------------------------------------------------------------- classical filters
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", FILTERS)
def test_filters_clearly_beat_the_noisy_input(method, task):
    gain = psnr(build(method, task), task) - psnr(NoisyInput(), task)
    assert gain > (5 if task.endswith(("50", "25", "poisson")) else 4)


@pytest.mark.parametrize("method", FILTERS)
def test_estimated_level_needs_no_level_and_loses_little(method):
    task = TASKS[1]
    blind = build(method, task, "estimated")
    assert psnr(blind, task) > psnr(build(method, task), task) - 0.4
    noisy = keyed("n").random((1, 1, 32, 32))
    assert blind.denoise(ask(noisy)).shape == (1, 1, 32, 32)
    with pytest.raises(NotGiven, match="noise_level"):
        build(method, task).denoise(ask(noisy))


@pytest.mark.parametrize("method", FILTERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_filters_keep_shape_and_flat_pictures(method, channels):
    flat = np.full((2, channels, 40, 33), 0.5, dtype=np.float32)
    out = build(method, TASKS[1]).denoise(ask(flat, noise_level=0.1, noise_model="gaussian"))
    assert out.shape == flat.shape and out.dtype == torch.float32
    assert torch.allclose(out, torch.from_numpy(flat), atol=1e-5)


@pytest.mark.parametrize("method", FILTERS)
def test_a_filter_without_noise_changes_next_to_nothing(method):
    image = build_picture()
    out = build(method, TASKS[1]).filtered(image, 1e-6)
    assert np.abs(out - image).max() < 1e-4


def build_picture() -> np.ndarray:
    task = registry.get(TASKS[1])
    return task.observe("test", task.ids()[0]).target["clean"].numpy().astype(np.float64)


def test_batches_of_several_levels_are_filtered_each_at_its_own():
    noisy = keyed("b").normal(0.5, 0.1, (2, 1, 32, 32))
    method = TotalVariation()
    both = method.denoise(ask(noisy, noise_level=torch.tensor([0.05, 0.2])))
    for k, level in enumerate((0.05, 0.2)):
        alone = method.denoise(ask(noisy[k : k + 1], noise_level=level))
        assert torch.allclose(both[k : k + 1], alone, atol=1e-7)
    assert not torch.allclose(both[:1], method.denoise(ask(noisy[:1], noise_level=0.2)), atol=1e-3)


def test_nlm_passes_sigma_and_strength_on():
    image = keyed("m").normal(0.5, 0.1, (1, 24, 24))
    expected = denoise_nl_means(image[0], patch_size=5, patch_distance=4, h=0.07, sigma=0.1, fast_mode=True)
    assert np.array_equal(NonLocalMeans(strength=0.7, patch=5, reach=4).filtered(image, 0.1)[0], expected)


def test_an_unknown_level_or_rule_is_one_sentence():
    with pytest.raises(RequestError, match="given, estimated"):
        NonLocalMeans(level="guessed")
    with pytest.raises(RequestError, match="bayes, visu"):
        WaveletShrinkage(rule="sure")


# ---------------------------------------------------------------------- wavelets
def test_daubechies_filters_are_the_published_ones():
    root3 = np.sqrt(3)
    db2 = np.array([1 + root3, 3 + root3, 3 - root3, 1 - root3]) / (4 * np.sqrt(2))  # Daubechies 1988
    assert np.allclose(wavelets.daubechies(1), [2**-0.5, 2**-0.5])
    assert np.allclose(wavelets.daubechies(2), db2) or np.allclose(wavelets.daubechies(2), db2[::-1])


@pytest.mark.parametrize("p", range(1, 11))
def test_daubechies_filters_are_orthonormal_with_p_vanishing_moments(p):
    h = wavelets.daubechies(p)
    assert len(h) == 2 * p
    for shift in range(p):
        inner = float(h[2 * shift :] @ h[: 2 * p - 2 * shift])
        assert inner == pytest.approx(float(shift == 0), abs=1e-6)
    g = h[::-1] * (-1.0) ** np.arange(2 * p)
    for moment in range(p):
        size = np.arange(2 * p) ** float(moment)
        assert abs(g @ size) < 1e-6 * size.sum()


@settings(max_examples=25, deadline=None)
@given(height=st.integers(8, 40), width=st.integers(8, 40), levels=st.integers(1, 4), p=st.sampled_from([1, 2, 4]))
def test_the_undecimated_transform_comes_back(height, width, levels, p):
    x = keyed("w", height, width).random((height, width))
    a, d = wavelets.analyse(x, levels, p)
    assert len(d) == levels and d[0].shape == (3, height, width)
    assert np.allclose(wavelets.synthesise(a, d, p), x, atol=1e-9)


def test_the_transform_moves_with_the_picture():
    x = keyed("w").random((32, 32))
    shifted = np.roll(x, (3, 5), (0, 1))
    a, d = wavelets.analyse(x, 3)
    b, e = wavelets.analyse(shifted, 3)
    assert np.allclose(np.roll(a, (3, 5), (0, 1)), b)
    assert all(np.allclose(np.roll(u, (3, 5), (1, 2)), v) for u, v in zip(d, e, strict=True))


def test_white_noise_has_its_level_in_every_band_and_is_estimated():
    sigma = 0.1
    image = 0.5 + sigma * keyed("s").standard_normal((1, 256, 256))
    _, details = wavelets.analyse(image[0], 3)
    for bands in details:
        assert bands.reshape(3, -1).std(1) == pytest.approx(sigma, rel=0.1)
    assert wavelets.estimate_sigma(image) == pytest.approx(sigma, rel=0.02)
    task = registry.get(TASKS[1])  # on photographs texture adds some
    estimates = [wavelets.estimate_sigma(task.observe("test", i).given["noisy"].numpy()) for i in task.ids()]
    assert np.median(estimates) == pytest.approx(25 / 255, rel=0.05)


def test_soft_threshold_and_opponent_colours():
    assert np.allclose(soft(np.array([-3.0, -1, 0, 0.5, 2]), 1.0), [-2, 0, 0, 0, 1])
    assert np.allclose(OPPONENT @ OPPONENT.T, np.eye(3))
    assert OPPONENT[0] @ np.ones(3) == pytest.approx(3**0.5)


def test_bayes_threshold_is_that_of_the_equations():
    method = WaveletShrinkage()
    band = keyed("t").normal(0, 0.5, (64, 64))
    sigma = 0.3
    signal = np.sqrt(np.mean(band**2) - sigma**2)
    assert method._threshold(band, sigma, band.size) == pytest.approx(sigma**2 / signal)
    assert method._threshold(band, 2.0, band.size) == np.abs(band).max()  # nothing but noise: all goes
    assert WaveletShrinkage("visu")._threshold(band, sigma, 4096) == pytest.approx(sigma * np.sqrt(2 * np.log(4096)))


# ---------------------------------------------------------------------- Poisson
@pytest.mark.parametrize("mean", [4, 10, 30, 200])
def test_anscombe_gives_unit_variance_and_its_inverse_is_unbiased(mean):
    n = 400_000
    counts = keyed("a", mean).poisson(mean, n).astype(np.float64)
    z = anscombe.forward(counts)
    assert z.std() == pytest.approx(1, abs=0.05 if mean < 10 else 0.02)
    assert anscombe.inverse(z.mean()) == pytest.approx(mean, abs=5 * np.sqrt(mean / n) + 0.01)
    biased = (z.mean() / 2) ** 2 - 3 / 8  # the algebraic inverse is about 1/4 too low
    assert biased == pytest.approx(mean - 0.25, abs=0.1)


@pytest.mark.parametrize("peak", [5, 30, 200])
@pytest.mark.parametrize("method", FILTERS)
def test_poisson_noise_on_a_flat_picture_averages_out_without_bias(method, peak):
    clean = np.full((1, 1, 96, 96), 0.6)
    noisy = noise.Poisson(peak).sample(clean, keyed("p", peak))
    request = ask(noisy, noise_model="poisson", noise_level=peak**-0.5, peak=float(peak))
    out = build(method, TASKS[3]).denoise(request).double()
    assert float(out.std()) < 0.25 * noisy.std()
    assert float(out.mean()) == pytest.approx(float(noisy.mean()), abs=0.02)


# ---------------------------------------------------------------------- trained networks
@pytest.fixture(scope="module")
def short_fit():
    """A DnCNN after three seconds of training."""
    return fit(lambda: DnCNNMethod(DataSpec("image", 1), depth=5, width=16), registry.get(TASKS[1]), "paired", gflops=60, seed=0)


def test_a_short_training_beats_the_noisy_input(short_fit):
    method, report = short_fit
    assert report.steps > 50 and report.params == sum(p.numel() for p in method.network.parameters())
    assert psnr(method, TASKS[1]) > psnr(NoisyInput(), TASKS[1]) + 3


def test_training_again_gives_the_same_network(short_fit):
    build_it = lambda: DnCNNMethod(DataSpec("image", 1), depth=5, width=16)  # noqa: E731
    first, again, other = (fit(build_it, registry.get(TASKS[1]), "paired", gflops=3, seed=s)[0] for s in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_shared_denoiser_learns_and_serves(short_fit):
    denoiser, _ = fit(lambda: DRUNetDenoiser(1, (8, 16), 1), registry.get(TASKS[1]), "clean", gflops=60, seed=0)
    assert list(denoiser.counted_networks()) == [denoiser.network]
    for task in (TASKS[1], TASKS[2], TASKS[3]):
        assert psnr(DRUNetMethod(denoiser).eval(), task) > psnr(NoisyInput(), task) + 2


def test_the_declared_denoiser_is_found_and_builds():
    spec = registry.get_spec("inverse/photos-deblur")
    assert components.resolve("denoiser", {"form": "denoiser", "data": "task"}, spec) == "drunet-photos-grey"
    card = components.get("drunet-photos-grey")
    built = DRUNetDenoiser(**card.hparams)
    assert built(torch.rand(2, 1, 20, 20), 0.1).shape == (2, 1, 20, 20)
    assert registry.get(card.task).training_set("clean", 0)[0].keys() == {"target"}


def test_the_full_preset_is_the_published_network():
    card = cards.get("dncnn")
    hp = hyper_parameters(card, DnCNNMethod, "full", TASKS[1], {})
    method = DnCNNMethod(DataSpec("image", 1), **hp)
    assert sum(p.numel() for p in method.network.parameters()) == 556_032
    assert method.network.centre == 0


def test_noisy_input_is_the_identity():
    noisy = keyed("i").normal(0.5, 1, (1, 1, 8, 8))
    request = ask(noisy)
    assert torch.equal(NoisyInput().denoise(request), request.noisy)


# ---------------------------------------------------------------------- the plug-in example
EXAMPLE = Path(__file__).parents[2] / "examples" / "dncnn-official"


@pytest.fixture(scope="module")
def official():
    cards.include(EXAMPLE)
    return method_class(cards.get("dncnn-official"))


def test_the_plug_in_reads_checkpoints_of_the_published_layout(official, tmp_path):
    from scorebench.baselines.nets.dncnn import DnCNN

    network = DnCNN().eval()
    path = tmp_path / "net.pth"
    torch.save({f"module.{k}": v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}, path)
    noisy = keyed("o").random((1, 1, 16, 16))
    with torch.no_grad():
        assert torch.equal(official(str(path)).eval().denoise(ask(noisy)), network(ask(noisy).noisy))


def test_a_checkpoint_that_does_not_fit_is_one_sentence(official, tmp_path):
    from scorebench.baselines.nets.dncnn import DnCNN

    good = {f"module.{k}": v for k, v in DnCNN().state_dict().items()}
    cases = {
        "absent": (None, "no checkpoint at"),
        "text": (b"not a checkpoint", "is not a PyTorch checkpoint"),
        "list": ([1, 2], "no mapping of names to tensors"),
        "short": (dict(list(good.items())[:10]), "does not fit DnCNN-S"),
        "colour": (good | {"module.dncnn.0.weight": torch.zeros(64, 3, 3, 3)}, "first 'dncnn.0.weight'"),
    }
    for name, (content, words) in cases.items():
        path = tmp_path / f"{name}.pth"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(RequestError, match=words) as error:
            official(str(path))
        assert "\n" not in str(error.value)


@pytest.mark.skipif(not os.environ.get("SCOREBENCH_DATA"), reason="needs $SCOREBENCH_DATA with set12 and checkpoints/dncnn-s-25/net.pth")
def test_the_official_checkpoint_denoises_set12(official):
    """One small picture: the per-picture value that goes with the published mean of 30.404 dB ('house' is the second picture)."""
    checkpoint = Path(os.environ["SCOREBENCH_DATA"].split(os.pathsep)[0]) / "checkpoints/dncnn-s-25/net.pth"
    if not checkpoint.is_file():
        pytest.skip(f"no checkpoint at {checkpoint}")
    task = registry.get("denoising/set12-gaussian25")
    o = task.observe("test", "02")
    request = task.request([o], Rng([0]))
    with torch.no_grad():
        answer = task.accept(official(str(checkpoint)).eval().denoise(request), request, [o])
    assert float(task.metrics["psnr"].per_sample(answer, task.target([o]))) == pytest.approx(33.0, abs=0.2)
