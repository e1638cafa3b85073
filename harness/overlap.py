"""Whether what a task trains on contains what it tests on: by sample id, by cluster (the same photograph or speaker), and by content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..datasets import registry as datasets
from ..datasets.base import Dataset
from ..tasks.base import Task

MOST = 5_000
"""Samples a side whose contents are compared."""


def contents(dataset: Dataset, split: str, ids: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (sample id, cluster, sha256 of the largest array) of the samples."""
    for sample_id in ids[:MOST]:
        sample = dataset.sample(split, sample_id)
        arrays = [v for v in sample.data.values() if isinstance(v, np.ndarray)]
        largest = max(arrays, key=lambda a: a.size) if arrays else np.array(repr(sorted(sample.data.items())))
        yield sample_id, sample.cluster, hashlib.sha256(f"{largest.shape}".encode() + np.ascontiguousarray(largest).tobytes()).hexdigest()


def overlap(task: Task, split: str = "test") -> dict[str, Any]:
    """Return what the training split of a task shares with its test split: ``ids``, ``clusters``, ``contents`` (lists), ``compared`` counts.

    A task without training data shares nothing. Clusters are compared where a split has at least three; some tasks share speakers on purpose.
    """
    train = dict(task.spec.train or {})
    out: dict[str, Any] = {"ids": [], "clusters": [], "contents": [], "train": 0, "test": 0}
    if not train:
        return out
    source = datasets.get(str(train.get("dataset", task.spec.dataset)))
    train_split = str(train.get("split", "train"))
    if train_split not in source.splits:
        return out
    learned = list(contents(source, train_split, list(source.ids(train_split))))
    tested = list(contents(task.dataset, task.spec.splits[split], list(task.dataset.ids(task.spec.splits[split]))))
    same = source.id == task.dataset.id
    by = [{row[k] for row in learned} for k in range(3)]
    # an id only means the same sample within one dataset; equal contents do anywhere
    out["ids"] = sorted({i for i, _, _ in tested if same and train_split == task.spec.splits[split]} & by[0])
    few = min(len({c for _, c, _ in rows}) for rows in (learned, tested)) if learned and tested else 0
    out["clusters"] = sorted({c for _, c, _ in tested} & by[1]) if same and few >= 3 else []
    out["contents"] = sorted(i for i, _, digest in tested if digest in by[2])
    return out | {"train": len(learned), "test": len(tested)}
