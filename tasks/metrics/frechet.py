"""The Frechet distance of two Gaussians, from streaming float64 statistics, computed symmetrically.

d^2 = |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1^1/2 C2 C1^1/2)^1/2     (Dowson and Landau 1982; Heusel et al. 2017, eq. 6)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import linalg

from ...configs.errors import RunError


def check_rows(rows: np.ndarray) -> np.ndarray:
    """Return feature rows (n, d) as float64; RunError when they have another shape or hold NaN or infinite values."""
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or not len(rows):
        raise RunError(f"feature rows must have shape (n, d) with n > 0, not {rows.shape}.", "wrong-output")
    if not np.isfinite(rows).all():
        raise RunError(f"the features hold {int((~np.isfinite(rows)).sum())} values that are NaN or infinite.", "not-finite")
    return rows


@dataclass
class Moments:
    """Number, mean and scatter matrix of feature rows seen so far: one pass, O(d^2) memory, any number of samples.

    Batches are merged by the parallel update of Chan, Golub and LeVeque (1983), so the result does not suffer when the mean is large.
    """

    n: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scatter: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    @classmethod
    def known(cls, mean: np.ndarray, cov: np.ndarray) -> Moments:
        """Return moments whose mean and covariance are given, as published statistics are."""
        return cls(2, np.asarray(mean, dtype=np.float64), np.asarray(cov, dtype=np.float64))

    def add(self, rows: np.ndarray) -> Moments:
        """Take in feature rows (B, d); returns self."""
        rows = np.asarray(rows)
        if rows.ndim != 2 or not len(rows):
            rows = check_rows(rows)
        mean = rows.mean(0, dtype=np.float64)
        if not np.isfinite(mean).all():  # as it is not if any value is not; a look at each value costs more
            check_rows(rows)
        centred = np.subtract(rows, mean, dtype=np.float64)
        return self.merge(Moments(len(rows), mean, centred.T @ centred))

    def merge(self, other: Moments) -> Moments:
        """Take in the moments of other samples (another batch, another process); returns self."""
        if other.n == 0:
            return self
        if self.n == 0:
            self.n, self.mean, self.scatter = other.n, other.mean.copy(), other.scatter.copy()
            return self
        n, delta = self.n + other.n, other.mean - self.mean
        self.scatter += other.scatter
        self.scatter += np.outer(delta, delta * (self.n * other.n / n))
        self.mean = self.mean + delta * (other.n / n)
        self.n = n
        return self

    @property
    def cov(self) -> np.ndarray:
        """The unbiased covariance (d, d), as numpy.cov gives it; needs two samples."""
        if self.n < 2:
            raise RunError(f"a Frechet distance needs at least 2 samples on each side to have a covariance; there is {self.n}.")
        return self.scatter / (self.n - 1)


def frechet_distance(m1: np.ndarray, c1: np.ndarray, m2: np.ndarray, c2: np.ndarray) -> float:
    """Return the squared Frechet distance of N(m1, C1) and N(m2, C2); means (d,), covariances (d, d), symmetric.

    With C1 = L L^T, the eigenvalues of C1 C2 are those of the symmetric L^T C2 L, so a Cholesky factor and `eigvalsh` replace the square
    root of a non-symmetric matrix. When neither covariance has a Cholesky factor (fewer samples than dimensions), the factor comes from
    the eigendecomposition of one of them.
    """
    m1, c1, m2, c2 = (np.asarray(a, dtype=np.float64) for a in (m1, c1, m2, c2))
    cross = float("nan")
    for a, b in ((c1, c2), (c2, c1)):
        try:
            lower = linalg.cholesky(a, lower=True, check_finite=True)
        except linalg.LinAlgError:
            continue
        cross = _root_trace(linalg.blas.dtrmm(1.0, lower, linalg.blas.dtrmm(1.0, lower, b, lower=1, side=1), lower=1, trans_a=1))
        break
    else:
        values, vectors = linalg.eigh(c1)
        keep = values > values[-1] * 1e-13 if values[-1] > 0 else np.zeros(len(values), dtype=bool)
        factor = vectors[:, keep] * np.sqrt(values[keep])
        cross = _root_trace(factor.T @ c2 @ factor)
    return _combine(m1, m2, float(np.trace(c1)), float(np.trace(c2)), cross)


def frechet_from_features(x: np.ndarray, y: np.ndarray) -> float:
    """Return the squared Frechet distance of the Gaussians fitted to feature rows x (n, d) and y (m, d).

    With fewer rows than dimensions on either side nothing of size d x d is decomposed: for centred X (n, d) and Y (m, d) the trace term is
    the sum of the singular values of X Y^T / sqrt((n - 1)(m - 1)), an n x m matrix."""
    x, y = check_rows(x), check_rows(y)
    if min(len(x), len(y)) > x.shape[1]:
        a, b = Moments().add(x), Moments().add(y)
        return frechet_distance(a.mean, a.cov, b.mean, b.cov)
    if min(len(x), len(y)) < 2:
        raise RunError(f"a Frechet distance needs at least 2 samples on each side; there are {len(x)} and {len(y)}.")
    m1, m2 = x.mean(0), y.mean(0)
    xc, yc = (x - m1) / np.sqrt(len(x) - 1), (y - m2) / np.sqrt(len(y) - 1)
    if max(len(x), len(y)) > x.shape[1]:  # one side has many rows: an n x d square root of it is smaller
        few, many = (xc, yc) if len(x) < len(y) else (yc, xc)
        cross = _root_trace(few @ (many.T @ many) @ few.T)
    else:
        cross = float(linalg.svdvals(xc @ yc.T).sum())
    return _combine(m1, m2, float(np.square(xc).sum()), float(np.square(yc).sum()), cross)


def frechet_to_moments(x: np.ndarray, reference: Moments) -> float:
    """Return the squared Frechet distance of feature rows x (n, d) to a reference known by its moments."""
    x = check_rows(x)
    if len(x) < 2:
        raise RunError(f"a Frechet distance needs at least 2 samples on each side; there is {len(x)}.")
    if len(x) > x.shape[1]:
        own = Moments().add(x)
        return frechet_distance(own.mean, own.cov, reference.mean, reference.cov)
    m1, c2 = x.mean(0), reference.cov
    xc = (x - m1) / np.sqrt(len(x) - 1)
    return _combine(m1, reference.mean, float(np.square(xc).sum()), float(np.trace(c2)), _root_trace(xc @ c2 @ xc.T))


def _root_trace(symmetric: np.ndarray) -> float:
    """Return the sum of the square roots of the eigenvalues of a positive semidefinite matrix."""
    symmetric = (symmetric + symmetric.T) / 2
    return float(np.sqrt(np.clip(linalg.eigvalsh(symmetric), 0, None)).sum())


def _combine(m1: np.ndarray, m2: np.ndarray, t1: float, t2: float, cross: float) -> float:
    """Put the terms together; rounding of equal sets below zero is cut off."""
    distance = float(np.square(m1 - m2).sum()) + t1 + t2 - 2 * cross
    if not np.isfinite(distance):
        raise RunError("the Frechet distance is not finite; the features hold NaN or infinite values.", "not-finite")
    return max(distance, 0.0)
