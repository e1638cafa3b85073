"""Synthetic noises for speech tasks. Each is a function of a generator: float64 (n,), zero mean, unit power, at sample rate ``fs``.

Stationary: white, pink, speech-shaped. Non-stationary: babble (other talkers), traffic, hum with impulses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

STATIONARY = ("white", "pink", "speech-shaped")
NOISES = (*STATIONARY, "babble", "traffic", "hum-impulses")


def _unit(x: np.ndarray) -> np.ndarray:
    x = x - x.mean()
    return x / np.sqrt(np.mean(x**2))


def _shaped(rng: np.random.Generator, n: int, fs: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Gaussian noise whose amplitude spectrum is white noise's times ``gain(f)``, f in Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    return _unit(np.fft.irfft(spectrum * gain(np.fft.rfftfreq(n, 1 / fs)), n))


def white(rng: np.random.Generator, n: int, fs: int) -> np.ndarray:
    """White Gaussian noise."""
    return _unit(rng.standard_normal(n))


def pink(rng: np.random.Generator, n: int, fs: int) -> np.ndarray:
    """Power falls 3 dB per octave above 20 Hz."""
    return _shaped(rng, n, fs, lambda f: 1 / np.sqrt(np.maximum(f, 20.0)))


def speech_shaped(rng: np.random.Generator, n: int, fs: int) -> np.ndarray:
    """A stylised long-term speech spectrum: rising to 100 Hz, flat to 500 Hz, then 9 dB per octave down (compare Byrne et al. 1994)."""
    return _shaped(rng, n, fs, lambda f: np.minimum(f / 100, 1.0) * np.minimum((500 / np.maximum(f, 1.0)) ** 1.5, 1.0))


def traffic(rng: np.random.Generator, n: int, fs: int) -> np.ndarray:
    """Low rumble (6 dB per octave down above 200 Hz) whose level swells and falls by several dB within a second, as cars pass."""
    rumble = _shaped(rng, n, fs, lambda f: np.minimum(200 / np.maximum(f, 1.0), 1.0) * (f > 20))
    swell = _shaped(rng, n, fs, lambda f: (f < 2.0).astype(float))
    return _unit(rumble * np.exp(0.7 * swell))


def hum_impulses(rng: np.random.Generator, n: int, fs: int) -> np.ndarray:
    """Mains hum (50 or 60 Hz with harmonics to 2 kHz), a white floor 15 dB below it, and about eight decaying clicks a second."""
    mains = int(rng.choice([50, 60]))
    orders = np.arange(1, 2000 // mains + 1)[:, None]
    amplitudes, phases = rng.uniform(0.3, 1.0, orders.shape) / orders, rng.uniform(0, 2 * np.pi, orders.shape)
    period = fs // math.gcd(fs, mains)  # samples after which all harmonics are where they began
    hum = np.sum(amplitudes * np.sin(2 * np.pi * mains * orders * np.arange(period) / fs + phases), axis=0)
    hum = np.resize(hum, n)
    out = _unit(hum) + 10 ** (-15 / 20) * rng.standard_normal(n)
    length = int(0.01 * fs)
    decay = np.exp(-np.arange(length) / (0.002 * fs))
    for start in rng.integers(0, n, rng.poisson(8 * n / fs)):
        click = rng.uniform(4, 10) * decay * np.sin(2 * np.pi * rng.uniform(0.05, 0.22) * np.arange(length))
        out[start : start + length] += click[: n - start]
    return _unit(out)


def babble(rng: np.random.Generator, n: int, talkers: Sequence[np.ndarray], count: int = 6) -> np.ndarray:
    """The sum of ``count`` of the given talkers' recordings at equal power, each repeated to length n and shifted at random."""
    if len(talkers) == 0:
        raise ValueError("babble needs at least one recording of another talker")
    out = np.zeros(n)
    for i in rng.choice(len(talkers), size=count, replace=len(talkers) < count):
        out += np.roll(np.resize(_unit(np.asarray(talkers[i], dtype=np.float64)), n), int(rng.integers(n)))
    return _unit(out)


MAKERS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "white": white, "pink": pink, "speech-shaped": speech_shaped, "traffic": traffic, "hum-impulses": hum_impulses,
}  # fmt: skip
"""The noises that need nothing but a generator."""
