"""Blind denoisers of white Gaussian noise without biases (Mohan et al., ICLR 2020, arXiv:1906.05478): shared components, and a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import lightning
import torch
from torch import nn
from torch.nn import functional as F

from ...tasks.requests import Request
from ..method import Method
from ..nets.dncnn import DnCNN
from ..nets.optimise import adamw


class BlindDenoiser(lightning.LightningModule):
    """A component of form ``denoiser``: ``denoiser(x)`` returns E[clean | x] without being told the level.

    x float32 (B, C, H, W), clean images in [0, 1]. There is no additive constant, so D(a x) = a D(x), a > 0. Trained by mean squared error on
    white noise of a level uniform in [0, ``max_sigma``] (8-bit steps), drawn afresh for every crop. (D(x) - x) / sigma^2 is then the score of
    the noisy pictures (Tweedie).
    """

    total_steps: int
    """Set by the harness before training."""

    def __init__(
        self, channels: int = 1, depth: int = 8, width: int = 24, max_sigma: float = 55.0, lr: float = 3e-3, batch_size: int = 4
    ) -> None:
        super().__init__()
        self.network = DnCNN(channels, depth, width, norm=False, bias=False)
        self.max_sigma, self.lr, self.train_batch_size = max_sigma / 255, lr, batch_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        clean = batch["target"]
        sigma = self.max_sigma * torch.rand(len(clean), 1, 1, 1, device=clean.device)
        return F.mse_loss(self.network(clean + sigma * torch.randn_like(clean)), clean)

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps)

    def counted_networks(self) -> Iterator[nn.Module]:
        """Yield the network whose evaluated rows count."""
        yield self.network


class BlindGaussianMethod(Method):
    """The shared blind denoiser applied once, whatever the noise is."""

    def __init__(self, denoiser: BlindDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def denoise(self, request: Request) -> torch.Tensor:
        return self.denoiser(request.noisy)
