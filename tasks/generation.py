"""Generation: nothing (or a label, or a caption) is given, and a fixed number of samples is compared, as a set, with held-out real ones.

``options``: ``count`` samples to draw; ``entry`` of the dataset that holds a sample (image, x); ``size`` and ``channels`` for data whose
pictures differ: the largest centred square is resized (bicubic, antialiased) and rounded to 8 bits. ``observe``: ``{label: balanced}`` gives
sample i the class i mod K, so that every class is asked for equally often whatever the seed; ``{caption: scenes}`` gives sample i the caption
of the split's sample i, as text and as word tokens. The task's splits differ in the real samples compared with and in the noise streams;
questions differ between splits only where they are captions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch.utils.data import Dataset as TorchDataset

from ..configs.errors import RequestError
from ..datasets.base import Sample
from ..datasets.shapes_captions import attributes, tokens
from .base import Observation, Task, one_thread
from .finite import FiniteSet, column, samples
from .images import trimmed, with_channels
from .resize import resize

LABELS = ("balanced",)
CAPTIONS = ("scenes",)
BATCH = 512


class GenerationTask(Task):
    """A task of the generation family."""

    def ids(self, split: str = "test") -> list[str]:
        """Return ``sample-0000`` ... : the questions, not the dataset's samples."""
        if split not in self.spec.splits:
            raise RequestError(f"task {self.id} has no split {split!r}; accepted: {', '.join(self.spec.splits)}.")
        count = self.spec.options.get("count")
        if not isinstance(count, int) or count < 2:
            raise RequestError(f"task {self.id}: options.count is {count!r}; a generation task states how many samples are drawn (2 or more).")
        return [f"sample-{i:04d}" for i in range(count)]

    def observe(self, split: str, sample_id: str, draw: int = 0) -> Observation:
        """Return question ``sample_id``: empty, or the label or caption it asks for. Nothing in it is random."""
        given: dict[str, Any] = {}
        if (how := self.spec.observe.get("caption")) is not None:
            if how not in CAPTIONS:
                raise RequestError(f"task {self.id}: observe.caption is {how!r}; accepted: {', '.join(CAPTIONS)}.")
            return self._caption(split, sample_id)
        if (how := self.spec.observe.get("label")) is not None:
            if how not in LABELS:
                raise RequestError(f"task {self.id}: observe.label is {how!r}; accepted: {', '.join(LABELS)}.")
            given["label"] = torch.tensor(int(sample_id.rpartition("-")[2]) % self.classes)
        return Observation(sample_id, sample_id, given, dict(given))

    def _caption(self, split: str, sample_id: str) -> Observation:
        """Return the question for the caption of one real scene of the split; the attributes it names are what answers are scored by."""
        ids = self.dataset.ids(self.spec.splits[split])
        scene = self.dataset.sample(self.spec.splits[split], ids[int(sample_id.rpartition("-")[2]) % len(ids)])
        given = {"caption": scene["caption"], "tokens": torch.tensor(tokens(scene["caption"]))}
        return Observation(sample_id, sample_id, given, {"attributes": torch.tensor(attributes(scene["scene"]))})

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        return self.observe(split, sample.sample_id, draw)

    @property
    def classes(self) -> int:
        """The number of classes of the dataset, 0 where it has none."""
        return int(getattr(self.dataset, "classes", 0))

    @property
    def entry(self) -> str:
        """The entry of a dataset sample that is generated."""
        return str(self.spec.options.get("entry", "image"))

    def view(self, sample: Sample) -> Sample:
        options = self.spec.options
        if "size" not in options:
            return sample
        image = with_channels(sample["image"], int(options.get("channels", 3)))
        side = min(image.shape[-2:])
        square = trimmed(image, side)
        if side != options["size"]:
            resized = resize(torch.from_numpy(square), options["size"], options["size"]).clamp(0, 1)
            square = ((resized * 255).round() / 255).float().numpy()
        return replace(sample, data={**sample.data, "image": square})

    def _large(self, dataset_split: str) -> dict[str, torch.Tensor]:
        """Return the viewed pictures of a split, read one by one and kept as uint8 (all come from, or are rounded to, 8 bits)."""
        with one_thread():
            ids = self.dataset.ids(dataset_split)
            if not ids:
                raise RequestError(f"dataset {self.spec.dataset!r} has no samples in split {dataset_split!r}.")
            rows = (self.view(self.dataset.sample(dataset_split, i)) for i in ids)
            return {"answer": torch.stack([(torch.from_numpy(row["image"]) * 255).round().to(torch.uint8) for row in rows])}

    def _real(self, dataset_split: str) -> dict[str, torch.Tensor]:
        if "size" in self.spec.options:
            return _cached(self, dataset_split)
        rows = samples(self.spec.dataset, dataset_split)
        out = {"answer": column(rows, self.entry)}
        if "label" in rows[0].data:
            out["label"] = column(rows, "label")
        return out

    def _captions(self, dataset_split: str) -> torch.Tensor:
        return torch.tensor([tokens(row["caption"]) for row in samples(self.spec.dataset, dataset_split)])

    def reference_set(self, split: str = "test") -> Iterator[dict[str, torch.Tensor]]:
        """Yield the real samples of the split in batches: ``answer``, and ``label`` where the data have one."""
        columns = self._real(self.spec.splits[split])
        for start in range(0, len(columns["answer"]), BATCH):
            yield {name: _unpacked(values[start : start + BATCH]) for name, values in columns.items()}

    def training_set(self, trains_on: str, seed: int) -> TorchDataset:
        """Return the training split, in memory: ``target`` (``label`` where the data have one, ``tokens`` where the task asks by caption).

        Nothing depends on the seed.
        """
        if not self.spec.train:
            return super().training_set(trains_on, seed)
        if trains_on != "clean":
            raise RequestError(f"task {self.id} offers clean samples only; a method with `trains_on: {trains_on}` cannot be trained on it.")
        split = self.spec.train.get("split", "train")
        real = self._real(split)
        asked = {"tokens": self._captions(split)} if "caption" in self.spec.observe else {}
        made = PackedSet if real["answer"].dtype == torch.uint8 else FiniteSet
        return made({"target": real["answer"], **({"label": real["label"]} if "label" in real else {}), **asked})


class PackedSet(FiniteSet):
    """A finite set whose pictures are kept as uint8 and handed out as float32 in [0, 1]."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: _unpacked(value) for name, value in super().__getitem__(index).items()}


@lru_cache(maxsize=4)
def _cached(task: GenerationTask, dataset_split: str) -> dict[str, torch.Tensor]:
    return task._large(dataset_split)


def _unpacked(values: torch.Tensor) -> torch.Tensor:
    return values.float() / 255 if values.dtype == torch.uint8 else values
