"""FFDNet trained here: one network for all levels of white Gaussian noise, told the level by a map (Zhang et al. 2018, arXiv:1710.04026)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ..method import DataSpec
from ..nets.ffdnet import FFDNet
from ..nets.optimise import adamw
from ..nets.tiling import tiled
from .filters import Filter


class FFDNetMethod(Filter):
    """Trained on clean crops with white Gaussian noise of a level uniform in [0, ``max_sigma``] / 255 (section III-E), mean squared error.

    In evaluation it is a Gaussian filter like the others: the level is the task's, or estimated where the task does not give it, and Poisson
    and Gamma noise are stabilised first. ``network`` takes (B, C, H, W) of any size and the level.
    """

    network: FFDNet
    total_steps: int
    """Set by the harness before training."""

    def __init__(
        self,
        data: DataSpec,
        depth: int = 10,
        width: int = 48,
        residual: bool = True,
        max_sigma: float = 75.0,
        lr: float = 2e-3,
        batch_size: int = 4,
        level: str = "given",
        factor: float = 1.0,
    ) -> None:
        super().__init__(level, factor)
        self.network = FFDNet(data.channels, depth, width, residual).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.max_sigma, self.lr, self.train_batch_size = max_sigma / 255, lr, batch_size

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        clean = batch["target"].contiguous(memory_format=torch.channels_last)
        sigma = self.max_sigma * torch.rand(len(clean), device=clean.device)
        noisy = clean + sigma[:, None, None, None] * torch.randn_like(clean)
        return F.mse_loss(self.network(noisy, sigma), clean)

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps)

    def filtered(self, image: np.ndarray, sigma: float) -> np.ndarray:
        x = torch.from_numpy(image.astype(np.float32)).to(self.device)[None]
        out = tiled(self.network, x, sigma, halo=self.network.halo, multiple=self.network.stride)
        return out[0].cpu().numpy().astype(np.float64)
