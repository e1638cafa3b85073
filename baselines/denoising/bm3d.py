"""BM3D: block matching and filtering in 3D transform domain (Dabov, Foi, Katkovnik and Egiazarian, IEEE TIP 16(8), 2007), from the paper.

Both steps group each reference block with blocks like it and filter the group's 3D spectrum: the first by a hard threshold, the second by
Wiener's factors, for which the first step's estimate stands in for the clean image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...configs.errors import RequestError
from .collaborative import Aggregate, grid, haar, nearest, pixel_distances, spectra, spectral_distances, transform
from .filters import Filter
from .wavelet_shrinkage import OPPONENT

STRIP = 2**16
"""Pixels whose reference blocks are handled at once; bounds the memory."""
CHUNK = 2**21
"""Coefficients of groups handled at once."""


@dataclass(frozen=True)
class Step:
    """One step's parameters under the names of the paper's Table I; ``tau`` is on the scale of 8-bit intensities squared."""

    transform: Literal["bior1.5", "dct"]
    N1: int
    N2: int
    Nstep: int
    tau: float
    lambda3D: float = 0.0
    lambda2D: float = 0.0
    NS: int = 39
    beta: float = 2.0


PROFILES: dict[str, tuple[tuple[Step, Step], tuple[Step, Step]]] = {
    "normal": (
        (Step("bior1.5", 8, 16, 3, 2500, lambda3D=2.7), Step("dct", 8, 32, 3, 400)),
        (Step("dct", 12, 16, 4, 5000, lambda3D=2.8, lambda2D=2.0), Step("dct", 11, 32, 6, 3500)),
    ),
    "release": (
        (Step("bior1.5", 8, 16, 3, 3000, lambda3D=2.7), Step("dct", 8, 32, 3, 400)),
        (Step("bior1.5", 8, 32, 4, 25000, lambda3D=2.8), Step("dct", 11, 32, 6, 3500)),
    ),
}
"""Both steps for sigma up to 40/255, and for more. ``normal``: Table I, "Normal Profile". ``release``: as in the authors' later software, from
which published comparisons come: tau_match of 3000, and above 40 the parameters of Hou, Zhao, Yang and Cheng, "Comments on ...", IEEE TIP
20(1), 2011."""


class BM3D(Filter):
    """Grey and colour (CBM3D, section VI of the paper: opponent channels, grouped by their luminance)."""

    def __init__(self, profile: str = "normal", level: str = "given", factor: float = 1.0) -> None:
        super().__init__(level, factor)
        if profile not in PROFILES:
            raise RequestError(f"profile is {profile!r}; accepted: {', '.join(PROFILES)}.")
        self.profile = profile

    def filtered(self, image: np.ndarray, sigma: float) -> np.ndarray:
        if sigma <= 0:
            return image
        colour = image.shape[0] == 3
        planes = np.tensordot(OPPONENT, image, 1) if colour else image  # white noise keeps its level
        scale = 1 / np.sqrt(3) if colour else 1.0  # (R + G + B) / 3, on which Table I's distances are meant
        out = bm3d(planes, sigma, PROFILES[self.profile][int(sigma * 255 > 40)], scale)
        return np.tensordot(OPPONENT.T, out, 1) if colour else out


def bm3d(planes: np.ndarray, sigma: float, steps: tuple[Step, Step], scale: float = 1.0) -> np.ndarray:
    """Return the final estimate of (P, H, W), white noise of standard deviation ``sigma``; full intensity is 1.

    Every plane is grouped by the first one, times ``scale``. Computed in float32, returned in the planes' type.
    """
    h, w = planes.shape[1:]
    room = [(0, max(0, max(s.N1 for s in steps) - size)) for size in (h, w)]
    noisy = np.pad(planes, [(0, 0), *room], mode="symmetric").astype(np.float32)
    basic = _filter(noisy, None, sigma, steps[0], scale)
    return _filter(noisy, basic, sigma, steps[1], scale)[:, :h, :w].astype(planes.dtype)


def _filter(noisy: np.ndarray, basic: np.ndarray | None, sigma: float, step: Step, scale: float) -> np.ndarray:
    """One step over the image: without ``basic`` the first, with it the second."""
    h, w = noisy.shape[1:]
    n, reach = step.N1, step.NS // 2
    taper = np.kaiser(n, step.beta)
    above, below = np.zeros(noisy.shape), np.zeros(noisy.shape)
    for rows in _strips(grid(h - n + 1, step.Nstep), w):
        # blocks of this strip have all their neighbours between first and last
        first, last = max(rows[0] - reach, 0), min(rows[-1] + n + reach, h)
        part = noisy[:, first:last]
        pilot = None if basic is None else basic[:, first:last]
        groups = list(_groups((part if pilot is None else pilot)[0] * np.float32(scale), sigma * scale, step, rows - first))
        forward, inverse = transform(step.transform, n)
        for p in range(len(noisy)):
            sums = Aggregate(part.shape[1:], inverse, np.outer(taper, taper), noisy.dtype)
            spectrum = spectra(part[p], forward)
            guide = None if pilot is None else spectra(pilot[p], forward)
            for group in groups:
                estimate, weight = _shrink(spectrum[group], None if guide is None else guide[group], sigma, step)
                sums.add(group, estimate, weight)
            numerator, denominator = sums.result()
            above[p, first:last] += numerator
            below[p, first:last] += denominator
    return (above / below).astype(noisy.dtype)


def _strips(rows: np.ndarray, width: int) -> Sequence[np.ndarray]:
    height = int(rows[-1]) + 1
    return np.array_split(rows, min(len(rows), -(-height * width // STRIP)))


def _groups(image: np.ndarray, sigma: float, step: Step, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield groups of like blocks (equations 4 to 6 and 8): reference blocks in the given rows, (groups, K) positions."""
    n, reach = step.N1, step.NS // 2
    height, width = image.shape[0] - n + 1, image.shape[1] - n + 1
    cols = grid(width, step.Nstep)
    if step.lambda2D > 0:  # equation 4: distances between coarsely denoised blocks
        coarse = spectra(image, transform(step.transform, n)[0])
        coarse[np.abs(coarse) < step.lambda2D * sigma] = 0
        distances = spectral_distances(coarse, (height, width), rows, cols, reach)
    else:
        distances = pixel_distances(image, rows, cols, n, reach)
    for group in nearest(distances, rows, cols, width, reach, step.N2, step.tau * n * n / 255**2):
        size = max(1, CHUNK // (group.shape[1] * n * n))
        yield from (group[k : k + size] for k in range(0, len(group), size))


def _shrink(noisy: np.ndarray, basic: np.ndarray | None, sigma: float, step: Step) -> tuple[np.ndarray, np.ndarray]:
    """Return the filtered 2D spectra of groups (groups, K, N1 * N1) and each group's weight, up to the common factor 1 / sigma^2."""
    y = haar(noisy)
    if basic is None:
        keep = np.abs(y) >= step.lambda3D * sigma
        count = np.count_nonzero(keep.reshape(len(y), -1), axis=1)
        return haar(y * keep, back=True), 1 / np.maximum(count, 1)  # equations 7 and 10
    energy = haar(basic) ** 2
    factor = energy / (energy + np.float32(sigma**2))  # equation 8
    norm = np.einsum("gkm,gkm->g", factor, factor, dtype=np.float64)
    return haar(y * factor, back=True), 1 / np.maximum(norm, 1e-12)  # equations 9 and 11
