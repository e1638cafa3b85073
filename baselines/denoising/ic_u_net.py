"""IC-U-Net (Chuang, Chang, Huang and Jung, NeuroImage 263, 2022, 119586): a U-Net over time for EEG, trained on mixtures of components."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ..method import DataSpec
from .recordings import TrainedOnWindows


def twice(inside: int, out: int, kernel: int) -> nn.Sequential:
    """Return two convolutions over time, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for i, o in ((inside, out), (out, out)):
        layers += [nn.Conv1d(i, o, kernel, padding=kernel // 2), nn.BatchNorm1d(o), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet1d(nn.Module):
    """``forward`` returns like x (B, C, T), any T: halving by max-pooling, transposed convolutions up, skips by concatenation."""

    def __init__(self, channels: int, widths: Sequence[int], kernels: Sequence[int]) -> None:
        super().__init__()
        self.down, self.raise_, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        inside = channels
        for w, k in zip(widths, kernels, strict=True):
            self.down.append(twice(inside, w, k))
            inside = w
        for low, high, k in zip(widths[:-1], widths[1:], kernels[:-1], strict=True):
            self.raise_.append(nn.ConvTranspose1d(high, low, 2, 2))
            self.up.append(twice(2 * low, low, k))
        self.leave = nn.Conv1d(widths[0], channels, 1)
        self.unit = 2 ** (len(widths) - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[-1]
        x, kept = F.pad(x, (0, -length % self.unit), mode="replicate"), []
        for level, block in enumerate(self.down):
            x = block(F.max_pool1d(x, 2) if level else x)
            kept.append(x)
        kept.pop()
        for up, join in zip(reversed(self.raise_), reversed(self.up), strict=True):
            x = join(torch.cat([kept.pop(), up(x)], 1))
        return self.leave(x)[..., :length]


class ICUNet(TrainedOnWindows):
    """``ensemble``: the loss is the mean of the squared errors of amplitude, velocity (first difference), acceleration (second) and amplitude
    spectrum, the four terms of the paper with equal weights; without it the squared error of the amplitude alone."""

    network: UNet1d

    def __init__(
        self,
        data: DataSpec,
        widths: Sequence[int] = (16, 32, 48, 64),
        kernels: Sequence[int] = (7, 7, 5, 3),
        ensemble: bool = True,
        lr: float = 3e-3,
        batch_size: int = 16,
    ) -> None:
        super().__init__()
        self.network = UNet1d(data.channels, widths, kernels)
        self.ensemble, self.lr, self.train_batch_size = ensemble, lr, batch_size

    def loss(self, noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        error = self.network(noisy) - clean
        amplitude = error.square().mean()
        if not self.ensemble:
            return amplitude
        velocity = error.diff(dim=-1)
        spectra = [torch.fft.rfft(v, norm="ortho").abs() for v in (error + clean, clean)]
        terms = [amplitude, velocity.square().mean(), velocity.diff(dim=-1).square().mean(), F.mse_loss(*spectra)]
        return torch.stack(terms).mean()

    def cleaned(self, noisy: torch.Tensor) -> torch.Tensor:
        return self.network(noisy)


class CNN1d(TrainedOnWindows):
    """A plain network of dilated convolutions over time that predicts what to take away: the control without an encoder and decoder."""

    network: nn.Sequential

    def __init__(
        self,
        data: DataSpec,
        width: int = 64,
        kernel: int = 5,
        dilations: Sequence[int] = (1, 2, 4, 8, 16, 1),
        lr: float = 3e-3,
        batch_size: int = 16,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = data.channels
        for d in dilations:
            layers += [nn.Conv1d(inside, width, kernel, padding=d * (kernel // 2), dilation=d), nn.BatchNorm1d(width), nn.ReLU()]
            inside = width
        self.network = nn.Sequential(*layers, nn.Conv1d(inside, data.channels, 1))
        self.lr, self.train_batch_size = lr, batch_size

    def loss(self, noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(noisy - self.network(noisy), clean)

    def cleaned(self, noisy: torch.Tensor) -> torch.Tensor:
        return noisy - self.network(noisy)
