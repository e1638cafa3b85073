"""Classification: a picture is given as it is, the logits of its classes are returned.

``train: {split, gflops, label_noise: {kind: symmetric, rate: 0.4, version: 1}}`` may corrupt the *training* labels: with probability ``rate``
a label is replaced by one of the other classes, all equally likely. The draw is keyed by (dataset, noise version, sample), so it is one
fixed noisy dataset, the same for every method and seed, as in the literature. Labels that are scored are always clean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from ..configs.errors import RequestError
from ..datasets.base import Sample
from .base import Observation, Task
from .finite import FiniteSet, column, samples
from .randomness import keyed

NOISES = ("symmetric",)


class ClassificationTask(Task):
    """A task of the classification family."""

    @property
    def classes(self) -> int:
        """The number of classes K; logits are (n, K)."""
        return int(self.spec.returns["shape"][0])

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        image = torch.from_numpy(np.ascontiguousarray(sample["image"], dtype=np.float32))
        label = int(sample["label"])
        if not 0 <= label < self.classes:
            raise RequestError(
                f"sample {sample.sample_id} of {self.spec.dataset} has label {label}; task {self.id} has {self.classes} classes."
            )
        return Observation(sample.sample_id, sample.cluster, {"image": image}, {"label": torch.tensor(label)})

    def training_set(self, trains_on: str, seed: int) -> TorchDataset:
        """Return the training split, in memory: ``input`` and ``label`` (noisy where ``train.label_noise`` says so)."""
        train = self.spec.train
        if not train:
            return super().training_set(trains_on, seed)
        if trains_on != "paired":
            raise RequestError(
                f"task {self.id} offers labelled pictures (`trains_on: paired`: input, label); "
                f"a method with `trains_on: {trains_on}` cannot be trained on it."
            )
        rows = samples(self.spec.dataset, train.get("split", "train"))
        label = column(rows, "label")
        if noise := train.get("label_noise"):
            label = torch.tensor([self.noisy_label(r.sample_id, int(v), noise) for r, v in zip(rows, label.tolist(), strict=True)])
        return FiniteSet({"input": column(rows, "image"), "label": label})

    def noisy_label(self, sample_id: str, label: int, noise: dict[str, Any]) -> int:
        """Return the training label of a sample under ``noise`` ({kind, rate, version})."""
        kind, rate = noise.get("kind", "symmetric"), float(noise["rate"])
        if kind not in NOISES or not 0 <= rate <= 1:
            raise RequestError(f"task {self.id}: train.label_noise is {noise!r}; accepted: kind {' or '.join(NOISES)}, rate from 0 to 1.")
        rng = keyed("label-noise", self.spec.dataset, kind, noise.get("version", 1), sample_id)
        # both numbers are always drawn, and compared with the rate last: a higher rate keeps the flips of a lower one
        chance, step = rng.random(), int(rng.integers(1, self.classes))
        return (label + step) % self.classes if chance < rate else label
