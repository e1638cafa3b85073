"""C^alpha pictures 32 x 32: two smooth fields on either side of a smooth contour, all of regularity alpha (Kadkhodaie et al. 2023).

The recipe of arXiv:2310.02557, section 3.2 and appendix: white noise filtered by |w|^-alpha gives the height of the contour over the columns
and
the two backgrounds; each background is stretched to a range of its own, the bright one up to 1 and the dark one down to 0; the mask is
averaged over 2
x 2 pixels. For such pictures the best rate of denoising is known: the error falls like sigma^(2 alpha / (alpha + 1)) as the noise vanishes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .base import Dataset, Sample
from .keys import keyed

if TYPE_CHECKING:
    import numpy as np

SIDE = 32
COUNTS = {"train": 64, "dev": 8, "test": 24}
LEVELS = 65535


def filtered(noise: np.ndarray, alpha: float) -> np.ndarray:
    """Return noise (N,) or (N, N) filtered by k^-alpha, k the frequency in cycles per side (the constant passes as k = 1 does)."""
    import numpy as np

    side = noise.shape[0]
    k = np.fft.fftfreq(side) * side
    radius = np.abs(k) if noise.ndim == 1 else np.sqrt(k[:, None] ** 2 + k[None, :] ** 2)
    return np.fft.ifftn(np.fft.fftn(noise) * np.maximum(radius, 1.0) ** -alpha).real


def draw(alpha: float, rng: np.random.Generator) -> np.ndarray:
    """Draw one picture: float32 (1, 32, 32) in [0, 1], rounded to 16 bits so that its bits are equal on all machines."""
    import numpy as np

    contour = np.rint(SIDE * filtered(rng.uniform(-1, 1, SIDE), alpha)) + SIDE // 2
    fields = [filtered(rng.uniform(-1, 1, (SIDE, SIDE)), alpha) for _ in range(2)]
    floor, top, swap = rng.random(), rng.random(), rng.random() < 0.5
    unit = [(f - f.min()) / (f.max() - f.min()) for f in fields]
    bright, dark = floor + (1 - floor) * unit[0], top * unit[1]
    below = (np.arange(SIDE)[:, None] >= contour[None, :]).astype(np.float64)
    mask = np.pad(below, 1, mode="reflect")
    mask = (mask[1:-1, 1:-1] + mask[:-2, 1:-1] + mask[1:-1, :-2] + mask[:-2, :-2]) / 4
    picture = bright * mask + dark * (1 - mask) if swap else dark * mask + bright * (1 - mask)
    return (np.rint(picture * LEVELS) / LEVELS).astype(np.float32)[None]


class CAlpha(Dataset):
    """Pictures of one regularity. ``image``: float32 (1, 32, 32) in [0, 1]. Cluster: the picture."""

    alpha: ClassVar[float]
    kind = "image"
    licence = "CC0-1.0 (generated)"
    pixels = "redistribute"
    source = "generated, keyed by (id, version, split, index)"
    shape = (1, SIDE, SIDE)

    def _ids(self, split: str) -> list[str]:
        return [f"{split}-{i:04d}" for i in range(COUNTS[split])]

    def _load(self, split: str, sample_id: str) -> Sample:
        rng = keyed(self.id, self.version, split, int(sample_id.rpartition("-")[2]))
        return Sample(sample_id, sample_id, {"image": draw(self.alpha, rng)})


class CAlpha1(CAlpha):
    """Pictures of regularity 1."""

    id, title, alpha = "c-alpha1", "C^alpha pictures 32x32, alpha 1", 1.0


class CAlpha2(CAlpha):
    """Pictures of regularity 2."""

    id, title, alpha = "c-alpha2", "C^alpha pictures 32x32, alpha 2", 2.0


class CAlpha4(CAlpha):
    """Pictures of regularity 4."""

    id, title, alpha = "c-alpha4", "C^alpha pictures 32x32, alpha 4", 4.0
