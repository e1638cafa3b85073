"""A small head on a frozen score network that predicts a derivative from its last features (Dockhorn et al. 2022, GENIE, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .embed import ScalarEmbedding, zeroed
from .mlp import Block
from .unet import ResBlock


class Features:
    """Keeps what enters the last layer (`leave`) of a score network of this package while it runs; None where there is no such layer."""

    def __init__(self, network: nn.Module) -> None:
        layer = getattr(network, "leave", None)
        self.layer: nn.Module | None = layer if isinstance(layer, nn.Module) else None
        self.kept: Tensor | None = None

    @property
    def channels(self) -> int:
        """The number of channels kept, (B, channels) or (B, channels, h, w)."""
        if self.layer is None:
            return 0
        first = next(m for m in self.layer.modules() if isinstance(m, (nn.LayerNorm, nn.GroupNorm)))
        return int(first.normalized_shape[0]) if isinstance(first, nn.LayerNorm) else first.num_channels

    def __enter__(self) -> Features:
        self.kept = None
        if self.layer is not None:
            self._handle = self.layer.register_forward_pre_hook(self._keep)
        return self

    def _keep(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.kept = args[0]

    def __exit__(self, *exc: object) -> None:
        if self.layer is not None:
            self._handle.remove()


class DerivativeHead(nn.Module):
    """``forward(x, eps, level, features)`` returns three tensors like x; they start at zero.

    x and eps (B, *shape); level (B,), a function of the noise level of order 1; features as `Features` keeps them. One residual block of
    ``width`` channels: convolutional for pictures with features of their size (or of pictures folded by ``patch``), else dense.
    """

    def __init__(self, shape: Sequence[int], features: int, width: int, spatial: bool, patch: int = 1, embedding: int = 64) -> None:
        super().__init__()
        self.spatial, self.patch, self.shape = spatial, patch, tuple(shape)
        self.level = ScalarEmbedding(embedding)
        size = shape[0] * patch**2 if spatial else math.prod(shape)
        if spatial:
            self.enter: nn.Module = nn.Conv2d(2 * size + features, width, 3, padding=1)
            self.block: nn.Module = ResBlock(width, width, embedding, 0.0)
            norm = nn.GroupNorm(8 if width % 8 == 0 else 1, width)
            self.leave = nn.Sequential(norm, nn.SiLU(), zeroed(nn.Conv2d(width, 3 * size, 3, padding=1)))
        else:
            self.enter = nn.Linear(2 * size + features, width)
            self.block = Block(width, embedding, 0.0)
            self.leave = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), zeroed(nn.Linear(width, 3 * size)))

    def forward(self, x: Tensor, eps: Tensor, level: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        parts = [x, eps]
        if self.spatial and self.patch > 1:
            parts = [F.pixel_unshuffle(p, self.patch) for p in parts]
        if not self.spatial:
            parts = [p.flatten(1) for p in parts]
        if features is not None:
            parts.append(features)
        h = self.leave(self.block(self.enter(torch.cat(parts, 1)), F.silu(self.level(level))))
        out = h.chunk(3, 1)
        if self.spatial and self.patch > 1:
            return tuple(F.pixel_shuffle(o, self.patch) for o in out)  # type: ignore[return-value]
        return tuple(o.reshape(x.shape) for o in out)  # type: ignore[return-value]
