"""NAFNet: a U-Net without non-linear activation functions (Chen et al., ECCV 2022, arXiv:2204.04676, section 3 and figure 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .padding import pad_to_multiple


class ChannelNorm(nn.Module):
    """Layer normalisation of every pixel over its channels."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # channels last is how the layers around it hold their tensors, so neither permutation moves anything
        last = x.permute(0, 2, 3, 1)
        return F.layer_norm(last, self.weight.shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, computed as a matrix product: on tensors held channels last that is several times faster on one core."""

    def __init__(self, before: int, after: int, bias: bool = True) -> None:
        super().__init__(before, after, 1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)


def simple_gate(x: torch.Tensor) -> torch.Tensor:
    """Multiply the two halves of the channels (eq. 4)."""
    a, b = x.chunk(2, 1)
    return a * b


def local_mean(x: torch.Tensor, size: int) -> torch.Tensor:
    """Return the mean over the ``size`` x ``size`` window around each pixel that lies inside the image (windows at a border are moved
    inwards); (B, C, 1, 1), the global mean, when the image is no larger than the window."""
    height, width = x.shape[-2:]
    kh, kw = min(size, height), min(size, width)
    if (kh, kw) == (height, width):
        return x.mean((-2, -1), keepdim=True)
    # summed-area table, in float64 because differences of large sums lose digits
    table = F.pad(x.double().cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    sums = table[..., kh:, kw:] - table[..., :-kh, kw:] - table[..., kh:, :-kw] + table[..., :-kh, :-kw]
    mean = (sums / (kh * kw)).to(x.dtype)
    top, left = (height - mean.shape[-2]) // 2, (width - mean.shape[-1]) // 2
    return F.pad(mean, (left, width - mean.shape[-1] - left, top, height - mean.shape[-2] - top), mode="replicate")


class ChannelAttention(nn.Module):
    """Simplified channel attention (eq. 6): x * W pool(x). The pooling is global in training.

    In evaluation it is over windows of ``window`` pixels where one is set: a network trained on small patches meets in a large image
    statistics that it has never seen, unless it goes on pooling over areas like those of training (Chu et al., TLC, arXiv:2112.04491).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sca = Pointwise(channels, channels)
        self.window: int | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean((-2, -1), keepdim=True) if self.training or self.window is None else local_mean(x, self.window)
        return x * self.sca(pooled)


class NAFBlock(nn.Module):
    """x + beta * (norm, 1x1 to 2C, depth-wise 3x3, gate, channel attention, 1x1), then x + gamma * (norm, 1x1 to 2C, gate, 1x1).

    beta and gamma, one number per channel, start at zero, so a new block is the identity.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(c), ChannelNorm(c)
        self.conv1, self.conv2 = Pointwise(c, 2 * c), nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.attention, self.conv3 = ChannelAttention(c), Pointwise(c, c)
        self.conv4, self.conv5 = Pointwise(c, 2 * c), Pointwise(c, c)
        self.beta, self.gamma = nn.Parameter(torch.zeros(c, 1, 1)), nn.Parameter(torch.zeros(c, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.beta * self.conv3(self.attention(h))
        return x + self.gamma * self.conv5(simple_gate(self.conv4(self.norm2(x))))


class NAFNet(nn.Module):
    """``NAFNet()`` is the published SIDD network of width 32; (B, channels, H, W) of any size in and out, global residual.

    The channel attention pools globally unless `pool_over` sets a window (TLC takes 1.5 x the side of the training patches).
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 32,
        encoder: Sequence[int] = (2, 2, 4, 8),
        middle: int = 12,
        decoder: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        if len(encoder) != len(decoder):
            raise ValueError(f"encoder has {len(encoder)} scales and decoder {len(decoder)}; they must be equal")
        self.scales = len(encoder)
        self.stride = 2**self.scales
        counts = [*enumerate(encoder), (self.scales, middle), *((self.scales - 1 - k, n) for k, n in enumerate(decoder))]
        self._blocks = sum(n for _, n in counts)
        self._reach = 2 + sum(n * 2**scale for scale, n in counts) + 2 * self.stride
        self.intro, self.ending = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, channels, 3, padding=1)
        self.encoders, self.downs, self.ups, self.decoders = nn.ModuleList(), nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        c = width
        for blocks in encoder:
            self.encoders.append(nn.Sequential(*(NAFBlock(c) for _ in range(blocks))))
            self.downs.append(nn.Conv2d(c, 2 * c, 2, stride=2))
            c *= 2
        self.middle_blks = nn.Sequential(*(NAFBlock(c) for _ in range(middle)))
        for blocks in decoder:
            self.ups.append(nn.Sequential(Pointwise(c, 2 * c, bias=False), nn.PixelShuffle(2)))
            c //= 2
            self.decoders.append(nn.Sequential(*(NAFBlock(c) for _ in range(blocks))))

    @property
    def halo(self) -> int:
        """How far an output looks (see `tiling`): the convolutions, and half a window of pooling in every block where windows are set."""
        windows = [m.window or 0 for m in self.modules() if isinstance(m, ChannelAttention)]
        full = max(windows, default=0)
        return self._reach + self._blocks * (full // 2 + self.stride if full else 0)

    def pool_over(self, side: int | None) -> None:
        """Let the channel attention pool, in evaluation, over windows of ``side`` pixels at full resolution; None: globally."""
        stages = [*((k, e) for k, e in enumerate(self.encoders)), (self.scales, self.middle_blks)]
        stages += [(self.scales - 1 - k, d) for k, d in enumerate(self.decoders)]
        for scale, stage in stages:
            for m in stage.modules():
                if isinstance(m, ChannelAttention):
                    m.window = None if side is None else max(1, side // 2**scale)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        height, width = y.shape[-2:]
        padded = pad_to_multiple(y, 2**self.scales)
        x, skips = self.intro(padded), []
        for stage, down in zip(self.encoders, self.downs, strict=True):
            x = stage(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for up, stage in zip(self.ups, self.decoders, strict=True):
            x = stage(up(x) + skips.pop())
        return (self.ending(x) + padded)[..., :height, :width]
