"""Training sets that hold a whole dataset split in memory: small pictures, points, labelled samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..configs.errors import RequestError
from ..datasets import registry as datasets
from ..datasets.base import Sample

Item = dict[str, Any]


class FiniteSet(Dataset[Item]):
    """A map-style dataset of equal tensors: item i is row i of every column, so its length is that of the split."""

    def __init__(self, columns: Mapping[str, torch.Tensor]) -> None:
        if len({len(c) for c in columns.values()}) != 1:
            raise ValueError("the columns of a training set must have the same length")
        self.columns = dict(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return {name: column[index] for name, column in self.columns.items()}


@lru_cache(maxsize=4)
def samples(dataset_id: str, split: str) -> tuple[Sample, ...]:
    """Return every sample of a split, read once per process; RequestError when there is none."""
    dataset = datasets.get(dataset_id)
    out = tuple(dataset.sample(split, i) for i in dataset.ids(split))
    if not out:
        raise RequestError(f"dataset {dataset_id!r} has no samples in split {split!r}.")
    return out


def column(rows: tuple[Sample, ...], name: str, view: Callable[[np.ndarray], np.ndarray] | None = None) -> torch.Tensor:
    """Return one entry of every sample as a tensor: float32 for arrays, int64 for labels."""
    if isinstance(rows[0][name], (int, np.integer)):
        return torch.tensor([int(r[name]) for r in rows])
    arrays = [np.asarray(r[name], dtype=np.float32) for r in rows]
    if len({a.shape for a in arrays}) != 1:
        raise RequestError(f"samples of different shapes ({arrays[0].shape}, ...) cannot be used here; the task needs one shape.")
    return torch.from_numpy(np.stack([view(a) if view else a for a in arrays]))
