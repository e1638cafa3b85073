"""Denoising of EEG: a window of brain activity is handed over with artefacts on it; the brain activity is asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from ..configs.errors import RequestError
from ..datasets import registry as datasets
from ..datasets.base import Sample
from ..datasets.eeg import ARTEFACTS, EEG, SUBJECTS, artefact, brain, head, rounded
from .base import Observation, Task
from .training_data import NOMINAL_LENGTH, Item, Keyed, tensor

if TYPE_CHECKING:
    from .spec import TaskSpec


class EEGTask(Task):
    """Gives ``noisy`` float32 (8, 256), in 10 microvolts, and ``sample_rate``; compares with ``clean`` (and ``noisy``, for the gain).

    ``observe`` and ``train``: ``{artefacts: [blink, muscle, line], each: p}``: every kind is there with probability ``each`` (1: always), at
    least
    one of them. Artefacts are keyed by sample and draw, their topography is the subject's. Training items are fresh windows of the training
    split's subjects; tasks with an equal ``train`` block share fits, so one network answers for every kind of artefact.
    """

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec)
        for block in (spec.observe, spec.train or {"artefacts": ARTEFACTS}):
            wrong = [k for k in block.get("artefacts", ["(none)"]) if k not in ARTEFACTS]
            if wrong or not block.get("artefacts"):
                raise RequestError(f"task {self.id}: 'artefacts' has {wrong[:1] or 'nothing'}; accepted: {', '.join(ARTEFACTS)}.")

    @cached_property
    def _version(self) -> int:
        dataset = self.dataset
        assert isinstance(dataset, EEG)
        return dataset.version

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        clean = sample["signal"]
        rng = self.keyed(split, sample.sample_id, draw, "artefacts")
        who = head(self._version, self.spec.splits[split], int(sample["subject"]))
        noisy = tensor(rounded(clean + artefacts(self.spec.observe, who, rng)))
        return Observation(
            sample.sample_id,
            sample.cluster,
            given={"noisy": noisy, "sample_rate": int(sample["sample_rate"])},
            target={"clean": tensor(clean), "noisy": noisy},
        )

    def training_set(self, trains_on: str, seed: int) -> TorchDataset:
        """Return fresh windows: ``paired`` (input, target), ``clean`` (target) or ``noisy`` (input, one draw of artefacts a window)."""
        if not self.spec.train:
            return super().training_set(trains_on, seed)
        names = {"paired": ("input", "target"), "clean": ("target",), "noisy": ("input",)}.get(trains_on)
        if names is None:
            raise RequestError(f"task {self.id} offers training items that are paired, clean or noisy, not {trains_on!r}.")
        return Windows(dict(self.spec.train), self._version, names, seed)

    def training_key(self, trains_on: str) -> dict[str, Any]:
        """Return what the training data depend on; what the test windows hold does not matter."""
        return {"train": dict(self.spec.train or {}), "fingerprint": datasets.get(self.spec.dataset).fingerprint(), "trains_on": trains_on}


def artefacts(how: Any, who: Any, rng: np.random.Generator) -> np.ndarray:
    """Return the sum of artefacts (8, 256) that ``{artefacts: [...], each: p}`` describes, on one head; never none of them."""
    kinds, each = list(how["artefacts"]), float(how.get("each", 1.0))
    there = rng.random(len(kinds)) < each
    there[int(rng.integers(len(kinds)))] |= not there.any()
    return np.sum([artefact(k, who, rng) for k, t in zip(kinds, there, strict=True) if t], axis=0)


class Windows(TorchDataset[Item]):
    """Item i: a fresh window of a keyed training subject; a function of (train block, seed, i)."""

    def __init__(self, how: dict[str, Any], version: int, names: tuple[str, ...], seed: int) -> None:
        self.how, self.version, self.names = how, version, names
        self.split = str(how.get("split", "train"))
        self.keyed = Keyed("eeg", version, self.split, sorted(how["artefacts"]), float(how.get("each", 1.0)), seed)

    def __len__(self) -> int:
        return NOMINAL_LENGTH

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < NOMINAL_LENGTH:
            raise IndexError(index)
        rng = self.keyed[index]
        who = head(self.version, self.split, int(rng.integers(SUBJECTS[self.split])))
        clean = rounded(brain(who, rng))
        out: Item = {"target": torch.from_numpy(clean)} if "target" in self.names else {}
        if "input" in self.names:
            out["input"] = torch.from_numpy(rounded(clean + artefacts(self.how, who, rng)))
        return out
