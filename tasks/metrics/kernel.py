"""Kernel Inception distance and Inception Score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...configs.errors import RunError
from .base import Metric, Reference, Unavailable, integer, signed
from .cache import Rows
from .distribution import OnFeatures, OnInception, OnShipped
from .extractors import inception
from .frechet import check_rows
from .weights import WEIGHTS, user_file

BLOCK = 2048
"""Rows of a kernel matrix held at a time."""


def kernel_sums(x: np.ndarray, y: np.ndarray, which: np.ndarray | None = None, groups: int = 1) -> np.ndarray:
    """Return sums of k(a, b) = (a.b / d + 1)^3 over all pairs of rows of x (n, d) and y (m, d), by the group of the row of x: (groups,).

    Blocks of the kernel matrix are summed and dropped; nothing n x m is held.
    """
    d = x.shape[1]
    out = np.zeros(groups)
    which = np.zeros(len(x), dtype=int) if which is None else which
    for j in range(0, len(y), BLOCK):
        columns = np.asarray(y[j : j + BLOCK], dtype=np.float64)
        for i in range(0, len(x), BLOCK):
            k = np.asarray(x[i : i + BLOCK], dtype=np.float64) @ columns.T
            k /= d
            k += 1
            out += np.bincount(which[i : i + BLOCK], np.einsum("ij,ij,ij->i", k, k, k), groups)
    return out


def diagonal(x: np.ndarray) -> np.ndarray:
    """Return k(a, a) of every row, (n,)."""
    x = np.asarray(x, dtype=np.float64)
    return (np.einsum("ij,ij->i", x, x) / x.shape[1] + 1) ** 3


def kid(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased squared MMD of feature rows x (n, d) and y (m, d) under the cubic polynomial kernel (Binkowski et al., eq. 4)."""
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise RunError(f"KID needs at least 2 samples on each side; there are {n} and {m}.")
    xx = (kernel_sums(x, x)[0] - diagonal(x).sum()) / (n * (n - 1))
    yy = (kernel_sums(y, y)[0] - diagonal(y).sum()) / (m * (m - 1))
    return float(xx + yy - 2 * kernel_sums(x, y)[0] / (n * m))


class _Kernel(OnFeatures):
    """The squared MMD to the reference rows, whose own term is computed once."""

    higher_is_better = False

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        check_rows(features)
        return kid(features, reference.data)

    def leave_out(self, features: np.ndarray, reference: Any, which: np.ndarray) -> np.ndarray:
        """Return the values without each block from the kernel sums within and between blocks, each computed once."""
        y, m, groups = reference.data, reference.n, int(which.max()) + 1
        between = np.stack([kernel_sums(features, features[which == k], which, groups) for k in range(groups)], 1)
        cross = kernel_sums(features, y, which, groups)
        own, size = np.bincount(which, diagonal(features), groups), np.bincount(which, minlength=groups)
        yy = (kernel_sums(y, y)[0] - diagonal(y).sum()) / (m * (m - 1))
        n = len(features) - size
        xx = between.sum() - between.sum(0) - between.sum(1) + np.diag(between) - (own.sum() - own)
        return xx / (n * (n - 1)) + yy - 2 * (cross.sum() - cross) / (n * m)


class KID(OnInception, _Kernel):
    """The kernel Inception distance as one unbiased estimate over all pairs."""

    name = "kid"
    title = "Kernel Inception distance"
    other_name = "mmd-cubic"
    suffix = "_kid"
    protocol = """Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 on the same features, rounding and resizing as
        fid. All pairs are used (the U-statistic), where most code averages 100 random subsets of 1,000: same expectation, less variance,
        nothing random. May be slightly negative. With weights=PATH it is not a KID and is named after the file."""
    paper = "Binkowski, Sutherland, Arbel and Gretton, Demystifying MMD GANs, ICLR 2018, eq. 4 and section 3."

    def identity(self) -> str:
        return signed(super().identity(), "u-statistic")


class _Standardised(OnShipped, _Kernel):
    """The kernel distance on a shipped network's features, centred and scaled by the reference set, since their units are arbitrary."""

    paper = KID.paper

    def digest(self, rows: Rows) -> Reference:
        x = np.asarray(rows.array, dtype=np.float64)
        mean, scale = x.mean(0), float(np.sqrt(x.var(0).mean()))
        return Reference(((x - mean) / scale, mean, scale), len(x), rows.hash)

    def identity(self) -> str:
        return signed(super().identity(), "standardised", "u-statistic")

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        rows, mean, scale = reference.data
        return super().value((features - mean) / scale, Reference(rows, reference.n, reference.hash))

    def leave_out(self, features: np.ndarray, reference: Any, which: np.ndarray) -> np.ndarray:
        rows, mean, scale = reference.data
        return super().leave_out((features - mean) / scale, Reference(rows, reference.n, reference.hash), which)


class KDDigits(_Standardised):
    """The kernel distance on the digits features."""

    name = "kd-digits"
    title = "Kernel distance on the shipped digits features"
    net = "digits"
    protocol = """Unbiased squared maximum mean discrepancy with the kernel of KID, (x.y / d + 1)^3, over all pairs, on the features that
        fd-digits uses, less the reference set's mean and over the root mean square of its standard deviations. May be slightly negative.
        Unbiased at any n, unlike the Frechet distance. Not a KID."""


class KDShapes(_Standardised):
    """The kernel distance on the shapes features."""

    name = "kd-shapes"
    title = "Kernel distance on the shipped shapes features"
    net = "shapes"
    protocol = """Unbiased squared maximum mean discrepancy with the kernel of KID, (x.y / d + 1)^3, over all pairs, on the features that
        fd-shapes uses, less the reference set's mean and over the root mean square of its standard deviations. May be slightly negative.
        Unbiased at any n, unlike the Frechet distance. Not a KID."""


class InceptionScore(Metric):
    """exp of the mean divergence of the class probabilities from their mean."""

    name = "inception-score"
    title = "Inception Score"
    level = "set"
    higher_is_better = True
    bounds = (1.0 - 1e-9, float("inf"))
    protocol = """exp(mean KL(p(y|x) || p(y))) of the class probabilities of the Inception-2015 network (without the output layer's bias,
        resized inside the network, as in the original code), images rounded to 8 bits; averaged over `splits` consecutive parts of the
        samples. The original used 10 parts of 5,000; n is in the identity."""
    paper = "Salimans et al., Improved Techniques for Training GANs, NeurIPS 2016, section 4."

    def __init__(self, splits: int = 10, weights: str | None = None) -> None:
        self.splits = integer(self.name, "splits", splits, 1)
        self.own = None if weights is None else user_file(self.name, weights)

    @property
    def path(self) -> Path:
        """The TorchScript file."""
        return self.own or WEIGHTS["inception"].path

    def unavailable(self) -> Unavailable | None:
        return None if self.own else WEIGHTS["inception"].missing(self.name)

    def identity(self) -> str:
        if self.own:
            return signed(f"score[{inception(self.path.stem, self.path, 'probabilities').id}]", "round8", splits=self.splits)
        return signed(self.name, f"inception-2015@{WEIGHTS['inception'].sha256[:12]}", "round8", splits=self.splits)

    def features(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the class probabilities, (B, classes)."""
        return inception(self.path.stem if self.own else "inception-2015", self.path, "probabilities")(answer)

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        p = check_rows(features)
        if len(p) < self.splits:
            raise RunError(f"an Inception Score over {self.splits} parts needs as many samples; there are {len(p)}.")
        return float(np.mean([_score(part) for part in np.array_split(p, self.splits)]))


def _score(p: np.ndarray) -> float:
    mean = p.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(mean)), 0.0)  # 0 log 0 = 0
    return float(np.exp(terms.sum(1).mean()))
