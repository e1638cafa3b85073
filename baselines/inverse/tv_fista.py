"""Total-variation reconstruction by monotone FISTA (Beck and Teboulle, IEEE TIP 18(11), 2009: MFISTA with the FGP inner solver)."""

from __future__ import annotations

import torch

from ...tasks.requests import Request
from ..method import Method
from .linear import first_guess, square_norm


def gradient(x: torch.Tensor) -> torch.Tensor:
    """Return forward differences (B, C, 2, H, W), zero across the last row and column."""
    g = x.new_zeros(*x.shape[:2], 2, *x.shape[2:])
    g[:, :, 0, :-1] = x[:, :, 1:] - x[:, :, :-1]
    g[:, :, 1, :, :-1] = x[:, :, :, 1:] - x[:, :, :, :-1]
    return g


def divergence(p: torch.Tensor) -> torch.Tensor:
    """Return the negative adjoint of `gradient`: (B, C, H, W)."""
    down, right = p[:, :, 0, :-1], p[:, :, 1, :, :-1]
    out = p.new_zeros(*p.shape[:2], *p.shape[3:])
    out[:, :, :-1] += down
    out[:, :, 1:] -= down
    out[:, :, :, :-1] += right
    out[:, :, :, 1:] -= right
    return out


def total_variation(x: torch.Tensor) -> torch.Tensor:
    """Return the isotropic total variation of each sample, (B,)."""
    return gradient(x).square().sum(2).sqrt().flatten(1).sum(1)


def kept(which: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the rows of ``a`` where ``which`` (B,) is true, those of ``b`` elsewhere."""
    return torch.where(which.reshape(-1, *(1,) * (a.ndim - 1)), a, b)


class TVFista(Method):
    """min_x 1/2 ||A x - y||^2 + lam TV(x) over the task's range of values (a box, where it states one).

    ``lam`` is in units of noise: lam = ``strength`` x sigma x ||A||, so that one number carries over between operators of different scale;
    it is tuned on dev for each task and stands in the card. The dual of the inner problem is warm-started, which makes ``inner`` steps enough.
    """

    def __init__(self, strength: float = 1.0, iterations: int = 150, inner: int = 15) -> None:
        super().__init__()
        self.strength, self.iterations, self.inner = strength, iterations, inner

    def reconstruct(self, request: Request) -> torch.Tensor:
        physics, y = request.physics, request.y
        box = request.returns.range
        x = self.project(first_guess(physics, y), box)
        lipschitz = square_norm(physics, tuple(x.shape[1:]), device=x.device)
        lam = self.strength * float(request.noise_level) * lipschitz**0.5
        u, t, dual = x, 1.0, torch.zeros_like(gradient(x))
        ax = au = physics.A(x)  # carried along: A is linear, so one application per iteration is enough
        value = first = self.objective(ax, y, x, lam)
        for _ in range(self.iterations):
            z, dual = self.prox(u - physics.A_adjoint(au - y) / lipschitz, lam / lipschitz, box, dual)
            az = physics.A(z)
            reached = self.objective(az, y, z, lam)
            better = reached <= value  # monotone: a step that would raise the objective is not taken
            new, anew = kept(better, z, x), kept(better, az, ax)
            value = torch.minimum(reached, value)
            following = (1 + (1 + 4 * t * t) ** 0.5) / 2
            u = new + t / following * (z - new) + (t - 1) / following * (new - x)
            au = anew + t / following * (az - anew) + (t - 1) / following * (anew - ax)
            x, ax, t = new, anew, following
        self.diagnose("objective-ratio", value / first.clamp(min=1e-12))
        return x

    @staticmethod
    def project(x: torch.Tensor, box: tuple[float, float] | None) -> torch.Tensor:
        """Clip to the box."""
        return x.clamp(*box) if box else x

    @staticmethod
    def objective(ax: torch.Tensor, y: torch.Tensor, x: torch.Tensor, lam: float) -> torch.Tensor:
        """Return 1/2 ||A x - y||^2 + lam TV(x) of each sample, (B,), given A x."""
        return 0.5 * (ax - y).flatten(1).square().sum(1) + lam * total_variation(x)

    def prox(
        self, b: torch.Tensor, weight: float, box: tuple[float, float] | None, dual: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return argmin_x weight TV(x) + 1/2 ||x - b||^2 over the box, and its dual: fast gradient projection (their algorithm FGP).

        ``dual`` (B, C, 2, H, W) is where the inner iteration starts.
        """
        p, r, t = dual, dual, 1.0
        for _ in range(self.inner):
            moved = r + gradient(self.project(b + weight * divergence(r), box)) / (8 * weight)
            new = moved / moved.square().sum(2, keepdim=True).sqrt().clamp(min=1)
            following = (1 + (1 + 4 * t * t) ** 0.5) / 2
            r, p, t = new + (t - 1) / following * (new - p), new, following
        return self.project(b + weight * divergence(p), box), p
