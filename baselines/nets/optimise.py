"""The optimiser and schedule that the supervised image networks share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def cosine(step: int, total: int, warm: float = 0.05) -> float:
    """Return the factor on the learning rate at ``step`` of ``total``: linear rise over the first ``warm`` of them, then cosine to zero."""
    rise = max(1, round(warm * total))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total - rise))))


def adamw(
    parameters: Iterable[nn.Parameter], lr: float, total_steps: int, betas: tuple[float, float] = (0.9, 0.99), decay: float = 0.0
) -> dict[str, Any]:
    """Return AdamW with a warm-up and cosine decay over the whole budget, as Lightning wants it."""
    optimiser = torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine(step, total_steps))
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
