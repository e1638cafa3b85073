"""The signals of speech tasks: recordings of a split, noise added at a level, rooms applied, all rounded to 16 bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ..datasets import noises
from ..datasets import registry as datasets

PEAK = 0.99


class Recordings:
    """The recordings of one dataset split (of ``speakers``, where some are named) in a fixed order; small splits are kept in memory.

    With ``join`` seconds, recording i is the i-th one followed by others of the same speaker, after 0.2 s of silence and with 0.1 s between
    them, cut to exactly ``join`` seconds: single digits are too short for intelligibility metrics, which need at least 0.4 s of speech.
    """

    def __init__(self, dataset_id: str, split: str, join: float = 0.0, speakers: tuple[str, ...] = ()) -> None:
        self.dataset, self.split, self.join = datasets.get(dataset_id), split, join
        self.ids = self.dataset.ids(split)
        if speakers:
            self.ids = [i for i in self.ids if self.dataset.sample(split, i).cluster in speakers]
        self._load = lru_cache(maxsize=1024)(self._read)
        self._clusters: list[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def _read(self, position: int) -> tuple[np.ndarray, np.ndarray | None, int, str]:
        sample = self.dataset.sample(self.split, self.ids[position])
        noisy = np.asarray(sample["noisy"])[0] if "noisy" in sample.data else None
        return np.asarray(sample["audio"])[0], noisy, int(sample["sample_rate"]), sample.cluster

    @property
    def clusters(self) -> list[str]:
        """The speaker of every recording."""
        if self._clusters is None:
            self._clusters = [self._load(i)[3] for i in range(len(self))]
        return self._clusters

    def sample_rate(self, position: int) -> int:
        """Return the sample rate of a recording in Hz."""
        return self._load(position)[2]

    def clean(self, position: int) -> np.ndarray:
        """Return the clean signal of a recording, float32 (T,), joined where ``join`` says so."""
        if not self.join:
            return self._load(position)[0]
        fs = self.sample_rate(position)
        own = [i for i, c in enumerate(self.clusters) if c == self.clusters[position]]
        start = own.index(position)
        step = next(s for s in (7, 11, 13, 1) if math.gcd(s, len(own)) == 1)  # neighbours in the list say the same word
        out, filled = np.zeros(round(self.join * fs), dtype=np.float32), round(0.2 * fs)
        for k in range(len(own)):
            part = self._load(own[(start + k * step) % len(own)])[0]
            part = part[: len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part) + round(0.1 * fs)
            if filled >= len(out):
                break
        return out

    def noisy(self, position: int) -> np.ndarray:
        """Return the noisy recording that belongs to a clean one (datasets of pairs)."""
        noisy = self._load(position)[1]
        if noisy is None:
            raise ValueError(f"dataset {self.dataset.id!r} holds no noisy recordings")
        return noisy

    def others(self, position: int) -> Talkers:
        """Return the recordings of this split by other speakers: what babble is made of."""
        return Talkers(self, position)


class Talkers(Sequence[np.ndarray]):
    """The clean recordings of a split by speakers other than that of one recording (where there is one speaker only: the other recordings)."""

    def __init__(self, bank: Recordings, position: int) -> None:
        self._bank, self._position = bank, position
        self._members: list[int] | None = None

    def _positions(self) -> list[int]:
        if self._members is None:
            speaker = self._bank.clusters[self._position]
            everybody = range(len(self._bank))
            others = [i for i in everybody if self._bank.clusters[i] != speaker]
            self._members = others or [i for i in everybody if i != self._position]
        return self._members

    def __len__(self) -> int:
        return len(self._positions())

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._bank.clean(self._positions()[index])


@lru_cache(maxsize=8)
def recordings(dataset_id: str, split: str, join: float = 0.0, speakers: tuple[str, ...] = ()) -> Recordings:
    """Return the recordings of a dataset split, one object per process."""
    return Recordings(dataset_id, split, join, speakers)


def fit_length(audio: np.ndarray, samples: int) -> np.ndarray:
    """Cut (..., T) to ``samples``, or pad it with zeros at its end."""
    audio = audio[..., :samples]
    missing = samples - audio.shape[-1]
    return np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, missing)]) if missing else audio


def round16(signal: np.ndarray) -> np.ndarray:
    """Round to the 16-bit grid k / 32768, float32."""
    return (np.clip(np.round(signal * 32768), -32768, 32767) / 32768).astype(np.float32)


def _together(clean: np.ndarray, noisy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round both, scaled down alike where the observation would clip."""
    peak = float(np.abs(noisy).max())
    scale = PEAK / peak if peak > PEAK else 1.0
    return round16(clean * scale), round16(noisy * scale)


def add_noise(
    clean: np.ndarray,
    noise: str,
    snr: float,
    rng: np.random.Generator,
    fs: int,
    talkers: Sequence[np.ndarray] = (),
    part: slice = slice(None),
) -> tuple[np.ndarray, np.ndarray]:
    """Return (clean, noisy), float32 (T,), with noise of a kind at ``snr`` dB; of ``part`` of the signal only, where one is named.

    SNR: the mean power of the whole clean signal, pauses included, over that of the noise. Both are scaled down alike where the sum would clip.
    """
    power = float(np.mean(np.asarray(clean, dtype=np.float64) ** 2))
    x = np.asarray(clean[part], dtype=np.float64)
    n = len(x)
    added = noises.babble(rng, n, talkers) if noise == "babble" else noises.MAKERS[noise](rng, n, fs)
    return _together(x, x + np.sqrt(power * 10 ** (-snr / 10)) * added)


def reverberate(
    dry: np.ndarray, rooms_split: str, rng: np.random.Generator, early_ms: float, fs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (early, reverberant), float32 (T,), in one of the split's rooms; both aligned with the direct path, at the level of ``dry``.

    ``early`` is the signal through the direct path and the reflections up to ``early_ms`` after it, which hearing adds to the direct sound.
    """
    from scipy.signal import fftconvolve

    from ..datasets import rooms

    if fs != rooms.FS:
        raise ValueError(f"rooms are simulated at {rooms.FS} Hz, not {fs}")
    responses = rooms.responses(rooms_split)
    response = responses[int(rng.integers(len(responses)))].astype(np.float64)
    x = np.asarray(dry, dtype=np.float64)
    n = len(x)
    wet = fftconvolve(x, response)[rooms.LEAD : rooms.LEAD + n]
    target = fftconvolve(x, rooms.early(response, early_ms))[rooms.LEAD : rooms.LEAD + n]
    scale = np.sqrt(np.sum(x**2) / np.sum(target**2))
    return _together(target * scale, wet * scale)
