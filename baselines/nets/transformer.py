"""Transformer blocks for sequences, pre-norm, with plain matrix products (so that their FLOPs are counted and derivatives of any kind go
through)."""

from __future__ import annotations

import math

import torch
from torch import nn


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Return sinusoidal positions (length, width), Vaswani et al. 2017, section 3.5; ``width`` is even."""
    position = torch.arange(length)[:, None]
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(position * rate), torch.cos(position * rate)], -1).flatten(1)


class Attention(nn.Module):
    """Multi-head attention of x (B, T, D) to ``memory`` (B, S, D), default itself; ``causal``: position t sees positions up to t only."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        source = x if memory is None else memory
        q, k, v = (f(s).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f, s in ((self.query, x), (self.key, source), (self.value, source)))
        scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5)
        if self.causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Self-attention, then attention to a memory where ``cross``, then two linear layers; layer norm before each, dropout after each."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.0, causal: bool = False, cross: bool = False) -> None:
        super().__init__()
        self.norm1, self.own = nn.LayerNorm(width), Attention(width, heads, causal)
        self.norm2 = nn.LayerNorm(width) if cross else None
        self.cross = Attention(width, heads) if cross else None
        self.norm3 = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        x = x + self.drop(self.own(self.norm1(x)))
        if self.norm2 is not None and self.cross is not None:
            x = x + self.drop(self.cross(self.norm2(x), memory))
        return x + self.drop(self.feed(self.norm3(x)))
