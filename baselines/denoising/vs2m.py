"""The variational spatio-spectral module of DDS2M (Miao et al. 2023, arXiv:2303.06682, section 3.2): a cube written by untrained networks.

X(theta) = sum_{r=1..R} A_r outer c_r (eq. 6): every abundance map A_r comes from its own U-Net with skips out of a fixed noise map, every
spectrum c_r from its own fully connected network out of a fixed noise vector. The same module, fitted directly, is DS2DP (Miao et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class Unit(nn.Module):
    """Reflection-padded convolution, batch norm, leaky ReLU, for ``groups`` networks side by side; with ``halve`` a 2 x 2 mean after the
    convolution."""

    def __init__(self, inside: int, out: int, kernel: int, groups: int, halve: bool = False) -> None:
        super().__init__()
        self.pad, self.halve = kernel // 2, halve
        self.conv = nn.Conv2d(groups * inside, groups * out, kernel, groups=groups)
        self.norm = nn.BatchNorm2d(groups * out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(F.pad(x, (self.pad,) * 4, mode="reflect") if self.pad else x)
        return F.leaky_relu(self.norm(F.avg_pool2d(x, 2) if self.halve else x), 0.2)


class SpatialNets(nn.Module):
    """``rank`` separate U-Nets with skips (Ulyanov et al. 2018), as grouped convolutions: (1, rank, H, W) noise to (rank, H, W) maps.

    ``widths`` are the channels of each level, ``kernels`` their filter sizes, ``skips`` the channels of the skip connections (0: none). Batch
    norm works per channel on a batch of one, so the networks do not see each other.
    """

    def __init__(self, rank: int, widths: Sequence[int], kernels: Sequence[int], skips: Sequence[int]) -> None:
        super().__init__()
        self.rank = rank
        self.down, self.same, self.skip, self.join, self.up = (nn.ModuleList() for _ in range(5))
        inside = 1
        for level, (w, k, s) in enumerate(zip(widths, kernels, skips, strict=True)):
            self.down.append(Unit(inside, w, k, rank, halve=True))
            self.same.append(Unit(w, w, k, rank))
            self.skip.append(Unit(inside, s, 1, rank) if s else nn.Identity())
            below = widths[min(level + 1, len(widths) - 1)]
            self.join.append(nn.BatchNorm2d(rank * (s + below)))
            self.up.append(nn.Sequential(Unit(s + below, w, k, rank), Unit(w, w, 1, rank)))
            inside = w
        self.skips = tuple(skips)
        self.leave = nn.Conv2d(rank * widths[0], rank, 1, groups=rank)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        x, kept = noise, []
        for down, same, skip, s in zip(self.down, self.same, self.skip, self.skips, strict=True):
            kept.append(skip(x) if s else None)
            x = same(down(x))
        for level in reversed(range(len(self.up))):
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
            if (side := kept[level]) is not None:
                side = side.unflatten(1, (self.rank, -1))[..., : x.shape[-2], : x.shape[-1]]
                x = torch.cat([side, x.unflatten(1, (self.rank, -1))], 2).flatten(1, 2)  # channels stay grouped by network
            x = self.up[level](self.join[level](x))
        return self.leave(x)[0]


class SpectralNets(nn.Module):
    """``rank`` separate fully connected networks: the same noise vector (bands,) to one spectrum each, (rank, bands)."""

    def __init__(self, rank: int, bands: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inside, out in pairwise((bands, *hidden, bands)):
            bound = inside**-0.5  # as nn.Linear starts
            self.weights.append(nn.Parameter(torch.empty(rank, inside, out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(rank, 1, out).uniform_(-bound, bound)))

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        x = noise.expand(len(self.weights[0]), 1, -1)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if k > 0:
                x = F.relu6(x) if k == 1 else F.relu(x)
            x = torch.baddbmm(bias, x, weight)
        return x[:, 0]


class VS2M(nn.Module):
    """``forward()`` returns the cube X(theta), (bands, H, W), about [0, 1]. Weights and noise inputs come from the global generator.

    Sides are padded to what the levels divide, and cut again.
    """

    def __init__(
        self, shape: Sequence[int], rank: int, widths: Sequence[int], kernels: Sequence[int], skips: Sequence[int], hidden: Sequence[int]
    ) -> None:
        super().__init__()
        bands, self.height, self.width = shape
        unit = 2 ** len(widths)
        sides = [-(-n // unit) * unit for n in (self.height, self.width)]
        self.spatial = SpatialNets(rank, widths, kernels, skips)
        self.spectral = SpectralNets(rank, bands, hidden)
        self.register_buffer("noise_map", torch.rand(1, 1, *sides).expand(1, rank, *sides).clone())
        self.register_buffer("noise_vector", torch.rand(bands))

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the maps A (R, H, W) and the spectra c (R, bands)."""
        maps: torch.Tensor = self.spatial(self.noise_map)
        return maps[:, : self.height, : self.width], self.spectral(self.noise_vector)

    def forward(self) -> torch.Tensor:
        maps, spectra = self.factors()
        return torch.einsum("rhw,rb->bhw", maps, spectra)
