"""Signal-dependent noise made white and Gaussian, so that a Gaussian denoiser applies, and the unbiased way back.

Poisson: Anscombe's transform (see `anscombe`). Gamma: the logarithm. Correlated noise has no such transform: its neighbours stay dependent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma

from ...tasks.requests import Request
from . import anscombe

FLOOR = 1 / 510
"""Half an 8-bit step: the logarithm of less is that of this, since black has none."""
RANGE = -float(np.log(FLOOR))


@dataclass(frozen=True)
class Stabiliser:
    """``forward`` takes an image to a scale of about [0, 1] on which the noise has the standard deviation ``sigma`` nearly everywhere;
    ``inverse`` takes an estimate of the *mean* of the transformed image to the image whose transform has that mean."""

    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]
    sigma: float


def poisson(peak: float) -> Stabiliser:
    """Return Anscombe's transform on the scale on which full intensity is 1."""
    full = float(anscombe.forward(np.asarray(peak)))
    return Stabiliser(lambda y: anscombe.forward(peak * y) / full, lambda z: anscombe.inverse(z * full) / peak, 1 / full)


def gamma(shape: float) -> Stabiliser:
    """Return the logarithm of y = x g, g ~ Gamma(shape, mean 1), on the scale on which ln `FLOOR` is 0 and ln 1 is 1.

    ln y = ln x + ln g has the variance psi'(shape) whatever x, and the mean ln x + psi(shape) - ln shape, so taking exp after adding
    ln shape - psi(shape) is the exact unbiased inverse (Xie, Pierce and Ulaby, IEEE TGRS 40(3), 2002; psi: digamma).
    """
    bias = float(digamma(shape) - np.log(shape))
    return Stabiliser(
        lambda y: np.log(np.maximum(y, FLOOR)) / RANGE + 1,
        lambda z: np.exp((z - 1) * RANGE - bias),
        float(np.sqrt(polygamma(1, shape))) / RANGE,
    )


def stabiliser(request: Request) -> Stabiliser | None:
    """Return the transform for what the request says of its noise; None where the noise is white already, or nothing is known to whiten it."""
    model = request.noise_model if "noise_model" in request else "gaussian"
    if model == "poisson":
        return poisson(float(request.peak))
    return gamma(float(request.shape)) if model == "gamma" else None
