"""Restormer trained here, for restoration and denoising (Zamir et al., CVPR 2022, arXiv:2111.09881)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ...tasks.requests import Request
from ...tasks.resize import resize
from ..method import DataSpec, Method
from ..nets.optimise import adamw
from ..nets.restormer import Restormer
from ..nets.tiling import tiled


class RestormerMethod(Method):
    """Trained with the paper's L1 loss and AdamW (0.9, 0.999) with weight decay 1e-4; the task's patch and batch throughout, not progressive.

    In super-resolution the network sees the bicubic enlargement, so one architecture serves every task.
    """

    network: Restormer
    total_steps: int
    """Set by the harness before training."""

    def __init__(
        self,
        data: DataSpec,
        width: int = 16,
        blocks: Sequence[int] = (1, 2, 2),
        refinement: int = 1,
        heads: Sequence[int] = (1, 2, 4),
        lr: float = 1e-3,
        batch_size: int = 4,
    ) -> None:
        super().__init__()
        network = Restormer(data.channels, width, tuple(blocks), refinement, tuple(heads))
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.lr, self.train_batch_size = lr, batch_size

    def enlarged(self, degraded: torch.Tensor, scale: int) -> torch.Tensor:
        """Return the bicubic enlargement (itself at scale 1), (B, C, H * scale, W * scale)."""
        height, width = degraded.shape[-2:]
        return resize(degraded, height * scale, width * scale).contiguous(memory_format=torch.channels_last)

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        target = batch["target"]
        return F.l1_loss(self.network(self.enlarged(batch["input"], target.shape[-1] // batch["input"].shape[-1])), target)

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps, betas=(0.9, 0.999), decay=1e-4)

    def _answer(self, image: torch.Tensor) -> torch.Tensor:
        return tiled(self.network, image, halo=self.network.halo, multiple=self.network.stride)

    def restore(self, request: Request) -> torch.Tensor:
        return self._answer(self.enlarged(request.degraded, request.scale if "scale" in request else 1))

    def denoise(self, request: Request) -> torch.Tensor:
        return self._answer(request.noisy)
