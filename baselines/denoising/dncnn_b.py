"""DnCNN-B trained here: one blind DnCNN for all levels of white Gaussian noise (Zhang et al. 2017, arXiv:1608.03981, section III-E)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from ..method import DataSpec
from .dncnn import DnCNNMethod


class DnCNNBlind(DnCNNMethod):
    """Trained on clean crops with white Gaussian noise of a level uniform in [0, ``max_sigma``] / 255, which the network is not told.

    It answers noise of any other kind as if it were that: what a photographer gets who downloads a Gaussian denoiser.
    """

    def __init__(
        self,
        data: DataSpec,
        depth: int = 10,
        width: int = 32,
        norm: bool = False,
        bias: bool = True,
        centre: float = 0.5,
        max_sigma: float = 55.0,
        lr: float = 2e-3,
        batch_size: int = 4,
    ) -> None:
        super().__init__(data, depth, width, norm, bias, centre, lr, batch_size)
        self.max_sigma = max_sigma / 255

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        clean = batch["target"].contiguous(memory_format=torch.channels_last)
        sigma = self.max_sigma * torch.rand(len(clean), 1, 1, 1, device=clean.device)
        return F.mse_loss(self.network(clean + sigma * torch.randn_like(clean)), clean)
