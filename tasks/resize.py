"""Bicubic resizing as MATLAB's imresize defines it, which is what super-resolution papers degrade and upscale with.

Keys' kernel with a = -0.5, stretched by the factor when shrinking (antialiasing), pixel centres at half integers, samples beyond a
border mirrored. Pillow's BICUBIC has the same kernel and differs only at the borders, where it drops the taps outside; torch's
``interpolate(mode="bicubic")`` has a = -0.75 unless ``antialias=True``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch


def keys_kernel(x: np.ndarray) -> np.ndarray:
    """Return the cubic convolution kernel with a = -0.5 (Keys 1981, eq. 15)."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=256)
def taps(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (indices, weights), both (K, after): output j is the sum over k of weights[k, j] x[indices[k, j]]."""
    factor = after / before
    stretch = min(factor, 1.0)
    width = 4 / stretch
    centre = (np.arange(after) + 0.5) / factor - 0.5
    left = np.floor(centre - width / 2).astype(int)
    index = left + np.arange(int(np.ceil(width)) + 2)[:, None]
    weights = keys_kernel(stretch * (centre - index))
    weights /= weights.sum(0)
    used = np.abs(weights).max(1) > 0
    mirrored = np.concatenate([np.arange(before), np.arange(before)[::-1]])[index % (2 * before)]
    return mirrored[used], weights[used]


def resize(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize (..., H, W) to (..., height, width), in the dtype given; the result does not depend on the number of threads."""
    for axis, after in ((-2, height), (-1, width)):
        before = image.shape[axis]
        if after == before:
            continue
        index, weights = (torch.from_numpy(a).to(image.device) for a in taps(before, after))
        shape = (-1, 1) if axis == -2 else (-1,)
        total = torch.zeros((), dtype=image.dtype, device=image.device)
        for i, w in zip(index, weights, strict=True):  # one after another: the order of additions is part of the result
            total = total + image.index_select(axis, i) * w.to(image.dtype).reshape(shape)
        image = total
    return image
