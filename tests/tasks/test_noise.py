"""Gamma, blind Gaussian and correlated noise: moments, correlation, ranges, and who is told what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scorebench.configs.errors import RequestError
from scorebench.tasks import denoising, noise, registry
from scorebench.tasks.noise_spatial import Correlated
from scorebench.tasks.randomness import Rng, keyed

BLIND = [f"denoising/{d}-gaussian-blind" for d in ("photos", "bsd68", "cbsd68", "set12", "kodak24", "mcmaster")]
GAMMA = ["denoising/photos-gamma50", "denoising/photos-gamma100"]
CORRELATED = "denoising/photos-correlated"


# ---------------------------------------------------------------------- moments
@pytest.mark.parametrize("shape", [1, 4, 50, 100])
@pytest.mark.parametrize("level", [0.1, 1.0])
def test_gamma_noise_has_the_distribution_of_theory(shape, level):
    """Kolmogorov and Smirnov's distance against SciPy's distribution, and the variance x^2 / z."""
    y = noise.Gamma(shape).sample(np.full(20_000, level), keyed("g", shape, level))
    assert stats.kstest(y, stats.gamma(shape, scale=level / shape).cdf).pvalue > 1e-4
    assert float(noise.Gamma(shape).variance(np.array([level]))[0]) == pytest.approx(level**2 / shape)


@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_correlated_noise_has_the_declared_variance_at_every_intensity(kernel, level):
    """400 pictures of 48 x 48 = 921,600 values, of which about 1 in kernel^2 is independent: 5 standard errors."""
    model = Correlated(15, 0.01, kernel)
    clean = np.full((400, 48, 48), level)
    residual = model.sample(clean, keyed("c", kernel, level)) - clean
    expected = (15 / 255) ** 2 + 0.01 * level
    independent = residual.size / kernel**2
    assert float(model.variance(clean)[0, 0, 0]) == pytest.approx(expected)
    assert residual.var() == pytest.approx(expected, rel=5 * np.sqrt(2 / independent))
    assert abs(residual.mean()) < 5 * np.sqrt(expected / independent) * 1.01
    assert residual[:, 0, 0].var() == pytest.approx(expected, rel=5 * np.sqrt(2 / 400))  # a corner is like any other pixel


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_correlation_is_the_triangle_of_the_box(kernel):
    unit = Correlated(kernel=kernel).unit((60, 64, 64), keyed("r", kernel))
    for i in range(kernel + 1):
        for j in range(kernel + 1):
            measured = (unit[:, i:, j:] * unit[:, : 64 - i, : 64 - j]).mean()
            theory = max(0, 1 - i / kernel) * max(0, 1 - j / kernel)
            assert measured == pytest.approx(theory, abs=6 * kernel / np.sqrt(unit.size)), (i, j)
    mirrored = (unit[:, 1:, :-1] * unit[:, :-1, 1:]).mean()
    assert mirrored == pytest.approx(max(0, 1 - 1 / kernel) ** 2, abs=6 * kernel / np.sqrt(unit.size))


def test_a_kernel_of_one_pixel_is_white_gaussian_noise():
    clean = keyed("x").random((1, 9, 7))
    assert np.array_equal(Correlated(25, 0, 1).sample(clean, keyed("w")), noise.Gaussian(25).sample(clean, keyed("w")))


def test_channels_of_correlated_noise_are_independent():
    unit = Correlated().unit((3, 200, 200), keyed("ch"))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs((unit[a] * unit[b]).mean()) < 5 * 3 / 200


# ---------------------------------------------------------------------- the blind level
def test_blind_levels_are_uniform_and_the_noise_has_the_level_drawn():
    model = noise.GaussianBlind(5, 50)
    clean = np.full((48, 48), 0.5)
    drawn = []
    for k in range(300):
        y, hidden = model.observe(clean, keyed("b", k))
        drawn.append(hidden["noise_level"])
        assert (y - clean).std() == pytest.approx(drawn[-1], rel=5 / np.sqrt(2 * clean.size))
        assert np.array_equal(y, model.sample(clean, keyed("b", k)))
    assert stats.kstest(drawn, stats.uniform(5 / 255, 45 / 255).cdf).pvalue > 1e-4
    assert float(model.variance(clean)[0, 0]) == pytest.approx(stats.uniform(5 / 255, 45 / 255).moment(2))


@pytest.mark.parametrize("task_id", BLIND)
def test_the_blind_level_is_beside_the_target_alone(task_id):
    spec = registry.get_spec(task_id)
    assert spec.gives == ("noisy", "noise_model") and spec.observe == {"noise": "gaussian-blind", "low": 0, "high": 55}
    task = registry.get(task_id)
    if task.dataset.missing() is not None:
        pytest.skip("the data are not here")
    ids = task.ids()[:6]
    observations = [task.observe("test", i) for i in ids]
    assert set(observations[0].given) == {"noisy"} and set(observations[0].target) == {"clean", "noise_level"}
    assert sorted(task.request(observations[:1], Rng([0])).keys()) == ["noise_model", "noisy"]
    levels = [float(task.target([o])["noise_level"][0]) for o in observations]
    assert len(set(levels)) == 6 and min(levels) >= 0 and max(levels) <= 55 / 255
    for o, level in zip(observations, levels, strict=True):
        assert float((o.given["noisy"] - o.target["clean"]).std()) == pytest.approx(level, rel=0.05)
    assert task.observe("test", ids[0], draw=1).target["noise_level"] != levels[0]


def test_training_on_blind_noise_has_a_level_per_crop_or_per_picture(monkeypatch):
    """Paired: 40 crops, 40 levels. Noisy only: one level per picture, which stays when it is shown again and for another seed."""
    task = denoising.DenoisingTask(registry.get_spec(BLIND[0]))
    paired = task.training_set("paired", 0)
    levels = [float((item["input"] - item["target"]).std()) for item in (paired[i] for i in range(40))]
    assert min(levels) < 15 / 255 and max(levels) > 40 / 255 and len(set(levels)) == 40
    assert set(paired[0]) == {"input", "target"}
    flat = [np.full((1, 64, 64), 0.5, np.float32)] * 5
    monkeypatch.setattr(task, "training_pictures", lambda: flat)
    first, again = task.degraded(0), task.degraded(0)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({round(float(p.std()), 4) for p in first}) == 5
    for picture in first:  # one level in the whole of it
        halves = [float((picture[:, rows] - 0.5).std()) for rows in (slice(32), slice(32, 64))]
        assert halves[0] == pytest.approx(halves[1], rel=0.15)


# ---------------------------------------------------------------------- what is given
@pytest.mark.parametrize("task_id", GAMMA)
def test_gamma_tasks_give_the_shape(task_id):
    task = registry.get(task_id)
    request = task.request([task.observe("test", i) for i in task.ids()[:2]], Rng([0, 1]))
    assert sorted(request.keys()) == ["noise_level", "noise_model", "noisy", "shape"]
    assert request.noise_model == "gamma" and request.noise_level == pytest.approx(request.shape**-0.5)
    item = task.training_set("paired", 0)[0]
    assert set(item) == {"input", "target", "noise_level", "shape"}


def test_correlated_tasks_give_the_name_alone():
    task = registry.get(CORRELATED)
    request = task.request([task.observe("test", i) for i in task.ids()[:2]], Rng([0, 1]))
    assert sorted(request.keys()) == ["noise_model", "noisy"] and request.noise_model == "correlated"
    assert set(task.training_set("noisy-pairs", 0)[0]) == {"input", "input2"}
    facts = task.training_facts()
    assert facts == {"noise": {"model": "correlated", "sigma": 15 / 255, "gain": 0.01, "kernel": 3.0}}, "hidden parameters tell fits apart"


@pytest.mark.parametrize(("peak", "eta"), [(20, 0.05), (100, 0.01)])
def test_poisson_tasks_of_other_peaks(peak, eta):
    task = registry.get(f"denoising/photos-poisson{peak}")
    o = task.observe("test", task.ids()[0])
    assert o.given["peak"] == peak and o.given["noise_level"] == pytest.approx(eta**0.5)
    assert torch.equal(o.given["noisy"], (o.given["noisy"] * peak).round() / peak)


# ---------------------------------------------------------------------- ranges
@settings(max_examples=40, deadline=None)
@given(shape=st.floats(1e-2, 1e6), seed=st.integers(0, 1000))
def test_gamma_noise_is_never_negative_and_black_stays_black(shape, seed):
    clean = keyed("x", seed).random((1, 6, 6))
    clean[:, :2] = 0
    y = noise.Gamma(shape).sample(clean, keyed(seed))
    assert np.isfinite(y).all() and (y >= 0).all() and (y[:, :2] == 0).all()
    assert np.allclose(noise.Gamma(shape).sample(2 * clean, keyed(seed)), 2 * y), "the noise multiplies"


@settings(max_examples=40, deadline=None)
@given(low=st.floats(0, 200), width=st.floats(0.1, 55), seed=st.integers(0, 1000))
def test_blind_levels_stay_in_their_range(low, width, seed):
    level = noise.GaussianBlind(low, low + width).observe(np.zeros((2, 2)), keyed(seed))[1]["noise_level"]
    assert low / 255 <= level <= (low + width) / 255


@settings(max_examples=40, deadline=None)
@given(sigma=st.floats(0, 255), gain=st.floats(0, 1), kernel=st.integers(1, 5), seed=st.integers(0, 1000))
def test_correlated_noise_scales_with_its_standard_deviation(sigma, gain, kernel, seed):
    clean = keyed("x", seed).random((3, 6, 5))
    model = Correlated(sigma, gain, kernel)
    expected = np.sqrt((sigma / 255) ** 2 + gain * clean) * model.unit(clean.shape, keyed(seed))
    assert np.allclose(model.sample(clean, keyed(seed)) - clean, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"noise": "gamma", "shape": 0}, "shape must be"),
        ({"noise": "gamma", "shape": float("nan")}, "shape must be"),
        ({"noise": "gaussian-blind", "low": 10, "high": 5}, "low < high"),
        ({"noise": "gaussian-blind", "low": 0, "high": 300}, "low < high"),
        ({"noise": "correlated", "kernel": 7}, "kernel's side"),
        ({"noise": "correlated", "gain": -1}, "gain must lie"),
        ({"noise": "correlated", "sigma": -1}, "sigma is in steps"),
        ({"noise": "speckle"}, "accepted: gaussian, poisson, gamma, gaussian-blind, correlated"),
    ],
)
def test_a_wrong_model_is_one_sentence(declared, words):
    with pytest.raises(RequestError, match=words) as error:
        noise.make(declared)
    assert "\n" not in str(error.value)


def test_correlated_noise_needs_an_image():
    with pytest.raises(RequestError, match="needs an image"):
        Correlated().sample(np.zeros(5), keyed("v"))


# ---------------------------------------------------------------------- declarations
def test_the_longer_training_differs_in_its_training_alone():
    short, long = (registry.get_spec(f"denoising/bsd68-gaussian25{s}") for s in ("", "-bsd400"))
    assert long.train == {**short.train, "patch": 40, "gflops": 36000}
    same = ("dataset", "options", "observe", "gives", "returns", "metrics", "splits", "reference", "do_nothing")
    assert all(getattr(short, name) == getattr(long, name) for name in same)


def test_local_colour_sets_and_real_noise_are_declared():
    for dataset in ("kodak24", "mcmaster"):
        for sigma in (15, 25, 50):
            spec = registry.get_spec(f"denoising/{dataset}-gaussian{sigma}")
            assert spec.observe == {"noise": "gaussian", "sigma": sigma} and spec.dataset == dataset and spec.options == {"channels": 3}
    sidd = registry.get_spec("denoising/sidd-real")
    assert sidd.train["dataset"] == sidd.dataset == "sidd" and sidd.gives == ("noisy", "noise_model")
