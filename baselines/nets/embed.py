"""Embeddings of scalars (noise levels), labels and captions that conditional networks share."""

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


class CaptionEncoder(nn.Module):
    """Word tokens to one vector each: int64 (B, length) to (B, length, width); rows of negative tokens are "no caption".

    A learned vector per token and per place, then one pre-norm transformer block (two heads), so that a word knows which object it belongs to.
    """

    def __init__(self, tokens: int, length: int, width: int) -> None:
        super().__init__()
        self.tokens, self.length = tokens, length
        self.table = nn.Embedding(tokens + 1, width)
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.dense = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.norm3 = nn.LayerNorm(width)

    def forward(self, caption: Tensor | None, n: int) -> Tensor:
        if caption is None:
            caption = torch.full((1, self.length), -1, device=self.place.device)
        x = self.table(torch.where(caption < 0, self.tokens, caption)) + self.place
        b, k, width = x.shape
        q, key, v = self.qkv(self.norm1(x)).reshape(b, k, 3, 2, width // 2).unbind(2)
        weights = torch.einsum("bqhc,bkhc->bhqk", q, key).mul((width // 2) ** -0.5).softmax(-1)
        x = x + self.out(torch.einsum("bhqk,bkhc->bqhc", weights, v).reshape(b, k, width))
        return self.norm3(x + self.dense(self.norm2(x))).expand(n, -1, -1)
