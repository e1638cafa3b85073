"""Anscombe's transform: Poisson counts become nearly Gaussian with unit variance, so Gaussian denoisers apply."""

from __future__ import annotations

import numpy as np

LEAST = 2 * np.sqrt(3 / 8)
"""The transform of a zero count."""


def forward(counts: np.ndarray) -> np.ndarray:
    """Return 2 sqrt(k + 3/8) (Anscombe 1948, eq. 3.1): standard deviation about 1 for means above some 4 counts."""
    return 2 * np.sqrt(np.maximum(counts, 0) + 3 / 8)


def inverse(z: np.ndarray) -> np.ndarray:
    """Return the mean count whose transform has the mean z: the closed-form approximation of the exact unbiased inverse.

    Makitalo and Foi, IEEE TIP 20(9), 2011, eq. 10. The algebraic inverse (z/2)^2 - 3/8 would be biased at low counts, because a mean of
    square roots is not the root of the mean.
    """
    z = np.maximum(z, LEAST)
    root = np.sqrt(1.5)
    counts = z**2 / 4 + root / (4 * z) - 11 / (8 * z**2) + 5 * root / (8 * z**3) - 1 / 8
    return np.maximum(counts, 0)
