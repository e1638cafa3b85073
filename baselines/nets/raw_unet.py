"""The U-Net that every trained RAW denoiser here has: SNR-Net of Feng et al. (arXiv:2506.03645), in small; without a level it is blind."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .padding import pad_to_multiple


class Block(nn.Module):
    """x + conv(SiLU(conv(SiLU(x)) * g(t) + b(g(t)))), with g and b 1x1 convolutions of the level t; without one, g = 1 and b = 0."""

    def __init__(self, inside: int, out: int, guided: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inside, out, 1) if inside != out else nn.Identity()
        self.conv1, self.conv2 = nn.Conv2d(out, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        self.gamma = nn.Sequential(nn.Conv2d(1, out, 1), nn.SiLU(), nn.Conv2d(out, out, 1)) if guided else None
        self.beta = nn.Sequential(nn.SiLU(), nn.Conv2d(out, out, 1)) if guided else None

    def forward(self, x: Tensor, t: Tensor | None) -> Tensor:
        x = self.enter(x)
        z = self.conv1(F.silu(x))
        if self.gamma is not None and self.beta is not None:
            g = self.gamma(t)
            z = z * g + self.beta(g)
        return x + self.conv2(F.silu(z))


class RawUNet(nn.Module):
    """``forward(x, t)`` returns like x: (B, 4, h, w) of any size; ``t`` (B,) is the noise level, on the scale of x, where ``guided``.

    Strided convolutions down, 2x2 transposed ones up, skips by concatenation, one residual around everything. A guided network sees its
    input scaled to [0, 1] by each picture's extremes, and t divided by the same range. The published size is width 32 and 5 levels.
    """

    def __init__(self, channels: int = 4, width: int = 16, levels: int = 4, guided: bool = False) -> None:
        super().__init__()
        self.levels, self.guided = levels, guided
        widths = [width * 2**k for k in range(levels)]
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(Block(w, w, guided) for w in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(w, 2 * w, 3, stride=2, padding=1) for w in widths[:-1])
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1])
        self.up = nn.ModuleList(Block(2 * w, w, guided) for w in widths[:-1])
        self.tail = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        height, width = x.shape[-2:]
        low, span = torch.zeros(1, device=x.device), torch.ones(1, device=x.device)
        if self.guided:
            assert t is not None
            low = x.amin((1, 2, 3), keepdim=True)
            span = (x.amax((1, 2, 3), keepdim=True) - low).clamp_min(1e-6)
            t = t.reshape(-1, 1, 1, 1) / span
        y = pad_to_multiple((x - low) / span, 2 ** (self.levels - 1))
        h, kept = F.leaky_relu(self.head(y)), []
        for k in range(self.levels):
            h = self.down[k](h, t)
            if k < self.levels - 1:
                kept.append(h)
                h = self.shrink[k](h)
        for k in reversed(range(self.levels - 1)):
            h = self.up[k](torch.cat([self.grow[k](h), kept[k]], 1), t)
        out = self.tail(h)[..., :height, :width]
        return x + out * span
