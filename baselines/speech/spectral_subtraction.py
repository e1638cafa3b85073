"""Power spectral subtraction with over-subtraction and a spectral floor (Berouti, Schwartz, Makhoul 1979)."""

from __future__ import annotations

import torch

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import Method
from .gains import TINY, db, first_frames, spp_noise
from .stft import analyse, synthesise


class SpectralSubtraction(Method):
    """|S|^2 = max(|Y|^2 - alpha N, beta N), with the noisy phase; alpha falls with the frame's SNR.

    noise: ``first-frames`` takes the mean power of the first ``frames`` frames (about 0.1 s) for N, ``spp`` tracks it.
    ``alpha`` is the over-subtraction at 0 dB, ``alpha_max`` its cap, ``beta`` the floor as a share of the noise power.
    """

    def __init__(
        self, alpha: float = 4.0, slope: float = 0.15, alpha_max: float = 5.0, beta: float = 0.02, frames: int = 6, noise: str = "first-frames"
    ) -> None:
        super().__init__()
        if noise not in ("first-frames", "spp"):
            raise RequestError(f"spectral-subtraction's noise is {noise!r}; accepted: first-frames, spp.")
        self.alpha, self.slope, self.alpha_max, self.beta = alpha, slope, alpha_max, beta
        self.frames, self.noise = frames, noise

    def enhance(self, request: Request) -> torch.Tensor:
        """Return the enhanced signals (B, 1, T)."""
        y = analyse(request.noisy, request.sample_rate)
        power = y.abs() ** 2
        noise = first_frames(power, self.frames)[..., None].expand_as(power) if self.noise == "first-frames" else spp_noise(power)
        snr = db(power.sum(1, keepdim=True) / noise.sum(1, keepdim=True).clamp_min(TINY))  # of each frame, over all frequencies
        alpha = (self.alpha - self.slope * snr).clamp(1.0, self.alpha_max)
        clean = torch.maximum(power - alpha * noise, self.beta * noise)
        return synthesise(y * (clean / power.clamp_min(TINY)).sqrt(), request.sample_rate, request.noisy.shape[-1])
