"""Embeddings of scalars (noise levels) and labels that conditional networks share."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def zeroed(layer: M) -> M:
    """Set a layer's parameters to zero, so that the block it ends starts as the identity (or the network as a constant); returns it."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


class ScalarEmbedding(nn.Module):
    """Sines and cosines of a scalar at geometrically spaced frequencies, then two dense layers: (B,) to (B, width)."""

    frequencies: Tensor

    def __init__(self, width: int, features: int = 64, lowest: float = 0.1, highest: float = 20.0) -> None:
        super().__init__()
        steps = torch.linspace(0, 1, features // 2)
        self.register_buffer("frequencies", lowest * torch.exp(steps * math.log(highest / lowest)), persistent=False)
        self.dense = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, value: Tensor) -> Tensor:
        angle = value[:, None] * self.frequencies.to(value.dtype)
        return self.dense(torch.cat([angle.cos(), angle.sin()], 1))


class LabelEmbedding(nn.Module):
    """A learned vector per class and one for "none" (negative labels): int64 (B,) to (B, width)."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(classes + 1, width)
        self.classes = classes

    def forward(self, label: Tensor | None, n: int) -> Tensor:
        if label is None:
            return self.table.weight[self.classes].expand(n, -1)
        return self.table(torch.where(label < 0, self.classes, label))
