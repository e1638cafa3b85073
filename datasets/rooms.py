"""Simulated rooms: impulse responses of shoe-box rooms by the image source method (Allen and Berkley 1979), through pyroomacoustics.

A room's geometry is a pure function of (split, index). Responses are computed on one thread (sums split over threads round differently),
rounded to 16 bits of their peak, and kept under `configs.loader.home`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np

from .arrays import cached_array
from .keys import keyed

FS = 16000
COUNTS = {"train": 24, "dev": 4, "test": 12}
LEAD = 40
"""Samples kept before the direct path's peak: half the length of the fractional delay filter."""
TAPS = LEAD + int(0.75 * FS)


@dataclass(frozen=True)
class Room:
    """One room: side lengths, source and microphone in metres, reverberation time T60 in seconds (Sabine)."""

    size: tuple[float, float, float]
    source: tuple[float, float, float]
    microphone: tuple[float, float, float]
    rt60: float


def geometry(split: str, index: int) -> Room:
    """Return room ``index`` of ``split``: 3 to 7 m wide, T60 0.3 to 0.7 s, source and microphone 1 to 3 m apart, 0.5 m off the walls."""
    rng = keyed("speech-room", split, index)
    size = np.array([rng.uniform(3.5, 7.0), rng.uniform(3.0, 5.5), rng.uniform(2.4, 3.2)])
    rt60 = rng.uniform(0.3, 0.7)
    while True:
        source, microphone = (np.append(rng.uniform(0.5, size[:2] - 0.5), rng.uniform(1.1, 1.8)) for _ in range(2))
        if 1.0 <= np.linalg.norm(source - microphone) <= 3.0:
            break
    rounded = [tuple(float(v) for v in np.round(a, 3)) for a in (size, source, microphone)]
    return Room(rounded[0], rounded[1], rounded[2], round(float(rt60), 3))  # type: ignore[arg-type]


def simulate(room: Room) -> np.ndarray:
    """Return the room's impulse response, int16 (TAPS,), its direct path at tap LEAD; scaled so that its largest tap is 32767."""
    import pyroomacoustics as pra

    threads = pra.constants.get("num_threads")
    pra.constants.set("num_threads", 1)
    try:
        absorption, order = pra.inverse_sabine(room.rt60, room.size)
        shoebox = pra.ShoeBox(room.size, fs=FS, materials=pra.Material(absorption), max_order=order)
        shoebox.add_source(room.source)
        shoebox.add_microphone(room.microphone)
        shoebox.compute_rir()
        response = np.asarray(shoebox.rir[0][0], dtype=np.float64)
    finally:
        pra.constants.set("num_threads", threads)
    distance = float(np.linalg.norm(np.subtract(room.source, room.microphone)))
    direct = LEAD + round(distance / pra.constants.get("c") * FS)  # pyroomacoustics delays every path by half its filter
    start = max(direct - LEAD, 0)
    taps = np.zeros(TAPS)
    part = response[start : start + TAPS]
    taps[: len(part)] = part
    return np.round(32767 * taps / np.abs(taps).max()).astype(np.int16)


@cache
def responses(split: str) -> np.ndarray:
    """Return the impulse responses of a split's rooms, int16 (rooms, TAPS); simulated once a machine (about 0.3 s a room)."""
    import pyroomacoustics as pra

    rooms = [geometry(split, i) for i in range(COUNTS[split])]
    key = hashlib.sha256(f"1|{pra.__version__}|{np.__version__}|{rooms}".encode()).hexdigest()[:16]
    return cached_array(f"speech-rooms-{split}-{key}", lambda: np.stack([simulate(room) for room in rooms]))


def early(response: np.ndarray, milliseconds: float, fs: int = FS) -> np.ndarray:
    """Return the part of a response up to ``milliseconds`` after its direct path, the rest zero."""
    out = np.array(response)
    out[LEAD + int(milliseconds * fs / 1000) :] = 0
    return out
