"""A small U-Net with noise level and label or caption: the score network of pictures (Ho et al. 2020; Dhariwal and Nichol 2021, in small).

No in-place operation and no fused attention kernel is used, so forward-mode derivatives (JVP) go through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .embed import CaptionEncoder, LabelEmbedding, ScalarEmbedding, zeroed


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8 if channels % 8 == 0 else 1, channels)


class ResBlock(nn.Module):
    """Two 3x3 convolutions with a scale and shift from the embedding in between; the second starts at zero."""

    def __init__(self, inside: int, out: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(inside), nn.Conv2d(inside, out, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * out)
        self.norm2, self.drop, self.conv2 = _norm(out), nn.Dropout(dropout), zeroed(nn.Conv2d(out, out, 3, padding=1))
        self.skip = nn.Conv2d(inside, out, 1) if inside != out else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.modulate(e)[:, :, None, None].chunk(2, 1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x)))) * (1 + scale) + shift
        return self.skip(x) + self.conv2(self.drop(F.silu(h)))


class Attention(nn.Module):
    """Self-attention over positions, one head per 32 channels; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // 32)
        self.norm, self.qkv, self.out = _norm(channels), nn.Conv2d(channels, 3 * channels, 1), zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).unbind(1)
        weights = torch.einsum("bhcq,bhck->bhqk", q, k).mul((c // self.heads) ** -0.5).softmax(-1)
        return x + self.out(torch.einsum("bhqk,bhck->bhcq", weights, v).reshape(b, c, h, w))


class CrossAttention(nn.Module):
    """Attention of every position to the words of a caption, one head per 32 channels; starts as the identity.

    `weights` gives the attention itself, (B, heads, positions, words), which editing methods read and replace.
    """

    def __init__(self, channels: int, words: int) -> None:
        super().__init__()
        self.heads = max(1, channels // 32)
        self.norm, self.query = _norm(channels), nn.Conv2d(channels, channels, 1)
        self.key, self.value = nn.Linear(words, channels), nn.Linear(words, channels)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def weights(self, x: Tensor, words: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q = self.query(self.norm(x)).reshape(b, self.heads, c // self.heads, h * w)
        k = self.key(words).reshape(b, -1, self.heads, c // self.heads)
        return torch.einsum("bhcq,bkhc->bhqk", q, k).mul((c // self.heads) ** -0.5).softmax(-1)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        b, c, h, w = x.shape
        v = self.value(words).reshape(b, -1, self.heads, c // self.heads)
        return x + self.out(torch.einsum("bhqk,bkhc->bhcq", self.weights(x, words), v).reshape(b, c, h, w))


class ScoreUNet(nn.Module):
    """``forward(x, level, label)`` returns like x.

    x (B, C, H, W), sides divisible by patch 2^(len(widths) - 1); level (B,), a function of the noise level of order 1; label int64 (B,),
    negative for none, or None. ``widths`` are the channels of each resolution, ``blocks`` the residual blocks per resolution; attention
    is at the lowest resolution. With ``patch`` p > 1 the network works on pictures folded into p x p blocks (a p-th of the sides, p^2 the
    channels), which costs about p^2 times less. With ``caption: {tokens, length, width}`` the third argument is int64 (B, length), word
    tokens: their mean joins the embedding of the level, and positions attend to them after every residual block.
    """

    def __init__(
        self, channels: int, widths: Sequence[int] = (32, 64, 96), blocks: int = 1, embedding: int = 128, classes: int = 0,
        dropout: float = 0.0, attention: bool = True, patch: int = 1, caption: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if caption and classes:
            raise ValueError("a network is told a label or a caption, not both")
        self.patch = patch
        channels *= patch**2
        self.level = ScalarEmbedding(embedding)
        self.label = LabelEmbedding(classes, embedding) if classes else None
        self.caption = CaptionEncoder(**caption) if caption else None
        context = int(caption["width"]) if caption else 0
        if caption:
            self.gist = nn.Linear(context, embedding)
        self.enter = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, kept = widths[0], []
        for level, w in enumerate(widths):
            for _ in range(blocks):
                self.down.append(ResBlock(width, w, embedding, dropout))
                width = w
                kept.append(w)
                if caption:
                    self.down.append(CrossAttention(w, context))
            if level < len(widths) - 1:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        self.middle1 = ResBlock(width, width, embedding, dropout)
        self.attend = Attention(width) if attention else nn.Identity()
        self.middle2 = ResBlock(width, width, embedding, dropout)
        for level, w in reversed(list(enumerate(widths))):
            for _ in range(blocks):
                self.up.append(ResBlock(width + kept.pop(), w, embedding, dropout))
                width = w
                if caption:
                    self.up.append(CrossAttention(w, context))
            if level > 0:
                self.up.append(nn.Conv2d(width, widths[level - 1], 3, padding=1))
                width = widths[level - 1]
        self.leave = nn.Sequential(_norm(width), nn.SiLU(), zeroed(nn.Conv2d(width, channels, 3, padding=1)))

    def forward(self, x: Tensor, level: Tensor, label: Tensor | None = None) -> Tensor:
        told = self.told(level, label, len(x))
        return self.decode(*self.encode(x, *told), *told)

    def told(self, level: Tensor, label: Tensor | None, n: int) -> tuple[Tensor, Tensor | None]:
        """Return what every block is told: the embedding (n, embedding), and the words of the captions where there are such."""
        e, words = self.level(level), None
        if self.label is not None:
            e = e + self.label(label, n)
        if self.caption is not None:
            words = self.caption(label, n)
            e = e + self.gist(words.mean(1))
        return F.silu(e), words

    def encode(self, x: Tensor, e: Tensor, words: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return the features behind the middle, and those kept for the skip connections (the first half of the network)."""
        h, kept = self.enter(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x), []
        for layer in self.down:
            if isinstance(layer, ResBlock):
                h = layer(h, e)
                kept.append(h)
            elif isinstance(layer, CrossAttention):
                h = kept[-1] = layer(h, words)
            else:
                h = layer(h)
        return self.middle2(self.attend(self.middle1(h, e)), e), kept

    def decode(self, h: Tensor, kept: Sequence[Tensor], e: Tensor, words: Tensor | None = None) -> Tensor:
        """Return the output from what `encode` returned (the second half)."""
        kept = list(kept)
        for layer in self.up:
            if isinstance(layer, ResBlock):
                h = layer(torch.cat([h, kept.pop()], 1), e)
            elif isinstance(layer, CrossAttention):
                h = layer(h, words)
            else:
                h = layer(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        h = self.leave(h)
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h
