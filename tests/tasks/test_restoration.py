"""Degradations against independent implementations, observations by key, training pairs that match the observations' recipe."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from scorebench.configs.errors import RequestError
from scorebench.tasks import degradations, registry
from scorebench.tasks.randomness import Rng, keyed
from scorebench.tasks.resize import resize, taps

IDS = [f"restoration/{n}" for n in ("photos-sr2", "photos-sr4", "photos-deblur", "photos-jpeg10", "pages-enhance")]


def picture(*shape: int) -> np.ndarray:
    return keyed("picture", shape).random(shape).astype(np.float32)


# ---------------------------------------------------------------------- resizing
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_downscaling_equals_torch_and_pillow_inside_the_picture(scale):
    x = torch.from_numpy(picture(24 * scale, 20 * scale).astype(np.float64))
    mine = resize(x, 24, 20)
    theirs = F.interpolate(x[None, None], (24, 20), mode="bicubic", antialias=True)[0, 0]
    pillow = np.asarray(Image.fromarray(x.numpy().astype(np.float32)).resize((20, 24), Image.Resampling.BICUBIC))
    inside = (slice(3, -3), slice(3, -3))  # borders differ: MATLAB mirrors, the others drop taps
    assert torch.allclose(mine[inside], theirs[inside], atol=1e-12)
    assert np.allclose(mine.numpy()[inside], pillow[inside], atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_upscaling_equals_pillow_inside_the_picture(scale):
    x = picture(16, 18)
    mine = resize(torch.from_numpy(x), 16 * scale, 18 * scale).numpy()
    pillow = np.asarray(Image.fromarray(x).resize((18 * scale, 16 * scale), Image.Resampling.BICUBIC))
    inside = (slice(3 * scale, -3 * scale), slice(3 * scale, -3 * scale))
    assert np.allclose(mine[inside], pillow[inside], atol=1e-5)


def test_borders_are_mirrored():
    """Enlarging a picture and its mirrored extension gives the same pixels, which no other border rule does."""
    x = torch.from_numpy(picture(8, 8).astype(np.float64))
    extended = torch.cat([x.flip(-1), x, x.flip(-1)], -1)
    extended = torch.cat([extended.flip(-2), extended, extended.flip(-2)], -2)
    assert torch.allclose(resize(x, 16, 16), resize(extended, 48, 48)[16:32, 16:32], atol=1e-13)
    assert torch.allclose(resize(x, 4, 4), resize(extended, 12, 12)[4:8, 4:8], atol=1e-13)


@settings(max_examples=50, deadline=None)
@given(before=st.integers(2, 60), after=st.integers(2, 60))
def test_resizing_keeps_constants_and_weights_sum_to_one(before, after):
    index, weights = taps(before, after)
    assert np.allclose(weights.sum(0), 1) and index.min() >= 0 and index.max() < before
    flat = resize(torch.full((before, 3), 0.7, dtype=torch.float64), after, 3)
    assert torch.allclose(flat, torch.full((after, 3), 0.7, dtype=torch.float64))


def test_resizing_does_not_depend_on_threads():
    x = torch.from_numpy(picture(3, 200, 300))
    before = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append(resize(x, 50, 75))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


# ---------------------------------------------------------------------- degradations
def test_blur_equals_scipy_gaussian_filter():
    x = picture(3, 40, 30)
    mine = degradations.Blur(1.6).whole(x, keyed("unused"))
    theirs = np.stack([gaussian_filter(p.astype(np.float64), 1.6, mode="reflect", radius=7) for p in x])
    assert np.allclose(mine, theirs, atol=1e-12)


def test_deblur_noise_has_its_level():
    blur = degradations.Blur(1.6, sigma=2)
    x = np.full((1, 300, 300), 0.5)
    y = blur.noisy(blur.whole(x, keyed("a")), keyed("b"))
    n = y.size
    assert abs(y.mean() - 0.5) < 5 * (2 / 255) / n**0.5
    assert y.std() == pytest.approx(2 / 255, rel=5 / (2 * n) ** 0.5)


def test_jpeg_is_pillows_at_the_stated_quality():
    x = picture(3, 24, 24)
    pixels = np.rint(np.moveaxis(x, 0, -1) * 255).astype(np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=10)
        expected = np.asarray(Image.open(file))
    mine = degradations.Jpeg(10).whole(x, keyed("unused"))
    assert np.array_equal(np.rint(np.moveaxis(mine, 0, -1) * 255).astype(np.uint8), expected)
    grey = degradations.Jpeg(10).whole(x[:1], keyed("unused"))
    assert grey.shape == (1, 24, 24)


def test_low_resolution_pictures_are_eight_bit_files():
    t = registry.get("restoration/photos-sr4")
    y = t.observe("test", t.ids()[0]).given["degraded"]
    assert torch.equal(y, torch.round(y * 255) / 255) and float(y.min()) >= 0 and float(y.max()) <= 1
    assert y.shape == (3, 24, 24)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_page_stays_between_black_and_its_paper(seed):
    page = degradations.Page(sigma=0)
    clean = (picture(1, 48, 64) > 0.2).astype(np.float32)
    out = page.whole(clean, keyed("page", seed))
    assert out.shape == clean.shape and out.min() >= 0 and out.max() <= 0.95 + 1e-9
    assert out[clean > 0.5].mean() > out[clean < 0.5].mean()  # paper is still lighter than ink
    assert np.array_equal(out, page.whole(clean, keyed("page", seed)))


def test_an_undamaged_page_comes_back_unchanged():
    none = (0.0, 0.0)
    page = degradations.Page(ink=none, paper=(1.0, 1.0), through=none, shade=none, blur=none, sigma=0)
    clean = picture(1, 20, 30)
    assert np.allclose(page.noisy(page.whole(clean, keyed("x")), keyed("y")), clean)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"degrade": "rain"}, "accepted: downscale, blur, jpeg, page"),
        ({"degrade": "blur", "std": 0}, "std"),
        ({"degrade": "jpeg", "quality": 0}, "from 1 to 95"),
        ({"degrade": "downscale", "scale": 1}, "from 2 to 8"),
        ({"degrade": "jpeg", "q": 3}, "does not take q"),
        ({"degrade": "page", "shade": [0.5, 0.2]}, "shade"),
    ],
)
def test_a_wrong_degradation_is_one_sentence(declared, words):
    with pytest.raises(RequestError, match=words):
        degradations.make(declared)


def test_a_picture_that_the_scale_does_not_divide_is_refused():
    with pytest.raises(RequestError, match=r"options\.multiple: 4"):
        degradations.Downscale(4).whole(picture(3, 30, 32), keyed("x"))


# ---------------------------------------------------------------------- observations and training items
@pytest.mark.parametrize("task", IDS)
def test_observations_depend_on_their_key_alone(task):
    t = registry.get(task)
    ids = t.ids()[:3]
    forward = {i: t.observe("test", i) for i in ids}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        backward = {i: t.observe("test", i) for i in reversed(ids)}
    finally:
        torch.set_num_threads(before)
    assert all(forward[i].hash() == backward[i].hash() for i in ids)
    random = not task.endswith(("sr2", "sr4", "jpeg10"))
    assert (forward[ids[0]].hash() != t.observe("test", ids[0], draw=1).hash()) == random


@pytest.mark.parametrize("task", IDS)
def test_the_answer_has_the_clean_size_and_the_request_what_is_given(task):
    t = registry.get(task)
    o = t.observe("dev", t.ids("dev")[0])
    request = t.request([o], Rng([0]))
    assert sorted(request.keys()) == ["degraded", "kind", "scale"]
    scale = request.scale
    assert tuple(o.target["clean"].shape[-2:]) == tuple(n * scale for n in request.degraded.shape[-2:])
    assert t.answer_shape(o) == tuple(o.target["clean"].shape)


@pytest.mark.parametrize("task", IDS)
def test_training_pairs_are_degraded_as_the_observations_are(task):
    """The mean squared error between input and target is of the size that the test pictures show (within a factor of 3)."""
    t = registry.get(task)
    data = t.training_set("paired", 0)
    items = [data[i] for i in range(40)]
    assert set(items[0]) == {"input", "target", "scale"}
    scale = int(items[0]["scale"])
    assert items[0]["target"].shape[-1] == scale * items[0]["input"].shape[-1] == 48

    def error(x, y):
        return float((resize(x, *y.shape[-2:]) - y).square().mean())

    train = np.mean([error(i["input"], i["target"]) for i in items])
    observed = [t.observe("test", i) for i in t.ids()[:8]]
    test = np.mean([error(o.given["degraded"], o.target["clean"]) for o in observed])
    assert test / 3 < train < test * 3
    again = registry.get(task).training_set("paired", 0)
    assert torch.equal(again[7]["input"], items[7]["input"])


def test_crops_of_low_and_high_resolution_show_the_same_place():
    t = registry.get("restoration/photos-sr2")
    data = t.training_set("paired", 0)
    for i in range(10):
        item = data[i]
        back = resize(item["target"].double(), 24, 24)[..., 3:-3, 3:-3]
        assert torch.allclose(back, item["input"].double()[..., 3:-3, 3:-3], atol=0.5 / 255 + 1e-6) or float(back.max()) > 0.99


def test_deblurring_items_have_fresh_noise_and_noisy_ones_do_not():
    t = registry.get("restoration/photos-deblur")
    assert t.training_set("noisy", 0).sources[0][0].dtype == np.float32
    a, b = (t.training_set("noisy", seed).sources[0][0] for seed in (0, 1))
    assert np.array_equal(a, b)
    pairs = t.training_set("noisy-pairs", 0).sources[0]
    noise = (pairs[0] - pairs[1])[..., 20:60, 20:60]
    assert noise.std() == pytest.approx(2 / 255 * 2**0.5, rel=0.1)


@pytest.mark.parametrize("task", IDS)
def test_dev_and_test_show_different_scenes(task):
    t = registry.get(task)
    clusters = {s: {t.observe(s, i).cluster for i in t.ids(s)} for s in ("dev", "test")}
    assert not clusters["dev"] & clusters["test"]
