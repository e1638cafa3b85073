"""Coarse-to-fine estimation of Poisson-Gaussian noise from one RAW frame (CNE of YOND: Feng et al., arXiv:2506.03645, section 3.1).

Var y = b1 x + b2 is fitted to local means and variances where the frame is flat, on the four planes, never on the mosaic. Frames are on the
scale on which the clean one is in [0, 1].
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter  # type: ignore[import-untyped]

BINS = 1000
QUANTILES = np.arange(10, 101, 5) / 100
"""Shares of the frame that may count as flat: 5 % upwards in steps of 5 %, of which the official code skips the first."""


def blurred(planes: np.ndarray, box: int) -> np.ndarray:
    """Return the local mean of (4, h, w) over ``box`` x ``box`` pixels, borders mirrored."""
    return uniform_filter(planes, (1, box, box), mode="mirror")


def local_variance(planes: np.ndarray, box: int) -> np.ndarray:
    """Return the local variance of (4, h, w)."""
    return np.maximum(blurred(planes**2, box) - blurred(planes, box) ** 2, 0)


def threshold(flatness: np.ndarray, mean: np.ndarray) -> float:
    """Return the flatness below which pixels are used: the quantile q with the least threshold / (q x number of grey levels seen).

    It weighs flatness against how many pixels and how many levels of brightness (occupied bins of ``mean``) are left to fit a line to.
    """
    levels = (np.clip(mean, 0, 1) * BINS).astype(int)
    limits = np.quantile(flatness, QUANTILES)
    seen = [len(np.unique(levels[flatness <= limit])) for limit in limits]
    return float(limits[int(np.argmin(limits / (QUANTILES * np.array(seen))))])


def fitted(variance: np.ndarray, mean: np.ndarray, flatness: np.ndarray) -> tuple[float, float]:
    """Return (b1, b2) of the least-squares line over the flat pixels that are neither black nor near white."""
    use = (flatness <= threshold(flatness, mean)) & (mean > 1e-4) & (mean < 0.8)
    if np.count_nonzero(use) < 2 or np.ptp(mean[use]) < 1e-6:
        return 0.0, float(np.median(variance))
    b1, b2 = np.polyfit(mean[use], variance[use], 1)
    return float(b1), float(b2)


def coarse(noisy: np.ndarray, box: int) -> tuple[float, float]:
    """Return (b1, b2) from the noisy planes (4, h, w) alone; flat is where even the blurred frame does not vary."""
    flatness = np.sqrt(local_variance(blurred(noisy, box // 3 * 2 + 1), box))
    return fitted(local_variance(noisy, box), blurred(noisy, box), flatness)


def fine(noisy: np.ndarray, denoised: np.ndarray, box: int, before: tuple[float, float]) -> tuple[float, float]:
    """Return (b1, b2) with a first result's help: its texture is taken off the variance; ``before`` stays where the new slope is negative."""
    variance = local_variance(noisy, box) - local_variance(denoised, box)
    b1, b2 = fitted(variance, blurred(denoised, box), np.sqrt(local_variance(denoised, box)))
    if b1 <= 0:
        return before
    return b1, b2 if b2 >= 0 else b1**2
