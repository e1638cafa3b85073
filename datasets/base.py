"""What a dataset is: named, versioned samples with stable ids, clusters, a licence and a fingerprint.

Importing a dataset module must stay cheap (no torch, numpy, skimage at module level): the registry reads class attributes of all of them.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..configs.errors import DataMissing, RequestError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Sample:
    """One sample.

    ``data`` maps names to arrays or plain values: ``image`` float32 (C, H, W) in [0, 1]; ``audio`` float32 (1, T) in [-1, 1];
    ``x`` float32 (d,) points; ``label`` int; ``caption`` str; ``noisy`` for real pairs; and what else the dataset documents.
    ``cluster`` is the source photograph, speaker or scene: the unit of statistics.
    """

    sample_id: str
    cluster: str
    data: Mapping[str, Any] = field(repr=False)

    def __getitem__(self, name: str) -> Any:
        return self.data[name]


class Dataset(ABC):
    """Base of all datasets. Subclasses set the class attributes and implement `_ids` and `_load`."""

    id: ClassVar[str]
    version: ClassVar[int] = 1
    title: ClassVar[str]
    kind: ClassVar[Literal["image", "points", "audio", "signal"]]
    licence: ClassVar[str]
    pixels: ClassVar[Literal["redistribute", "display", "never"]]
    """What may leave the machine: pixels (or audio) may be redistributed, only displayed in small previews, or never."""
    source: ClassVar[str]
    citation: ClassVar[str] = ""
    """BibTeX of the dataset, empty where there is none."""
    embedded: ClassVar[bool] = True
    """True when it works with no download and no user data."""

    @abstractmethod
    def _ids(self, split: str) -> list[str]:
        """Return the stable sample ids of ``split`` in a fixed order."""

    @abstractmethod
    def _load(self, split: str, sample_id: str) -> Sample:
        """Load one sample."""

    splits: ClassVar[tuple[str, ...]] = ("train", "dev", "test")

    def ids(self, split: str) -> list[str]:
        """Return the sample ids of ``split`` (one of `splits`), in a fixed order."""
        if split not in self.splits:
            raise RequestError(f"dataset {self.id!r} has no split {split!r}; accepted: {', '.join(self.splits)}.")
        self.require()
        return self._ids(split)

    def sample(self, split: str, sample_id: str) -> Sample:
        """Return one sample; DataMissing when its file is gone."""
        return self._load(split, sample_id)

    def missing(self) -> str | None:
        """Return None when the data are here, else one sentence: what is missing, where to get it, where to put it."""
        return None

    def require(self) -> None:
        """Raise DataMissing unless the data are here."""
        if (sentence := self.missing()) is not None:
            raise DataMissing(sentence)

    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    """Distributions whose version could change a sample's bits (decoders, renderers, generators)."""

    def files(self) -> list[Path]:
        """Return the files the samples are read from (empty for procedural data)."""
        return []

    def fingerprint(self) -> str:
        """Return the sha256 of id, version and every array of every split: what a record names as its data.

        It is computed once; later calls (also of other processes) read it back from the cache, see `datasets.cache`.
        """
        from .cache import fingerprint

        if "_fingerprint" not in self.__dict__:
            self.require()
            self.__dict__["_fingerprint"] = fingerprint(f"{self.id}@{self.version}", self.libraries, self.files(), self.content_hash)
        return self.__dict__["_fingerprint"]

    def content_hash(self) -> str:
        """Compute the fingerprint from scratch."""
        import numpy as np

        self.require()
        digest = hashlib.sha256(f"{self.id}@{self.version}".encode())
        for split in self.splits:
            for sample_id in self._ids(split):
                sample = self._load(split, sample_id)
                digest.update(f"|{split}|{sample_id}|{sample.cluster}".encode())
                for name in sorted(sample.data):
                    value = sample.data[name]
                    digest.update(name.encode())
                    if isinstance(value, np.ndarray):
                        digest.update(f"{value.dtype}{value.shape}".encode())
                        digest.update(np.ascontiguousarray(value).tobytes())
                    else:
                        digest.update(repr(value).encode())
        return digest.hexdigest()


def as_image(array: np.ndarray) -> np.ndarray:
    """Turn uint8 (H, W) or (H, W, C) into float32 (C, H, W) in [0, 1]."""
    import numpy as np

    if array.dtype != np.uint8:
        raise ValueError(f"expected uint8 pixels, got {array.dtype}")
    planes = array[None] if array.ndim == 2 else np.moveaxis(array[..., :3], -1, 0)
    return np.ascontiguousarray(planes, dtype=np.float32) / np.float32(255)
