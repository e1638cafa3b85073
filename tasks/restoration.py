"""The restoration family: a clean picture from one that was shrunk, blurred, compressed or badly photographed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..datasets.base import Sample
from . import degradations
from .base import Observation
from .images import ImageTask
from .randomness import keyed
from .training_data import Item, compact, expand, tensor


class RestorationTask(ImageTask):
    """Gives ``degraded`` float32 (C, H/scale, W/scale), ``scale`` (int, 1 except in super-resolution) and ``kind`` (a name). Answers are
    (C, H, W) in [0, 1]; the task clips them. ``observe`` names the degradation, see `degradations.make`.

    Training items: the deterministic part is computed once per picture, in ``train.versions`` keyed versions where it is random (default
    1); noise is fresh for every item.
    """

    @cached_property
    def degradation(self) -> degradations.Degradation:
        """What is done to a picture."""
        return degradations.make(self.spec.observe)

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        clean, how = np.asarray(sample["image"], dtype=np.float32), self.degradation
        degraded = how.whole(clean, self.keyed(split, sample.sample_id, draw, "degradation"))
        degraded = how.noisy(degraded, self.keyed(split, sample.sample_id, draw, "noise"))
        return Observation(
            sample.sample_id,
            sample.cluster,
            given={"degraded": tensor(degraded), "scale": how.scale},
            target={"clean": tensor(clean)},
            shared={"kind": how.kind},
        )

    # ------------------------------------------------------------------ training
    def extras(self) -> dict[str, Any]:
        return {"scale": torch.tensor(self.degradation.scale)} if "scale" in self.spec.gives else {}

    def _key(self, what: str, version: int, number: int) -> np.random.Generator:
        train = self.train
        return keyed("training degradation", train["dataset"], train["split"], sorted(self.spec.observe.items()), what, version, number)

    def _whole(self, version: int) -> list[np.ndarray]:
        """Return the noise-free degraded training pictures of one version, compact float32."""
        pictures = (expand(p) for p in self.training_pictures())
        return [compact(self.degradation.whole(p, self._key("whole", version, n)).astype(np.float32)) for n, p in enumerate(pictures)]

    def paired(self) -> tuple[list[tuple[np.ndarray, ...]], Callable[[tuple[np.ndarray, ...], np.random.Generator], Item], tuple[int, ...]]:
        how = self.degradation

        def finish(planes: tuple[np.ndarray, ...], rng: np.random.Generator) -> Item:
            return {"input": tensor(how.noisy(planes[0], rng)), "target": tensor(planes[1])}

        versions = range(int(self.train.get("versions", 1)))
        sources: list[tuple[np.ndarray, ...]] = [pair for v in versions for pair in zip(self._whole(v), self.training_pictures(), strict=True)]
        return sources, finish, (1, how.scale)

    def degraded(self, copy: int) -> list[np.ndarray]:
        how = self.degradation
        return [how.noisy(expand(p), self._key("noise", copy, n)).astype(np.float32) for n, p in enumerate(self._whole(copy))]
