"""A plain blind-spot network (Laine et al. 2019, arXiv:1901.10277, without its posterior step), and what the methods built on one share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from ...tasks.requests import Request
from ..method import DataSpec, Method
from ..nets.blindspot import BlindSpotNet, apart, together
from ..nets.optimise import adamw
from ..nets.padding import pad_to_multiple


class BlindSpotMethod(Method):
    """Trained on noisy crops alone: |f(y) - y| with an f that sees every pixel's surroundings and not the pixel.

    Where the noise of neighbouring pixels is independent, the minimiser is the conditional median of the clean pixel (of y, to be exact);
    where it is correlated, the surroundings tell the noise, and f learns to reproduce it. Subclasses change the loss and the way to answer.
    """

    network: BlindSpotNet
    total_steps: int
    """Set by the harness before training."""

    def __init__(
        self, data: DataSpec, width: int = 32, modules: int = 3, centre: float = 0.5, lr: float = 2e-3, batch_size: int = 2
    ) -> None:
        super().__init__()
        self.network = BlindSpotNet(data.channels, width, modules, centre)
        self.lr, self.train_batch_size = lr, batch_size

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        y = batch["input"]
        return F.l1_loss(self.network(y), y)

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps)

    def denoise(self, request: Request) -> torch.Tensor:
        return self.network(request.noisy)

    def shuffled(self, y: torch.Tensor, stride: int) -> torch.Tensor:
        """Return PD^-1(f(PD(y))): the blind network on the stride^2 sub-pictures, put together again; the picture of equal size.

        Sides that ``stride`` does not divide are continued by reflection and cut back.
        """
        if stride == 1:
            return self.network(y)
        padded = pad_to_multiple(y, stride)
        return together(self.network(apart(padded, stride)), stride)[..., : y.shape[-2], : y.shape[-1]]
