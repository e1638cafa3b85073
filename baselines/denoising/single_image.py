"""What the methods share that learn from the one noisy picture at hand: a network made new for every picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from ...tasks.randomness import Rng
from ..method import Method


class SingleImage(Method):
    """Optimises `networks` on each picture of a request by itself; weights start anew every time, from the request's streams."""

    needs_grad: ClassVar[bool] = True
    one_at_a_time: ClassVar[bool] = True


def renew(rng: Rng, *networks: nn.Module) -> list[nn.Parameter]:
    """Give every layer new initial weights, from the stream ``weights`` of one sample's ``rng``; return what is to be optimised.

    Layers draw from the global generator, which the harness seeds by sample and seed alone, so it is set from the stream first: another draw
    of the observations starts from other weights, and what was drawn before does not matter. The networks are set to training mode: batch
    statistics are those of the one picture.
    """
    torch.manual_seed(rng.at("weights").generators()[0].initial_seed())
    for network in networks:
        network.train().requires_grad_(True)
        for m in network.modules():
            reset = getattr(m, "reset_parameters", None)
            if callable(reset):
                reset()
    return [p for network in networks for p in network.parameters()]


def diagonal_pair(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return D1(y), D2(y), (B, C, H / 2, W / 2) each: of every 2 x 2 cell the mean of one diagonal and of the other (ZS-N2N, eq. 5).

    D1 averages the pixels (0, 1) and (1, 0), D2 (0, 0) and (1, 1). A last odd row or column is left out.
    """
    y = y[..., : y.shape[-2] // 2 * 2, : y.shape[-1] // 2 * 2]
    d1 = (y[..., 0::2, 1::2] + y[..., 1::2, 0::2]) / 2
    d2 = (y[..., 0::2, 0::2] + y[..., 1::2, 1::2]) / 2
    return d1, d2


def reflected(y: torch.Tensor, pad: int) -> torch.Tensor:
    """Pad (B, C, H, W) by reflection on all sides; by repeating the edge where the picture is no larger than the padding."""
    return F.pad(y, (pad,) * 4, mode="reflect" if pad < min(y.shape[-2:]) else "replicate")


def adam_step(optimiser: torch.optim.Optimizer, loss: torch.Tensor, schedules: Iterable[torch.optim.lr_scheduler.LRScheduler] = ()) -> None:
    """Take one step down ``loss``."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    for schedule in schedules:
        schedule.step()
