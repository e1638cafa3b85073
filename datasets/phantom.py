"""Head phantoms for tomography, 64 x 64: the Shepp-Logan phantom and random ones of the same make (sums of ellipses).

Ellipses are drawn with 4 x 4 sub-pixels, so edges are averaged over pixels as a real reconstruction grid would see them. Everything lies
within the inscribed circle, outside of which parallel-beam projections see nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Dataset, Sample
from .keys import keyed

if TYPE_CHECKING:
    import numpy as np

SIDE, SUB = 64, 4
COUNTS = {"train": 400, "dev": 8, "test": 24}

Ellipse = tuple[float, float, float, float, float, float]

SHEPP_LOGAN: tuple[Ellipse, ...] = (
    # added value, half-axes a, b, centre x, y (y upwards), angle in degrees; unit square [-1, 1]^2
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)
"""Geometry of Shepp & Logan (1974) with the higher contrast of Toft (1996), Table B.3."""


def draw(ellipses: tuple[Ellipse, ...], side: int = SIDE, sub: int = SUB) -> np.ndarray:
    """Draw a sum of ellipses, clipped to [0, 1] per sub-pixel: float32 (side, side), first row at the top."""
    import numpy as np

    n = side * sub
    axis = (2 * np.arange(n) + 1) / n - 1
    fine = np.zeros((n, n))
    for value, a, b, x0, y0, degrees in ellipses:
        c, s, reach = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees)), max(a, b)
        columns, rows = (slice(*np.searchsorted(axis, (m - reach, m + reach))) for m in (x0, -y0))  # the rest is zero
        x, y = axis[None, columns] - x0, -axis[rows, None] - y0
        fine[rows, columns] += value * (((x * c + y * s) / a) ** 2 + ((y * c - x * s) / b) ** 2 <= 1)
    return np.clip(fine, 0, 1).reshape(side, sub, side, sub).mean((1, 3)).astype(np.float32)


def random_head(rng: np.random.Generator) -> tuple[Ellipse, ...]:
    """Draw a head: a bright skull, tissue inside it, and 4 to 10 structures of other density inside the tissue."""
    a, b, tilt = rng.uniform(0.6, 0.75), rng.uniform(0.75, 0.9), rng.uniform(-15, 15)
    skull, tissue, wall = rng.uniform(0.8, 1.0), rng.uniform(0.2, 0.4), rng.uniform(0.03, 0.08)
    out: list[Ellipse] = [(skull, a, b, 0.0, 0.0, tilt), (tissue - skull, a - wall, b - wall, 0.0, 0.0, tilt)]
    for _ in range(int(rng.integers(4, 11))):
        radius, angle = 0.75 * rng.random() ** 0.5, rng.uniform(0, 6.283185307179586)
        size, ratio = rng.uniform(0.04, 0.25), rng.uniform(0.4, 1.0)
        size *= 1 - 0.6 * radius
        value = rng.uniform(0.08, 0.3) * (1 if rng.random() < 0.6 else -1)
        out.append((value, size, size * ratio, *_polar(radius * (a - wall - size), radius * (b - wall - size), angle), rng.uniform(0, 180)))
    return tuple(out)


def _polar(a: float, b: float, angle: float) -> tuple[float, float]:
    from math import cos, sin

    return a * cos(angle), b * sin(angle)


class Phantom(Dataset):
    """Ellipse phantoms. ``image``: float32 (1, 64, 64) in [0, 1]. The first test sample is Shepp-Logan's. Cluster: the phantom."""

    id = "phantom"
    title = "Shepp-Logan and random ellipse phantoms 64x64"
    kind = "image"
    licence = "CC0-1.0 (generated)"
    pixels = "redistribute"
    source = "generated, keyed by (id, version, split, index)"
    citation = """@article{shepp1974fourier,
  author = {Shepp, L. A. and Logan, B. F.},
  title = {The {Fourier} reconstruction of a head section},
  journal = {IEEE Transactions on Nuclear Science},
  volume = {21},
  number = {3},
  pages = {21--43},
  year = {1974},
  doi = {10.1109/TNS.1974.6499235}
}"""
    shape = (1, SIDE, SIDE)

    def _ids(self, split: str) -> list[str]:
        names = [f"{split}-{i:04d}" for i in range(COUNTS[split])]
        return ["shepp-logan", *names[1:]] if split == "test" else names

    def _load(self, split: str, sample_id: str) -> Sample:
        if sample_id == "shepp-logan":
            ellipses = SHEPP_LOGAN
        else:
            ellipses = random_head(keyed(self.id, self.version, split, sample_id))
        return Sample(sample_id, sample_id, {"image": draw(ellipses)[None]})
