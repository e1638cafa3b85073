"""Speech enhancement: a recording is handed over with noise or with a room in it; the clean one, or its early part, is asked for.

Observations are rounded to 16 bits, as a wav file is: sums of floats differ in their last bit between machines, rounded ones do not.
What ``observe`` (and the ``train`` block, which has the same fields) may say is in `FIELDS`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..configs.loader import Document, Field, validate
from ..datasets.base import Sample
from ..datasets.noises import NOISES
from .base import Observation, Task
from .spec import TaskSpec
from .speech_signals import Recordings, add_noise, fit_length, recordings, reverberate

if TYPE_CHECKING:
    from torch.utils.data import Dataset as TorchDataset

KINDS = ("noise", "reverb", "recorded")
FIELDS: dict[str, Field] = {
    "kind": Field((str,), required=True, choices=KINDS, meaning="noise: added; reverb: a simulated room; recorded: the dataset holds pairs"),
    "noises": Field((list,), default=[], meaning="names of datasets/noises.py; one of them by key"),
    "snr": Field((list, dict), default=[], meaning="dB over the whole signal: a list (one of them by key) or {from, to} (uniform)"),
    "early_ms": Field((int, float), default=50, meaning="reverb: the target holds the direct path and reflections up to this long after it"),
}
TRAIN_FIELDS: dict[str, Field] = {
    **FIELDS,
    "dataset": Field((str,), meaning="where training recordings come from; default: the task's dataset"),
    "split": Field((str,), default="train"),
    "seconds": Field((int, float), default=1.0, meaning="length of a training item"),
    "join": Field((int, float), default=0, meaning="seconds of recordings of one speaker joined to one"),
    "speakers": Field((list,), default=[], meaning="clusters to train on; default: all of the split"),
    "gflops": Field((int, float), meaning="training budget: samples x FLOPs per sample"),
}


class SpeechTask(Task):
    """Gives ``noisy`` float32 (1, T) and ``sample_rate``; compares with ``clean`` (1, T), time-aligned with the observation."""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec)
        document = Document(spec.path, {"observe": dict(spec.observe), "train": dict(spec.train or {})})
        self.how = _checked(document, "observe", FIELDS)
        self.train = _checked(document, "train", TRAIN_FIELDS) if spec.train else None

    # ------------------------------------------------------------------ observations
    def view(self, sample: Sample) -> Sample:
        """Return the sample cut or padded with silence to ``options.seconds``, where the task sets a length."""
        seconds = self.spec.options.get("seconds")
        if seconds is None:
            return sample
        data = dict(sample.data)
        for name in ("audio", "noisy"):
            if name in data:
                data[name] = fit_length(data[name], round(seconds * data["sample_rate"]))
        return Sample(sample.sample_id, sample.cluster, data)

    def ids(self, split: str = "test") -> list[str]:
        """Return the sample ids of a task split: those of ``options.speakers[split]``, every ``options.every``-th of them."""
        if split not in self.spec.splits or not {"speakers", "every"} & set(self.spec.options):
            return super().ids(split)
        return self.recordings(split).ids[:: int(self.spec.options.get("every", 1))][: self.spec.options.get("count")]

    def recordings(self, split: str) -> Recordings:
        """Return the recordings of a task split: of its speakers, joined to ``options.join`` seconds, where the task says so."""
        speakers = self.spec.options.get("speakers", {}).get(split, [])
        return recordings(self.spec.dataset, self.spec.splits[split], float(self.spec.options.get("join") or 0), tuple(speakers))

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        fs = int(sample["sample_rate"])
        if self.how["kind"] == "recorded":
            clean, noisy = np.asarray(sample["audio"]), np.asarray(sample["noisy"])
        else:
            bank = self.recordings(split)
            position = bank.ids.index(sample.sample_id)
            dry = bank.clean(position) if bank.join else np.asarray(sample["audio"])[0]
            if self.how["kind"] == "reverb":
                room = self.keyed(split, sample.sample_id, draw, "room")
                clean, noisy = reverberate(dry, self.spec.splits[split], room, self.how["early_ms"], fs)
            else:
                noise, snr = self.condition(split, self.ids(split).index(sample.sample_id), draw)
                rng = self.keyed(split, sample.sample_id, draw, "noise")
                clean, noisy = add_noise(dry, noise, snr, rng, fs, bank.others(position))
        given = {"noisy": _tensor(noisy), "sample_rate": fs}
        return Observation(sample.sample_id, sample.cluster, given, {"clean": _tensor(clean)})

    def condition(self, split: str, position: int, draw: int) -> tuple[str, float]:
        """Return noise and SNR of the task's sample at ``position``: all pairs in turn, in an order keyed by split and draw.

        Taking turns keeps the mix of conditions equal in all draws, so that a draw is not lucky by having more easy ones.
        """
        noises, levels = self.how["noises"], self.how["snr"]
        if isinstance(levels, dict):
            rng = self.keyed(split, str(position), draw, "condition")
            return str(rng.choice(noises)), float(rng.uniform(levels["from"], levels["to"]))
        n = len(self.ids(split))
        turn = int(self.keyed(split, "", draw, "conditions").permutation(n)[position])
        many = len(noises)
        # a diagonal walk over (noise, level) meets every pair when the step is prime to the number of levels; else row by row
        step = turn + turn // many if math.gcd(many + 1, len(levels)) == 1 else turn // many
        return noises[turn % many], float(levels[step % len(levels)])

    # ------------------------------------------------------------------ training
    def training_set(self, trains_on: str, seed: int) -> TorchDataset:
        """Return training items, dicts of float32 (1, seconds * fs) with ``sample_rate``; see `Task.training_set`.

        ``paired``: fresh noise (or room) for every index. ``noisy`` and ``noisy-pairs``: one noise per recording (two for pairs), since
        fresh noise on the same recording would show a network its clean mean.
        """
        from .speech_training import Mixes

        if self.train is None:
            return super().training_set(trains_on, seed)
        return Mixes(self.train, self._training_recordings(), trains_on, seed)

    def _training_recordings(self) -> Recordings:
        assert self.train is not None
        dataset = self.train["dataset"] or self.spec.dataset
        return recordings(dataset, self.train["split"], float(self.train["join"]), tuple(self.train["speakers"]))

    def training_key(self, trains_on: str) -> dict[str, Any]:
        """Return what the training data depend on; tasks with equal `train` blocks and training datasets share fits."""
        if self.train is None:
            return super().training_key(trains_on)
        from ..datasets import registry as datasets

        dataset = self.train["dataset"] or self.spec.dataset
        fingerprint = datasets.get(dataset).fingerprint()
        key = {"train": dict(self.train), "dataset": dataset, "fingerprint": fingerprint, "trains_on": trains_on}
        if self.train["kind"] == "reverb":
            import hashlib

            from ..datasets.rooms import responses

            key["rooms"] = hashlib.sha256(responses(self.train["split"]).tobytes()).hexdigest()
        return key


def _checked(document: Document, block: str, fields: dict[str, Field]) -> dict[str, Any]:
    """Return a checked ``observe`` or ``train`` block with defaults; RequestError in one sentence."""
    out = validate(document, fields, (block,))
    if out["kind"] != "noise":
        return out
    for name in ("noises", "snr"):
        if not out[name]:
            raise document.error(f"field '{block}.{name}' is missing (kind noise needs noises and snr).", (block,))
    wrong = [n for n in out["noises"] if n not in NOISES]
    if wrong:
        raise document.error(f"field '{block}.noises' has {wrong[0]!r}; accepted: {', '.join(NOISES)}.", (block, "noises"))
    levels = out["snr"]
    if isinstance(levels, dict) and (set(levels) != {"from", "to"} or levels["from"] > levels["to"]):
        raise document.error(f"field '{block}.snr' is {levels}; accepted: a list of dB, or {{from: low, to: high}}.", (block, "snr"))
    return out


def _tensor(signal: np.ndarray) -> torch.Tensor:
    """Return a signal (T,) or (1, T) as float32 (1, T)."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(signal, dtype=np.float32).reshape(1, -1)))


