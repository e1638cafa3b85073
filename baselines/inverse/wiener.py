"""The posterior mean of a Gaussian signal under a linear operator: what no estimator can beat in mean squared error."""

from __future__ import annotations

from typing import Any

import torch

from ...configs.errors import RunError
from ...tasks.requests import Request
from ..method import Method
from .linear import signal_shape


class Wiener(Method):
    """x = m + C A^T (A C A^T + sigma^2 I)^-1 (y - A m), in float64, with mean m and covariance C of an exact Gaussian prior."""

    def __init__(self, prior: Any) -> None:
        super().__init__()
        self.prior = prior

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the prior's mean (d,) and covariance (d, d); RunError when it is not one Gaussian."""
        exact = self.prior.network
        if len(exact.means) != 1:
            raise RunError("wiener needs a Gaussian prior; this one is a mixture.")
        rotation = exact.rotations[0]
        return exact.means[0], rotation @ torch.diag(exact.variances[0]) @ rotation.T

    def reconstruct(self, request: Request) -> torch.Tensor:
        physics, y = request.physics, request.y
        mean, covariance = (m.to(y.device) for m in self.moments())
        shape = signal_shape(physics, y)
        basis = torch.eye(len(mean), device=y.device).reshape(-1, *shape)
        a = physics.A(basis).flatten(1).T.double()  # columns are A e_i
        cross = covariance @ a.T
        noise = float(request.noise_level) ** 2 * torch.eye(len(a), dtype=torch.float64, device=y.device)
        gain = torch.linalg.solve(a @ cross + noise, cross.T).T
        x = mean + (y.flatten(1).double() - a @ mean) @ gain.T
        return x.reshape(-1, *shape).float()
