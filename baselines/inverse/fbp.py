"""Filtered back-projection for parallel-beam tomography (Bracewell and Riddle 1967; Ramachandran and Lakshminarayanan 1971)."""

from __future__ import annotations

import torch

from ...configs.errors import RunError
from ...tasks.operators import ParallelBeam
from ...tasks.requests import Request
from ..method import Method


class FBP(Method):
    """x = pi / (2 views) A^T (h * y), h the ramp filter |w|, with ``window`` ``ramp`` (none) or ``hann`` (less noise, less resolution)."""

    def __init__(self, window: str = "ramp") -> None:
        super().__init__()
        if window not in ("ramp", "hann"):
            raise RunError(f"fbp has no window {window!r}; accepted: ramp, hann.")
        self.window = window

    def reconstruct(self, request: Request) -> torch.Tensor:
        physics, y = request.physics, request.y
        if not isinstance(physics, ParallelBeam):
            raise RunError(f"fbp inverts parallel-beam tomography, not {type(physics).__name__}.")
        return physics.fbp(self.smoothed(y) if self.window == "hann" else y)

    @staticmethod
    def smoothed(y: torch.Tensor) -> torch.Tensor:
        """Multiply each projection's spectrum with a Hann window, 1 at zero and 0 at the Nyquist frequency. y: (B, 1, detectors, views)."""
        n = 2 * y.shape[2]  # zero-padded, so that one edge does not leak into the other
        window = 0.5 + 0.5 * torch.cos(2 * torch.pi * torch.fft.rfftfreq(n, device=y.device, dtype=y.dtype))
        return torch.fft.irfft(torch.fft.rfft(y, n, dim=2) * window[:, None], n, dim=2)[:, :, : y.shape[2]]
