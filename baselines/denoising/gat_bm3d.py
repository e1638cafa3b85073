"""BM3D on RAW frames behind the generalised Anscombe transform: the classical answer to Poisson-Gaussian noise.

Makitalo and Foi, "Optimal Inversion of the Generalized Anscombe Transformation for Poisson-Gaussian Noise", IEEE TIP 22(1), 2013.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import Method
from . import noise_estimation as cne
from . import vst
from .bm3d import PROFILES, bm3d
from .yond import _each, as_dn

HADAMARD = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
"""Orthonormal: white noise on the four planes stays white. Its first plane is twice their mean, by which blocks are grouped."""


class GATBM3D(Method):
    """Gain and read noise are the task's (``level: given``) or estimated from the frame as in the first step of YOND (``estimated``).

    ``window``: side of the square in which BM3D looks for similar blocks (N_S of its paper).
    """

    def __init__(self, level: str = "given", box: int = 15, window: int = 39) -> None:
        super().__init__()
        if level not in ("estimated", "given"):
            raise RequestError(f"level is {level!r}; accepted: estimated, given.")
        self.level, self.box, self.window = level, box, window

    def denoise(self, request: Request) -> Tensor:
        n = len(request.noisy)
        frames = request.noisy.detach().cpu().numpy().astype(np.float64)
        white, black, r = (_each(v, n) for v in (request.white_level, request.black_level, request.amplification))
        full = (white - black) / r
        known = np.stack([_each(request.gain, n), _each(request.read_noise, n)], -1) if self.level == "given" else None
        out = []
        for k, noisy in enumerate(frames):
            gain, read = as_dn(cne.coarse(noisy, self.box), full[k]) if known is None else known[k]
            z = vst.forward(noisy * full[k], gain, read)
            lower, upper = z.min(), z.max()
            sigma = 1 / (upper - lower)
            planes = np.tensordot(HADAMARD, (z - lower) * sigma, 1)
            first, second = (replace(s, NS=self.window) for s in PROFILES["normal"][int(sigma * 255 > 40)])
            filtered = np.tensordot(HADAMARD.T, bm3d(planes, sigma, (first, second), 0.5), 1)
            out.append(vst.unbiased_inverse(filtered / sigma + lower, gain, read) / full[k])
        return torch.from_numpy(np.stack(out).astype(np.float32)).to(request.noisy.device)
