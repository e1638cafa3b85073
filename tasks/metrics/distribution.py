"""Frechet distances between sets of images: FID (Inception features only) and distances under other names on other features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .base import Metric, Reference, Unavailable, choice, signed
from .cache import Rows, embed, rows
from .extractors import Extractor, inception, shipped
from .frechet import Moments, frechet_distance, frechet_to_moments
from .weights import SHIPPED, WEIGHTS, user_file

HEUSEL = "Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, NeurIPS 2017, eq. 6."


class OnFeatures(Metric):
    """A set-level metric on the rows of a feature network; subclasses say how the reference rows are digested."""

    level = "set"
    needs_reference = True

    def extractor(self) -> Extractor:
        """Return the feature network; called only where `unavailable` returned None."""
        raise AssertionError("abstract")

    def features(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return one feature row per image, (B, d)."""
        return self.extractor()(answer)

    def digest(self, rows: Rows) -> Reference:
        """Turn the rows of the reference set into what `value` takes."""
        return Reference(rows.array, len(rows.array), rows.hash)

    def reference(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> Reference:
        return self.digest(embed(self.extractor(), batches))

    def cached_reference(self, key: str, batches: Callable[[], Iterable[Mapping[str, torch.Tensor]]]) -> Reference:
        extractor = self.extractor()
        return self.digest(rows(f"{extractor.name}@{extractor.hash}|{extractor.mode}", key, extractor, batches))


class FrechetDistance(OnFeatures):
    """The Frechet distance of the Gaussians fitted to both sets' features."""

    higher_is_better = False
    bounds = (0.0, float("inf"))

    def digest(self, rows: Rows) -> Reference:
        moments = Moments()
        for block in rows.blocks():
            moments.add(block)
        return Reference(moments, moments.n, rows.hash)

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        return frechet_to_moments(features, reference.data)

    def leave_out(self, features: np.ndarray, reference: Any, which: np.ndarray) -> np.ndarray:
        """Return the distances without each block; each block's moments are computed once and the others' merged."""
        if len(features) - np.bincount(which).max() <= features.shape[1]:
            return super().leave_out(features, reference, which)  # rank-deficient: the rows themselves are the cheap way
        blocks = [Moments().add(features[which == k]) for k in range(int(which.max()) + 1)]
        out = []
        for k in range(len(blocks)):
            rest = Moments()
            for other in blocks[:k] + blocks[k + 1 :]:
                rest.merge(other)
            out.append(frechet_distance(rest.mean, rest.cov, reference.data.mean, reference.data.cov))
        return np.array(out)


class _OnShipped(FrechetDistance):
    """On a small shipped network."""

    net: str

    def extractor(self) -> Extractor:
        return shipped(self.net)

    def identity(self) -> str:
        return signed(self.name, self.extractor().id)

    def unavailable(self) -> Unavailable | None:
        if (SHIPPED / f"{self.net}.safetensors").is_file():
            return None
        return Unavailable(
            f"{self.name} needs the shipped file {self.net}.safetensors, which is not in {SHIPPED}.", "Install the package again."
        )


class FDDigits(_OnShipped):
    """Frechet distance on the features of a small network trained on the digits' train split."""

    name = "fd-digits"
    title = "Frechet distance on the shipped digits features"
    net = "digits"
    protocol = """Squared Frechet distance of the Gaussians fitted (mean, unbiased covariance, float64) to the features of a small
        convolutional network trained on the train split of the digits dataset, 8 x 8 grey images in [0, 1], not rounded; its hash is in the
        identity. Computed symmetrically. Biased at small n, so n and the hash of the reference set belong to the identity. Not an FID."""
    paper = HEUSEL


class FDShapes(_OnShipped):
    """Frechet distance on the features of a small network trained on the shapes' train split."""

    name = "fd-shapes"
    title = "Frechet distance on the shipped shapes features"
    net = "shapes"
    protocol = """Squared Frechet distance of the Gaussians fitted (mean, unbiased covariance, float64) to the features of a small
        convolutional network trained on the train split of the shapes dataset to tell the attributes of a scene, 32 x 32 RGB in [0, 1], not
        rounded; its hash is in the identity. Computed symmetrically. Biased at small n, so n and the hash of the reference set belong to
        the identity. Not an FID."""
    paper = HEUSEL


class FID(FrechetDistance):
    """The Frechet Inception distance, as clean-fid computes it."""

    name = "fid"
    title = "Frechet Inception distance"
    protocol = """Squared Frechet distance of the Gaussians fitted (mean, unbiased covariance, float64) to the 2048 pooled features of the
        Inception-2015 network (inception-2015-12-05.pt). Images are rounded to 8 bits first; grey ones are repeated to three channels. Mode
        clean: resized to 299 x 299 with PIL's antialiased bicubic filter per channel, float, clipped to [0, 255], not rounded (Parmar et
        al.); legacy: resized inside the network as TensorFlow's implementation did. Computed symmetrically. Biased at small n: n and the
        hash of the reference belong to the identity. With a user's own TorchScript file (weights=PATH, same interface) the value is not an
        FID and its identity is named after that file."""
    paper = HEUSEL + " Parmar, Zhang and Zhu, On Aliased Resizing and Surprising Subtleties in GAN Evaluation, CVPR 2022."

    def __init__(self, mode: str = "clean", weights: str | None = None) -> None:
        self.mode = choice(self.name, "mode", mode, ("clean", "legacy"))
        self.own = None if weights is None else user_file(self.name, weights)

    @property
    def path(self) -> Path:
        """The TorchScript file."""
        return self.own or WEIGHTS["inception"].path

    def unavailable(self) -> Unavailable | None:
        return None if self.own else WEIGHTS["inception"].missing(self.name)

    def extractor(self) -> Extractor:
        return inception(self.path.stem if self.own else "inception-2015", self.path, self.mode)

    def identity(self) -> str:
        if self.own:
            return signed(f"frechet[{self.extractor().id}]", "round8")
        return signed(self.name, f"inception-2015@{WEIGHTS['inception'].sha256[:12]}", self.mode, "round8")
