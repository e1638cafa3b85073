"""Handwritten digits, 8 x 8 pixels, as scikit-learn ships them (the test part of the UCI optical digits set, Alpaydin & Kaynak 1998).

The copy holds 1,797 digits of 13 writers, and does not say who wrote which: a split by writer is not possible, so numbers on these
digits say nothing about new writers, and every digit is its own cluster. The split is by hash of the position in the file,
within each class: 60 % train, 10 % dev, 30 % test.
"""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .base import Dataset, Sample
from .keys import rank

if TYPE_CHECKING:
    import numpy as np

SHARES = {"test": 0.3, "dev": 0.1}


class Digits(Dataset):
    """8 x 8 digits. ``image``: float32 (1, 8, 8), grey levels 0..16 divided by 16; ``label``: int 0..9. Cluster: the digit."""

    id = "digits"
    title = "Handwritten digits 8x8 (scikit-learn)"
    kind = "image"
    licence = "CC-BY-4.0"
    pixels = "redistribute"
    source = "sklearn/datasets/data/digits.csv.gz in the installed scikit-learn; UCI 'Optical Recognition of Handwritten Digits'"
    citation = """@misc{alpaydin1998optical,
  author = {Alpaydin, E. and Kaynak, C.},
  title = {Optical Recognition of Handwritten Digits},
  howpublished = {UCI Machine Learning Repository},
  year = {1998},
  doi = {10.24432/C50P49}
}"""
    classes = 10

    def files(self) -> list[Path]:
        """Return the one file, or nothing where scikit-learn is not installed."""
        spec = find_spec("sklearn")
        path = Path(spec.origin).parent / "datasets/data/digits.csv.gz" if spec is not None and spec.origin else None
        return [path] if path is not None and path.is_file() else []

    def missing(self) -> str | None:
        """Return None when scikit-learn's file is here, else one sentence."""
        return None if self.files() else "dataset 'digits' needs scikit-learn's digits.csv.gz; `pip install scikit-learn` restores it."

    @cached_property
    def _table(self) -> np.ndarray:
        """The file as int64 (1797, 65): 64 grey levels 0..16, then the label."""
        import gzip

        import numpy as np

        with gzip.open(self.files()[0], "rt") as f:
            return np.loadtxt(f, delimiter=",").astype(np.int64)

    @cached_property
    def _split(self) -> dict[str, list[int]]:
        labels = self._table[:, -1]
        out: dict[str, list[int]] = {name: [] for name in self.splits}
        for label in range(self.classes):
            members = sorted((i for i, v in enumerate(labels) if v == label), key=lambda i: rank("digits", self.version, i))
            start = 0
            for name, share in SHARES.items():
                end = start + round(share * len(members))
                out[name] += members[start:end]
                start = end
            out["train"] += members[start:]
        return {name: sorted(indices, key=lambda i: rank("order", i)) for name, indices in out.items()}

    def _ids(self, split: str) -> list[str]:
        return [f"{i:04d}" for i in self._split[split]]

    def _load(self, split: str, sample_id: str) -> Sample:
        import numpy as np

        row = self._table[int(sample_id)]
        image = row[:64].reshape(1, 8, 8).astype(np.float32) / np.float32(16)
        return Sample(sample_id, sample_id, {"image": image, "label": int(row[64])})
