"""A small convolutional network that estimates a mask on the noisy spectrum: the trained reference of the speech boards.

Masks on the short-time spectrum with the noisy phase go back to Wang, Narayanan and Wang 2014; the dilated convolutions over time are those of
Conv-TasNet (Luo and Mesgarani 2019), here with frequencies as channels.
"""

from __future__ import annotations

import torch
from torch import nn

from ...tasks.requests import Request
from ..method import DataSpec, Method
from .stft import analyse, frame_length, synthesise


class Block(nn.Module):
    """Residual: dilated convolution over time, normalisation, PReLU. (B, C, frames) to the same."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation),
            nn.GroupNorm(1, channels),
            nn.PReLU(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class MaskEstimator(nn.Module):
    """Log power spectra (B, F, frames) to masks in (0, 1) of equal shape."""

    def __init__(self, bins: int, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.enter = nn.Conv1d(bins, channels, 1)
        self.blocks = nn.Sequential(*(Block(channels, d) for d in dilations))
        self.leave = nn.Conv1d(channels, bins, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.leave(self.blocks(self.enter(features))) + 1.0)  # begins with a mask that lets most through


class MaskNet(Method):
    """S = M(log |Y|^2) Y, trained on the negative SI-SDR of the waveform (Le Roux et al. 2019) and a compressed spectral error.

    ``channels`` is the width of the network, ``weight`` that of the spectral term, the mean over bins of (|S|^0.3 - |X|^0.3)^2 at a mean
    level of 1, which fixes the level that SI-SDR leaves free.
    """

    network: MaskEstimator
    train_batch_size = 16
    gradient_clip = 5.0

    def __init__(self, data: DataSpec, channels: int = 80, lr: float = 2e-3, weight: float = 10.0) -> None:
        super().__init__()
        self.sample_rate = data.sample_rate or 16000
        self.network = MaskEstimator(frame_length(self.sample_rate) // 2 + 1, channels, (1, 2, 4, 8, 1, 2, 4))
        self.lr, self.weight = lr, weight
        self.total_steps = 1000

    def masked(self, noisy: torch.Tensor) -> torch.Tensor:
        """Return the masked spectrum, complex (B, F, frames), of (B, 1, T)."""
        y = analyse(noisy, self.sample_rate)
        level = y.abs().square().mean((1, 2), keepdim=True).clamp_min(1e-12)
        features = torch.log(y.abs().square() / level + 1e-5)
        return self.network(features) * y

    def enhance(self, request: Request) -> torch.Tensor:
        """Return the enhanced signals (B, 1, T)."""
        return synthesise(self.masked(request.noisy), self.sample_rate, request.noisy.shape[-1])

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        """Return the loss of one batch of ``input`` and ``target``, (B, 1, T)."""
        noisy, clean = batch["input"], batch["target"]
        spectrum = self.masked(noisy)
        out, s = synthesise(spectrum, self.sample_rate, noisy.shape[-1])[:, 0], clean[:, 0]
        scaled = (out * s).sum(1, keepdim=True) / s.square().sum(1, keepdim=True).clamp_min(1e-6) * s
        ratio = (scaled.square().sum(1) + 1e-6) / ((scaled - out).square().sum(1) + 1e-6)
        wanted = analyse(clean, self.sample_rate)
        level = wanted.abs().mean((1, 2), keepdim=True) + 1e-3
        spectral = ((spectrum.abs() / level + 1e-6) ** 0.3 - (wanted.abs() / level + 1e-6) ** 0.3).square().mean()
        return (-10 * torch.log10(ratio)).mean() + self.weight * spectral

    def configure_optimizers(self):  # type: ignore[no-untyped-def]
        """Adam, the learning rate rising over the first tenth of the steps and falling along a cosine."""
        optimiser = torch.optim.Adam(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=self.lr, total_steps=max(self.total_steps, 2), pct_start=0.1)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
