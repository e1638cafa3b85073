"""NAFNet trained here, for restoration and denoising (Chen et al., ECCV 2022, arXiv:2204.04676)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...tasks.requests import Request
from ...tasks.resize import resize
from ..method import DataSpec, Method
from ..nets.nafnet import NAFNet
from ..nets.optimise import adamw
from ..nets.tiling import tiled


class NAFNetMethod(Method):
    """Trained with the paper's loss, minus the PSNR of every crop, and AdamW with betas (0.9, 0.9).

    In super-resolution the network sees the bicubic enlargement, so one architecture serves every task. In evaluation its channel
    attention pools over windows of 1.5 training patches (TLC), whose side the fit remembers; ``local`` switches that off.
    """

    network: NAFNet
    train_side: torch.Tensor
    total_steps: int
    """Set by the harness before training."""

    def __init__(
        self,
        data: DataSpec,
        width: int = 16,
        encoder: Sequence[int] = (1, 1, 2),
        middle: int = 2,
        decoder: Sequence[int] = (1, 1, 1),
        lr: float = 1e-3,
        batch_size: int = 4,
        local: bool = True,
    ) -> None:
        super().__init__()
        network = NAFNet(data.channels, width, tuple(encoder), middle, tuple(decoder))
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.lr, self.train_batch_size, self.local = lr, batch_size, local
        self.register_buffer("train_side", torch.zeros(1))

    def enlarged(self, degraded: torch.Tensor, scale: int) -> torch.Tensor:
        """Return the bicubic enlargement (itself at scale 1), (B, C, H * scale, W * scale)."""
        height, width = degraded.shape[-2:]
        return resize(degraded, height * scale, width * scale).contiguous(memory_format=torch.channels_last)

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        target = batch["target"]
        self.train_side.fill_(target.shape[-1])
        answer = self.network(self.enlarged(batch["input"], target.shape[-1] // batch["input"].shape[-1]))
        error = (answer - target).square().flatten(1).mean(1)
        return (10 * torch.log10(error + 1e-8)).mean()  # minus PSNR; the constant bounds it near a perfect crop

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps, betas=(0.9, 0.9))

    def _answer(self, image: torch.Tensor) -> torch.Tensor:
        side = int(self.train_side)
        self.network.pool_over(int(1.5 * side) if self.local and side else None)
        return tiled(self.network, image, halo=self.network.halo, multiple=self.network.stride)

    def restore(self, request: Request) -> torch.Tensor:
        return self._answer(self.enlarged(request.degraded, request.scale if "scale" in request else 1))

    def denoise(self, request: Request) -> torch.Tensor:
        return self._answer(request.noisy)
