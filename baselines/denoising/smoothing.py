"""Two filters that average neighbours: Gaussian smoothing, and the bilateral filter (Tomasi and Manduchi 1998).

The bilateral filter is written here, since scikit-image 0.26's `denoise_bilateral` misplaces the spatial weights of odd windows: with a very
large range it should be a Gaussian filter, and is far from one.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from .filters import Filter


class GaussianFilter(Filter):
    """Convolution with a Gaussian of standard deviation ``width`` x (sigma / (25/255))^(1/2) pixels, mirrored at the borders."""

    def __init__(self, width: float = 1.0, level: str = "given", factor: float = 1.0) -> None:
        super().__init__(level, factor)
        self.width = width

    def filtered(self, image: np.ndarray, sigma: float) -> np.ndarray:
        if sigma <= 0:
            return image
        width = self.width * np.sqrt(sigma * 255 / 25)
        return np.stack([gaussian_filter(plane, width, mode="mirror") for plane in image])


class Bilateral(Filter):
    """Averages neighbours by weights exp(-|p - q|^2 / 2 width^2 - |y_p - y_q|^2 / 2 (strength sigma)^2), mirrored at the borders.

    ``width`` in pixels, cut at 3 x ``width``. Colour: |y_p - y_q|^2 is the mean over the channels (the paper measures it in CIE-Lab).
    """

    def __init__(self, strength: float = 3.0, width: float = 1.5, level: str = "given", factor: float = 1.0) -> None:
        super().__init__(level, factor)
        self.strength, self.width = strength, width

    def filtered(self, image: np.ndarray, sigma: float) -> np.ndarray:
        if sigma <= 0:
            return image
        h, w = image.shape[1:]
        reach = int(np.ceil(3 * self.width))
        padded = np.pad(image, [(0, 0), (reach, reach), (reach, reach)], mode="symmetric")
        above, below = np.zeros_like(image), np.zeros(image.shape[1:])
        for dy in range(2 * reach + 1):
            for dx in range(2 * reach + 1):
                shifted = padded[:, dy : dy + h, dx : dx + w]
                near = ((dy - reach) ** 2 + (dx - reach) ** 2) / (2 * self.width**2)
                weight = np.exp(-near - ((image - shifted) ** 2).mean(0) / (2 * (self.strength * sigma) ** 2))
                above += weight * shifted
                below += weight
        return above / below
