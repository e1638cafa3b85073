"""Classical cleaning of EEG: a band-pass filter, independent components dropped by rule, and large wavelet coefficients clipped."""

from __future__ import annotations

import warnings
from abc import abstractmethod

import numpy as np
import torch
from scipy import signal, stats
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from ...tasks.requests import Request
from ..method import Method
from .wavelets import MAD, daubechies


class WindowFilter(Method):
    """A filter of one window at a time, (C, T) in float64."""

    @abstractmethod
    def filtered(self, window: np.ndarray, fs: float) -> np.ndarray:
        """Return the cleaned window (C, T)."""

    def enhance(self, request: Request) -> torch.Tensor:
        windows = request.noisy.detach().cpu().numpy().astype(np.float64)
        out = np.stack([self.filtered(w, float(request.sample_rate)) for w in windows])
        return torch.from_numpy(out.astype(np.float32)).to(request.noisy.device)


class BandPass(WindowFilter):
    """Butterworth band pass of ``order`` from ``low`` to ``high`` Hz, run forwards and backwards (no delay); ``low`` 0: a low pass."""

    def __init__(self, low: float = 1.0, high: float = 40.0, order: int = 4) -> None:
        super().__init__()
        self.low, self.high, self.order = low, high, order

    def filtered(self, window: np.ndarray, fs: float) -> np.ndarray:
        edges, kind = (self.high, "lowpass") if self.low <= 0 else ((self.low, self.high), "bandpass")
        return signal.sosfiltfilt(signal.butter(self.order, edges, kind, fs=fs, output="sos"), window, axis=-1)


class ICAThresholding(WindowFilter):
    """FastICA of each window; a component is dropped when its excess kurtosis exceeds ``kurtosis`` (blinks and bursts are peaked) or when
    more than ``fast`` of its power lies above 25 Hz (muscle, mains); the rest is projected back (Delorme, Sejnowski and Makeig, NeuroImage 34,
    2007)."""

    def __init__(self, kurtosis: float = 2.0, fast: float = 0.4, iterations: int = 200) -> None:
        super().__init__()
        self.kurtosis, self.fast, self.iterations = kurtosis, fast, iterations

    def filtered(self, window: np.ndarray, fs: float) -> np.ndarray:
        ica = FastICA(whiten="unit-variance", max_iter=self.iterations, w_init=np.eye(len(window)), tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a short window may not separate; what it has found is used
            sources = ica.fit_transform(window.T)
        spectrum = np.abs(np.fft.rfft(sources, axis=0)) ** 2
        share = spectrum[np.fft.rfftfreq(len(sources), 1 / fs) > 25].sum(0) / spectrum[1:].sum(0)
        sources[:, (stats.kurtosis(sources, axis=0) > self.kurtosis) | (share > self.fast)] = 0
        return ica.inverse_transform(sources).T


def analyse(x: np.ndarray, levels: int, moments: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return approximation and details of the undecimated transform along the last axis (circular), each like x."""
    low = daubechies(moments)
    high, details = low[::-1] * (-1.0) ** np.arange(len(low)), []
    for j in range(levels):
        details.append(sum(tap * np.roll(x, -k * 2**j, -1) for k, tap in enumerate(high)) / np.sqrt(2))
        x = sum(tap * np.roll(x, -k * 2**j, -1) for k, tap in enumerate(low)) / np.sqrt(2)
    return x, details


def synthesise(approximation: np.ndarray, details: list[np.ndarray], moments: int) -> np.ndarray:
    """Undo `analyse`."""
    low = daubechies(moments)
    high, x = low[::-1] * (-1.0) ** np.arange(len(low)), approximation
    for j in reversed(range(len(details))):
        x = sum(a * np.roll(x, k * 2**j, -1) + d * np.roll(details[j], k * 2**j, -1) for k, (a, d) in enumerate(zip(low, high, strict=True)))
        x = x / np.sqrt(2)
    return x


class WaveletClipping(WindowFilter):
    """Wavelet coefficients beyond ``strength`` robust deviations of their band are clipped to that bound: here the large coefficients are
    the artefacts, not the signal (Krishnaveni et al. 2006). The smooth remainder is clipped alike; ``finest`` bands are dropped altogether."""

    def __init__(self, strength: float = 2.5, levels: int = 5, moments: int = 4, finest: int = 1) -> None:
        super().__init__()
        self.strength, self.levels, self.moments, self.finest = strength, levels, moments, finest

    def filtered(self, window: np.ndarray, fs: float) -> np.ndarray:
        length = window.shape[-1]
        approximation, details = analyse(np.pad(window, [(0, 0), (length, length)], mode="symmetric"), self.levels, self.moments)
        details = [np.zeros_like(d) if j < self.finest else self._clipped(d) for j, d in enumerate(details)]
        return synthesise(self._clipped(approximation), details, self.moments)[..., length : 2 * length]

    def _clipped(self, band: np.ndarray) -> np.ndarray:
        middle = np.median(band, -1, keepdims=True)
        bound = self.strength * np.median(np.abs(band - middle), -1, keepdims=True) / MAD
        return np.clip(band, middle - bound, middle + bound)
