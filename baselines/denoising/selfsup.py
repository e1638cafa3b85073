"""What the self-supervised denoisers share: one backbone, one optimiser, and how noise parameters are read.

The network, the patches, the batch and the optimiser are those of `dncnn`, the supervised row, so that two rows of a board differ in their
training rule alone. Budgets are equal in FLOPs: a rule that evaluates the network twice a step takes half as many steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import DataSpec, Method
from ..nets.dncnn import DnCNN
from ..nets.optimise import adamw


class NoSkip(DnCNN):
    """The same layers without the outer connection: the answer is the stack's own output, R(y - centre) + centre, not y less its output."""

    def __init__(self, channels: int, depth: int, width: int, norm: bool, bias: bool, centre: float) -> None:
        super().__init__(channels, depth, width, norm, bias, centre)
        torch.nn.init.orthogonal_(self.dncnn[-1].weight)  # type: ignore[arg-type]

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.dncnn(y - self.centre) + self.centre


class SelfSupervised(Method):
    """A DnCNN of 8 layers of 32 channels without batch norm that takes and returns (B, C, H, W); a subclass adds `training_step`.

    ``skip`` False leaves out the connection from input to output, for rules that mask pixels and then answer from pictures without masks:
    nothing in their loss teaches the network to take away the noise that such a connection carries through.
    """

    network: DnCNN
    total_steps: int
    """Set by the harness before training."""

    def __init__(self, data: DataSpec, lr: float = 4e-3, batch_size: int = 4, skip: bool = True) -> None:
        super().__init__()
        network = (DnCNN if skip else NoSkip)(data.channels, depth=8, width=32, norm=False, bias=True, centre=0.5)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.lr, self.train_batch_size = lr, batch_size

    def progress(self) -> float:
        """Return the part of the training that is over after this step, in (0, 1]: schedules follow it."""
        return min(1.0, (self.global_step + 1) / max(1, getattr(self, "total_steps", 1)))

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps)

    def denoise(self, request: Request) -> torch.Tensor:
        return self.network(request.noisy)


def crops(batch: Mapping[str, torch.Tensor], name: str = "input") -> torch.Tensor:
    """Return a training item's crops (B, C, H, W) in the memory layout in which the network is quickest."""
    return batch[name].contiguous(memory_format=torch.channels_last)


def column(value: Any, y: torch.Tensor) -> torch.Tensor:
    """Return a number, or one number per sample, as a tensor (B, 1, 1, 1) beside ``y`` (B, C, H, W)."""
    return torch.as_tensor(value, dtype=y.dtype, device=y.device).reshape(-1, 1, 1, 1).expand(len(y), 1, 1, 1)


def parameter(given: Any, y: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Return the family of the noise and its parameter (B, 1, 1, 1), from a training batch or a request: what is given tells the family.

    ``poisson``: eta = 1 / peak, the value of one count. ``gamma``: the shape. ``gaussian``: the standard deviation. RequestError where
    no level is given.
    """
    read = given.__getitem__ if isinstance(given, Mapping) else lambda name: getattr(given, name)
    if "peak" in given:
        return "poisson", 1 / column(read("peak"), y)
    if "shape" in given:
        return "gamma", column(read("shape"), y)
    if "noise_level" in given:
        return "gaussian", column(read("noise_level"), y)
    raise RequestError("this method needs to know the noise, and the task gives no level; it answers tasks that give noise_level.")


AROUND = torch.tensor([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]]) / 6
"""Weights of the eight neighbours of a pixel, the pixel itself left out (Noise2Self's and Blind2Unblind's interpolation)."""


def neighbours(y: torch.Tensor) -> torch.Tensor:
    """Return, for every pixel of (B, C, H, W), the weighted mean of its eight neighbours; reflected at the borders."""
    kernel = AROUND.to(y).expand(y.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(y, (1, 1, 1, 1), mode="reflect"), kernel, groups=y.shape[1])


def grid(y: torch.Tensor, width: int, number: int) -> torch.Tensor:
    """Return the mask (H, W) of the ``number``-th of width^2 sets J of pixels: one pixel of every width x width cell."""
    rows = torch.arange(y.shape[-2], device=y.device) % width == number % width
    columns = torch.arange(y.shape[-1], device=y.device) % width == number // width % width
    return rows[:, None] & columns[None]
