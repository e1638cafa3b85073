"""Denoising of C^alpha pictures, of which there is no end: training item i is the i-th picture of the generator, never seen before."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset as TorchDataset

from ..configs.errors import RequestError
from ..datasets.c_alpha import CAlpha, draw
from . import noise
from .denoising import DenoisingTask
from .training_data import NOMINAL_LENGTH, Item, Keyed, tensor

ITEMS = {"clean": ("target",), "paired": ("input", "target"), "noisy": ("input",), "noisy-pairs": ("input", "input2")}


class CAlphaTask(DenoisingTask):
    """As `DenoisingTask`, on whole pictures; every training picture has its own noise, drawn once."""

    def training_set(self, trains_on: str, seed: int) -> TorchDataset:
        if trains_on not in ITEMS:
            raise RequestError(f"task {self.id} offers training items that are {', '.join(ITEMS)}, not {trains_on!r}.")
        assert isinstance(self.dataset, CAlpha) and self.noise is not None and self.train
        return Pictures(self.dataset, ITEMS[trains_on], self.noise, self.extras() if trains_on != "clean" else {}, seed)


class Pictures(TorchDataset[Item]):
    """Item i: the i-th training picture under ``seed``, as ``names`` say, with ``extras`` added."""

    def __init__(self, dataset: CAlpha, names: tuple[str, ...], model: noise.Noise, extras: dict[str, Any], seed: int) -> None:
        self.alpha, self.names, self.model, self.extras = dataset.alpha, names, model, extras
        self.keyed = Keyed(dataset.id, dataset.version, "train", seed)

    def __len__(self) -> int:
        return NOMINAL_LENGTH

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < NOMINAL_LENGTH:
            raise IndexError(index)
        rng = self.keyed[index]
        clean = draw(self.alpha, rng)
        made = {n: tensor(clean if n == "target" else self.model.sample(clean, rng)) for n in self.names}
        return {**made, **self.extras}
