"""Restormer: a U-Net of transformer blocks whose attention is over channels (Zamir et al., CVPR 2022, arXiv:2111.09881, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .nafnet import Pointwise
from .padding import pad_to_multiple


class Scale(nn.Module):
    """Layer normalisation of every pixel over its channels, without offsets: the mean is not taken off, only the deviation divided out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.ParameterDict({"weight": nn.Parameter(torch.ones(channels))})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        deviation = torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-5)
        return x / deviation * self.body["weight"].view(1, -1, 1, 1)


def depthwise(channels: int) -> nn.Conv2d:
    """Return a 3x3 convolution of every channel by itself."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


class MDTA(nn.Module):
    """Multi-Dconv head transposed attention (eq. 1): out = W_p V softmax(K Q / alpha), the C/heads x C/heads map of a head being the
    correlations of its channels over all pixels (queries and keys have norm 1 along the pixels; ``temperature`` is 1 / alpha, learnt)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv, self.qkv_dwconv = Pointwise(channels, 3 * channels, bias=False), depthwise(3 * channels)
        self.project_out = Pointwise(channels, channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, self.heads, c // self.heads, h * w) for t in self.qkv_dwconv(self.qkv(x)).chunk(3, 1))
        attention = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature
        return self.project_out((attention.softmax(-1) @ v).reshape(b, c, h, w))


class GDFN(nn.Module):
    """Gated-Dconv feed-forward network (eq. 2): W_p (GELU(W_d W_p1 x) * W_d W_p2 x), ``expansion`` times as wide inside."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in, self.dwconv = Pointwise(channels, 2 * hidden, bias=False), depthwise(2 * hidden)
        self.project_out = Pointwise(hidden, channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.dwconv(self.project_in(x)).chunk(2, 1)
        return self.project_out(F.gelu(a) * b)


class Block(nn.Module):
    """x + MDTA(norm(x)), then x + GDFN(norm(x))."""

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm1, self.attn = Scale(channels), MDTA(channels, heads)
        self.norm2, self.ffn = Scale(channels), GDFN(channels, expansion)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Resample(nn.Module):
    """A 3x3 convolution that halves (``up``: doubles) the channels, and a pixel unshuffle (shuffle): twice (half) the channels in the end."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        after, shuffle = (2 * channels, nn.PixelShuffle(2)) if up else (channels // 2, nn.PixelUnshuffle(2))
        self.body = nn.Sequential(nn.Conv2d(channels, after, 3, padding=1, bias=False), shuffle)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Restormer(nn.Module):
    """``Restormer()`` is the published colour denoiser (26.1 M parameters, layer normalisation without offsets), with the parameter names of
    the official checkpoints; (B, channels, H, W) of any size in and out, global residual.

    ``blocks`` and ``heads`` per scale, the coarsest last; ``refinement`` blocks at full resolution follow the U-Net. At full resolution the
    decoder keeps both halves of the joined features (2 ``width`` channels), as published.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        refinement: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
    ) -> None:
        super().__init__()
        if len(blocks) != len(heads):
            raise ValueError(f"blocks names {len(blocks)} scales and heads {len(heads)}; they must be equal")
        self.scales = len(blocks)
        self.stride = 2 ** (self.scales - 1)
        # how far the convolutions look (see `tiling`), 2 pixels a block and 1 a resampling; the attention looks at the whole of its input
        there_and_back = sum((4 * b + 4) * 2**k for k, b in enumerate(blocks[:-1]))
        self.halo = 2 + 2 * refinement + there_and_back + 2 * blocks[-1] * self.stride

        def stage(c: int, head: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(Block(c, head, expansion) for _ in range(count)))

        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, 3, padding=1, bias=False)})
        for k in range(1, self.scales):
            c = width * 2 ** (k - 1)
            self.add_module(f"encoder_level{k}", stage(c, heads[k - 1], blocks[k - 1]))
            self.add_module(f"down{k}_{k + 1}", Resample(c, up=False))
            self.add_module(f"up{k + 1}_{k}", Resample(2 * c, up=True))
            if k > 1:
                self.add_module(f"reduce_chan_level{k}", Pointwise(2 * c, c, bias=False))
            self.add_module(f"decoder_level{k}", stage(c if k > 1 else 2 * c, heads[k - 1], blocks[k - 1]))
        self.latent = stage(width * 2 ** (self.scales - 1), heads[-1], blocks[-1])
        self.refinement = stage(2 * width, heads[0], refinement)
        self.output = nn.Conv2d(2 * width, channels, 3, padding=1, bias=False)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        height, width = y.shape[-2:]
        padded = pad_to_multiple(y, 2 ** (self.scales - 1))
        x, skips = self.patch_embed["proj"](padded), []
        for k in range(1, self.scales):
            skips.append(self.get_submodule(f"encoder_level{k}")(x))
            x = self.get_submodule(f"down{k}_{k + 1}")(skips[-1])
        x = self.latent(x)
        for k in range(self.scales - 1, 0, -1):
            x = torch.cat([self.get_submodule(f"up{k + 1}_{k}")(x), skips[k - 1]], 1)
            if k > 1:
                x = self.get_submodule(f"reduce_chan_level{k}")(x)
            x = self.get_submodule(f"decoder_level{k}")(x)
        return (self.output(self.refinement(x)) + padded)[..., :height, :width]
