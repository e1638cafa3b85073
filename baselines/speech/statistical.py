"""Enhancement by a statistical gain: decision-directed Wiener filter and log-spectral amplitude estimator, noise tracked by SPP."""

from __future__ import annotations

from typing import ClassVar

import torch

from ...tasks.requests import Request
from ..method import Method
from .gains import decision_directed, log_amplitude_gain, spp_noise, wiener_gain
from .stft import analyse, synthesise


class _Statistical(Method):
    """S = G(xi, gamma) Y with a decision-directed xi; subclasses name the gain.

    ``smooth`` weighs the last frame's estimate in xi, ``xi_min_db`` and ``gain_min_db`` bound it and the gain from below; the first
    ``start_frames`` frames (about 0.1 s) start the noise tracker.
    """

    gain: ClassVar[staticmethod]

    def __init__(self, smooth: float = 0.98, xi_min_db: float = -25.0, gain_min_db: float = -20.0, start_frames: int = 6) -> None:
        super().__init__()
        self.smooth, self.xi_min_db, self.gain_min_db, self.start_frames = smooth, xi_min_db, gain_min_db, start_frames

    def enhance(self, request: Request) -> torch.Tensor:
        """Return the enhanced signals (B, 1, T)."""
        y = analyse(request.noisy, request.sample_rate)
        power = y.abs() ** 2
        noise = spp_noise(power, self.start_frames)
        gains = decision_directed(power, noise, self.gain, self.smooth, self.xi_min_db, self.gain_min_db)
        return synthesise(gains * y, request.sample_rate, request.noisy.shape[-1])


class WienerDD(_Statistical):
    """Scalart and Filho 1996: G = xi / (1 + xi)."""

    gain = staticmethod(wiener_gain)


class MMSELSA(_Statistical):
    """Ephraim and Malah 1985: the gain that is best in mean square error of the log amplitude."""

    gain = staticmethod(log_amplitude_gain)
