"""Empirical model statistics of DPM-Solver-v3 (Zheng et al., NeurIPS 2023, arXiv:2310.13268): which parameterisation a model is smoothest in.

With z = x / alpha the probability-flow ODE is dz/dlam = -exp(-lam) eps. For a coefficient l(lam) per dimension, f = (sigma eps - l x) / alpha
is another parameterisation (l = 1: minus the data prediction). l* = E[diag(sigma d eps/dx)] makes f as insensitive to x as it can be; s and b
are the least-squares line of df/dlam in f, element by element, so that what is left to extrapolate, df/dlam - s f - b, is small (section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .exponential import Node, nodes
from .schedule import Schedule

Noise = Callable[[Tensor, Tensor], Tensor]


def statistics(noise: Noise, schedule: Schedule, start: Tensor, lams: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return l, s and b on the rising grid ``lams`` (M + 1,), float64: (3, M + 1, *shape).

    ``noise(x, t)`` is the model's prediction; ``start`` (K, *shape) are states at lams[0], carried along the grid by DDIM steps, so no data are
    needed. Derivatives are forward-mode (JVP): one with random signs for the diagonal (Hutchinson), one along the ODE. Each point of the grid
    costs two evaluations for each state.
    """
    grid = nodes(schedule, schedule.t_of_lam(lams))
    x = start
    means, products = [], []
    diagonals = []
    for i, node in enumerate(grid):
        t, lam = node.time, torch.tensor(node.lam, dtype=torch.float64)
        signs = torch.randint(0, 2, x.shape, generator=generator, device=x.device).to(x.dtype) * 2 - 1
        eps, turned = _jvp(lambda u, t=t: noise(u, t), (x,), (signs,))  # type: ignore[misc]
        diagonals.append(node.sigma * (signs * turned).double().mean(0))
        rise, fall = schedule.d_alpha(t) / schedule.alpha(t), schedule.d_sigma(t) / schedule.sigma(t)
        along_ode = float(rise / (rise - fall)) * x - node.sigma * eps  # d log alpha / d lambda
        _, rate = _jvp(lambda u, v: noise(u, schedule.t_of_lam(v)), (x, lam), (along_ode, torch.ones_like(lam)))
        parts = [v.double() for v in (x, eps, rate)]
        means.append(torch.stack([p.mean(0) for p in parts]))
        xc, ec, rc = (p - p.mean(0) for p in parts)
        products.append(torch.stack([(u * v).mean(0) for u, v in ((xc, xc), (ec, ec), (xc, ec), (xc, rc), (ec, rc))]))
        if i + 1 < len(grid):
            t_next = grid[i + 1]
            x = torch.add(t_next.alpha / node.alpha * x, eps, alpha=-t_next.alpha * (node.kappa - t_next.kappa))
    return _coefficients(torch.stack(diagonals), torch.stack(means, 1), torch.stack(products, 1), grid, lams)


def _jvp(function: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    out: tuple[Tensor, ...] = torch.func.jvp(function, at, along)
    return out[0], out[1]


def _coefficients(l: Tensor, means: Tensor, products: Tensor, grid: list[Node], lams: Tensor) -> Tensor:  # noqa: E741
    """Return (l, s, b): f = A eps + B x and df/dlam = C eps + A eps' + G x, with factors that differ by dimension."""
    shape = (-1, *[1] * (l.ndim - 1))
    alpha, kappa = (torch.tensor([getattr(n, name) for n in grid], dtype=torch.float64).reshape(shape) for name in ("alpha", "kappa"))
    slope = torch.gradient(l, spacing=(lams,), dim=0)[0]
    a, b, c, g = kappa, -l / alpha, kappa * (l - 1), -slope / alpha
    (x, eps, rate), (xx, ee, xe, xr, er) = means, products
    variance = a**2 * ee + 2 * a * b * xe + b**2 * xx
    covariance = a * c * ee + a**2 * er + (a * g + b * c) * xe + a * b * xr + b * g * xx
    # where f hardly varies (a Gaussian has none of it), rounding would be divided by rounding: s is 0 there, nearly
    s = covariance / torch.maximum(variance, 1e-10 * (a**2 * ee + b**2 * xx))
    return torch.stack([l, s, c * eps + a * rate + g * x - s * (a * eps + b * x)])


def running(values: Tensor, lams: Tensor) -> Tensor:
    """Return the integrals of ``values`` (M + 1, ...) from lams[0] to each point, by trapezoids."""
    return torch.cat([torch.zeros_like(values[:1]), torch.cumulative_trapezoid(values, lams, dim=0)])


def refined(values: Tensor, factor: int) -> Tensor:
    """Return ``values`` (M + 1, ...) interpolated linearly on a grid ``factor`` times as fine: (M factor + 1, ...)."""
    if factor == 1:
        return values
    part = (torch.arange(factor, dtype=values.dtype) / factor).reshape(1, -1, *[1] * (values.ndim - 1))
    inside = values[:-1, None] + part * (values[1:] - values[:-1])[:, None]
    return torch.cat([inside.flatten(0, 1), values[-1:]])
