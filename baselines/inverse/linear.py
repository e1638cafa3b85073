"""Linear algebra that the inverse methods share. Every iteration count is fixed, so no answer depends on what else is in the batch."""

from __future__ import annotations

import torch
from deepinv.physics import DecomposablePhysics, LinearPhysics

from ...tasks.operators import CircularBlur, Dense


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the inner product of each row, (B, 1, 1, ...) so that it multiplies images."""
    return (a * b).flatten(1).sum(1).reshape(-1, *(1,) * (a.ndim - 1))


def signal_shape(physics: LinearPhysics, y: torch.Tensor) -> tuple[int, ...]:
    """Return the shape (C, H, W) of the signals an operator takes."""
    return tuple(physics.A_adjoint(y[:1]).shape[1:])


def square_norm(physics: LinearPhysics, shape: tuple[int, ...], steps: int = 60, device: torch.device | str = "cpu") -> float:
    """Return ||A||^2, the largest eigenvalue of A^T A, by power iteration from a fixed vector (and 1 % more, since it comes from below)."""
    n = int(torch.Size(shape).numel())
    # a constant, which is what blur and projections pass best, plus something irregular, which is orthogonal to nothing
    v = 1 + torch.sin(torch.arange(n, dtype=torch.float32, device=device) ** 2 * 0.7).reshape(1, *shape)
    value = torch.tensor(1.0)
    for _ in range(steps):
        v = v / v.norm()
        v = physics.A_adjoint(physics.A(v))
        value = v.norm()
    return 1.01 * float(value)


def proximal_data(physics: LinearPhysics, y: torch.Tensor, z: torch.Tensor, a: float, steps: int = 30) -> torch.Tensor:
    """Return argmin_x ||A x - y||^2 + a ||x - z||^2, for a > 0.

    In closed form where the operator knows its singular vectors (blur, masks, random DCT) or its matrix; else by ``steps`` conjugate
    gradient steps on (A^T A + a) x = A^T y + a z from z.
    """
    if isinstance(physics, (DecomposablePhysics, Dense)):
        return physics.prox_l2(z, y, 1 / a)
    x = z
    r = physics.A_adjoint(y - physics.A(x))
    p, energy = r, dot(r, r)
    for _ in range(steps):
        q = physics.A_adjoint(physics.A(p)) + a * p
        step = energy / dot(p, q).clamp(min=1e-30)
        x, r = x + step * p, r - step * q
        new = dot(r, r)
        p, energy = r + new / energy.clamp(min=1e-30) * p, new
    return x


def first_guess(physics: LinearPhysics, y: torch.Tensor, level: float = 0.0) -> torch.Tensor:
    """Return y itself for blur; otherwise m + c A^T (y - A m), m the constant image ``level``, with the c that brings A x nearest to y.

    That is the first steepest-descent step from m; c = 1 where rows are orthonormal.
    """
    if isinstance(physics, CircularBlur):
        return y
    start = y.new_full((len(y), *signal_shape(physics, y)), level)
    x = physics.A_adjoint(y - physics.A(start) if level else y)
    c = dot(x, x) / (physics.A(x).flatten(1) ** 2).sum(1).clamp(min=1e-30).reshape(-1, *(1,) * (x.ndim - 1))
    return start + c * x
