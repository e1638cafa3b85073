"""A residual multilayer perceptron with noise level and label: the score network of points and of very small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from .embed import LabelEmbedding, ScalarEmbedding, zeroed


class Block(nn.Module):
    """x + dense(SiLU(scale * norm(dense x) + shift)), with scale and shift from the embedding; starts as the identity."""

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, width)
        self.modulate = nn.Linear(embedding, 2 * width)
        self.leave = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), zeroed(nn.Linear(width, width)))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.modulate(e).chunk(2, -1)
        return x + self.leave(self.enter(self.norm(x)) * (1 + scale) + shift)


class ScoreMLP(nn.Module):
    """``forward(x, level, label)`` returns like x.

    x (B, *shape); level (B,), a function of the noise level of order 1; label int64 (B,), negative for none, or None.
    """

    def __init__(
        self, shape: Sequence[int], width: int = 256, depth: int = 4, embedding: int = 128, classes: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        self.level = ScalarEmbedding(embedding)
        self.label = LabelEmbedding(classes, embedding) if classes else None
        self.enter = nn.Linear(size, width)
        self.blocks = nn.ModuleList(Block(width, embedding, dropout) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(width), zeroed(nn.Linear(width, size)))

    def forward(self, x: Tensor, level: Tensor, label: Tensor | None = None) -> Tensor:
        e = self.level(level)
        if self.label is not None:
            e = e + self.label(label, len(x))
        e = nn.functional.silu(e)
        h = self.enter(x.flatten(1))
        for block in self.blocks:
            h = block(h, e)
        return self.leave(h).reshape(x.shape)
