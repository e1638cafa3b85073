"""A world in which clean data are garbage for everybody but the harness: what a method answers in it must be what it answers otherwise.

Inside `poisoned`, datasets hand out garbage, observations carry true inputs with garbage targets, and training items hold what the method's
card declares and nothing else. The truth is told where the harness itself asks: to make observations and training items, and to score. This is
a test for honest mistakes and for cheap tricks, not a prison: a method that reads a file of the data itself, or this module's state, is found
by reading its code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..datasets.base import Dataset, Sample
from ..datasets.keys import keyed
from ..tasks import registry as tasks
from ..tasks import training_data
from ..tasks.base import Observation, Task

_truthful: ContextVar[bool] = ContextVar("scorebench_truthful", default=False)


@contextlib.contextmanager
def truth() -> Iterator[None]:
    """Tell the truth inside."""
    token = _truthful.set(True)
    try:
        yield
    finally:
        _truthful.reset(token)


def garbage(value: Any, *key: Any) -> Any:
    """Return something of the shape and type of ``value`` that says nothing about it: uniform noise, the same for the same key."""
    if isinstance(value, torch.Tensor):
        return torch.from_numpy(np.asarray(garbage(value.numpy(), *key)))
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return np.asarray(keyed("poison", *key).random(value.shape)).astype(value.dtype)
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        return np.zeros_like(value)
    if isinstance(value, (bool, int)):
        return type(value)(0)
    return 0.5 if isinstance(value, float) else "" if isinstance(value, str) else value


class Guarded:
    """A task whose observations carry garbage targets, and whose metrics still see the true ones. Everything else is the task's own."""

    def __init__(self, task: Task, trains_on: frozenset[str]) -> None:
        self._task, self._trains_on = task, trains_on
        self._targets: dict[str, Mapping[str, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def observe(self, split: str, sample_id: str, draw: int = 0) -> Observation:
        """Return the true observation with a garbage target."""
        with truth():
            o = self._task.observe(split, sample_id, draw)
        self._targets[sample_id] = o.target
        return replace(o, target={k: garbage(v, split, sample_id, k) for k, v in o.target.items()})

    def target(self, observations: Sequence[Observation]) -> dict[str, torch.Tensor]:
        """Return what the metrics compare with: the truth."""
        return self._task.target([replace(o, target=self._targets[o.sample_id]) for o in observations])

    def training_set(self, trains_on: str, seed: int) -> Any:
        """Return the true items for what the method declared, garbage for everything else."""
        with truth():
            return Items(self._task.training_set(trains_on, seed), trains_on in self._trains_on)


class Items(torch.utils.data.Dataset):
    """Training items made with the truth; garbage of the same shapes where the method did not declare them."""

    def __init__(self, items: Any, declared: bool) -> None:
        self._items, self._declared = items, declared

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        with truth():
            item = self._items[index]
        return item if self._declared else {k: garbage(v, "item", index, k) for k, v in item.items()}


@contextlib.contextmanager
def poisoned(trains_on: frozenset[str]) -> Iterator[None]:
    """Poison every dataset of this process, and guard every task, inside. ``trains_on``: what the method (and its priors) declared."""
    honest, get = Dataset.sample, tasks.get
    guarded: dict[str, Guarded] = {}

    def sample(self: Dataset, split: str, sample_id: str) -> Sample:
        if _truthful.get():
            return honest(self, split, sample_id)
        with truth():  # a dataset made from another one asks it for its samples
            s = honest(self, split, sample_id)
        return Sample(s.sample_id, s.cluster, {k: garbage(v, self.id, split, sample_id, k) for k, v in s.data.items()})

    def guard(task_id: str) -> Any:
        return guarded.setdefault(task_id, Guarded(get(task_id), trains_on))

    Dataset.sample = sample  # type: ignore[method-assign]
    tasks.get = guard  # type: ignore[assignment]
    training_data.pictures.cache_clear()
    try:
        yield
    finally:
        Dataset.sample = honest  # type: ignore[method-assign]
        tasks.get = get
        training_data.pictures.cache_clear()
