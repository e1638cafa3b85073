"""Transforms that make noise white and Gaussian: unit variance at every intensity, and no bias on the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorebench.baselines.denoising import stabilise
from scorebench.baselines.denoising.anscombe import forward
from scorebench.tasks import noise
from scorebench.tasks.randomness import keyed

from .test_denoising import FILTERS, ask, build

LEVELS = [0.1, 0.4, 1.0]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [3, 50, 100])
def test_the_logarithm_has_one_standard_deviation_and_its_inverse_no_bias(shape, level):
    """200,000 values: deviation within 1 %, and the mean carried back to the intensity within 5 standard errors."""
    n = 200_000
    change = stabilise.gamma(shape)
    z = change.forward(noise.Gamma(shape).sample(np.full(n, level), keyed("log", shape, level)))
    assert z.std() == pytest.approx(change.sigma, rel=0.01 + 0.02 * (shape < 10))
    error = change.sigma / np.sqrt(n) * stabilise.RANGE  # relative, since the inverse is an exponential
    assert float(change.inverse(z.mean())) == pytest.approx(level, rel=5 * error)
    plain = float(np.exp((z.mean() - 1) * stabilise.RANGE))
    assert plain < level * (1 - 0.3 / shape), "exp alone would be too dark by 1 / (2 shape)"


@pytest.mark.parametrize("peak", [20, 30, 100])
@pytest.mark.parametrize("level", [0.3, 1.0])
def test_anscombe_on_the_unit_scale(peak, level):
    n = 200_000
    change = stabilise.poisson(peak)
    z = change.forward(noise.Poisson(peak).sample(np.full(n, level), keyed("an", peak, level)))
    assert z.std() == pytest.approx(change.sigma, rel=0.03)
    assert float(change.inverse(z.mean())) == pytest.approx(level, abs=5 * np.sqrt(level / peak / n) + 0.01 / peak)
    assert float(change.forward(np.array(1.0))) == pytest.approx(1) and change.sigma == 1 / float(forward(np.array(peak)))


@settings(max_examples=40, deadline=None)
@given(shape=st.floats(0.5, 1e4), level=st.floats(stabilise.FLOOR, 2))
def test_the_inverse_undoes_the_mean_of_the_transform(shape, level):
    """E ln y = ln x + psi(shape) - ln shape: put in exactly, x comes out exactly."""
    from scipy.special import digamma

    change = stabilise.gamma(shape)
    mean = (np.log(level) + digamma(shape) - np.log(shape)) / stabilise.RANGE + 1
    assert float(change.inverse(np.array(mean))) == pytest.approx(level, rel=1e-9)


def test_only_models_with_a_transform_have_one():
    y = np.zeros((1, 1, 4, 4))
    assert stabilise.stabiliser(ask(y)) is None
    for model in ("gaussian", "gaussian-blind", "correlated", "real"):
        assert stabilise.stabiliser(ask(y, noise_model=model)) is None
    assert stabilise.stabiliser(ask(y, noise_model="gamma", shape=50.0, noise_level=50**-0.5)).sigma == stabilise.gamma(50).sigma


@pytest.mark.parametrize("method", FILTERS)
def test_gamma_noise_on_a_flat_picture_averages_out_without_bias(method):
    clean = np.full((1, 1, 96, 96), 0.6)
    noisy = noise.Gamma(50).sample(clean, keyed("g"))
    out = build(method, "denoising/photos-gamma50").denoise(ask(noisy, noise_model="gamma", noise_level=50**-0.5, shape=50.0)).double()
    assert float(out.std()) < 0.3 * noisy.std()
    assert float(out.mean()) == pytest.approx(float(noisy.mean()), abs=0.01)
    black = build(method, "denoising/photos-gamma50").denoise(ask(0 * noisy, noise_model="gamma", noise_level=50**-0.5, shape=50.0))
    assert torch.isfinite(black).all() and float(black.max()) < 0.003
