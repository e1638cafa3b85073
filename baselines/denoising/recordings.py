"""What methods for multichannel recordings share: a window's scale, and the loop of a network trained on pairs of windows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from ...tasks.requests import Request
from ..method import Method
from ..nets.optimise import adamw


def scale_of(noisy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of each noisy window (B, C, T) over all its channels and samples, (B, 1, 1)."""
    return noisy.mean((1, 2), keepdim=True), noisy.std((1, 2), keepdim=True).clamp(min=1e-6)


class TrainedOnWindows(Method):
    """A network on windows that are standardised by the *noisy* window's mean and deviation; the clean target uses the same two numbers, and
    answers are scaled back. Subclasses say what the network answers (`cleaned`) and what it is trained on (`loss`)."""

    lr: float
    total_steps: int

    @abstractmethod
    def cleaned(self, noisy: torch.Tensor) -> torch.Tensor:
        """Return the estimate for standardised windows (B, C, T)."""

    @abstractmethod
    def loss(self, noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """Return the training loss of standardised pairs."""

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        mean, deviation = scale_of(batch["input"])
        return self.loss((batch["input"] - mean) / deviation, (batch["target"] - mean) / deviation)

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps)

    def enhance(self, request: Request) -> torch.Tensor:
        mean, deviation = scale_of(request.noisy)
        return self.cleaned((request.noisy - mean) / deviation) * deviation + mean
