"""Noise models against theory, observations that depend on their key alone, training items that show only what they may."""

import os
import subprocess
import sys
from dataclasses import replace
from math import log10

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorebench.configs.errors import RequestError
from scorebench.datasets import registry as datasets
from scorebench.datasets.base import Sample
from scorebench.tasks import denoising, images, noise, registry
from scorebench.tasks.randomness import Rng, keyed

GAUSSIAN = "denoising/photos-gaussian25"
IDS = ["denoising/photos-gaussian15", GAUSSIAN, "denoising/photos-gaussian50", "denoising/photos-poisson"]
EXPECTED = {"bsd68", "set12", "cbsd68"}


# ---------------------------------------------------------------------- noise models
@pytest.mark.parametrize("model", [noise.Gaussian(25), noise.Gaussian(50), noise.Poisson(30), noise.Poisson(2), noise.Poisson(1000)])
@pytest.mark.parametrize("level", [0.05, 0.5, 1.0])
def test_mean_and_variance_are_those_of_theory(model, level):
    """200,000 values: the mean within 5 standard errors, the variance within 5 of its own (kurtosis of the model included)."""
    n = 200_000
    clean = np.full(n, level, dtype=np.float32)
    y = model.sample(clean, keyed("moments", model.name, level))
    variance = float(model.variance(clean)[0])
    assert y.dtype == np.float64
    assert abs(y.mean() - clean[0]) < 5 * np.sqrt(variance / n)
    fourth = 3 * variance**2 + (variance / model.peak**2 if isinstance(model, noise.Poisson) else 0)
    assert abs(y.var() - variance) < 5 * np.sqrt((fourth - variance**2) / n)


def test_the_noise_level_given_is_the_standard_deviation_at_full_intensity():
    for model in (noise.Gaussian(25), noise.Poisson(30)):
        assert model.known()["noise_level"] == pytest.approx(float(np.sqrt(model.variance(np.ones(1))[0])))


@settings(max_examples=40, deadline=None)
@given(sigma=st.floats(0, 255), seed=st.integers(0, 1000))
def test_gaussian_noise_is_linear_in_sigma(sigma, seed):
    clean = keyed("x", seed).random((2, 5, 7)).astype(np.float32)
    unit = noise.Gaussian(255).sample(clean, keyed(seed)) - clean
    y = noise.Gaussian(sigma).sample(clean, keyed(seed))
    assert np.allclose(y - clean, sigma / 255 * unit, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(peak=st.floats(0.1, 1e5), seed=st.integers(0, 1000))
def test_poisson_counts_are_whole_and_black_stays_black(peak, seed):
    clean = keyed("x", seed).random((1, 6, 6))
    clean[:, :2] = 0
    counts = noise.Poisson(peak).sample(clean, keyed(seed)) * peak
    assert np.allclose(counts, np.rint(counts), atol=1e-6 * peak)
    assert (counts >= 0).all() and (counts[:, :2] == 0).all()


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"noise": "gaussian", "sigma": -1}, "sigma"),
        ({"noise": "poisson", "peak": 0}, "peak"),
        ({"noise": "gaussain", "sigma": 5}, "accepted: gaussian, poisson"),
        ({"noise": "gaussian", "peak": 5}, "does not take peak"),
    ],
)
def test_a_wrong_noise_model_is_one_sentence(declared, words):
    with pytest.raises(RequestError, match=words):
        noise.make(declared)


# ---------------------------------------------------------------------- observations
@pytest.mark.parametrize(("task", "sigma"), [(IDS[0], 15), (IDS[1], 25), (IDS[2], 50)])
def test_psnr_of_the_unclipped_noisy_input_is_that_of_theory(task, sigma):
    """E[MSE] = (sigma/255)^2, so PSNR = 20 log10(255/sigma); over 24 x 9216 pixels its standard error is 0.013 dB."""
    t = registry.get(task)
    observations = [t.observe("test", i) for i in t.ids()]
    mse = np.mean([(o.given["noisy"].double() - o.target["clean"].double()).square().mean().item() for o in observations])
    assert -10 * log10(mse) == pytest.approx(20 * log10(255 / sigma), abs=0.05)
    assert min(o.given["noisy"].min() for o in observations) < 0 < 1 < max(o.given["noisy"].max() for o in observations)


@pytest.mark.parametrize("task", IDS)
def test_observations_depend_on_their_key_alone(task):
    t = registry.get(task)
    ids = t.ids()[:4]
    forward = {i: t.observe("test", i) for i in ids}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        backward = {i: t.observe("test", i) for i in reversed(ids)}
    finally:
        torch.set_num_threads(before)
    for i in ids:
        assert torch.equal(forward[i].given["noisy"], backward[i].given["noisy"])
        assert forward[i].hash() == backward[i].hash()
        assert forward[i].given["noisy"].dtype == torch.float32
        assert forward[i].hash() != t.observe("test", i, draw=1).hash()
    assert t.observation_hash("test", ids=ids) == type(t)(t.spec).observation_hash("test", ids=ids)


def test_observations_are_the_same_bits_in_another_process():
    code = f"from scorebench.tasks import registry; t = registry.get({GAUSSIAN!r}); print(t.observation_hash('dev', 3))"
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.strip() == registry.get(GAUSSIAN).observation_hash("dev", 3)


def test_draws_and_tasks_have_independent_noise():
    t, other = registry.get(GAUSSIAN), registry.get(IDS[0])
    i = t.ids()[0]
    clean = t.observe("test", i).target["clean"]
    a, b = ((t.observe("test", i, d).given["noisy"] - clean).flatten() for d in (0, 1))
    c = (other.observe("test", i).given["noisy"] - clean).flatten()
    for u, v in ((a, b), (a, c)):
        assert abs(float(torch.corrcoef(torch.stack([u, v]))[0, 1])) < 5 / len(u) ** 0.5


def test_the_request_holds_what_is_given_and_nothing_clean():
    t = registry.get("denoising/photos-poisson")
    request = t.request([t.observe("test", i) for i in t.ids()[:3]], Rng([0, 1, 2]))
    assert sorted(request.keys()) == ["noise_level", "noise_model", "noisy", "peak"]
    assert request.noise_model == "poisson" and request.peak == 30.0
    assert request.noisy.shape == (3, 1, 96, 96)


@pytest.mark.parametrize("task", IDS)
def test_dev_and_test_show_different_scenes(task):
    t = registry.get(task)
    clusters = {s: {t.observe(s, i).cluster for i in t.ids(s)} for s in ("dev", "test")}
    assert clusters["dev"] and clusters["test"] and not clusters["dev"] & clusters["test"]


# ---------------------------------------------------------------------- training items
KINDS = {
    "paired": {"input", "target", "noise_level"},
    "noisy": {"input", "noise_level"},
    "noisy-pairs": {"input", "input2", "noise_level"},
    "clean": {"target"},
    "unpaired": {"input", "target", "noise_level"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_items_hold_exactly_what_the_kind_names(kind):
    item = registry.get(GAUSSIAN).training_set(kind, 0)[5]
    assert set(item) == KINDS[kind]
    for name in KINDS[kind] - {"noise_level"}:
        assert item[name].shape == (1, 32, 32) and item[name].dtype == torch.float32


@pytest.mark.parametrize("task_id", ["denoising/photos-correlated", "denoising/cbsd68-gaussian25", GAUSSIAN])
def test_unpaired_items_show_no_scene_both_clean_and_noisy(task_id, monkeypatch):
    """Each training picture is replaced by one flat value of its own, so that an item tells which pictures it was cut from."""
    task = registry.get(task_id)
    dataset = datasets.get(task.train["dataset"])
    scenes = [dataset.sample("train", i).cluster for i in dataset.ids("train")]
    assert len(set(scenes)) < len(scenes), "two pictures of one scene, or nothing is tested"
    flat = [np.full((1, 64, 64), n, dtype=np.float32) for n in range(len(scenes))]
    monkeypatch.setattr(task, "training_pictures", lambda: flat)
    monkeypatch.setattr(task, "degraded", lambda copy: flat)
    data = task.training_set("unpaired", 0)
    inputs, targets = ({scenes[int(data[i][name].mean())] for i in range(80)} for name in ("input", "target"))
    assert inputs and targets and not inputs & targets and inputs | targets == set(scenes)


def test_paired_items_have_fresh_noise_of_the_right_size():
    data = registry.get(GAUSSIAN).training_set("paired", 0)
    residual = torch.stack([data[i]["input"] - data[i]["target"] for i in range(200)])
    assert float(residual.std()) == pytest.approx(25 / 255, rel=0.01)
    assert len({r.numpy().tobytes() for r in residual}) == 200


class Tiny:
    """A dataset of one flat picture, so that crops of one place recur."""

    def __init__(self, value: float) -> None:
        self.value = value

    def ids(self, split):
        return ["a", "b"]

    def sample(self, split, sample_id):
        return Sample(sample_id, sample_id, {"image": np.full((1, 33, 33), self.value, dtype=np.float32)})

    def fingerprint(self):
        return f"tiny{self.value}"


@pytest.fixture
def tiny(monkeypatch):
    """A task on a dataset of flat pictures; returns a function of the pictures' value."""

    def make(value: float) -> denoising.DenoisingTask:
        images.pictures.cache_clear()
        monkeypatch.setattr("scorebench.datasets.registry.get", lambda _: Tiny(value))
        spec = replace(registry.get_spec(GAUSSIAN), train={"dataset": "tiny", "split": "train", "patch": 33})
        return denoising.DenoisingTask(spec)

    yield make
    images.pictures.cache_clear()


def _canonical(image: torch.Tensor) -> bytes:
    """The same bytes for all eight turns of one picture."""
    return np.sort(np.round(image.numpy().ravel(), 6)).tobytes()


@pytest.mark.parametrize(("kind", "copies"), [("noisy", 2), ("noisy-pairs", 4), ("paired", 60)])
def test_without_clean_images_each_picture_has_one_noise_draw(tiny, kind, copies):
    """60 full-picture crops of two pictures show two noisy pictures (four as pairs), whatever the seed; paired items are all different."""
    seen = set()
    for seed in (0, 1):
        data = tiny(0.5).training_set(kind, seed)
        for i in range(30):
            item = data[i]
            seen |= {_canonical(item[n]) for n in ("input", "input2") if n in item}
    assert len(seen) == copies


def test_the_two_copies_of_a_pair_are_independent(tiny):
    data = tiny(0.5).training_set("noisy-pairs", 0)
    a, b = ((data[0][n] - 0.5).flatten() for n in ("input", "input2"))
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 5 / len(a) ** 0.5


def test_poison_in_the_clean_pictures_reaches_only_the_kinds_that_declare_them(monkeypatch):
    """Clean arrays that turn to NaN once the noisy copies are made must not change a noisy item."""
    task = denoising.DenoisingTask(registry.get_spec(GAUSSIAN))
    whole = task.training_pictures()
    good = {kind: task.training_set(kind, 0) for kind in ("noisy", "noisy-pairs")}
    wanted = {kind: [data[i] for i in range(8)] for kind, data in good.items()}
    poisoned = {kind: task.training_set(kind, 0) for kind in good}
    monkeypatch.setattr(task, "training_pictures", lambda: [np.full(p.shape, np.nan, np.float32) for p in whole])
    monkeypatch.setattr("scorebench.tasks.images.pictures", lambda *a, **k: tuple(np.full(p.shape, np.nan, np.float32) for p in whole))
    for kind, data in poisoned.items():
        for i in range(8):
            assert all(torch.equal(data[i][n], wanted[kind][i][n]) for n in wanted[kind][i])
        assert not any(np.shares_memory(plane, p) for source in data.sources for plane in source for p in whole)
    assert torch.isnan(task.training_set("paired", 0)[0]["target"]).all()


def test_tasks_that_train_alike_share_a_key_and_others_do_not(monkeypatch):
    monkeypatch.setattr("scorebench.datasets.registry.get", lambda _: Tiny(0.5))
    keys = {t: denoising.DenoisingTask(registry.get_spec(t)).training_key("paired") for t in (GAUSSIAN, IDS[0], *_grey())}
    assert keys["denoising/bsd68-gaussian25"] == keys["denoising/set12-gaussian25"]
    assert keys["denoising/bsd68-gaussian25"] != keys["denoising/bsd68-gaussian15"]
    assert keys[GAUSSIAN] != keys[IDS[0]]
    clean = [denoising.DenoisingTask(registry.get_spec(t)).training_key("clean") for t in (GAUSSIAN, IDS[0])]
    assert clean[0] == clean[1]


def _grey() -> list[str]:
    return [f"denoising/{d}-gaussian{s}" for d in ("bsd68", "set12") for s in (15, 25)]


def test_every_level_of_the_standard_sets_is_declared():
    for dataset in EXPECTED:
        for sigma in (15, 25, 50):
            spec = registry.get_spec(f"denoising/{dataset}-gaussian{sigma}")
            assert spec.observe == {"noise": "gaussian", "sigma": sigma} and spec.dataset == dataset
            assert {"dev", "test"} <= set(spec.splits) and spec.metrics["psnr"]["margin"] == 0.05


@pytest.mark.skipif(not os.environ.get("SCOREBENCH_DATA"), reason="needs $SCOREBENCH_DATA with set12 and polyu")
def test_local_data_are_observed():
    set12 = registry.get("denoising/set12-gaussian25")
    assert len(set12.ids()) == 12 and set12.observe("test", "01").given["noisy"].shape == (1, 256, 256)
    polyu = registry.get("denoising/polyu-real")
    i = polyu.ids()[0]
    a, b = polyu.observe("test", i), polyu.observe("test", i, draw=1)
    assert torch.equal(a.given["noisy"], b.given["noisy"]) and not torch.equal(a.given["noisy"], a.target["clean"])
    assert set(polyu.training_set("paired", 0)[0]) == {"input", "target"}
    with pytest.raises(RequestError, match="need two"):
        polyu.training_set("noisy-pairs", 0)
