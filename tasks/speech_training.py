"""Training items of the speech tasks: keyed crops of keyed mixtures, made on the fly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..configs.errors import RequestError
from .randomness import keyed
from .speech_signals import Recordings, add_noise, fit_length, reverberate
from .training_data import NOMINAL_LENGTH, Item, Keyed, tensor

TRAINS_ON = ("paired", "noisy", "noisy-pairs", "clean", "unpaired")


class Mixes(Dataset[Item]):
    """Item i is a crop of ``train.seconds`` of a recording drawn by key i, mixed as the `train` block says.

    The key is (train block without its budget, trains_on, seed, i). Items hold ``input``, ``target``, ``input2`` as ``trains_on`` declares, and
    ``sample_rate``; nothing else, so what a card does not declare cannot be reached.
    """

    def __init__(self, train: Mapping[str, Any], bank: Recordings, trains_on: str, seed: int) -> None:
        if trains_on not in TRAINS_ON:
            raise RequestError(f"speech tasks have no training items for trains_on {trains_on!r}; accepted: {', '.join(TRAINS_ON)}.")
        if trains_on == "noisy-pairs" and train["kind"] != "noise":
            raise RequestError("trains_on noisy-pairs needs two noisy copies of a recording, which speech tasks have for added noise only.")
        if len(bank) == 0:
            raise RequestError(f"dataset {bank.dataset.id!r} has no recordings in split {bank.split!r}, so nothing can be trained on it.")
        self.how, self.bank, self.trains_on = dict(train), bank, trains_on
        self.samples = round(train["seconds"] * bank.sample_rate(0))
        block = sorted((k, str(v)) for k, v in train.items() if k != "gflops")
        self.key = ("speech", bank.dataset.id, *block, trains_on, seed)
        self.keyed = Keyed(*self.key)

    def __len__(self) -> int:
        return NOMINAL_LENGTH

    def _mixture(self, position: int, rng: np.random.Generator, crop: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return (clean, noisy) of one recording, (T,); with ``crop`` only ``self.samples`` of it where noise is added."""
        kind, fs = self.how["kind"], self.bank.sample_rate(position)
        if kind == "recorded":
            return self.bank.clean(position), self.bank.noisy(position)
        dry = self.bank.clean(position)
        if kind == "reverb":
            return reverberate(dry, self.how["split"], rng, self.how["early_ms"], fs)
        levels = self.how["snr"]
        noise = str(rng.choice(self.how["noises"]))
        snr = float(rng.uniform(levels["from"], levels["to"]) if isinstance(levels, dict) else rng.choice(levels))
        start = int(rng.integers(len(dry) - self.samples + 1)) if crop and len(dry) > self.samples else 0
        part = slice(start, start + self.samples) if crop else slice(None)
        return add_noise(dry, noise, snr, rng, fs, self.bank.others(position), part)

    def _fixed(self, position: int, copy: int) -> np.ndarray:
        """Return noisy copy ``copy`` of a recording, always the same one."""
        return self._mixture(position, keyed(*self.key, "copy", position, copy))[1]

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = self.keyed[index]
        position = int(rng.integers(len(self.bank)))
        if self.trains_on == "paired":
            target, noisy = self._mixture(position, rng, crop=True)
            parts = {"input": noisy, "target": target}
        elif self.trains_on == "unpaired":
            other = (position + 1 + int(rng.integers(max(len(self.bank) - 1, 1)))) % len(self.bank)
            parts = {"input": self._mixture(position, rng)[1], "target": self._mixture(other, rng)[0]}
        elif self.trains_on == "clean":
            parts = {"target": self._mixture(position, rng)[0] if self.how["kind"] == "reverb" else self.bank.clean(position)}
        else:
            parts = {"input": self._fixed(position, 0)}
            if self.trains_on == "noisy-pairs":
                parts["input2"] = self._fixed(position, 1)
        starts: dict[int, int] = {}  # one offset for signals of one length: pairs stay aligned
        out: Item = {"sample_rate": self.bank.sample_rate(position)}
        for name, signal in parts.items():
            room = max(len(signal) - self.samples, 0)
            start = starts.setdefault(len(signal), int(rng.integers(room + 1)))
            out[name] = torch.atleast_2d(tensor(fit_length(signal[start:], self.samples)))
        return out
