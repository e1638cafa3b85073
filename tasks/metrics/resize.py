"""Antialiased bicubic resize of image batches, equal to PIL's on float images (clean-fid's "clean" mode), as two products with sparse
matrices."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import torch

A = -0.5
"""The coefficient of the cubic convolution kernel (Keys 1981) that PIL uses; OpenCV and torch use -0.75."""


def cubic(x: np.ndarray) -> np.ndarray:
    """Return Keys' cubic convolution kernel at ``x``."""
    x = np.abs(x)
    near = ((A + 2) * x - (A + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * A
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=64)
def weights(size: int, new: int) -> np.ndarray:
    """Return the (new, size) matrix that resizes a line: the kernel is widened by the scale when shrinking, and cut at the ends."""
    scale = size / new
    support = 2.0 * max(scale, 1.0)
    centre = (np.arange(new) + 0.5) * scale
    # PIL takes the pixels whose rounded span lies within the support
    first = np.maximum((centre - support + 0.5).astype(int), 0)
    last = np.minimum((centre + support + 0.5).astype(int), size)
    pixel = np.arange(size)
    out = cubic((pixel[None] + 0.5 - centre[:, None]) / max(scale, 1.0))
    out[(pixel[None] < first[:, None]) | (pixel[None] >= last[:, None])] = 0
    return out / out.sum(1, keepdims=True)


@lru_cache(maxsize=64)
def sparse(size: int, new: int) -> torch.Tensor:
    """Return `weights` as float32 in rows of its few non-zero columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls the layout a beta
        return torch.from_numpy(weights(size, new)).float().to_sparse_csr()


def bicubic(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize (..., H, W) to ``size`` (height, width): float in, float out, not clipped and not rounded.

    Plane by plane on a CPU, where a plane then stays in the cache and only 4 weights a pixel (more when shrinking) are multiplied; with
    whole matrices on an accelerator.
    """
    (h, w), (high, wide) = images.shape[-2:], size
    if images.device.type != "cpu" or images.dtype != torch.float32:
        rows, columns = (torch.from_numpy(weights(n, m)).to(images) for n, m in ((h, high), (w, wide)))
        return rows @ (images @ columns.T)
    rows, columns = sparse(h, high), sparse(w, wide)
    out = torch.empty(*images.shape[:-2], high, wide)
    for plane, target in zip(images.reshape(-1, h, w), out.view(-1, high, wide), strict=True):
        target.copy_((columns @ (rows @ plane).T).T)
    return out
