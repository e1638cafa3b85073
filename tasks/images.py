"""What the image families (denoising, restoration) share: how a sample is viewed, and training sets made from photographs."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch.utils.data import Dataset as TorchDataset

from ..configs.errors import RequestError
from ..datasets import registry as datasets
from ..datasets.base import Sample
from .base import Task
from .training_data import CropSet, Item, clean_crops, compact, expand, named, pictures, tensor

GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, full range


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return a (C, H, W) image with ``channels`` planes: luma of RGB for 1, the grey plane repeated for 3."""
    if image.shape[0] == channels:
        return image
    if channels == 1 and image.shape[0] == 3:
        weights = np.asarray(GREY_WEIGHTS, dtype=np.float64)[:, None, None]
        return (image * weights).sum(0, keepdims=True).astype(np.float32)
    if channels == 3 and image.shape[0] == 1:
        return np.repeat(image, 3, axis=0)
    raise RequestError(f"an image with {image.shape[0]} channels cannot be shown with {channels}; accepted: 1 and 3.")


def trimmed(image: np.ndarray, size: int | None = None, multiple: int = 1) -> np.ndarray:
    """Cut (C, H, W) to the central ``size`` x ``size`` (where given and smaller), then to sides that ``multiple`` divides (top left kept)."""
    if size is not None:
        height, width = (min(size, n) for n in image.shape[-2:])
        top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
        image = image[..., top : top + height, left : left + width]
    height, width = (n - n % multiple for n in image.shape[-2:])
    return np.ascontiguousarray(image[..., :height, :width])


class ImageTask(Task):
    """A task on single images.

    ``options``: ``channels`` (1 or 3; default as stored), ``size`` (central crop), ``multiple`` (sides cut to a multiple), ``count``.
    ``train``: ``{dataset, split, patch, gflops}`` (defaults: the task's dataset, ``train``); the family adds what makes its items.
    """

    def view(self, sample: Sample) -> Sample:
        options = self.spec.options

        def seen(value: Any) -> Any:
            if not (isinstance(value, np.ndarray) and value.ndim == 3):
                return value
            image = with_channels(value, int(options["channels"])) if "channels" in options else value
            return trimmed(image, options.get("size"), int(options.get("multiple", 1)))

        return dataclasses.replace(sample, data={name: seen(value) for name, value in sample.data.items()})

    # ------------------------------------------------------------------ training
    @property
    def train(self) -> dict[str, Any]:
        """The ``train`` block with its defaults filled in; RequestError when the task offers no training data."""
        if not self.spec.train:
            raise RequestError(f"task {self.id} offers no training data (its `train` block is empty).")
        return {"dataset": self.spec.dataset, "split": "train", "patch": 48, **self.spec.train}

    def training_pictures(self) -> list[np.ndarray]:
        """Return the clean training pictures as this task views them, (C, H, W), compact (see `training_data.expand`)."""
        train, options = self.train, self.spec.options
        images = pictures(train["dataset"], train["split"])
        channels, multiple = options.get("channels"), int(options.get("multiple", 1))
        if (channels is None or all(i.shape[0] == channels for i in images)) and multiple == 1:
            return list(images)
        return [compact(trimmed(with_channels(expand(i), int(channels or i.shape[0])), None, multiple)) for i in images]

    def training_facts(self) -> dict[str, Any]:
        """Return what the family's degradation contributes to the training data: part of the fits' content key."""
        return {"observe": dict(self.spec.observe)}

    @abstractmethod
    def extras(self) -> dict[str, Any]:
        """Return what every training item holds beside its images (``noise_level`` where the task gives it)."""

    @abstractmethod
    def paired(self) -> tuple[list[tuple[np.ndarray, ...]], Callable[[tuple[np.ndarray, ...], np.random.Generator], Item], tuple[int, ...]]:
        """Return sources, ``finish`` and scales of the supervised items (see `CropSet`); noise is fresh for every item."""

    @abstractmethod
    def degraded(self, copy: int) -> list[np.ndarray]:
        """Return one keyed degraded copy of every training picture, the same for every seed: ``copy`` numbers independent draws."""

    def training_set(self, trains_on: str, seed: int) -> TorchDataset:
        train = self.train
        patch, extras = int(train["patch"]), self.extras()
        key = (train["dataset"], train["split"], patch, trains_on, seed)

        def also(finish: Callable[..., Item]) -> Callable[..., Item]:
            return lambda planes, rng: {**finish(planes, rng), **extras}

        if trains_on == "clean":
            return clean_crops(train, seed) if "channels" not in self.spec.options else CropSet(
                [(p,) for p in self.training_pictures()], named("target"), patch=patch, key=key
            )  # fmt: skip
        if trains_on == "paired":
            sources, finish, scales = self.paired()
            return CropSet(sources, also(finish), patch=patch // max(scales), key=key, scales=scales)
        if trains_on == "noisy":
            return CropSet([(p,) for p in self.degraded(0)], also(named("input")), patch=patch, key=key)
        if trains_on == "noisy-pairs":
            pairs = list(zip(self.degraded(0), self.degraded(1), strict=True))
            return CropSet(pairs, also(named("input", "input2")), patch=patch, key=key)
        if trains_on == "unpaired":
            return self._unpaired(patch, key, extras)
        raise RequestError(f"trains_on {trains_on!r} is not known; accepted: paired, noisy, noisy-pairs, clean, unpaired.")

    def _unpaired(self, patch: int, key: tuple[Any, ...], extras: Mapping[str, Any]) -> CropSet:
        """Clean crops of every other scene beside degraded crops of the rest, so that no clean view of what an input shows exists."""
        dataset, split = datasets.get(self.train["dataset"]), self.train["split"]
        scenes = [dataset.sample(split, i).cluster for i in dataset.ids(split)]
        shown = set(list(dict.fromkeys(scenes))[::2])
        clean = [p for p, scene in zip(self.training_pictures(), scenes, strict=True) if scene in shown]
        bad = [p for p, scene in zip(self.degraded(0), scenes, strict=True) if scene not in shown]
        if not bad:
            raise RequestError(f"task {self.id} has one training scene; unpaired training needs at least two.")
        targets = CropSet([(p,) for p in clean], named("target"), patch=patch, key=(*key, "targets"))

        def finish(planes: tuple[np.ndarray, ...], rng: np.random.Generator) -> Item:
            return {"input": tensor(planes[0]), **targets[int(rng.integers(len(targets)))], **extras}

        return CropSet([(p,) for p in bad], finish, patch=patch, key=key)

    def training_key(self, trains_on: str) -> dict[str, Any]:
        """Return everything the training data depend on; equal for tasks on different test sets that train alike."""
        train = self.train
        view = {k: v for k, v in self.spec.options.items() if k in ("channels", "multiple")}
        facts = {} if trains_on == "clean" else {**self.training_facts(), "extras": {k: float(v) for k, v in self.extras().items()}}
        return {"train": train, "fingerprint": datasets.get(train["dataset"]).fingerprint(), "trains_on": trains_on, "view": view, **facts}
