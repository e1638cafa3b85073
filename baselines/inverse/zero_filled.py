"""The do-nothing row of inverse problems: what was measured, put where it belongs, and nothing else."""

from __future__ import annotations

import torch

from ...tasks.requests import Request
from ..method import Method
from .linear import first_guess


class ZeroFilled(Method):
    """y itself for blur; otherwise c A^T y, with c = 1 where rows are orthonormal (masks, random DCT) and least squares elsewhere.

    So it is the masked picture with zeros (inpainting), the minimum-norm solution (compressed sensing), the scaled, unfiltered
    back-projection (tomography).
    """

    def reconstruct(self, request: Request) -> torch.Tensor:
        return first_guess(request.physics, request.y)
