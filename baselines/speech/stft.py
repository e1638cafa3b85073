"""The short-time Fourier transform that the speech methods share: 32 ms frames, half overlapped, square-root Hann on both sides."""

from __future__ import annotations

from functools import lru_cache

import torch

FRAME_SECONDS = 0.032


def frame_length(sample_rate: int) -> int:
    """Return the number of samples of one frame, an even number of about 32 ms: 512 at 16 kHz, 256 at 8 kHz."""
    return 2 * round(FRAME_SECONDS * sample_rate / 2)


@lru_cache(maxsize=8)
def _window(n: int, device: str) -> torch.Tensor:
    return torch.hann_window(n, periodic=True, device=device).sqrt()


def analyse(signal: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Return the spectrum of (B, 1, T): complex (B, F, frames), the frames centred at multiples of half a frame."""
    n = frame_length(sample_rate)
    x = signal[:, 0]
    if x.shape[-1] <= n // 2:  # reflection needs more than half a frame
        x = torch.nn.functional.pad(x, (0, n))
    return torch.stft(x, n, n // 2, window=_window(n, str(x.device)), center=True, pad_mode="reflect", return_complex=True)


def synthesise(spectrum: torch.Tensor, sample_rate: int, length: int) -> torch.Tensor:
    """Return the signal (B, 1, length) of a spectrum; the least-squares inverse of `analyse` (Griffin and Lim 1984)."""
    n = frame_length(sample_rate)
    padded = max(length, n) if length <= n // 2 else length
    x = torch.istft(spectrum, n, n // 2, window=_window(n, str(spectrum.device)), center=True, length=padded)
    return x[:, None, :length]
