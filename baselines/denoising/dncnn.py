"""DnCNN trained here: residual learning of the noise under a mean squared error (Zhang et al. 2017, arXiv:1608.03981)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from ...tasks.requests import Request
from ..method import DataSpec, Method
from ..nets.dncnn import DnCNN
from ..nets.optimise import adamw
from ..nets.tiling import tiled


class DnCNNMethod(Method):
    """One network per task (noise model and level), trained on pairs of a degraded and a clean crop.

    ``network`` takes (B, C, H, W) of any size; the loss is eq. 1, the mean squared error of the residual, which is that of the image.
    """

    network: DnCNN
    total_steps: int
    """Set by the harness before training."""

    def __init__(
        self,
        data: DataSpec,
        depth: int = 8,
        width: int = 32,
        norm: bool = False,
        bias: bool = True,
        centre: float = 0.5,
        lr: float = 4e-3,
        batch_size: int = 4,
    ) -> None:
        super().__init__()
        network = DnCNN(data.channels, depth, width, norm, bias, centre)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.lr, self.train_batch_size = lr, batch_size

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        return F.mse_loss(self.network(batch["input"].contiguous(memory_format=torch.channels_last)), batch["target"])

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps)

    def denoise(self, request: Request) -> torch.Tensor:
        return tiled(self.network, request.noisy, halo=self.network.halo)

    def restore(self, request: Request) -> torch.Tensor:
        return tiled(self.network, request.degraded, halo=self.network.halo)
