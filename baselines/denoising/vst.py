"""Variance stabilisation of Poisson-Gaussian noise: the generalised Anscombe transform, its inverses, and its bias.

Data are in DN: y = K p + s n with p a Poisson count of mean x / K and n standard normal. Makitalo and Foi, "Optimal Inversion of the
Generalized Anscombe Transformation for Poisson-Gaussian Noise", IEEE TIP 22(1), 2013; the bias that is subtracted before denoising is that
of Feng et al. (YOND, arXiv:2506.03645).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import gammaln, xlogy  # type: ignore[import-untyped]

EXACT = 50.0
"""Electrons below which the bias is integrated; above, its closed form is used."""


def forward(y: np.ndarray, gain: float, read: float) -> np.ndarray:
    """Return (2 / K) sqrt(max(K y + 3/8 K^2 + s^2, 0)): about unit variance, whatever the signal."""
    return 2 / gain * np.sqrt(np.maximum(gain * y + 0.375 * gain**2 + read**2, 0))


def inverse(z: np.ndarray, gain: float, read: float) -> np.ndarray:
    """Return the algebraic inverse, not below 0: what the transform maps to z."""
    return np.maximum(gain * ((np.maximum(z, 0) / 2) ** 2 - 0.375 - (read / gain) ** 2), 0)


def unbiased_inverse(z: np.ndarray, gain: float, read: float) -> np.ndarray:
    """Return the signal whose transform has the mean z: the closed form that approximates the exact unbiased inverse (eq. 10)."""
    sigma = read / gain
    z = np.maximum(z, 2 * np.sqrt(0.375 + sigma**2))
    root = np.sqrt(1.5)
    electrons = z**2 / 4 + root / (4 * z) - 11 / (8 * z**2) + 5 * root / (8 * z**3) - 1 / 8 - sigma**2
    return gain * np.maximum(electrons, 0)


def closed_bias(electrons: np.ndarray, sigma: float) -> np.ndarray:
    """Return the Taylor expansion of E[f(y)|x] - f(x), x in electrons and ``sigma`` = s / K: good for many electrons or much read noise."""
    h = electrons + 0.375 + sigma**2
    v = electrons + sigma**2
    return 2 * np.sqrt(h) * (-v / (8 * h**2) + electrons / (16 * h**3) - 5 * (electrons + 3 * v**2) / (128 * h**4))


@lru_cache(maxsize=64)
def _table(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return electrons and the bias there, by summing over counts and integrating over the Gaussian."""
    x = np.concatenate([np.linspace(0, 5, 101), np.linspace(5.25, EXACT, 180)])
    n = np.arange(int(EXACT + 10 * np.sqrt(EXACT)) + 1)
    t = np.linspace(-7, 7, 701)
    weights = np.exp(-0.5 * t**2)
    weights /= weights.sum()
    means = (2 * np.sqrt(np.maximum(n[:, None] + sigma * t + 0.375 + sigma**2, 0))) @ weights
    pmf = np.exp(xlogy(n, x[:, None]) - x[:, None] - gammaln(n + 1))
    return x, pmf @ means - 2 * np.sqrt(x + 0.375 + sigma**2)


def bias(x: np.ndarray, gain: float, read: float) -> np.ndarray:
    """Return E[f(y)|x] - f(x) at the signal x >= 0 (DN)."""
    sigma, electrons = round(read / gain, 4), np.asarray(x, dtype=np.float64) / gain
    at, values = _table(sigma)
    return np.where(electrons <= EXACT, np.interp(electrons, at, values), closed_bias(np.maximum(electrons, EXACT), sigma))
