"""Noise whose neighbouring values depend on each other, as in pictures that a camera has interpolated."""

from __future__ import annotations

from itertools import product

import numpy as np

from ..configs.errors import RequestError
from .noise import Noise


class Correlated(Noise):
    """y = x + (s^2 + g x)^(1/2) (k * n): white noise n smoothed by a box k of ``kernel`` x ``kernel`` pixels, then given its level.

    k has the Euclidean norm 1, so k * n has variance 1 at every pixel, the border included, and Var y = s^2 + g x exactly. The correlation
    of k * n at an offset (i, j) is (1 - |i| / kernel)+ (1 - |j| / kernel)+; channels are independent. ``sigma`` (s) in steps of 1/255,
    ``gain`` (g) on the scale on which full intensity is 1. Methods are told the model's name and nothing else.
    """

    name = "correlated"

    def __init__(self, sigma: float = 15.0, gain: float = 0.01, kernel: int = 3) -> None:
        if not 0 <= sigma <= 255:
            raise RequestError(f"correlated noise with sigma {sigma}: sigma is in steps of 1/255 and must lie in [0, 255].")
        if not 0 <= gain <= 1:
            raise RequestError(f"correlated noise with gain {gain}: the gain must lie in [0, 1].")
        if kernel not in (1, 2, 3, 4, 5):
            raise RequestError(f"correlated noise with kernel {kernel}: the kernel's side must be 1 (white), 2, 3, 4 or 5 pixels.")
        self.sigma, self.gain, self.kernel = float(sigma) / 255, float(gain), int(kernel)

    def unit(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Return k * n: stationary, mean 0, variance 1, of ``shape`` (..., H, W)."""
        *leading, height, width = shape
        n = rng.standard_normal((*leading, height + self.kernel - 1, width + self.kernel - 1))
        total = np.zeros(shape)
        for i, j in product(range(self.kernel), repeat=2):  # in this order always: sums round
            total += n[..., i : i + height, j : j + width]
        return total / self.kernel  # kernel^2 equal weights of norm 1

    def sample(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if clean.ndim < 2:
            raise RequestError(f"correlated noise needs an image (..., H, W), not an array of shape {clean.shape}.")
        return clean.astype(np.float64) + np.sqrt(self.variance(clean)) * self.unit(clean.shape, rng)

    def variance(self, clean: np.ndarray) -> np.ndarray:
        return self.sigma**2 + self.gain * clean.astype(np.float64)

    def known(self) -> dict[str, float]:
        return {}

    def parameters(self) -> dict[str, float]:
        return {"sigma": self.sigma, "gain": self.gain, "kernel": float(self.kernel)}
