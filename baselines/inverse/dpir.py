"""Plug-and-play restoration with a deep denoiser by half-quadratic splitting: DPIR (Zhang et al., TPAMI 2021, arXiv:2008.13751)."""

from __future__ import annotations

import torch
from torch import nn

from ...tasks.requests import Request
from ..method import Method
from .linear import first_guess, proximal_data


def turned(x: torch.Tensor, k: int) -> torch.Tensor:
    """Return symmetry k of the square (0..7: quarter turns, then flipped ones) of (B, C, H, W)."""
    x = torch.rot90(x, k % 4, (-2, -1))
    return x.flip(-1) if k % 8 >= 4 else x


def turned_back(x: torch.Tensor, k: int) -> torch.Tensor:
    """Undo `turned`."""
    x = x.flip(-1) if k % 8 >= 4 else x
    return torch.rot90(x, -(k % 4), (-2, -1))


class DPIR(Method):
    """Alternates, for k = 1..K with levels s_k falling log-evenly from ``start`` to the noise level (equations 6a, 6b):

        x_k = argmin_x ||y - A x||^2 + a_k ||x - z_{k-1}||^2,  a_k = lam sigma^2 / s_k^2
        z_k = D(x_k, s_k)

    The denoiser sees a different turn of the picture at each step (their periodical self-ensemble). ``floor`` is the smallest noise level
    assumed, in the same units as images: with none, a_k would be zero and the first equation singular. ``steps`` is K; the answer is z_K.
    """

    def __init__(self, denoiser: nn.Module, steps: int = 8, start: float = 49 / 255, lam: float = 0.23, floor: float = 0.01) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.steps, self.start, self.lam, self.floor = steps, start, lam, floor

    def reconstruct(self, request: Request) -> torch.Tensor:
        physics, y = request.physics, request.y
        sigma = max(float(request.noise_level), self.floor)
        levels = torch.logspace(0, 1, self.steps, base=sigma / self.start, dtype=torch.float64) * self.start
        z = first_guess(physics, y, 0.5)
        for k, level in enumerate(levels.tolist()):
            x = proximal_data(physics, y, z, self.lam * sigma**2 / level**2)
            z = turned_back(self.denoiser(turned(x, k), level), k)
        return z
