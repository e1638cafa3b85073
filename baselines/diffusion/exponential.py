"""Exponential integrators: the probability-flow ODE in lambda with its linear part solved exactly (Lu et al. 2022a, 2022b).

    noise form:  x_t = (alpha_t / alpha_s) x_s - alpha_t int_{lam_s}^{lam_t} exp(-lam) eps(lam) dlam      (arXiv:2206.00927, eq. 3.4)
    data form:   x_t = (sigma_t / sigma_s) x_s + sigma_t int_{lam_s}^{lam_t} exp(lam) x_0(lam) dlam       (arXiv:2211.01095, eq. 8)

With a Taylor polynomial for the prediction, m(lam) = sum_n m^(n) (lam - lam_s)^n / n!, both integrals are sums of h^n phi_n: `Step.weight`.
All coefficients are numbers computed in float64; states and predictions keep their dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .schedule import Schedule

Kind = Literal["noise", "data"]


def phi(order: int, z: float) -> float:
    """Return phi_k(z) = int_0^1 exp((1 - u) z) u^(k-1) / (k-1)! du for k >= 1, and exp(z) for k = 0.

    phi_1 = (e^z - 1)/z, phi_2 = (e^z - 1 - z)/z^2, ...; by the series for |z| < 1, where the recursion phi_{k+1} = (phi_k - 1/k!)/z would
    subtract near-equal numbers.
    """
    if order == 0:
        return math.exp(z)
    if abs(z) < 1:
        term, total, j = 1 / math.factorial(order), 0.0, order
        while abs(term) > 1e-18 * max(abs(total), 1e-300):
            total += term
            j += 1
            term *= z / j
        return total
    value = math.expm1(z) / z
    for k in range(1, order):
        value = (value - 1 / math.factorial(k)) / z
    return value


@dataclass(frozen=True)
class Node:
    """One time of a grid with the schedule's values there; ``time`` is the scalar that a prior is asked at."""

    time: Tensor
    alpha: float
    sigma: float
    lam: float

    @property
    def kappa(self) -> float:
        """sigma / alpha = exp(-lambda)."""
        return self.sigma / self.alpha


def nodes(schedule: Schedule, times: Tensor) -> list[Node]:
    """Return the nodes of ``times`` (n,), float64; at time 0 lambda is +inf."""
    times = times.double()
    values = torch.stack([schedule.alpha(times), schedule.sigma(times), schedule.lam(times)], 1).tolist()
    return [Node(t, *row) for t, row in zip(times.unbind(), values, strict=True)]


def node_at_lambda(schedule: Schedule, lam: float) -> Node:
    """Return the node where lambda has this value."""
    value = torch.tensor([lam], dtype=torch.float64)
    return nodes(schedule, schedule.t_of_lam(value))[0]


@dataclass(frozen=True)
class Step:
    """One step s -> t, lambda rising from s to t, for a prediction of form ``kind``."""

    s: Node
    t: Node
    kind: Kind

    @property
    def h(self) -> float:
        """lambda_t - lambda_s; infinite when t is the data itself."""
        return self.t.lam - self.s.lam

    @property
    def ratio(self) -> float:
        """The factor of x_s: alpha_t / alpha_s or sigma_t / sigma_s."""
        return self.t.alpha / self.s.alpha if self.kind == "noise" else self.t.sigma / self.s.sigma

    def weight(self, n: int) -> float:
        """Return the factor of the (n-1)th derivative m^(n-1): -sigma_t h^n phi_n(h) or alpha_t h^n phi_n(-h).

        The step to the data has a first weight only (it is the step to x_0 = (x_s - sigma_s eps)/alpha_s); a higher one raises ValueError.
        """
        if n == 1:  # sigma_t (e^h - 1) = alpha_t (kappa_s - kappa_t), finite at h = inf; likewise -expm1(-h)
            return -self.t.alpha * (self.s.kappa - self.t.kappa) if self.kind == "noise" else -self.t.alpha * math.expm1(-self.h)
        if math.isinf(self.h):
            raise ValueError("the step to lambda = inf has no higher-order terms; take it with order 1")
        if self.kind == "noise":
            return -self.t.sigma * self.h**n * phi(n, self.h)
        return self.t.alpha * self.h**n * phi(n, -self.h)

    def advance(self, x: Tensor, m: Tensor, *derivatives: Tensor) -> Tensor:
        """Return x_t from x_s, the prediction m at s and its derivatives in lambda, first one first."""
        x = torch.add(self.ratio * x, m, alpha=self.weight(1))
        for n, d in enumerate(derivatives, 2):
            x = torch.add(x, d, alpha=self.weight(n))
        return x


def differences(lams: Sequence[float], values: Sequence[Tensor]) -> list[Tensor]:
    """Return estimates of the derivatives m', m'', ... at lams[0] from values at 2 or 3 points (newest first): those of the interpolant.

    For two points (m_0 - m_1)/(lam_0 - lam_1); for three the derivatives of the parabola.
    """
    first = (values[0] - values[1]) / (lams[0] - lams[1])
    if len(values) == 2:
        return [first]
    second = (values[1] - values[2]) / (lams[1] - lams[2])
    bend = (first - second) / (lams[0] - lams[2])  # Newton's divided difference
    return [first + (lams[0] - lams[1]) * bend, 2 * bend]
