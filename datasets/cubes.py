"""Hyperspectral cubes of exactly known make: a few smooth spectra, mixed in every pixel by abundances that sum to one.

The linear mixing model X = sum_r A_r outer c_r (Keshava and Mustard, IEEE Signal Processing Magazine 19(1), 2002): 4 or 5 endmember spectra
over
16 bands, and abundance maps that are smooth in half of the cubes and nearly piecewise constant in the others. A cube is a convex combination of
its spectra, so it lies in [0, 1] and has rank 4 or 5 (up to the rounding to 16 bits, which keeps its bits equal on all machines).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Dataset, Sample
from .keys import keyed

if TYPE_CHECKING:
    import numpy as np

BANDS, SIDE = 16, 32
COUNTS = {"train": 96, "dev": 4, "test": 6}
LEVELS = 65535


def spectra(rng: np.random.Generator, number: int) -> np.ndarray:
    """Return ``number`` smooth spectra (number, 16) with values in [0.05, 0.95]: a slope and three bumps each, stretched to a keyed range."""
    import numpy as np

    band = np.linspace(0, 1, BANDS)
    centre, width = rng.uniform(-0.1, 1.1, (number, 3, 1)), rng.uniform(0.08, 0.3, (number, 3, 1))
    height, slope = rng.uniform(-1, 1, (number, 3, 1)), rng.uniform(-0.7, 0.7, (number, 1))
    raw = slope * band + (height * np.exp(-0.5 * ((band - centre) / width) ** 2)).sum(1)
    low, high = raw.min(1, keepdims=True), raw.max(1, keepdims=True)
    floor, top = rng.uniform(0.05, 0.35, (number, 1)), rng.uniform(0.55, 0.95, (number, 1))
    return floor + (top - floor) * (raw - low) / (high - low)


def fields(rng: np.random.Generator, number: int, width: float) -> np.ndarray:
    """Return ``number`` smooth random fields (number, 32, 32) of unit standard deviation: white noise through a Gaussian of ``width``
    pixels."""
    import numpy as np

    k = np.fft.fftfreq(2 * SIDE)
    low_pass = np.exp(-2 * (np.pi * width) ** 2 * (k[:, None] ** 2 + k[None, :] ** 2))
    noise = rng.standard_normal((number, 2 * SIDE, 2 * SIDE))  # twice the side: the filter wraps around, the cut-out does not
    out = np.fft.ifft2(np.fft.fft2(noise) * low_pass).real[:, :SIDE, :SIDE]
    return out / out.std((1, 2), keepdims=True)


def abundances(rng: np.random.Generator, number: int, sharp: bool) -> np.ndarray:
    """Return maps (number, 32, 32), positive, summing to one in every pixel; ``sharp`` ones are nearly piecewise constant."""
    import numpy as np

    logits = fields(rng, number, rng.uniform(3.0, 5.0)) * (20.0 if sharp else 2.0)
    if sharp:  # some mixing and shading remains within a region
        logits = np.log(np.exp(logits - logits.max(0)) + 0.15 * np.exp(fields(rng, number, 6.0)))
    weights = np.exp(logits - logits.max(0))
    return weights / weights.sum(0)


class Cubes(Dataset):
    """Cubes of mixed spectra. ``image``: float32 (16, 32, 32) in [0, 1], the bands first; ``rank``: the number of endmembers. Cluster: the
    cube."""

    id = "cubes"
    title = "Hyperspectral cubes 16 x 32 x 32 of 4 or 5 mixed smooth spectra"
    kind = "image"
    licence = "CC0-1.0 (generated)"
    pixels = "redistribute"
    source = "generated, keyed by (id, version, split, index)"
    shape = (BANDS, SIDE, SIDE)

    def _ids(self, split: str) -> list[str]:
        return [f"{split}-{i:04d}" for i in range(COUNTS[split])]

    def _load(self, split: str, sample_id: str) -> Sample:
        import numpy as np

        rng = keyed(self.id, self.version, split, sample_id)
        number = 4 + int(rng.integers(2))
        maps = abundances(rng, number, sharp=int(sample_id.rpartition("-")[2]) % 2 == 1)
        cube = np.einsum("rb,rhw->bhw", spectra(rng, number), maps)
        image = (np.rint(cube * LEVELS) / LEVELS).astype(np.float32)
        return Sample(sample_id, sample_id, {"image": image, "rank": number})
