"""Wavelet shrinkage: soft thresholds on translation-invariant wavelet coefficients (Donoho and Johnstone 1994; Chang, Yu and Vetterli 2000)."""

from __future__ import annotations

import numpy as np

from ...configs.errors import RequestError
from .filters import Filter
from .wavelets import analyse, synthesise

OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
"""Orthonormal luminance and two differences of colour: like YCbCr, but white noise stays white and of equal level."""


def soft(w: np.ndarray, threshold: float) -> np.ndarray:
    """Return sign(w) max(|w| - threshold, 0)."""
    return np.sign(w) * np.maximum(np.abs(w) - threshold, 0)


class WaveletShrinkage(Filter):
    """``rule`` bayes: T = sigma^2 / sigma_x per band, sigma_x^2 = max(var(w) - sigma^2, 0) (Chang et al., eq. 9 to 12).
    ``rule`` visu: T = sigma sqrt(2 log N) for all bands, N the number of pixels. All shifts are averaged (cycle spinning)."""

    def __init__(self, rule: str = "bayes", levels: int = 5, moments: int = 2, level: str = "given", factor: float = 1.0) -> None:
        super().__init__(level, factor)
        if rule not in ("bayes", "visu"):
            raise RequestError(f"rule is {rule!r}; accepted: bayes, visu.")
        self.rule, self.levels, self.moments = rule, levels, moments

    def filtered(self, image: np.ndarray, sigma: float) -> np.ndarray:
        colour = image.shape[0] == 3
        planes = np.tensordot(OPPONENT, image, 1) if colour else image
        out = np.stack([self._plane(plane, sigma) for plane in planes])
        return np.tensordot(OPPONENT.T, out, 1) if colour else out

    def _plane(self, plane: np.ndarray, sigma: float) -> np.ndarray:
        margin = min(2**self.levels, *plane.shape)  # the transform is circular: reflected margins keep opposite sides apart
        padded = np.pad(plane, margin, mode="symmetric")
        approximation, details = analyse(padded, self.levels, self.moments)
        shrunk = [np.stack([soft(band, self._threshold(band, sigma, plane.size)) for band in bands]) for bands in details]
        return synthesise(approximation, shrunk, self.moments)[margin:-margin, margin:-margin]

    def _threshold(self, band: np.ndarray, sigma: float, pixels: int) -> float:
        if self.rule == "visu":
            return sigma * float(np.sqrt(2 * np.log(pixels)))
        signal = np.sqrt(max(float(np.mean(band**2)) - sigma**2, 0.0))
        return sigma**2 / signal if signal > 0 else float(np.abs(band).max())
