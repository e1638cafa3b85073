"""DS2DP: the spatio-spectral module fitted directly to the noisy cube, a deep image prior with a low-rank form (Miao et al. 2021, TGRS)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...tasks.requests import Request
from ..method import Method
from .vs2m import VS2M


class DS2DP(Method):
    """min_theta ||X(theta) - y||^2 (over the observed entries, where some are lost) by ``steps`` Adam steps from random weights; answers with
    the average of X over the last ones (``average``: weight of the past), after a fixed number of steps. The module is DDS2M's, so that the
    two differ in the fit alone."""

    needs_grad = True
    one_at_a_time = True

    def __init__(
        self,
        rank: int = 5,
        steps: int = 400,
        lr: float = 1e-2,
        average: float = 0.98,
        widths: Sequence[int] = (8, 16, 32),
        kernels: Sequence[int] = (5, 3, 3),
        skips: Sequence[int] = (0, 4, 4),
        hidden: Sequence[int] = (64, 128, 64),
    ) -> None:
        super().__init__()
        self.module: dict[str, Any] = {"rank": rank, "widths": widths, "kernels": kernels, "skips": skips, "hidden": hidden}
        self.steps, self.lr, self.average = steps, lr, average

    def denoise(self, request: Request) -> torch.Tensor:
        return self.fitted(request.noisy[0], torch.ones_like(request.noisy[0]))[None]

    def reconstruct(self, request: Request) -> torch.Tensor:
        """Fit the observed entries of a cube alone; the networks fill in the others."""
        return self.fitted(request.y[0], request.physics.mask.expand_as(request.y)[0])[None]

    def fitted(self, y: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the average of X over the fit of ||mask * (X - y)||^2, in [0, 1]."""
        network = VS2M(y.shape, **self.module)
        optimiser = torch.optim.Adam(network.parameters(), self.lr)
        mean = torch.zeros_like(y)
        for step in range(1, self.steps + 1):
            optimiser.zero_grad()
            cube = network()
            (mask * (cube - y)).square().mean().backward()
            optimiser.step()
            mean = self.average * mean + (1 - self.average) * cube.detach()
            if self.steps >= 8 and step % (self.steps // 8) == 0:
                self.offer("fit", (mean / (1 - self.average**step))[None])
        return (mean / (1 - self.average**self.steps)).clamp(0, 1)  # the average's bias towards its start is taken out
