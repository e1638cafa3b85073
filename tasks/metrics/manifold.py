"""Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020), in blocks: n x m is never held."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.errors import RunError
from .base import Reference, Unavailable, choice, integer, signed
from .cache import Rows
from .distribution import OnFeatures
from .extractors import Extractor, inception, shipped
from .frechet import check_rows
from .weights import SHIPPED, WEIGHTS, file_sha256, user_file

BLOCK = 2048
"""Most rows in a block."""
ROOM = 2**25
"""Most distances in a block: 256 MB."""
KYNKAANNIEMI = "Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, NeurIPS 2019."
NAEEM = "Naeem, Oh, Uh, Choi and Yoo, Reliable Fidelity and Diversity Metrics for Generative Models, ICML 2020."


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, squared distances (B, m)) of blocks of rows of x (n, d) to all rows of y (m, d), float64.

    Both sets are centred first: |a|^2 + |b|^2 - 2 a.b loses digits when the sets lie far from the origin.
    """
    centre = y.mean(0)
    x, y = x - centre, y - centre
    yy = np.einsum("ij,ij->i", y, y)
    rows = max(1, min(BLOCK, ROOM // max(1, len(y))))
    for i in range(0, len(x), rows):
        part = x[i : i + rows]
        out = part @ y.T
        out *= -2
        out += yy
        out += np.einsum("ij,ij->i", part, part)[:, None]
        yield i, np.maximum(out, 0, out=out)


def radii(x: np.ndarray, k: int) -> np.ndarray:
    """Return the squared distance of every row to its k-th nearest other row, (n,)."""
    if len(x) <= k:
        raise RunError(f"a {k}-nearest-neighbour radius needs more than {k} samples; there are {len(x)}.")
    out = np.empty(len(x))
    for i, block in squared_distances(x, x):
        block[np.arange(len(block)), np.arange(i, i + len(block))] = np.inf  # not its own neighbour
        out[i : i + len(block)] = np.partition(block, k - 1, axis=1)[:, k - 1]
    return out


class Manifold:
    """The reference rows and, once, their k-nearest-neighbour radii."""

    def __init__(self, rows: np.ndarray, k: int) -> None:
        self.rows, self.k = check_rows(rows), k

    @cached_property
    def radii(self) -> np.ndarray:
        """Squared radii of the reference samples, (m,)."""
        return radii(self.rows, self.k)


class _Neighbours(OnFeatures):
    """What the four metrics share: the features, k, and the reference manifold."""

    higher_is_better = True
    bounds = (0.0, 1.0)
    default_k: int

    def __init__(self, on: str = "inception", k: int | None = None, weights: str | None = None) -> None:
        self.on = choice(self.name, "on", on, ("inception", "digits", "shapes"))
        self.k = integer(self.name, "k", self.default_k if k is None else k, 1)
        self.own = None if weights is None else user_file(self.name, weights)

    @property
    def path(self) -> Path:
        """The file of the feature network."""
        return self.own or (WEIGHTS["inception"].path if self.on == "inception" else SHIPPED / f"{self.on}.safetensors")

    def unavailable(self) -> Unavailable | None:
        return WEIGHTS["inception"].missing(self.name) if self.on == "inception" and not self.own else None

    def extractor(self) -> Extractor:
        if self.on != "inception" and not self.own:
            return shipped(self.on)
        return inception(self.own.stem if self.own else "inception-2015", self.path, "clean")

    def identity(self) -> str:
        if self.on == "inception" and not self.own:
            features = f"inception-2015@{WEIGHTS['inception'].sha256[:12]}|clean|round8"
        else:
            features = f"{self.path.stem}@{file_sha256(self.path)[:12]}" + ("|clean|round8" if self.own else "")
        return signed(self.name, features, k=self.k)

    def digest(self, rows: Rows) -> Reference:
        return Reference(Manifold(rows.array, self.k), len(rows.array), rows.hash)


class Precision(_Neighbours):
    """Share of the samples that lie within some reference sample's radius."""

    name = "precision"
    title = "Share of the samples inside the real manifold"
    default_k = 3
    protocol = """Share of the generated samples that lie within the distance of some reference sample to its k-th nearest reference sample
        (k = 3), Euclidean, on Inception-2015 features as for fid (the paper used VGG-16's; `on` chooses the shipped digits or shapes
        features). float64, in blocks. Depends on both set sizes."""
    paper = KYNKAANNIEMI

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        real, x = reference.data, check_rows(features)
        return sum(int((d <= real.radii).any(axis=1).sum()) for _, d in squared_distances(x, real.rows)) / len(x)


class Recall(_Neighbours):
    """Share of the reference samples that lie within some sample's radius."""

    name = "recall"
    title = "Share of the real samples inside the generated manifold"
    default_k = 3
    protocol = """Share of the reference samples that lie within the distance of some generated sample to its k-th nearest generated sample
        (k = 3); features and arithmetic as for precision."""
    paper = KYNKAANNIEMI

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        x = check_rows(features)
        own = radii(x, self.k)
        return sum(int((d <= own).any(axis=1).sum()) for _, d in squared_distances(reference.data.rows, x)) / reference.n


class Density(_Neighbours):
    """Mean number of reference balls around a sample, over k."""

    name = "density"
    title = "Mean number of real neighbourhoods around a sample, over k"
    bounds = (0.0, float("inf"))
    default_k = 5
    protocol = """Mean over generated samples of (number of reference samples whose k-nearest-neighbour ball holds the sample) / k (k = 5);
        1 in expectation for equal distributions, and may exceed 1. Features and arithmetic as for precision."""
    paper = NAEEM

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        real, x = reference.data, check_rows(features)
        return float(sum(int((d <= real.radii).sum()) for _, d in squared_distances(x, real.rows)) / (self.k * len(x)))


class Coverage(_Neighbours):
    """Share of the reference balls that hold a sample."""

    name = "coverage"
    title = "Share of the real neighbourhoods that hold a sample"
    default_k = 5
    protocol = """Share of the reference samples whose k-nearest-neighbour ball (among reference samples, k = 5) holds a generated sample.
        For equal distributions its expectation is 1 - (m-1)...(m-k) / ((m+n-1)...(m+n-k)), m reference and n generated samples. Features
        and arithmetic as for precision."""
    paper = NAEEM

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        real, x = reference.data, check_rows(features)
        return sum(int((d.min(1) <= real.radii[i : i + len(d)]).sum()) for i, d in squared_distances(real.rows, x)) / reference.n
