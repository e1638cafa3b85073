"""A tiny frozen vision transformer on shapes scenes: its feature maps, and random views of a picture with their places in it.

The ViT of Dosovitskiy et al. (arXiv:2010.11929) at patch 4, width 64 and 3 layers, with learnable absolute positions. Its weights ship with
the package; `train_vit` is how they were made. Features are computed in float64 and rounded, so that they do not depend on the machine.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..configs.errors import RunError
from .metrics.weights import SHIPPED, file_sha256

FILE = SHIPPED / "shapes-vit.safetensors"
SHA256 = "66b0858ea074117b54712e6e3f698e1aa740f32d573ac053d0aec45c97a02a68"
SIDE, PATCH, WIDTH, LAYERS, HEADS = 32, 4, 64, 3, 4
GRID = SIDE // PATCH
"""Tokens a side."""
LEVELS = 1024
"""Features are multiples of 1 / LEVELS."""


class Layer(nn.Module):
    """Attention, then two linear layers; layer norm before each, both added to x (B, T, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, -1))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.feed(self.norm2(x))


class ViT(nn.Module):
    """``forward`` maps pictures (B, 3, 32, 32) in [0, 1] to the tokens of the last layer (B, 64, 64), normalised, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.position = nn.Parameter(0.02 * torch.randn(1, GRID * GRID, WIDTH))
        self.layers = nn.ModuleList(Layer(WIDTH, HEADS) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(2 * x - 1).flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


@cache
def frozen() -> ViT:
    """Return the shipped network in float64; RunError when its file is not the one this version of the tasks was made with."""
    from safetensors.torch import load_file

    if not FILE.is_file() or file_sha256(FILE) != SHA256:
        raise RunError(f"the shipped weights {FILE} are missing or damaged; install scorebench again.")
    network = ViT().double().eval().requires_grad_(False)
    network.load_state_dict({k: v.double() for k, v in load_file(FILE).items()})
    return network


def features(pictures: Tensor) -> Tensor:
    """Return the feature maps float32 (B, 64, 8, 8) of pictures (B, 3, 32, 32), rounded to multiples of 1 / 1024."""
    with torch.no_grad():
        tokens = frozen()(pictures.double())
    maps = tokens.transpose(1, 2).unflatten(-1, (GRID, GRID))
    return (torch.round(maps * LEVELS) / LEVELS).float()


# ---------------------------------------------------------------------- views
def crops(rng: np.random.Generator, number: int, scale: tuple[float, float], ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> np.ndarray:
    """Draw crops of the unit square, float64 (number, 5): left, top, width, height, and 1 where the crop is mirrored (half of them).

    The share of the area is uniform in ``scale``, the logarithm of width over height uniform in ``ratio``, the place uniform, as in the usual
    random resized crop; sides longer than the picture are cut to it.
    """
    area = rng.uniform(*scale, number)
    shape = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), number))
    w, h = np.minimum(np.sqrt(area * shape), 1), np.minimum(np.sqrt(area / shape), 1)
    return np.stack([rng.random(number) * (1 - w), rng.random(number) * (1 - h), w, h, rng.random(number) < 0.5], 1)


def places(boxes: np.ndarray, side: int = GRID) -> Tensor:
    """Return where the cells of ``side`` x ``side`` views lie in the picture, float64 (N, 2, side, side): x and y of the centres, in [0, 1]."""
    left, top, w, h, mirrored = (torch.from_numpy(b).double()[:, None] for b in boxes.T)
    t = ((torch.arange(side, dtype=torch.float64) + 0.5) / side).expand(len(boxes), side)
    x, y = left + w * torch.where(mirrored > 0, 1 - t, t), top + h * t
    return torch.stack([x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], 1)


WHOLE = np.array([[0.0, 0.0, 1.0, 1.0, 0.0]])
"""The crop that is the picture itself."""


def cut(pictures: Tensor, boxes: np.ndarray) -> Tensor:
    """Return the crops of pictures (N, C, H, H), one each, stretched to H x H bilinearly, as float64."""
    grid = 2 * places(boxes, pictures.shape[-1]).permute(0, 2, 3, 1) - 1
    return F.grid_sample(pictures.double(), grid, mode="bilinear", padding_mode="border", align_corners=False)
