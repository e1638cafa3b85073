"""Frechet distances between sets of images: FID (Inception features only) and distances under other names on other features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ...configs.errors import RequestError
from ...configs.loader import home
from .base import Metric, Reference, Unavailable, choice, signed
from .cache import Rows, embed, rows
from .extractors import Extractor, inception, shipped
from .frechet import Moments, frechet_distance, frechet_from_features, frechet_to_moments
from .weights import SHIPPED, WEIGHTS, file_sha256, user_file

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
        """Keep the moments, or, of a set smaller than its dimension, the rows, from which the distance is more exact and cheaper."""
        if len(rows.array) <= rows.array.shape[1]:
            return super().digest(rows)
        moments = Moments()
        for block in rows.blocks():
            moments.add(block)
        return Reference(moments, moments.n, rows.hash)

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        real = reference.data
        return frechet_to_moments(features, real) if isinstance(real, Moments) else frechet_from_features(features, real)

    def leave_out(self, features: np.ndarray, reference: Any, which: np.ndarray) -> np.ndarray:
        """Return the distances without each block; each block's moments are computed once and the others' merged."""
        real = reference.data
        if len(features) - np.bincount(which).max() <= features.shape[1] or not isinstance(real, Moments):
            return super().leave_out(features, reference, which)  # rank-deficient: the rows themselves are the cheap way
        blocks = [Moments().add(features[which == k]) for k in range(int(which.max()) + 1)]
        out = []
        for k in range(len(blocks)):
            rest = Moments()
            for other in blocks[:k] + blocks[k + 1 :]:
                rest.merge(other)
            out.append(frechet_distance(rest.mean, rest.cov, real.mean, real.cov))
        return np.array(out)


class OnShipped(OnFeatures):
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


class FDDigits(OnShipped, FrechetDistance):
    """Frechet distance on the features of a small network trained on the digits' train split."""

    name = "fd-digits"
    title = "Frechet distance on the shipped digits features"
    net = "digits"
    protocol = """Squared Frechet distance of the Gaussians fitted (mean, unbiased covariance, float64) to the features of a small
        convolutional network trained on the train split of the digits dataset, 8 x 8 grey images in [0, 1], not rounded; its hash is in the
        identity. Computed symmetrically. Biased at small n, so n and the hash of the reference set belong to the identity. Not an FID."""
    paper = HEUSEL


class FDShapes(OnShipped, FrechetDistance):
    """Frechet distance on the features of a small network trained on the shapes' train split."""

    name = "fd-shapes"
    title = "Frechet distance on the shipped shapes features"
    net = "shapes"
    protocol = """Squared Frechet distance of the Gaussians fitted (mean, unbiased covariance, float64) to the features of a small
        convolutional network trained on the train split of the shapes dataset to tell the attributes of a scene, 32 x 32 RGB in [0, 1], not
        rounded; its hash is in the identity. Computed symmetrically. Biased at small n, so n and the hash of the reference set belong to
        the identity. Not an FID."""
    paper = HEUSEL


@dataclass(frozen=True)
class Statistics:
    """clean-fid's published statistics of a known dataset: ``NAME/SPLIT/RES`` names the file ``name_mode_split_res.npz``."""

    metric: str
    file: str

    @classmethod
    def parse(cls, metric: str, text: str, mode: str, suffix: str) -> Statistics:
        """Read ``cifar10/train/32`` (as clean-fid's dataset_name, dataset_split, dataset_res)."""
        parts = str(text).split("/")
        if len(parts) != 3 or not all(parts):
            raise RequestError(f"option statistics of metric {metric} is {text!r}; accepted: NAME/SPLIT/RES, for example cifar10/train/32.")
        name, split, res = parts
        return cls(metric, f"{name}_{'clean' if mode == 'clean' else 'legacy_tensorflow'}_{split}_{res}{suffix}.npz".lower())

    @property
    def path(self) -> Path:
        """Where the file is looked for."""
        return home() / "weights" / "clean-fid" / self.file

    @property
    def id(self) -> str:
        """Name and hash of the file."""
        return f"ref={self.path.stem}" + (f"@{file_sha256(self.path)[:12]}" if self.path.is_file() else "")

    def missing(self) -> Unavailable | None:
        """Return None when the file is here."""
        if self.path.is_file():
            return None
        remedy = f"Get {self.file} from https://www.cs.cmu.edu/~clean-fid/stats/{self.file} and put it into {self.path.parent}."
        return Unavailable(f"{self.metric} needs {self.file}, which is not in {self.path.parent}.", remedy)

    def arrays(self, *names: str) -> list[np.ndarray]:
        """Return arrays of the file; RequestError when it does not hold them."""
        try:
            with np.load(self.path) as file:
                return [file[name] for name in names]
        except (OSError, ValueError, KeyError) as e:
            raise RequestError(f"{self.path} is not a statistics file with {' and '.join(names)} ({e}); get it again.") from None


class OnInception(OnFeatures):
    """On the Inception-2015 network, or on a user's own file of the same interface (and then under another name)."""

    other_name: ClassVar[str]
    """What the same algebra on other features is called."""
    suffix: ClassVar[str] = ""

    def __init__(self, mode: str = "clean", weights: str | None = None, statistics: str | None = None) -> None:
        self.mode = choice(self.name, "mode", mode, ("clean", "legacy"))
        self.own = None if weights is None else user_file(self.name, weights)
        self.statistics = None if statistics is None else Statistics.parse(self.name, statistics, self.mode, self.suffix)
        if self.own and self.statistics:
            raise RequestError(f"metric {self.name} has both weights and statistics; published statistics fit the Inception weights only.")
        if self.statistics:
            self.needs_reference = False  # type: ignore[misc]

    @property
    def path(self) -> Path:
        """The TorchScript file."""
        return self.own or WEIGHTS["inception"].path

    def unavailable(self) -> Unavailable | None:
        missing = None if self.own else WEIGHTS["inception"].missing(self.name)
        return missing or (self.statistics.missing() if self.statistics else None)

    def extractor(self) -> Extractor:
        return inception(self.path.stem if self.own else "inception-2015", self.path, self.mode)

    def identity(self) -> str:
        words = [self.mode, "round8", *([self.statistics.id] if self.statistics else [])]
        if self.own:
            return signed(f"{self.other_name}[{self.own.stem}@{file_sha256(self.own)[:12]}]", *words)
        return signed(self.name, f"inception-2015@{WEIGHTS['inception'].sha256[:12]}", *words)

    def published(self) -> Reference:
        """Return the published statistics as a reference."""
        assert self.statistics is not None
        (rows,) = self.statistics.arrays("feats")
        return Reference(rows, len(rows), file_sha256(self.statistics.path))

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        return super().value(features, self.published() if self.statistics else reference)

    def leave_out(self, features: np.ndarray, reference: Any, which: np.ndarray) -> np.ndarray:
        return super().leave_out(features, self.published() if self.statistics else reference, which)


class FID(OnInception, FrechetDistance):
    """The Frechet Inception distance, as clean-fid computes it."""

    name = "fid"
    title = "Frechet Inception distance"
    other_name = "frechet"
    protocol = """Squared Frechet distance of the Gaussians fitted (mean, unbiased covariance, float64) to the 2048 pooled features of the
        Inception-2015 network (inception-2015-12-05.pt). Images are rounded to 8 bits first; grey ones are repeated to three channels. Mode
        clean: resized to 299 x 299 with PIL's antialiased bicubic filter per channel, float, clipped to [0, 255], not rounded (Parmar et
        al.); legacy: resized inside the network as TensorFlow's implementation did. Computed symmetrically. Biased at small n: n and the
        hash of the reference belong to the identity. statistics=NAME/SPLIT/RES takes clean-fid's published reference statistics instead of
        the task's reference set. With a user's own TorchScript file (weights=PATH, same interface) the value is not an FID and its
        identity is named after that file."""
    paper = HEUSEL + " Parmar, Zhang and Zhu, On Aliased Resizing and Surprising Subtleties in GAN Evaluation, CVPR 2022."

    def published(self) -> Reference:
        assert self.statistics is not None
        mean, cov = self.statistics.arrays("mu", "sigma")
        return Reference(Moments.known(mean, cov), 0, file_sha256(self.statistics.path))
