"""Truncated singular value decomposition: a cube's bands-by-pixels matrix is cut to low rank (Eckart and Young 1936)."""

from __future__ import annotations

import torch

from ...tasks.requests import Request
from ..method import Method


def threshold(bands: int, pixels: int, sigma: float) -> float:
    """Return the singular value that white noise alone does not exceed (asymptotically): sigma (sqrt(bands) + sqrt(pixels))."""
    return sigma * (bands**0.5 + pixels**0.5)


class TruncatedSVD(Method):
    """Keeps the ``rank`` largest singular values of the (bands, pixels) matrix; with rank 0, those above what the given noise level explains,
    the upper edge of the Marchenko-Pastur law. ``shrink`` takes from a kept value s what the noise added, y -> sqrt((y^2 - a^2)(y^2 - b^2)) /
    y with
    a, b = sigma (sqrt(pixels) +- sqrt(bands)), the optimal shrinkage for squared error (Gavish and Donoho, IEEE TIT 63(4), 2017, eq. 7)."""

    def __init__(self, rank: int = 0, shrink: bool = False) -> None:
        super().__init__()
        self.rank, self.shrink = rank, shrink

    def denoise(self, request: Request) -> torch.Tensor:
        y = request.noisy
        bands, pixels = y.shape[1], y.shape[2] * y.shape[3]
        u, s, vh = torch.linalg.svd(y.flatten(2).double(), full_matrices=False)
        kept = torch.arange(s.shape[1]) < self.rank
        if self.rank == 0 or self.shrink:
            sigma = torch.as_tensor(request.noise_level, dtype=torch.float64).reshape(-1, 1)
            edge = threshold(bands, pixels, 1.0) * sigma
            kept = kept if self.rank else s > edge
            if self.shrink:
                other = sigma * abs(pixels**0.5 - bands**0.5)
                s = ((s**2 - edge**2).clamp(min=0) * (s**2 - other**2).clamp(min=0)).sqrt() / s.clamp(min=1e-12)
        self.diagnose("rank", kept.expand_as(s).sum(1).double())
        return ((u * (s * kept)[:, None]) @ vh).reshape(y.shape).float()
