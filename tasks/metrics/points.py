"""Metrics of point sets: sliced Wasserstein distance and mode coverage. The features are the points themselves, flattened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from ...configs.errors import RequestError, RunError
from ..randomness import keyed
from .base import Hashed, Metric, Reference, checked, integer, signed


class PointSet(Metric):
    """What metrics on the points themselves share."""

    level = "set"
    needs_reference = True

    def features(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the points (B, d), images and signals flattened."""
        return checked(self.name, answer).flatten(1).float()


def wasserstein_1d(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the squared 2-Wasserstein distance of each pair of columns, (K,), of sorted samples x (n, K) and y (m, K).

    Exact: the integral of (F^-1 - G^-1)^2 over the levels at which either empirical quantile function jumps.
    """
    n, m = len(x), len(y)
    if n == m:
        return np.square(x - y).mean(0)
    # level k/n and j/m as integers on the grid of n m, so that equal levels are recognised exactly
    levels = np.unique(np.concatenate([np.arange(1, n + 1) * m, np.arange(1, m + 1) * n]))
    weights = np.diff(levels, prepend=0) / (n * m)
    return weights @ np.square(x[(levels - 1) // m] - y[(levels - 1) // n])


class SlicedWasserstein(PointSet):
    """Root mean over directions of the squared one-dimensional 2-Wasserstein distance."""

    name = "sliced-wasserstein"
    title = "Sliced Wasserstein distance"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    protocol = """SW2 = sqrt(mean over directions of W2^2 of the projected samples), exact in one dimension by sorting (quantile functions
        where the sets differ in size). Directions are uniform on the sphere from a generator keyed by (dimension, projections), the same
        for every method. Samples are flattened; float64."""
    paper = "Bonneel, Rabin, Peyre and Pfister, Sliced and Radon Wasserstein Barycenters of Measures, JMIV 51, 2015."

    def __init__(self, projections: int = 128) -> None:
        self.projections = integer(self.name, "projections", projections, 1, 100_000)

    def identity(self) -> str:
        return signed(self.name, "p=2", projections=self.projections)

    def directions(self, d: int) -> np.ndarray:
        """Return the unit directions, (d, projections)."""
        out = keyed("sliced-wasserstein", d, self.projections).standard_normal((d, self.projections))
        return out / np.linalg.norm(out, axis=0)

    def reference(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> Reference:
        hashed = Hashed(batches)
        points = np.concatenate([self.features(b["answer"], b).numpy() for b in hashed])
        return Reference(self._sorted(points), len(points), hashed.hash())

    def _sorted(self, points: np.ndarray) -> np.ndarray:
        points = points.astype(np.float64)
        return np.sort(points @ self.directions(points.shape[1]), axis=0)

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        return float(np.sqrt(wasserstein_1d(self._sorted(features), reference.data).mean()))


class ModeCoverage(PointSet):
    """Share of the reference's labelled modes that hold enough of the samples."""

    name = "mode-coverage"
    title = "Share of the modes that samples reach"
    higher_is_better = True
    bounds = (0.0, 1.0)
    protocol = """A mode is one label of the reference set, with the mean, covariance and share of the reference points of that label. A
        sample belongs to the mode of least Mahalanobis distance if that distance is at most 3; a mode is covered when at least one sample,
        and at least `share` times its expected number of samples, belongs to it. The value is the share of covered modes."""
    paper = """The three-sigma rule follows Srivastava et al., VEEGAN, NeurIPS 2017, section 4.1; the required share is this project's, so
        that one stray sample of thousands does not count as a mode."""

    def __init__(self, share: float = 0.1) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise RequestError(f"option share of metric mode-coverage is {share!r}; accepted: a number from 0 to 1.")
        self.share = float(share)

    def identity(self) -> str:
        return signed(self.name, "3sigma", share=self.share)

    def reference(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> Reference:
        """Digest labelled points into the (mean, inverse covariance, share) of every mode."""
        hashed = Hashed(batches)
        rows, labels = [], []
        for batch in hashed:
            if "label" not in batch:
                raise RequestError("metric mode-coverage needs a reference set with labels (one per mode); this task's has none.")
            rows.append(self.features(batch["answer"], batch).numpy().astype(np.float64))
            labels.append(batch["label"].numpy().reshape(-1))
        points, label = np.concatenate(rows), np.concatenate(labels)
        modes = []
        for k in np.unique(label):
            mode = points[label == k]
            if len(mode) <= points.shape[1]:
                raise RunError(
                    f"mode {k} of the reference set has {len(mode)} points, too few for its covariance in {points.shape[1]} dimensions."
                )
            modes.append((mode.mean(0), np.linalg.inv(np.cov(mode.T).reshape(2 * (points.shape[1],))), len(mode) / len(points)))
        return Reference(modes, len(points), hashed.hash())

    def members(self, features: np.ndarray, reference: Reference) -> np.ndarray:
        """Return the number of samples that belong to each mode."""
        points = features.astype(np.float64)
        distance = np.stack([np.einsum("ni,ij,nj->n", points - m, p, points - m) for m, p, _ in reference.data], 1)
        nearest = distance.argmin(1)
        inside = distance[np.arange(len(points)), nearest] <= 9
        return np.bincount(nearest[inside], minlength=len(reference.data))

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        need = np.array([max(1.0, self.share * weight * len(features)) for _, _, weight in reference.data])
        return float((self.members(features, reference) >= need).mean())
