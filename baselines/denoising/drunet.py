"""DRUNet trained on clean photographs: one denoiser for all Gaussian noise levels, shared by plug-and-play methods, and the row `drunet`.

Zhang et al., IEEE TPAMI 2022, arXiv:2008.13751, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..nets.drunet import DRUNet
from ..nets.optimise import adamw
from ..nets.tiling import tiled
from .filters import Filter


class DRUNetDenoiser(lightning.LightningModule):
    """A component of form ``denoiser``: ``denoiser(x, sigma)`` returns the estimate of the clean image.

    x float32 (B, C, H, W) on the scale on which clean images are in [0, 1], sigma a number or (B,) on the same scale. Trained with an L1
    loss on white Gaussian noise of a level uniform in [0, ``max_sigma``] (8-bit steps), drawn afresh for every crop.
    """

    total_steps: int
    """Set by the harness before training."""

    def __init__(
        self,
        channels: int = 1,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 2,
        max_sigma: float = 55.0,
        lr: float = 2e-3,
        batch_size: int = 4,
    ) -> None:
        super().__init__()
        self.network = DRUNet(channels, tuple(widths), blocks).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.max_sigma, self.lr, self.train_batch_size = max_sigma / 255, lr, batch_size

    def forward(self, x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        return self.network(x, sigma)

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        clean = batch["target"].contiguous(memory_format=torch.channels_last)
        sigma = self.max_sigma * torch.rand(len(clean), device=clean.device)
        noisy = clean + sigma[:, None, None, None] * torch.randn_like(clean)
        return F.l1_loss(self.network(noisy, sigma), clean)

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps, betas=(0.9, 0.99))

    def counted_networks(self) -> Iterator[nn.Module]:
        """Yield the network whose evaluated rows count."""
        yield self.network


class DRUNetMethod(Filter):
    """The shared denoiser as it is, at the level the task gives; what is not given is estimated, and other noise reaches it as it does
    the classical filters."""

    def __init__(self, denoiser: DRUNetDenoiser, level: str = "given") -> None:
        super().__init__(level)
        self.denoiser = denoiser

    def filtered(self, image: np.ndarray, sigma: float) -> np.ndarray:
        x = torch.from_numpy(image.astype(np.float32)).to(self.device)[None]
        out = tiled(self.denoiser.network, x, sigma, halo=self.denoiser.network.halo, multiple=self.denoiser.network.stride)
        return out[0].cpu().numpy().astype(np.float64)
