"""Total variation (Rudin, Osher and Fatemi 1992) by Chambolle's dual projection (2004), scikit-image's implementation."""

from __future__ import annotations

import numpy as np
from skimage.restoration import denoise_tv_chambolle

from .filters import Filter


class TotalVariation(Filter):
    """min_x TV(x) + ||x - y||^2 / (2 weight), isotropic, each channel by itself, with weight = ``strength`` x sigma."""

    def __init__(self, strength: float = 1.0, iterations: int = 200, level: str = "given", factor: float = 1.0) -> None:
        super().__init__(level, factor)
        self.strength, self.iterations = strength, iterations

    def filtered(self, image: np.ndarray, sigma: float) -> np.ndarray:
        if sigma <= 0:
            return image
        return np.stack(
            [denoise_tv_chambolle(plane, weight=self.strength * sigma, eps=1e-5, max_num_iter=self.iterations) for plane in image]
        )
