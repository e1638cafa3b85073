"""The parts of collaborative filtering (Dabov et al. 2007): block matching, transforms of blocks and groups, aggregation; in NumPy.

Blocks are addressed by the flat index of their upper left pixel among all positions at which a block fits. Nothing here draws, and every sum
is taken in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import sqrt

import numpy as np
from scipy.fft import dct
from scipy.sparse import csc_array

BIOR15 = np.array([3, -3, -22, 22, 128, 128, 22, -22, -3, 3]) * sqrt(2) / 256
"""Analysis low-pass filter of the biorthogonal spline wavelet 1.5 (Cohen, Daubechies and Feauveau 1992); its high-pass filter is Haar's."""


@cache
def transform(name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the (n, n) matrices of a transform, ``dct`` or ``bior1.5`` (n a power of two), and of its inverse.

    The wavelet transform is periodic and goes down to one mean. Its rows are brought to norm 1, so that white noise has the same level in
    every coefficient.
    """
    if name == "dct":
        forward = dct(np.eye(n), axis=0, norm="ortho")
    elif name == "bior1.5":
        forward, low = np.eye(n), np.eye(n)
        while len(low) > 1:
            m = len(low)
            analysis = np.zeros((m, m))
            for k in range(m // 2):
                for j, tap in enumerate(BIOR15):
                    analysis[k, (2 * k + j - 4) % m] += tap
                analysis[m // 2 + k, 2 * k : 2 * k + 2] = sqrt(0.5), -sqrt(0.5)
            split = analysis @ low
            forward[:m], low = split, split[: m // 2]
        forward = forward / np.linalg.norm(forward, axis=1, keepdims=True)
    else:
        raise ValueError(f"transform is {name!r}; accepted: dct, bior1.5")
    return forward, np.linalg.inv(forward)


def spectra(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the 2D spectra of all blocks of (H, W) as (positions, n * n)."""
    n = len(matrix)
    h, w = image.shape[0] - n + 1, image.shape[1] - n + 1
    pixels = np.stack([image[i : i + h, j : j + w].ravel() for i in range(n) for j in range(n)])
    return pixels.T @ np.kron(matrix, matrix).T.astype(image.dtype)


def haar(x: np.ndarray, back: bool = False) -> np.ndarray:
    """Return the orthonormal Haar transform along axis 1 of (groups, K, ...), K a power of two; ``back``: the inverse."""
    out, size, root = x.copy(), x.shape[1], x.dtype.type(sqrt(0.5))
    sizes = [size >> k for k in range(size.bit_length() - 1)]
    for m in reversed(sizes) if back else sizes:
        if back:
            a, b = out[:, : m // 2], out[:, m // 2 : m]
            pair = np.stack([a + b, a - b], axis=2).reshape(len(x), m, *x.shape[2:])
        else:
            a, b = out[:, 0:m:2], out[:, 1:m:2]
            pair = np.concatenate([a + b, a - b], axis=1)
        out[:, :m] = pair * root
    return out


def grid(count: int, step: int) -> np.ndarray:
    """Return 0, step, 2 step, ... below ``count``, and always the last position, so that blocks cover every pixel."""
    return np.unique(np.append(np.arange(0, count, step), count - 1))


def _window_sums(x: np.ndarray, n: int, axis: int) -> np.ndarray:
    """Sums over ``n`` neighbours along an axis, from sums over 1, 2, 4, ... (a running sum would lose digits and could not hold inf)."""
    x = np.moveaxis(x, axis, 0)
    count, done, out = len(x) - n + 1, 0, None
    power = 1
    while power <= n:
        if n & power:
            part = x[done : done + count]
            out, done = part if out is None else out + part, done + power
        power *= 2
        if power <= n:
            x = x[: -(power // 2)] + x[power // 2 :]
    assert out is not None
    return np.moveaxis(out, 0, axis)


def pixel_distances(image: np.ndarray, rows: np.ndarray, cols: np.ndarray, n: int, reach: int) -> np.ndarray:
    """Return the squared distances of each block of the grid ``rows`` x ``cols`` to its neighbours, (shifts, references).

    Shifts go row by row through [-reach, reach]^2; the distance to what lies outside of the image is inf. One squared difference of shifted
    images and its box sums serve all references.
    """
    width = image.shape[1]
    padded = np.pad(image, reach, constant_values=np.inf)
    top, bottom = rows[0], rows[-1] + n
    part = image[top:bottom]
    side = 2 * reach + 1
    out = np.empty((side * side, len(rows), len(cols)), image.dtype)
    for k in range(side * side):
        dy, dx = divmod(k, side)
        difference = part - padded[top + dy : bottom + dy, dx : dx + width]
        difference *= difference
        out[k] = _window_sums(_window_sums(difference, n, 0)[rows - top], n, 1)[:, cols]
    return out.reshape(side * side, -1)


def spectral_distances(coefficients: np.ndarray, shape: tuple[int, int], rows: np.ndarray, cols: np.ndarray, reach: int) -> np.ndarray:
    """As `pixel_distances`, from one vector per position, (positions, m); ``shape``: the positions' numbers of rows and columns."""
    vectors = np.pad(coefficients.reshape(*shape, -1), [(reach, reach), (reach, reach), (0, 0)])
    norms = np.pad((coefficients**2).sum(1).reshape(shape), reach, constant_values=np.inf)
    own = vectors[np.ix_(rows + reach, cols + reach)]
    squares = norms[np.ix_(rows + reach, cols + reach)]
    side = 2 * reach + 1
    out = np.empty((side * side, len(rows), len(cols)), coefficients.dtype)
    for k in range(side * side):
        dy, dx = divmod(k, side)
        place = np.ix_(rows + dy, cols + dx)
        out[k] = squares + norms[place] - 2 * np.einsum("rcm,rcm->rc", own, vectors[place])
    return out.reshape(side * side, -1)


def nearest(distances: np.ndarray, rows: np.ndarray, cols: np.ndarray, width: int, reach: int, most: int, limit: float) -> Iterator[np.ndarray]:
    """Yield the groups as (groups, K) positions, for K = 1, 2, 4, ... up to ``most``, nearest first, each reference first of its group.

    A group holds the nearest blocks within ``limit``, as many as the largest power of two allows (Haar's transform needs that).
    ``width``: positions in one row.
    """
    side = 2 * reach + 1
    shift = np.array([(k // side - reach) * width + k % side - reach for k in range(side * side)])
    distances[side * side // 2] = -1
    references = (rows[:, None] * width + cols).ravel()
    members, counts = [], []
    for start in range(0, len(references), 1024):
        d = np.ascontiguousarray(distances[:, start : start + 1024].T)
        some = np.argpartition(d, most - 1, axis=1)[:, :most] if d.shape[1] > most else np.tile(np.arange(d.shape[1]), (len(d), 1))
        close = np.take_along_axis(d, some, 1)
        order = np.argsort(close, axis=1, kind="stable")
        members.append(references[start : start + 1024, None] + shift[np.take_along_axis(some, order, 1)])
        counts.append((close <= limit).sum(1))
    every, count = np.concatenate(members), np.concatenate(counts)
    size = 1
    while size <= most:
        chosen = count >= size if 2 * size > most else (count >= size) & (count < 2 * size)
        if chosen.any():
            yield every[chosen, :size]
        size *= 2


class Aggregate:
    """Weighted averages of overlapping block estimates (equation 12), collected as spectra: the inverse transform is linear."""

    def __init__(self, shape: tuple[int, int], inverse: np.ndarray, window: np.ndarray, dtype: np.dtype) -> None:
        self.shape, self.n, self.dtype = shape, len(inverse), dtype
        self.positions = (shape[0] - self.n + 1, shape[1] - self.n + 1)
        self.window = window.astype(dtype)
        self.matrix = (np.kron(inverse, inverse) * window.reshape(-1, 1)).astype(dtype)
        count = self.positions[0] * self.positions[1]
        self.sums, self.weights = np.zeros((count, self.n**2), dtype), np.zeros(count)

    def add(self, places: np.ndarray, estimates: np.ndarray, weights: np.ndarray) -> None:
        """Add estimates (groups, K, n * n) of blocks at ``places`` (groups, K) with one weight per group."""
        flat, weight = places.ravel(), np.repeat(weights, places.shape[1])
        blocks = csc_array((weight.astype(self.dtype), flat, np.arange(len(flat) + 1)), shape=(len(self.sums), len(flat)))
        self.sums += blocks @ estimates.reshape(len(flat), -1)
        self.weights += np.bincount(flat, weight, len(self.weights))

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return numerator and denominator, (H, W) each."""
        h, w = self.positions
        pixels = self.matrix @ self.sums.T
        weights = self.weights.reshape(h, w)
        above, below = np.zeros(self.shape), np.zeros(self.shape)
        for i in range(self.n):
            for j in range(self.n):
                above[i : i + h, j : j + w] += pixels[i * self.n + j].reshape(h, w)
                below[i : i + h, j : j + w] += self.window[i, j] * weights
        return above, below
