"""What a task is at run time: keyed observations of a dataset's samples, requests made of them, training data, metrics.

A family's file (denoising.py, restoration.py, ...) subclasses `Task` and says how a sample is observed.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..configs.errors import RequestError
from ..datasets import registry as datasets
from ..datasets.base import Dataset, Sample
from .randomness import Rng, keyed
from .requests import Budget, Request, Returns, check_answer
from .spec import TaskSpec

if TYPE_CHECKING:
    from torch.utils.data import Dataset as TorchDataset

    from .metrics.base import Metric


@dataclass(frozen=True)
class Observation:
    """What a method is given for one sample, and what only the metrics see.

    ``given`` holds tensors without a batch dimension and plain values; ``target`` likewise (``clean``, ``label``, ...).
    ``shared`` holds objects that are equal for all samples of the task (a physics operator, a noise model): passed once, not batched.
    """

    sample_id: str
    cluster: str
    given: Mapping[str, Any] = field(repr=False)
    target: Mapping[str, Any] = field(repr=False)
    shared: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def hash(self) -> str:
        """Return the sha256 of everything given, bit for bit (shared objects by their ``repr``)."""
        digest = hashlib.sha256(self.sample_id.encode())
        for name in sorted(self.given):
            value = self.given[name]
            digest.update(name.encode())
            if isinstance(value, torch.Tensor):
                digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
                digest.update(np.ascontiguousarray(value.numpy()).tobytes())
            else:
                digest.update(repr(value).encode())
        for name in sorted(self.shared):
            digest.update(f"{name}{self.shared[name]!r}".encode())
        return digest.hexdigest()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: sums split over threads round differently, and an observation must not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Task(ABC):
    """One task: ``spec`` (its declaration) and its dataset."""

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.id, self.version, self.family = spec.id, spec.version, spec.family

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset the task draws its samples from."""
        return datasets.get(self.spec.dataset)

    # ------------------------------------------------------------------ samples and observations
    def ids(self, split: str = "test") -> list[str]:
        """Return the sample ids of a task split, in a fixed order; ``options.count`` bounds their number."""
        if split not in self.spec.splits:
            raise RequestError(f"task {self.id} has no split {split!r}; accepted: {', '.join(self.spec.splits)}.")
        ids = self.dataset.ids(self.spec.splits[split])
        count = self.spec.options.get("count")
        return ids[:count] if count else ids

    def keyed(self, split: str, sample_id: str, draw: int, what: str) -> np.random.Generator:
        """Return the generator of one observation: a function of (task, version, split, sample, draw, what for)."""
        return keyed("observation", self.id, self.version, split, sample_id, draw, what)

    def observe(self, split: str, sample_id: str, draw: int = 0) -> Observation:
        """Return the observation of one sample: a pure function of (task, version, split, sample_id, draw)."""
        sample = self.view(self.dataset.sample(self.spec.splits[split], sample_id))
        with one_thread(), torch.no_grad():
            return self._observe(sample, split, draw)

    def view(self, sample: Sample) -> Sample:
        """Return the sample as this task sees it (channels, crop, size from ``options``); a family may override."""
        return sample

    @abstractmethod
    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        """Observe one viewed sample; all randomness from ``self.keyed(split, sample.sample_id, draw, what)``."""

    def observation_hash(self, split: str = "test", draw: int = 0, ids: Sequence[str] | None = None) -> str:
        """Return the sha256 over the observations of a split, in order: what records carry and the lock holds."""
        digest = hashlib.sha256()
        for sample_id in self.ids(split) if ids is None else ids:
            digest.update(self.observe(split, sample_id, draw).hash().encode())
        return digest.hexdigest()

    # ------------------------------------------------------------------ requests and answers
    def returns(self) -> Returns:
        """Return what a method must answer."""
        r = self.spec.returns
        return Returns(r["kind"], tuple(r["shape"]) if r.get("shape") else None, tuple(r["range"]) if r.get("range") else None)

    def answer_shape(self, observation: Observation) -> tuple[int, ...] | None:
        """Return the shape one answer must have where ``returns.shape`` is not fixed: that of the clean target."""
        clean = observation.target.get("clean")
        return tuple(clean.shape) if isinstance(clean, torch.Tensor) else None

    def request(self, observations: Sequence[Observation], rng: Rng, budget: Budget | None = None) -> Request:
        """Batch observations of one shape into a request holding exactly what ``gives`` names."""
        first = observations[0]
        given: dict[str, Any] = {}
        for name in self.spec.gives:
            if name in first.shared:
                given[name] = first.shared[name]
                continue
            values = [o.given[name] for o in observations]
            if isinstance(values[0], torch.Tensor):
                given[name] = torch.stack(values)
            elif isinstance(values[0], (int, float)) and all(v == values[0] for v in values):
                given[name] = values[0]
            elif isinstance(values[0], (int, float)):
                given[name] = torch.tensor(values)
            else:
                given[name] = values
        return Request(
            self.spec.ability, given, n=len(observations), rng=rng, returns=self.returns(), budget=budget, task=self.id
        )

    def ask(self, method: Any, request: Request, observations: Sequence[Observation]) -> Any:
        """Put the questions to the method and return its answer: one call of the task's ability.

        A task of several calls overrides this (a watermark embedded, attacked, detected; a policy asked at every step of an episode), and
        makes the later requests with `Request.then`. Everything the method does is timed and counted.
        """
        return getattr(method, self.spec.ability)(request)

    def accept(self, answer: Any, request: Request, observations: Sequence[Observation]) -> torch.Tensor:
        """Check an answer's type, shape and finiteness and clip it to ``returns.range`` when the task says so (``returns.clip``)."""
        out = check_answer(answer, request, self.answer_shape(observations[0]))
        clip = self.spec.returns.get("clip", self.spec.returns["kind"] == "image" and self.spec.returns.get("range") is not None)
        if clip:
            low, high = self.spec.returns["range"]
            out = out.clamp(low, high)
        return out

    def target(self, observations: Sequence[Observation]) -> dict[str, torch.Tensor]:
        """Batch what the metrics compare with."""
        names = observations[0].target
        return {n: torch.stack([torch.as_tensor(o.target[n]) for o in observations]) for n in names}

    # ------------------------------------------------------------------ metrics
    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The task's metrics, by name, with the protocol options of its declaration."""
        from .metrics.registry import make

        return {name: make(name, {k: v for k, v in o.items() if k != "margin"}) for name, o in self.spec.metrics.items()}

    def margin(self, metric: str) -> Any:
        """Return the metric's margin (a number, or a string such as '1.5%')."""
        return self.spec.metrics[metric].get("margin")

    def reference_set(self, split: str = "test") -> Iterator[dict[str, torch.Tensor]]:
        """Yield batches of real samples for set-level metrics (keys as an answer's: ``answer``; plus ``label`` where there is one)."""
        raise RequestError(f"task {self.id} has no reference set, so set-level metrics cannot be computed on it.")

    # ------------------------------------------------------------------ training
    def training_set(self, trains_on: str, seed: int) -> TorchDataset:
        """Return a map-style dataset of training items (dicts) for ``trains_on``; item i is a pure function of (train block, seed, i).

        paired: input, target; noisy: input; noisy-pairs: input, input2; clean: target (and label, caption where the data have them);
        unpaired: input, target of different samples. Classification: input, label. Each item also holds what ``gives`` adds
        (noise_level, ...). Nothing else is in an item: a method cannot reach what its card does not declare.
        """
        raise RequestError(f"task {self.id} offers no training data (its `train` block is empty).")

    def training_key(self, trains_on: str) -> dict[str, Any]:
        """Return everything the training data depend on: the part of a fit's content key that the task contributes."""
        return {
            "train": dict(self.spec.train or {}),
            "dataset": self.spec.dataset,
            "fingerprint": self.dataset.fingerprint(),
            "trains_on": trains_on,
        }
