"""A plain convolutional network trained with cross-entropy: the supervised reference of the classification boards."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ..method import DataSpec, Method, Request


def small_cnn(channels: int, classes: int, width: int = 32) -> nn.Sequential:
    """Return three 3x3 convolutions (width, 2 width, 4 width) with batch norm, ReLU and pooling, then a global average and a dense layer."""

    def stage(inside: int, out: int, pool: bool) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Conv2d(inside, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        return [*layers, nn.MaxPool2d(2)] if pool else layers

    return nn.Sequential(
        *stage(channels, width, True),
        *stage(width, 2 * width, True),
        *stage(2 * width, 4 * width, False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


class PlainCNN(Method):
    """Adam with a cosine decay over the training budget; pictures are taken from [0, 1] to [-1, 1]. No augmentation."""

    def __init__(self, data: DataSpec, width: int = 32, learning_rate: float = 2e-3, weight_decay: float = 1e-4) -> None:
        super().__init__()
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.network = small_cnn(data.channels, data.classes, width)
        self.train_batch_size = 64

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the training loss; methods for noisy labels override this alone."""
        return nn.functional.cross_entropy(logits, label)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        assert self.network is not None
        return self.loss(self.network(2 * batch["input"] - 1), batch["label"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimiser = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        total = getattr(self, "total_steps", 0) or int(self.trainer.max_steps)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=max(1, total))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def logits(self, request: Request) -> Tensor:
        assert self.network is not None
        return self.network(2 * request.image - 1)
