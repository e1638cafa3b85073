"""Training items cut from photographs: random crops, flips and quarter turns, each a pure function of (key, item index).

Shared by the image families (denoising, restoration, inverse). Photographs are decoded once per process and kept as uint8 where that loses
nothing; an item costs one counter-based generator and one crop, some 50 microseconds, so no worker processes are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..configs.errors import RequestError
from ..datasets import registry as datasets
from .randomness import key_bytes

NOMINAL_LENGTH = 1_000_000
"""``len()`` of a set whose items are made on the fly; the training budget says how many are used."""

Item = dict[str, Any]
Finish = Callable[[tuple[np.ndarray, ...], np.random.Generator], Item]


class Keyed:
    """One cheap generator per index: Philox under the key's 128 bits, the counter's upper half holding the index.

    Two indices never share a number (each owns 2**128 counter values), and index i's numbers do not depend on which were asked before.
    """

    def __init__(self, *key: Any) -> None:
        self._key = int.from_bytes(key_bytes("training", *key), "little")

    def __getitem__(self, index: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self._key, counter=int(index) << 128))


def compact(image: np.ndarray) -> np.ndarray:
    """Return a float32 image in [0, 1] as uint8 when it came from 8 bits (a quarter of the memory), else unchanged."""
    steps = np.rint(image * np.float32(255))
    if steps.min() >= 0 and steps.max() <= 255:
        small = steps.astype(np.uint8)
        if np.array_equal(expand(small), image):
            return small
    return image


def expand(image: np.ndarray) -> np.ndarray:
    """Undo `compact`: float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255) if image.dtype == np.uint8 else image


@lru_cache(maxsize=8)
def pictures(dataset_id: str, split: str = "train", name: str = "image") -> tuple[np.ndarray, ...]:
    """Return every picture of a dataset split, (C, H, W) each, read once per process; uint8 where that is exact (see `expand`).

    Raises RequestError when the split is empty, DataMissing when the dataset is not here.
    """
    dataset = datasets.get(dataset_id)
    ids = dataset.ids(split)
    if not ids:
        raise RequestError(f"dataset {dataset_id!r} has no samples in split {split!r}, so nothing can be trained on it.")
    return tuple(compact(np.asarray(dataset.sample(split, i)[name], dtype=np.float32)) for i in ids)


def turned(planes: np.ndarray, turn: int) -> np.ndarray:
    """Return one of the eight symmetries of the square applied to (C, H, W): bits 0-1 quarter turns, bit 2 a flip."""
    out = np.rot90(planes, turn & 3, axes=(-2, -1))
    return out[..., ::-1] if turn & 4 else out


def crop(
    planes: Sequence[np.ndarray], patch: int, rng: np.random.Generator, scales: Sequence[int], augment: bool = True
) -> tuple[np.ndarray, ...]:
    """Cut the same window out of aligned arrays, uniformly placed, and turn all alike.

    ``scales[k]`` says how many pixels of plane k one pixel of the coarsest plane spans (all 1 for arrays of one size; a x4 pair of low- and
    high-resolution pictures has ``(1, 4)``); ``patch`` counts pixels of the coarsest plane. Returns contiguous float32 (C, patch*s, patch*s).
    """
    height, width = (n // scales[0] for n in planes[0].shape[-2:])
    top, left, turn = (int(v) for v in rng.integers(0, (height - patch + 1, width - patch + 1, 8)))
    out = []
    for plane, s in zip(planes, scales, strict=True):
        window = expand(plane[..., top * s : (top + patch) * s, left * s : (left + patch) * s])
        out.append(np.array(turned(window, turn) if augment else window, order="C"))
    return tuple(out)


class CropSet(Dataset[Item]):
    """A map-style training set: item i is a crop of a keyed random picture, handed with item i's generator to ``finish``.

    ``sources`` holds, per picture, a tuple of aligned arrays (clean; or one or two noisy copies; or low and high resolution): only what is
    in it can reach an item. Pictures are drawn with equal probability, positions uniformly.
    """

    def __init__(
        self,
        sources: Sequence[tuple[np.ndarray, ...]],
        finish: Finish,
        *,
        patch: int,
        key: Sequence[Any],
        scales: Sequence[int] | None = None,
        augment: bool = True,
        length: int = NOMINAL_LENGTH,
    ) -> None:
        if patch < 1:
            raise RequestError(f"training patch is {patch}; it must be at least 1 pixel.")
        self.sources, self.finish, self.patch, self.augment = sources, finish, patch, augment
        self.scales = tuple(scales) if scales else (1,) * len(sources[0])
        self.keyed = Keyed(*key)
        self.length = length
        sides = [min(n // s for n in plane.shape[-2:]) for source in sources for plane, s in zip(source, self.scales, strict=True)]
        if min(sides) < patch:
            raise RequestError(f"training patch {patch} is larger than a training picture ({min(sides)} pixels); make `train.patch` smaller.")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = self.keyed[index]
        source = self.sources[int(rng.integers(len(self.sources)))]
        return self.finish(crop(source, self.patch, rng, self.scales, self.augment), rng)


def tensor(array: np.ndarray) -> torch.Tensor:
    """Return a float32 tensor with a copy of an array, so that nobody can write into a cached picture."""
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def named(*names: str) -> Finish:
    """Return a ``finish`` that hands the crops out unchanged under ``names``: ``named("target")`` for clean pictures."""

    def finish(planes: tuple[np.ndarray, ...], rng: np.random.Generator) -> Item:
        return {name: tensor(plane) for name, plane in zip(names, planes, strict=True)}

    return finish


def clean_crops(train: Mapping[str, Any], seed: int, **fixed: Any) -> CropSet:
    """Return the items of ``trains_on: clean``: ``target`` float32 (C, patch, patch) in [0, 1], from ``train: {dataset, split, patch}``.

    ``fixed`` values are added to every item (``noise_level=...``). The key is (dataset, split, patch, seed): noise levels share crops.
    """
    images = pictures(train["dataset"], train.get("split", "train"))
    key = ("clean", train["dataset"], train.get("split", "train"), train["patch"], seed)

    def finish(planes: tuple[np.ndarray, ...], rng: np.random.Generator) -> Item:
        return {"target": tensor(planes[0]), **fixed}

    return CropSet([(image,) for image in images], finish, patch=int(train["patch"]), key=key)
