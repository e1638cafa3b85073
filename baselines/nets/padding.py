"""Padding an image so that a network with strides can take it, and cutting the answer back."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad (B, C, H, W) at the right and bottom to sides that ``multiple`` divides.

    By reflection, which shows a network plausible pixels; by repeating the edge where the image is smaller than the padding.
    """
    bottom, right = (-n % multiple for n in x.shape[-2:])
    if not (bottom or right):
        return x
    mode = "reflect" if bottom < x.shape[-2] and right < x.shape[-1] else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)
