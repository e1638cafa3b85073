"""Non-local means (Buades, Coll and Morel 2005), scikit-image's fast implementation (Darbon et al. 2008)."""

from __future__ import annotations

import numpy as np
from skimage.restoration import denoise_nl_means

from .filters import Filter


class NonLocalMeans(Filter):
    """Weights exp(-max(d^2 - 2 sigma^2, 0) / h^2) with h = ``strength`` x sigma, over patches of ``patch`` pixels within ``reach`` pixels."""

    def __init__(self, strength: float = 0.7, patch: int = 5, reach: int = 8, level: str = "given", factor: float = 1.0) -> None:
        super().__init__(level, factor)
        self.strength, self.patch, self.reach = strength, patch, reach

    def filtered(self, image: np.ndarray, sigma: float) -> np.ndarray:
        if sigma <= 0:
            return image
        options = dict(patch_size=self.patch, patch_distance=self.reach, h=self.strength * sigma, sigma=sigma, fast_mode=True)
        if image.shape[0] == 1:
            return denoise_nl_means(image[0], **options)[None]
        return denoise_nl_means(image, channel_axis=0, **options)
