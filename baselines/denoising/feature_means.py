"""Two simple ways of cleaning feature maps of position artefacts: take away a mean per position, or average the views of a place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...tasks.requests import Request
from ..method import DataSpec, Method


class PositionMean(Method):
    """Takes away the mean over ``scenes`` training scenes of the feature at every position, but for its mean over the positions."""

    mean: Tensor

    def __init__(self, data: DataSpec, scenes: int = 64) -> None:
        super().__init__()
        assert data.shape is not None
        self.scenes = scenes
        self.register_buffer("mean", torch.zeros(data.shape))

    def learn(self, data: Any) -> None:
        mean = torch.stack([data[i]["input"] for i in range(min(self.scenes, len(data)))]).double().mean(0)
        self.mean.copy_(mean - mean.mean((1, 2), keepdim=True))

    def enhance(self, request: Request) -> Tensor:
        return request.noisy - self.mean


class ViewAverage(Method):
    """Answers at every token of the picture with the mean of the views' tokens that lie nearest to it; with its own where there is none."""

    def enhance(self, request: Request) -> Tensor:
        return torch.stack([self.average(n, v, p) for n, v, p in zip(request.noisy, request.views, request.places, strict=True)])

    @staticmethod
    def average(noisy: Tensor, views: Tensor, places: Tensor) -> Tensor:
        """Return the map (C, H, W) of means over views (N, C, H, W) that show ``places`` (N, 2, H, W)."""
        c, h, w = noisy.shape
        x, y = places.transpose(0, 1).flatten(1)
        cell = (y * h).long().clamp(0, h - 1) * w + (x * w).long().clamp(0, w - 1)
        rows = views.transpose(0, 1).flatten(1)
        total = torch.zeros(c, h * w, dtype=torch.float64, device=rows.device).index_add_(1, cell, rows.double())
        number = torch.bincount(cell, minlength=h * w)
        mean = (total / number.clamp(min=1)).to(noisy).reshape(c, h, w)
        return torch.where((number > 0).reshape(h, w), mean, noisy)
