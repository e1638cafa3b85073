"""Are samples copies of what a method learned from? Nearest-neighbour distances to the training set, in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from ...configs.errors import RequestError, RunError
from .base import Hashed, Reference, signed
from .frechet import check_rows
from .manifold import squared_distances
from .points import PointSet


class _ToTraining(PointSet):
    """Distances to the training samples."""

    reference_kind = "train"
    higher_is_better = False

    def reference(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> Reference:
        hashed = Hashed(batches)
        rows = np.concatenate([self.features(b["answer"], b).numpy() for b in hashed])
        if len(rows) < 2:
            raise RunError(f"metric {self.name} needs at least 2 training samples; there is {len(rows)}.")
        return Reference(rows.astype(np.float64), len(rows), hashed.hash())

    @staticmethod
    def nearest(features: np.ndarray, reference: Reference) -> np.ndarray:
        """Return the squared distances of every sample to its two nearest training samples, (n, 2), the nearest first."""
        blocks = squared_distances(check_rows(features), reference.data)
        return np.concatenate([np.sort(np.partition(block, 1, axis=1)[:, :2], axis=1) for _, block in blocks])


class Memorisation(_ToTraining):
    """Share of the samples that are much nearer to one training sample than to any other."""

    name = "memorisation"
    title = "Share of samples that copy a training sample"
    bounds = (0.0, 1.0)
    protocol = """A sample counts as a copy when its Euclidean distance, in pixels, to the nearest training sample is below `ratio` (1/3)
        times that to the second nearest; the value is the share of copies. The reference is the training split, which the method may have
        learned from."""
    paper = """Yoon, Choi, Kwon and Ryu, Diffusion Probabilistic Models Generalize when They Fail to Memorize, ICML 2023 workshop SPIGM;
        the ratio of one third as in Gu et al., On Memorization in Diffusion Models, 2023."""

    def __init__(self, ratio: float = 1 / 3) -> None:
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio < 1:
            raise RequestError(f"option ratio of metric memorisation is {ratio!r}; accepted: a number between 0 and 1.")
        self.ratio = float(ratio)

    def identity(self) -> str:
        return signed(self.name, "pixels", ratio=self.ratio)

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        near = self.nearest(features, reference)
        return float((near[:, 0] < self.ratio**2 * near[:, 1]).mean())


class NearestTraining(_ToTraining):
    """Mean root-mean-square distance to the nearest training sample."""

    name = "nearest-train-distance"
    title = "Distance to the nearest training sample"
    higher_is_better = True
    bounds = (0.0, float("inf"))
    protocol = """Mean over samples of the root-mean-square difference, per pixel, to the nearest training sample. A small value speaks of
        copies, a large one of samples unlike anything seen: read it beside that of the test split, not alone."""
    paper = "Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security 2023 (nearest training images in pixel distance)."

    def identity(self) -> str:
        return signed(self.name, "pixels", "rms")

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        return float(np.sqrt(self.nearest(features, reference)[:, 0] / features.shape[1]).mean())
