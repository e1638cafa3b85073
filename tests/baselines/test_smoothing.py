"""Gaussian smoothing and the bilateral filter, against their definitions."""

import numpy as np
import pytest

from scorebench.baselines import card as cards
from scorebench.baselines.denoising.smoothing import Bilateral, GaussianFilter
from scorebench.baselines.registry import hyper_parameters, method_class
from scorebench.tasks import registry
from scorebench.tasks.randomness import keyed


def definition(image: np.ndarray, y: int, x: int, width: float, spread: float, reach: int) -> np.ndarray:
    """The bilateral average at one pixel, by two loops; the picture is reflected."""
    h, w = image.shape[1:]
    mirror = lambda k, n: -k - 1 if k < 0 else 2 * n - 1 - k if k >= n else k  # noqa: E731
    above, below = np.zeros(len(image)), 0.0
    for r in range(y - reach, y + reach + 1):
        for c in range(x - reach, x + reach + 1):
            other = image[:, mirror(r, h), mirror(c, w)]
            far = (r - y) ** 2 + (c - x) ** 2
            weight = np.exp(-far / (2 * width**2) - np.mean((image[:, y, x] - other) ** 2) / (2 * spread**2))
            above, below = above + weight * other, below + weight
    return above / below


@pytest.mark.parametrize("channels", [1, 3])
def test_bilateral_is_its_definition(channels):
    image = keyed("bilateral", channels).random((channels, 12, 15))
    out = Bilateral(strength=2.0, width=1.2).filtered(image, 0.1)
    for y, x in [(0, 0), (5, 7), (11, 3), (2, 14)]:
        assert np.allclose(out[:, y, x], definition(image, y, x, 1.2, 0.2, 4))


def test_bilateral_with_a_very_large_range_is_a_gaussian_filter():
    image = keyed("large").random((1, 30, 30))
    smooth = GaussianFilter(width=1.0).filtered(image, 25 / 255)
    apart = np.abs(Bilateral(strength=1e6, width=1.0).filtered(image, 25 / 255) - smooth)
    assert apart[:, 5:-5, 5:-5].max() < 5e-3  # one cuts at 3, the other at 4 standard deviations


def test_bilateral_keeps_an_edge_that_gaussian_smoothing_blurs():
    edge = np.zeros((1, 20, 20))
    edge[..., 10:] = 1.0
    assert np.abs(Bilateral().filtered(edge, 0.05) - edge).max() < 1e-6
    assert np.abs(GaussianFilter().filtered(edge, 0.05) - edge).max() > 0.2


def test_gaussian_smoothing_divides_white_noise_as_the_kernel_says():
    noise = keyed("white").normal(0, 1, (1, 256, 256))
    out = GaussianFilter(width=2.0).filtered(noise, 25 / 255)
    assert out.std() == pytest.approx(1 / (2 * np.sqrt(np.pi) * 2.0), rel=0.05)  # ||kernel||_2 of a Gaussian of width 2


@pytest.mark.parametrize("method_id", ["gaussian-filter", "bilateral"])
@pytest.mark.parametrize("level", [15, 25, 50])
def test_both_beat_the_noisy_input(method_id, level):
    task = registry.get(f"denoising/photos-gaussian{level}")
    cls = method_class(cards.get(method_id))
    method = cls(**hyper_parameters(cards.get(method_id), cls, "default", task.spec.id, {}))
    gains = []
    for sample_id in task.ids()[:3]:
        o = task.observe("test", sample_id)
        clean, seen = o.target["clean"].numpy().astype(np.float64), o.given["noisy"].numpy().astype(np.float64)
        gains.append(np.log10(np.mean((seen - clean) ** 2) / np.mean((method.filtered(seen, level / 255) - clean) ** 2)))
    assert 10 * np.mean(gains) > 3


@pytest.mark.parametrize("method", [GaussianFilter(), Bilateral()])
def test_flat_pictures_and_no_noise_are_left_alone(method):
    flat = np.full((3, 9, 11), 0.3)
    assert np.allclose(method.filtered(flat, 0.1), flat)
    assert method.filtered(flat, 0.0) is flat
