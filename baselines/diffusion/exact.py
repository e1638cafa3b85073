"""Exact priors: mixtures of Gaussians, whose noised marginals are mixtures again. The oracle that solvers are tested against.

If x_0 ~ sum_k w_k N(m_k, C_k) and x_t = alpha x_0 + sigma eps, then x_t ~ sum_k w_k N(alpha m_k, alpha^2 C_k + sigma^2 I), and
E[x_0 | x_t, k] = m_k + alpha C_k (alpha^2 C_k + sigma^2 I)^-1 (x_t - alpha m_k). Everything is computed in the eigenbases of the C_k,
from float64 parameters, in the dtype of the state that is asked about.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...configs.errors import RequestError
from ...datasets import registry as datasets
from .prior import NULL, Prior
from .schedule import Schedule, make


class MixtureDenoiser(nn.Module):
    """E[x_0 | x_t] of a mixture, as a module, so that its evaluated rows are counted like a network's."""

    means: Tensor
    variances: Tensor
    rotations: Tensor
    log_weights: Tensor

    def __init__(self, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> None:
        super().__init__()
        values, vectors = np.linalg.eigh(covariances)
        if values.min() <= 0:
            raise ValueError(f"covariances must be positive definite; the smallest eigenvalue is {values.min():.3g}")
        for name, array in {"means": means, "variances": values, "rotations": vectors, "log_weights": np.log(weights)}.items():
            self.register_buffer(name, torch.as_tensor(array, dtype=torch.float64))

    def _parts(self, x: Tensor, alpha: Tensor, sigma: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return log(w_k N_k(x)) (B, K), offsets in the eigenbases (B, K, d), and their variances (., K, d)."""
        means, rotations = self.means.to(x.dtype), self.rotations.to(x.dtype)
        alpha, sigma = (v.to(x.dtype).reshape(-1, 1, 1) for v in (alpha, sigma))
        total = alpha**2 * self.variances.to(x.dtype) + sigma**2
        offset = torch.einsum("kde,bkd->bke", rotations, x[:, None] - alpha * means)
        log = self.log_weights.to(x.dtype) - 0.5 * (offset**2 / total + torch.log(2 * math.pi * total)).sum(-1)
        if cond is not None:
            keep = (cond[:, None] == torch.arange(len(means), device=x.device)) | (cond == NULL)[:, None]
            log = torch.where(keep, log, -torch.inf)
        return log, offset, total

    def forward(self, x: Tensor, alpha: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return E[x_0 | x_t = x] for x (B, d) and scalar or (B,) alpha and sigma."""
        log, offset, total = self._parts(x, alpha, sigma, cond)
        gain = alpha.to(x.dtype).reshape(-1, 1, 1) * self.variances.to(x.dtype) / total
        each = self.means.to(x.dtype) + torch.einsum("kde,bke->bkd", self.rotations.to(x.dtype), gain * offset)
        return torch.einsum("bk,bkd->bd", log.softmax(1), each)

    def log_prob(self, x: Tensor, alpha: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return log p_t(x | cond), (B,); a condition's log density is normalised by the weight of what it keeps."""
        log, _, _ = self._parts(x, alpha, sigma, cond)
        if cond is None:
            return log.logsumexp(1)
        kept = torch.where(torch.isfinite(log), self.log_weights.to(x.dtype), -torch.inf).logsumexp(1)
        return log.logsumexp(1) - kept


class GaussianMixturePrior(Prior):
    """The exact prior of a mixture of Gaussians in any dimension; with more than one component, the component is the class."""

    counted = ("network",)

    def __init__(
        self,
        weights: Any,
        means: Any,
        covariances: Any,
        schedule: Schedule | str = "vp-linear",
        shape: Sequence[int] | None = None,
    ) -> None:
        """``weights`` (K,), ``means`` (K, d), ``covariances`` (K, d, d); ``shape`` is one sample's (default (d,)), of d elements."""
        super().__init__()
        weights, means, covariances = (np.asarray(v, dtype=np.float64) for v in (weights, means, covariances))
        k, d = means.shape
        if weights.shape != (k,) or covariances.shape != (k, d, d) or weights.min() <= 0 or abs(weights.sum() - 1) > 1e-9:
            raise ValueError("a mixture needs weights (K,), positive with sum 1, means (K, d) and covariances (K, d, d)")
        self.schedule = make(schedule) if isinstance(schedule, str) else schedule
        self.shape = tuple(shape) if shape is not None else (d,)
        if math.prod(self.shape) != d:
            raise ValueError(f"shape {self.shape} does not hold {d} elements")
        self.network = MixtureDenoiser(weights, means, covariances)
        if k > 1:
            self.conditioning, self.classes = "class", k

    @classmethod
    def of_dataset(cls, dataset: str, schedule: str = "vp-linear") -> GaussianMixturePrior:
        """Return the prior of a dataset that states its own ``weights``, ``means`` and ``covariances`` (or ``mean`` and ``covariance``)."""
        source: Any = datasets.get(dataset)
        if hasattr(source, "means"):
            return cls(source.weights, source.means, source.covariances, schedule)
        if hasattr(source, "covariance"):
            return cls([1.0], source.mean[None], source.covariance[None], schedule, source.shape)
        raise RequestError(f"dataset {dataset!r} does not state its density; exact priors exist for gmm2d, gmm2d-uneven and gauss-lin.")

    def raw(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return self.network(x.flatten(1), alpha, sigma, cond).reshape(x.shape)

    def log_prob(self, x: Tensor, t: Tensor | float = 0.0, cond: Tensor | None = None) -> Tensor:
        """Return log p_t(x), (B,), in nats; ``t = 0`` is the data density."""
        t = torch.as_tensor(t, dtype=torch.float64) if not isinstance(t, Tensor) else t
        return self.network.log_prob(x.flatten(1), self.schedule.alpha(t), self.schedule.sigma(t), cond)


def of_dataset(dataset: str, schedule: str = "vp-linear") -> GaussianMixturePrior:
    """Return `GaussianMixturePrior.of_dataset` (a function, so that a declaration's target can name it)."""
    return GaussianMixturePrior.of_dataset(dataset, schedule)


def ode_solution(prior: Prior, x: Tensor, start: float, end: float, cond: Tensor | None = None, rtol: float = 1e-10) -> Tensor:
    """Carry states ``x`` (B, *shape) along the probability-flow ODE from time ``start`` to ``end`` to high precision, float64.

    Solves d(x/alpha)/dlambda = -exp(-lambda) eps(x, lambda) (Lu et al. 2022, eq. 3.4, up to the change of variable) with DOP853 at relative
    tolerance ``rtol``: the reference that solvers' endpoint errors are taken to. Meant for exact priors; ``end`` must be positive.
    """
    from scipy.integrate import solve_ivp  # type: ignore[import-untyped]

    schedule = prior.schedule
    times = torch.tensor([start, end], dtype=torch.float64)
    first, last = schedule.lam(times).tolist()
    state = x.double() / schedule.alpha(times[0])

    def slope(lam: float, flat: np.ndarray) -> np.ndarray:
        t = schedule.t_of_lam(torch.tensor(lam, dtype=torch.float64))
        scaled = torch.from_numpy(flat).reshape(state.shape) * schedule.alpha(t)
        return (-math.exp(-lam) * prior.noise(scaled, t, cond)).flatten().numpy()

    with torch.no_grad():
        solved = solve_ivp(slope, (first, last), state.flatten().numpy(), method="DOP853", rtol=rtol, atol=rtol)
    if not solved.success:
        raise RuntimeError(f"the reference ODE was not solved: {solved.message}")
    return torch.from_numpy(solved.y[:, -1]).reshape(state.shape) * schedule.alpha(times[1])
