"""Daubechies wavelets and the translation-invariant (undecimated) transform of images, in NumPy.

Averaging a decimated transform's estimate over all circular shifts (cycle spinning, Coifman and Donoho 1995) is thresholding in the
undecimated transform, at the cost of a few shifts.
"""

from __future__ import annotations

from functools import cache
from math import comb

import numpy as np

MAD = 0.6744897501960817
"""Median of |n| for a standard normal n."""


@cache
def daubechies(moments: int) -> np.ndarray:
    """Return the 2p taps of the orthonormal scaling filter with p vanishing moments (1: Haar, 2: db2, ...).

    Spectral factorisation (Daubechies 1992, section 6.1): |H|^2 = cos^{2p}(w/2) P(sin^2(w/2)) with P(y) = sum_k C(p-1+k, k) y^k; of every
    pair of roots the one inside the unit circle is taken.
    """
    if not 1 <= moments <= 10:
        raise ValueError(f"moments is {moments}; accepted: 1 to 10 (beyond, the roots of P lose digits)")
    # y = sin^2(w/2) = (2 - z - 1/z)/4, so each root y of P gives the pair of roots of z^2 - (2 - 4y) z + 1
    roots = np.roots([comb(moments - 1 + k, k) for k in reversed(range(moments))])
    inside = [min(np.roots([1.0, -(2 - 4 * y), 1.0]), key=abs) for y in roots]
    taps = np.real(np.poly([*inside, *([-1.0] * moments)]))
    return taps * (np.sqrt(2) / taps.sum())


def _filter(x: np.ndarray, taps: np.ndarray, step: int, axis: int, back: bool) -> np.ndarray:
    """Circular correlation with taps ``step`` apart (``back``: convolution, its adjoint)."""
    out = np.zeros_like(x)
    for k, tap in enumerate(taps):
        out += tap * np.roll(x, k * step if back else -k * step, axis)
    return out


def analyse(image: np.ndarray, levels: int, moments: int = 2) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return (approximation, details) of (H, W): details[j] is (3, H, W) with the bands high-low, low-high, high-high of level j.

    White noise of standard deviation s has standard deviation s in every band.
    """
    low = daubechies(moments)
    high = low[::-1] * (-1.0) ** np.arange(len(low))
    details = []
    for j in range(levels):
        rows = {0: _filter(image, low, 2**j, 0, False), 1: _filter(image, high, 2**j, 0, False)}
        bands = {(r, c): _filter(rows[r], (low, high)[c], 2**j, 1, False) for r in (0, 1) for c in (0, 1)}
        details.append(np.stack([bands[1, 0], bands[0, 1], bands[1, 1]]))
        image = bands[0, 0]
    return image, details


def synthesise(approximation: np.ndarray, details: list[np.ndarray], moments: int = 2) -> np.ndarray:
    """Undo `analyse`. Of a changed transform it returns the mean over all shifts of the decimated inverses."""
    low = daubechies(moments)
    high = low[::-1] * (-1.0) ** np.arange(len(low))
    image = approximation
    for j in reversed(range(len(details))):
        bands = {(0, 0): image, (1, 0): details[j][0], (0, 1): details[j][1], (1, 1): details[j][2]}
        rows = {r: _filter(bands[r, 0], low, 2**j, 1, True) + _filter(bands[r, 1], high, 2**j, 1, True) for r in (0, 1)}
        image = (_filter(rows[0], low, 2**j, 0, True) + _filter(rows[1], high, 2**j, 0, True)) / 4
    return image


def estimate_sigma(image: np.ndarray) -> float:
    """Return the noise's standard deviation in (C, H, W): median |w| / 0.6745 over the finest high-high band (Donoho and Johnstone 1994).

    The mean over channels. Meant for white noise; fine texture raises it.
    """
    values = [np.median(np.abs(analyse(plane.astype(np.float64), 1)[1][0][2])) / MAD for plane in image]
    return float(np.mean(values))
