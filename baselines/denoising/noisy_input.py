"""The do-nothing row: what was given, unchanged."""

from __future__ import annotations

import torch

from ...tasks.requests import Request
from ..method import Method


class NoisyInput(Method):
    """Answers with its input. It cannot enter super-resolution, whose answer has another size (there the do-nothing row is bicubic)."""

    def denoise(self, request: Request) -> torch.Tensor:
        return request.noisy

    def enhance(self, request: Request) -> torch.Tensor:
        return request.noisy

    def restore(self, request: Request) -> torch.Tensor:
        return request.degraded
