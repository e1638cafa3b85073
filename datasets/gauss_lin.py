"""Samples of a Gaussian whose mean and covariance are known, so the posterior under any linear operator is known exactly: the oracle
of inverse problems.

x ~ N(mean, cov) on a periodic 8 x 8 grid, d = 64. The covariance is stationary with a power-law spectrum, S(k) ~ (1 + |k|^2)^-1.5, as
natural images roughly have it, scaled to a pixel standard deviation of 0.15 about 0.5. Values are not clipped (clipping would end
Gaussianity): about 1 pixel in 1,000 leaves [0, 1].
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from .base import Dataset, Sample
from .keys import keyed

if TYPE_CHECKING:
    import numpy as np

SIDE = 8
COUNTS = {"train": 4096, "dev": 64, "test": 256}


class GaussLin(Dataset):
    """Draws of N(`mean`, `covariance`). ``image``: float32 (1, 8, 8), mean 0.5, standard deviation 0.15, not clipped."""

    id = "gauss-lin"
    title = "Gaussian fields 8x8 with a known power-law covariance"
    kind = "image"
    licence = "CC0-1.0 (generated)"
    pixels = "redistribute"
    source = "generated: exact draws keyed by (id, version, split)"
    shape = (1, SIDE, SIDE)

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean, float64 (64,)."""
        import numpy as np

        return np.full(SIDE * SIDE, 0.5)

    @cached_property
    def _spectrum(self) -> np.ndarray:
        """Power of each frequency of the grid, (8, 8), scaled so that the pixel variance is 0.15^2."""
        import numpy as np

        k = np.fft.fftfreq(SIDE) * SIDE
        power = (1 + k[:, None] ** 2 + k[None, :] ** 2) ** -1.5
        return power * (0.15**2 / power.mean())

    @cached_property
    def covariance(self) -> np.ndarray:
        """The covariance, float64 (64, 64), symmetric, positive definite (pixels row by row)."""
        import numpy as np

        return self._matrix(self._spectrum.astype(np.float64))

    def _matrix(self, spectrum: np.ndarray) -> np.ndarray:
        """Return the matrix of the circular convolution with real, even ``spectrum`` (8, 8)."""
        import numpy as np

        kernel = np.fft.ifft2(spectrum).real
        y, x = np.divmod(np.arange(SIDE * SIDE), SIDE)
        return kernel[(y[:, None] - y) % SIDE, (x[:, None] - x) % SIDE]

    def posterior(self, a: np.ndarray, y: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        """Return mean (..., 64) and covariance (64, 64) of x given y = A x + sigma n, n standard normal.

        ``a`` is the operator (m, 64), ``y`` (..., m); mean = mu + C A^T (A C A^T + sigma^2 I)^-1 (y - A mu).
        """
        import numpy as np

        ca = self.covariance @ a.T
        gain = np.linalg.solve(a @ ca + sigma**2 * np.eye(len(a)), ca.T).T
        return self.mean + (y - a @ self.mean) @ gain.T, self.covariance - gain @ ca.T

    @cached_property
    def _samples(self) -> dict[str, np.ndarray]:
        return {}

    def _split(self, split: str) -> np.ndarray:
        import numpy as np

        if split not in self._samples:
            noise = keyed(self.id, self.version, "split", split).standard_normal((COUNTS[split], SIDE * SIDE))
            root = self._matrix(np.sqrt(self._spectrum))  # symmetric square root of the covariance
            self._samples[split] = (self.mean + noise @ root).astype(np.float32)
        return self._samples[split]

    def _ids(self, split: str) -> list[str]:
        return [f"{split}-{i:04d}" for i in range(COUNTS[split])]

    def _load(self, split: str, sample_id: str) -> Sample:
        return Sample(sample_id, sample_id, {"image": self._split(split)[int(sample_id.rpartition("-")[2])].reshape(self.shape).copy()})
