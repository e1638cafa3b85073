"""Large pictures through a convolutional network in overlapping tiles, so that memory does not grow with the picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

LIMIT = 2**20
"""Pixels (height x width) above which a picture is cut: every picture of the denoising benchmarks stays whole."""


def spans(size: int, tile: int, halo: int) -> list[tuple[int, int, int, int]]:
    """Return (from, to, first, last) along one side: a tile reads [from, to) and answers for [first, last).

    The answers cover [0, size) once; a tile reads ``halo`` more on each side, as far as the picture goes.
    """
    return [(max(0, a - halo), min(size, a + tile + halo), a, min(size, a + tile)) for a in range(0, size, tile)]


def tiled(
    network: nn.Module, y: torch.Tensor, *args: Any, halo: int, multiple: int = 1, limit: int = LIMIT
) -> torch.Tensor:
    """Return ``network(y, *args)`` for (B, C, H, W), computed in tiles when the picture has more than ``limit`` pixels.

    ``halo``: how far, in pixels, an output looks; ``multiple``: the network's total stride, on which tiles begin (both round the halo up, so
    phases and the padding at the right and bottom are those of the whole picture). With a halo that covers the receptive field the answer is
    that of the whole picture to rounding: a tile's edge is padded with zeros only where the picture's edge is. What looks at the whole
    picture (global pooling, attention) sees one tile of about ``limit`` pixels instead, and answers otherwise than untiled.

    The first tile goes through ``network(...)``, the others through its ``forward``: a picture counts as one network evaluation.
    """
    height, width = y.shape[-2:]
    if height * width <= limit:
        return network(y, *args)
    halo += -halo % multiple
    # a tile with its halo on both sides has about `limit` pixels, and at least as many of its own as a halo is wide
    tile = max(int(limit**0.5) - 2 * halo, halo, multiple)
    tile -= tile % multiple
    out: torch.Tensor | None = None
    call: Callable[..., torch.Tensor] = network
    for top, bottom, first_row, last_row in spans(height, tile, halo):
        for left, right, first, last in spans(width, tile, halo):
            part = call(y[..., top:bottom, left:right], *args)
            call = network.forward
            if out is None:
                out = part.new_empty((*part.shape[:-2], height, width))
            out[..., first_row:last_row, first:last] = part[..., first_row - top : last_row - top, first - left : last - left]
    assert out is not None
    return out
