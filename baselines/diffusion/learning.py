"""What training schemes share: a network of their own for the data at hand, an average of its weights, one optimiser.

Schemes that differ in their objective alone then differ in nothing else: with equal training budgets their boards compare objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ...configs.errors import RequestError
from ..method import Method
from ..nets.mlp import ScoreMLP
from ..nets.unet import ScoreUNet


def network_of(shape: Sequence[int], options: Mapping[str, Any] | None = None, outputs: int = 1) -> nn.Module:
    """Return ``network(x, level, label)`` for samples of ``shape``: dense for points and pictures of at most 12 pixels a side, else a U-Net.

    With ``outputs`` > 1 the answer has that many times the channels (pictures) or the entries (points), side by side.
    """
    if len(shape) == 3 and max(shape[1:]) > 12:
        if shape[1] % 4 or shape[2] % 4:
            raise RequestError(f"pictures of {shape[1]} x {shape[2]} pixels cannot be learned here; the sides must be multiples of 4.")
        deep = shape[1] % 8 == 0 and shape[2] % 8 == 0  # 28 x 28 (MNIST) can be halved once less
        plain = {"widths": (32, 64, 96) if deep else (48, 96), "embedding": 96, "patch": 2}
        if outputs == 1:
            return ScoreUNet(shape[0], **{**plain, **(options or {})})
        return Repeated(ScoreUNet(shape[0] * outputs, **{**plain, **(options or {})}), outputs)
    small = {"width": 256, "depth": 3, "embedding": 64} if len(shape) == 3 else {"width": 128, "depth": 3, "embedding": 64}
    if outputs == 1:
        return ScoreMLP(shape, **{**small, **(options or {})})
    return Repeated(ScoreMLP((shape[0] * outputs, *shape[1:]), **{**small, **(options or {})}), outputs)


class Repeated(nn.Module):
    """A network with more outputs than inputs: its input is repeated along the first dimension of a sample."""

    def __init__(self, inner: nn.Module, times: int) -> None:
        super().__init__()
        self.inner, self.times = inner, times

    def forward(self, x: Tensor, level: Tensor, label: Tensor | None = None) -> Tensor:
        return self.inner(torch.cat([x] * self.times, 1), level, label)


class Averaged(Method):
    """A method with a network of its own: pictures in [0, 1] are learned in [-1, 1].

    The weights that stay are an exponential moving average of memory 0.999.
    """

    network: nn.Module
    image: bool
    ema: float = 0.999

    def encoded(self, target: Tensor) -> Tensor:
        """Return samples in the space that is learned."""
        return 2 * target - 1 if self.image else target

    def decoded(self, x: Tensor) -> Tensor:
        """Undo `encoded`."""
        return (x + 1) / 2 if self.image else x

    def optimiser(self, learning_rate: float) -> OptimizerLRScheduler:
        """Return Adam with 5 % warm-up and a cosine decay to zero over the training budget, as for the shared priors."""
        optimiser = torch.optim.Adam(self.parameters(), lr=learning_rate, betas=(0.9, 0.99))
        total = getattr(self, "total_steps", 0) or int(self.trainer.max_steps)
        warm = max(1, total // 20)

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(1.0, (step - warm) / max(1, total - warm)))).item())

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        self._average = [p.detach().clone() for p in self.network.parameters()]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the average; its memory grows with the steps done, so that a short training is not dominated by its start."""
        decay = min(self.ema, (1 + self.global_step) / (10 + self.global_step))
        torch._foreach_lerp_(self._average, [p.detach() for p in self.network.parameters()], 1 - decay)

    def on_train_end(self) -> None:
        """Keep the average."""
        with torch.no_grad():
            for p, average in zip(self.network.parameters(), self._average, strict=True):
                p.copy_(average)
        self._average = []
