"""Demosaicking without training: bilinear interpolation, and Malvar, He and Cutler's linear filters (ICASSP 2004)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...tasks.requests import Request
from ..method import Method

CROSS = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
FULL = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4

GREEN = torch.tensor([[0.0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]) / 8
"""Green at red and blue (figure 2)."""
ALONG = torch.tensor([[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]]) / 8
"""Red at a green in a red row, blue at a green in a blue row; transposed, at a green in the other colour's row."""
ACROSS = torch.tensor([[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]) / 8
"""Red at blue, blue at red."""


def bilinear(sparse: Tensor) -> Tensor:
    """Return (B, 3, H, W), even sides, interpolated bilinearly from RGGB samples at their places and zeros elsewhere."""
    kernels = torch.stack([FULL, CROSS, FULL])[:, None].to(sparse)
    return F.conv2d(F.pad(sparse, (1, 1, 1, 1), mode="reflect"), kernels, groups=3)


def malvar(sparse: Tensor) -> Tensor:
    """Return (B, 3, H, W): bilinear interpolation corrected by the Laplacian of the colour that was sampled (eqs. 1 to 4)."""
    samples = sparse.sum(1, keepdim=True)
    kernels = torch.stack([GREEN, ALONG, ALONG.T, ACROSS])[:, None].to(sparse)
    green, along, down, across = F.conv2d(F.pad(samples, (2, 2, 2, 2), mode="reflect"), kernels).unbind(1)
    out = sparse.clone()
    out[:, 1, 0::2, 0::2], out[:, 1, 1::2, 1::2] = green[:, 0::2, 0::2], green[:, 1::2, 1::2]
    out[:, 0, 0::2, 1::2], out[:, 0, 1::2, 0::2], out[:, 0, 1::2, 1::2] = along[:, 0::2, 1::2], down[:, 1::2, 0::2], across[:, 1::2, 1::2]
    out[:, 2, 1::2, 0::2], out[:, 2, 0::2, 1::2], out[:, 2, 0::2, 0::2] = along[:, 1::2, 0::2], down[:, 0::2, 1::2], across[:, 0::2, 0::2]
    return out


class Bilinear(Method):
    """Bilinear interpolation of every colour."""

    def restore(self, request: Request) -> Tensor:
        return bilinear(request.degraded)


class Malvar(Method):
    """Malvar, He and Cutler's 5 x 5 filters."""

    def restore(self, request: Request) -> Tensor:
        return malvar(request.degraded)
