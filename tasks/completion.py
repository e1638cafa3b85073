"""Completion of cubes: single entries of a cube are lost, each band of a pixel by itself, and the rest is noisy."""

from __future__ import annotations

import deepinv.physics as dp
import numpy as np
import torch

from . import operators
from .inverse import InverseTask
from .randomness import keyed


class CompletionTask(InverseTask):
    """As `InverseTask`, with ``observe: {operator: entries, keep: share, sigma: s}``: y = m * x + n with one random 0/1 mask m of exactly
    the share ``keep`` of all entries of the cube, the same for every sample; y is zero where m is, but for the noise."""

    def operator(self, shape: operators.Shape, dtype: torch.dtype = torch.float32) -> dp.LinearPhysics:
        if (shape, dtype) not in self._operators:
            size, keep = int(np.prod(shape)), float(self.spec.observe["keep"])
            mask = np.zeros(size)
            mask[keyed("operator", self.id, self.version, *shape).permutation(size)[: round(keep * size)]] = 1
            physics = operators.Inpainting(shape, mask=torch.as_tensor(mask.reshape(shape), dtype=dtype))
            physics.noise_model = dp.GaussianNoise(sigma=self.sigma)
            physics.description = f"entries, keep={keep:g}, mask=sha256:{operators.digest(mask)}, sigma={self.sigma:g}"
            self._operators[shape, dtype] = physics.eval().requires_grad_(False)
        return self._operators[shape, dtype]
