"""Simulated EEG with artefacts of known shape: 8 electrodes, 2 s at 128 Hz, in units of 10 microvolts. Pairs are exact, no ICA is needed.

A subject has a head: how five background sources, an alpha and a beta rhythm reach the electrodes, where blinks, jaw muscles and the mains
show.
A window of brain activity is 1/f^a noise, an occipital alpha and a central beta rhythm (both narrow-band noise, so that they wax and wane),
mixed
by the subject's lead field. Blinks are slow bumps at the forehead, muscle activity is bursts of 20 to 60 Hz noise at the temples, line noise
is 50
Hz. Subjects of the splits differ. Simulated heads are simpler than people: figures found here do not carry over to recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from .base import Dataset, Sample
from .keys import keyed

if TYPE_CHECKING:
    import numpy as np

FS, LENGTH = 128, 256
ELECTRODES = ("Fp1", "Fp2", "F7", "F8", "C3", "C4", "O1", "O2")
PLACES = ((-0.3, 0.95), (0.3, 0.95), (-0.8, 0.55), (0.8, 0.55), (-0.45, 0.0), (0.45, 0.0), (-0.3, -0.95), (0.3, -0.95))
"""Electrodes seen from above, nose upwards, on a head of radius one."""
ARTEFACTS = ("blink", "muscle", "line")
SUBJECTS = {"train": 40, "dev": 4, "test": 10}
WINDOWS = {"train": 50, "dev": 12, "test": 10}
LEVELS = 2048
"""Steps per unit to which windows are rounded, so that the bits are equal on all machines."""


@dataclass(frozen=True)
class Head:
    """One subject. Topographies hold a gain per electrode (8,); ``background`` (5, 8) those of the background sources."""

    background: np.ndarray
    exponents: np.ndarray
    alpha: np.ndarray
    alpha_hz: float
    beta: np.ndarray
    beta_hz: float
    blink: np.ndarray
    left: np.ndarray
    right: np.ndarray
    line: np.ndarray


def _seen_from(x: float, y: float, width: float) -> np.ndarray:
    """Return how strongly each electrode sees a source at (x, y): Gaussian in the distance."""
    import numpy as np

    places = np.array(PLACES)
    return np.exp(-((places - (x, y)) ** 2).sum(1) / (2 * width**2))


@lru_cache(maxsize=256)
def head(version: int, split: str, subject: int) -> Head:
    """Return subject ``subject`` of a split."""
    import numpy as np

    rng = keyed("eeg", version, "head", split, subject)
    spots = rng.uniform(-0.8, 0.8, (5, 2))
    signs = rng.choice([-1.0, 1.0], (5, 1))
    vary = lambda: rng.uniform(0.8, 1.2, 8)  # noqa: E731
    return Head(
        background=signs * np.stack([_seen_from(x, y, rng.uniform(0.5, 1.0)) for x, y in spots]) + 0.1 * rng.standard_normal((5, 8)),
        exponents=rng.uniform(0.9, 1.6, 5),
        alpha=_seen_from(rng.uniform(-0.2, 0.2), -0.9, 0.7) * vary() * rng.uniform(0.5, 1.2),
        alpha_hz=float(rng.uniform(8.5, 11.5)),
        beta=_seen_from(rng.uniform(-0.4, 0.4), 0.0, 0.6) * vary() * rng.uniform(0.15, 0.4),
        beta_hz=float(rng.uniform(15, 25)),
        blink=_seen_from(rng.uniform(-0.15, 0.15), 1.1, rng.uniform(0.45, 0.65)) * vary(),
        left=_seen_from(-1.0, rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.5)) * vary(),
        right=_seen_from(1.0, rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.5)) * vary(),
        line=rng.uniform(0.3, 1.2, 8),
    )


def _noise(rng: np.random.Generator, gain: np.ndarray) -> np.ndarray:
    """Return noise (rows, LENGTH) of unit power with amplitude spectrum ``gain`` (rows, LENGTH + 1): cut out of twice the length, so no window
    wraps."""
    import numpy as np

    white = np.fft.rfft(rng.standard_normal((len(gain), 2 * LENGTH)))
    out = np.fft.irfft(white * gain)
    return out[:, :LENGTH] / np.sqrt((gain**2).mean(1, keepdims=True))


def _band(centre: float, width: float) -> np.ndarray:
    """Return a Gaussian pass band about ``centre`` Hz, (1, LENGTH + 1)."""
    import numpy as np

    hz = np.fft.rfftfreq(2 * LENGTH, 1 / FS)
    return np.exp(-0.5 * ((hz - centre) / width) ** 2)[None]


def brain(h: Head, rng: np.random.Generator) -> np.ndarray:
    """Return a window of brain activity (8, 256): root mean square about 1, which is 10 microvolts."""
    import numpy as np

    hz = np.fft.rfftfreq(2 * LENGTH, 1 / FS)
    colour = np.where(hz > 0.9, np.maximum(hz, 0.9)[None] ** (-h.exponents[:, None] / 2), 0.0)
    out = h.background.T @ _noise(rng, colour)
    out += 1.5 * rng.uniform(0.3, 1.0) * h.alpha[:, None] * _noise(rng, _band(h.alpha_hz, 0.8))
    return out + rng.uniform(0.3, 1.0) * h.beta[:, None] * _noise(rng, _band(h.beta_hz, 2.0))


def artefact(kind: str, h: Head, rng: np.random.Generator) -> np.ndarray:
    """Return one artefact (8, 256): ``blink`` (one or two), ``muscle`` (one or two bursts), or ``line``."""
    import numpy as np

    time = np.arange(LENGTH) / FS
    out = np.zeros((len(ELECTRODES), LENGTH))
    if kind == "line":
        return rng.uniform(0.3, 1.5) * h.line[:, None] * np.sin(2 * np.pi * (rng.uniform(49.8, 50.2) * time + rng.random()))
    for _ in range(1 + int(rng.integers(2))):
        at = rng.uniform(0.1, 1.9)
        if kind == "blink":  # it closes faster than it opens
            rise, fall = rng.uniform(0.05, 0.08), rng.uniform(0.08, 0.15)
            shape = np.exp(-0.5 * ((time - at) / np.where(time < at, rise, fall)) ** 2)
            out += rng.uniform(5, 15) * h.blink[:, None] * shape
        elif kind == "muscle":
            envelope = np.exp(-0.5 * ((time - at) / rng.uniform(0.1, 0.4)) ** 2)
            side = h.left if rng.random() < 0.5 else h.right
            out += rng.uniform(1.5, 5) * side[:, None] * envelope * _noise(rng, _band(rng.uniform(28, 50), 9.0))
        else:
            raise ValueError(f"artefact {kind!r}; accepted: {', '.join(ARTEFACTS)}")
    return out


def rounded(window: np.ndarray) -> np.ndarray:
    """Return a window as float32, rounded to 1/2048 of 10 microvolts."""
    import numpy as np

    return (np.rint(window * LEVELS) / LEVELS).astype(np.float32)


class EEG(Dataset):
    """Windows of simulated brain activity. ``signal``: float32 (8, 256), 10 microvolts, at 128 Hz; ``sample_rate``; ``subject``. Cluster: the
    subject."""

    id = "eeg"
    title = "Simulated EEG, 8 electrodes, windows of 2 s at 128 Hz"
    kind = "signal"
    licence = "CC0-1.0 (generated)"
    pixels = "redistribute"
    source = "generated, keyed by (id, version, split, subject, window)"
    shape = (len(ELECTRODES), LENGTH)
    sample_rate = FS

    def _ids(self, split: str) -> list[str]:
        return [f"{split}-s{s:02d}-{w:03d}" for s in range(SUBJECTS[split]) for w in range(WINDOWS[split])]

    def _load(self, split: str, sample_id: str) -> Sample:
        _, subject, window = sample_id.rsplit("-", 2)
        number = int(subject[1:])
        clean = brain(head(self.version, split, number), keyed("eeg", self.version, "brain", split, number, int(window)))
        data = {"signal": rounded(clean), "sample_rate": FS, "subject": number}
        return Sample(sample_id, f"{split}-{subject}", data)
