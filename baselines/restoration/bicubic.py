"""Bicubic interpolation, the do-nothing row of restoration: the degraded picture at the answer's size."""

from __future__ import annotations

import torch

from ...tasks.requests import Request
from ...tasks.resize import resize
from ..method import Method


class Bicubic(Method):
    """MATLAB's bicubic (a = -0.5) up by the request's ``scale``; the identity where that is 1."""

    def restore(self, request: Request) -> torch.Tensor:
        height, width = request.degraded.shape[-2:]
        return resize(request.degraded, height * request.scale, width * request.scale)
