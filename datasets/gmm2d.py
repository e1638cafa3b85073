"""Mixtures of Gaussians in the plane whose density, score and noised versions are known in closed form: the oracle of sampling.

``gmm2d`` is a ring of eight equal modes; ``gmm2d-uneven`` has modes of unequal weight, width and correlation, so that a sampler which
gets the geometry right but the masses wrong is found out.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from .base import Dataset, Sample
from .keys import keyed

if TYPE_CHECKING:
    import numpy as np

COUNTS = {"train": 20000, "dev": 2000, "test": 5000}


class GMM2D(Dataset):
    """A ring of 8 modes. ``x``: float32 (2,); ``label``: int, the mode it was drawn from. Every point is its own cluster.

    `weights` (K,), `means` (K, 2) and `covariances` (K, 2, 2), float64, are the mixture itself.
    """

    id = "gmm2d"
    title = "Ring of eight Gaussians in the plane (exact score)"
    kind = "points"
    licence = "CC0-1.0 (generated)"
    pixels = "redistribute"
    source = "generated: exact draws keyed by (id, version, split)"

    @property
    def classes(self) -> int:
        """The number of modes."""
        return len(self.weights)

    @cached_property
    def weights(self) -> np.ndarray:
        """Mixture weights (K,), float64, summing to 1."""
        import numpy as np

        return np.full(8, 1 / 8)

    @cached_property
    def means(self) -> np.ndarray:
        """Mode centres (K, 2): on a circle of radius 2."""
        import numpy as np

        angle = 2 * np.pi * np.arange(8) / 8
        return 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    @cached_property
    def covariances(self) -> np.ndarray:
        """Mode covariances (K, 2, 2): standard deviation 0.2 in every direction."""
        import numpy as np

        return np.tile(0.2**2 * np.eye(2), (8, 1, 1))

    def draw(self, n: int, *key: object) -> tuple[np.ndarray, np.ndarray]:
        """Draw ``n`` exact samples for ``key``: points float64 (n, 2) and modes int64 (n,). Independent draws have different keys."""
        import numpy as np

        rng = keyed(self.id, self.version, *key)
        mode = np.minimum(np.searchsorted(np.cumsum(self.weights), rng.random(n), side="right"), len(self.weights) - 1)
        factor = np.linalg.cholesky(self.covariances)
        return self.means[mode] + np.einsum("nij,nj->ni", factor[mode], rng.standard_normal((n, 2))), mode

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Return log p(x) of points (n, 2): float64 (n,)."""
        return self._terms(x)[0]

    def score(self, x: np.ndarray) -> np.ndarray:
        """Return the gradient of log p at points (n, 2): float64 (n, 2)."""
        import numpy as np

        _, responsibility, pull = self._terms(x)
        return np.einsum("nk,nkd->nd", responsibility, pull)

    def _terms(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return log p (n,), responsibilities (n, K), and each mode's own score, -C^-1 (x - m), (n, K, 2)."""
        import numpy as np

        inverse = np.linalg.inv(self.covariances)
        offset = np.asarray(x, dtype=np.float64)[:, None] - self.means
        pull = -np.einsum("kde,nke->nkd", inverse, offset)
        _, logdet = np.linalg.slogdet(2 * np.pi * self.covariances)
        log = np.log(self.weights) - 0.5 * logdet + 0.5 * np.einsum("nkd,nkd->nk", offset, pull)
        top = log.max(axis=1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(log - top).sum(axis=1))
        return total, np.exp(log - total[:, None]), pull

    @cached_property
    def _points(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {}

    def _split(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        if split not in self._points:
            self._points[split] = self.draw(COUNTS[split], "split", split)
        return self._points[split]

    def _ids(self, split: str) -> list[str]:
        return [f"{split}-{i:05d}" for i in range(COUNTS[split])]

    def _load(self, split: str, sample_id: str) -> Sample:
        import numpy as np

        points, modes = self._split(split)
        i = int(sample_id.rpartition("-")[2])
        return Sample(sample_id, sample_id, {"x": points[i].astype(np.float32), "label": int(modes[i])})


class GMM2DUneven(GMM2D):
    """Five modes of unequal weight, width and correlation."""

    id = "gmm2d-uneven"
    title = "Five unequal Gaussians in the plane (exact score)"
    parameters: ClassVar[tuple[tuple[float, ...], ...]] = (
        # weight, mean x, mean y, sd along, sd across, angle in degrees
        (0.40, -1.5, 0.5, 0.60, 0.20, 30),
        (0.25, 1.5, 1.0, 0.30, 0.30, 0),
        (0.20, 0.5, -1.5, 0.50, 0.10, -20),
        (0.10, 2.5, -1.0, 0.15, 0.15, 0),
        (0.05, -2.5, -2.0, 0.10, 0.25, 60),
    )

    @cached_property
    def weights(self) -> np.ndarray:
        """Mixture weights (5,)."""
        import numpy as np

        return np.array([p[0] for p in self.parameters])

    @cached_property
    def means(self) -> np.ndarray:
        """Mode centres (5, 2)."""
        import numpy as np

        return np.array([p[1:3] for p in self.parameters])

    @cached_property
    def covariances(self) -> np.ndarray:
        """Mode covariances (5, 2, 2)."""
        import numpy as np

        out = []
        for _, _, _, along, across, degrees in self.parameters:
            c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
            rotation = np.array([[c, -s], [s, c]])
            out.append(rotation @ np.diag([along**2, across**2]) @ rotation.T)
        return np.stack(out)
