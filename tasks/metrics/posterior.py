"""Metrics of inverse problems: data consistency, and, where the posterior is known or the truth is at hand, posterior samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...configs.errors import RunError
from ..randomness import keyed
from .base import Metric, checked, integer, signed

LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Levels of the central credible intervals."""


def posterior_samples(name: str, answer: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return posterior samples as float64 (B, S, d) after checking them against the truth's shape (B, *shape)."""
    if answer.ndim != truth.ndim + 1 or answer.shape[0] != truth.shape[0] or answer.shape[2:] != truth.shape[1:]:
        raise RunError(
            f"metric {name} takes posterior samples of shape (B, S, ...), here (B, S, {', '.join(map(str, truth.shape[1:]))}), "
            f"not {tuple(answer.shape)}.",
            "wrong-output",
        )
    return checked(name, answer).flatten(2)


class DataConsistency(Metric):
    """Relative residual of the measurement."""

    name = "data-consistency"
    title = "Relative residual of the measurement"
    level = "sample"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    protocol = """||A(x) - y|| / ||y|| of one sample, with the task's operator A (target `operator`, applied to the batch) and measurement y
        (target `y`). The truth itself does not reach zero when y is noisy, and an answer below the noise's share has fitted noise."""
    paper = "Chung et al., Diffusion Posterior Sampling for General Noisy Inverse Problems, ICLR 2023 (the measurement residual)."

    def identity(self) -> str:
        return signed(self.name, "relative", "l2")

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, Any]) -> torch.Tensor:
        if "operator" not in target or "y" not in target:
            raise RunError("metric data-consistency needs the task's operator and measurement (targets `operator` and `y`).")
        y = checked(self.name, target["y"].cpu(), "target").flatten(1)
        again = checked(self.name, target["operator"](answer).detach().cpu()).flatten(1)
        return (again - y).norm(dim=1) / y.norm(dim=1).clamp(min=1e-300)


class PosteriorMeanError(Metric):
    """Squared distance of an estimate from the exact posterior mean, over the posterior's total variance."""

    name = "posterior-mean-error"
    title = "Distance of an estimate from the exact posterior mean"
    level = "sample"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    protocol = """|x - m|^2 / tr C of one sample, with the exact posterior mean m and covariance C (targets `posterior_mean`,
        `posterior_cov`). The expected squared error of any estimate is tr C + |x - m|^2, so this is its excess over the least possible, as
        a share of that least: 0 is the posterior mean, 1 a single draw from the posterior (in expectation). float64."""
    paper = "Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, 1993, chapter 11 (the posterior mean has the least mse)."

    def identity(self) -> str:
        return signed(self.name, "relative-to-trace")

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        mean, cov = target["posterior_mean"].double().cpu().flatten(1), target["posterior_cov"].double().cpu()
        x = checked(self.name, answer.cpu()).flatten(1)
        if x.shape != mean.shape:
            raise RunError(
                f"metric {self.name} takes one estimate per sample of shape {tuple(mean.shape)}, not {tuple(answer.shape)}.", "wrong-output"
            )
        return (x - mean).square().sum(1) / cov.diagonal(dim1=1, dim2=2).sum(1)


class PosteriorDistance(Metric):
    """Sliced 2-Wasserstein distance of posterior samples from the exact Gaussian posterior, relative to its width."""

    name = "posterior-distance"
    title = "Distance of posterior samples from the exact posterior"
    level = "sample"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    protocol = """sqrt(sum over directions of W2^2(projected samples, N(theta.m, theta'C theta)) / sum of theta'C theta), with the exact
        posterior mean m and covariance C (targets `posterior_mean`, `posterior_cov`); each W2 is exact. Directions are uniform on the
        sphere, keyed by (dimension, projections). 0 is the posterior itself, 1 is one posterior standard deviation; a finite
        number of exact samples does not reach zero. float64."""
    paper = "Bonneel, Rabin, Peyre and Pfister, Sliced and Radon Wasserstein Barycenters of Measures, JMIV 51, 2015 (the distance)."

    def __init__(self, projections: int = 128) -> None:
        self.projections = integer(self.name, "projections", projections, 1, 100_000)

    def identity(self) -> str:
        return signed(self.name, "sliced-w2", "relative", projections=self.projections)

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        mean, cov = (target[n].double().cpu() for n in ("posterior_mean", "posterior_cov"))
        x = posterior_samples(self.name, answer.cpu(), target["clean"].cpu())
        d = x.shape[2]
        theta = torch.from_numpy(keyed("posterior-distance", d, self.projections).standard_normal((d, self.projections)))
        theta = theta / theta.norm(dim=0)
        centred = ((x - mean.reshape(-1, 1, d)) @ theta).sort(dim=1).values  # (B, S, K)
        variance = torch.einsum("bij,ik,jk->bk", cov.reshape(-1, d, d), theta, theta)
        return (w2_to_normal(centred, variance).sum(1) / variance.sum(1)).sqrt()


def w2_to_normal(x: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Return W2^2 of sorted samples x (B, S, K) from N(0, variance), variance (B, K): the integral over levels u of (F^-1(u) - s z(u))^2.

    On each level interval of length 1/S the sample is constant, and the integral of z is phi(z(a)) - phi(z(b)), so it is exact.
    """
    s = x.shape[1]
    z = torch.special.ndtri(torch.linspace(0, 1, s + 1, dtype=torch.float64))
    phi = torch.exp(-0.5 * z.square()) / np.sqrt(2 * np.pi)  # 0 at both ends
    mass = (phi[:-1] - phi[1:])[:, None]
    return (x.square().mean(1) - 2 * variance.sqrt() * (x * mass).sum(1) + variance).clamp(min=0)


class PosteriorCalibration(Metric):
    """Mean absolute difference between the coverage of credible intervals and what exact posterior samples would cover."""

    name = "posterior-calibration"
    title = "Calibration error of posterior samples"
    level = "set"
    higher_is_better = False
    bounds = (0.0, 1.0)
    protocol = """Of every coordinate the rank of the truth among the S posterior samples gives u = (rank + 1/2) / (S + 1), uniform on that
        grid for an exact posterior. The coverage at level l is the share of coordinates with |u - 1/2| <= l/2; the value is the mean over
        levels 0.05, 0.10, ... 0.95 of |coverage - share of the grid inside|, so that it is zero in expectation for exact samples at any
        S."""
    paper = "Talts, Betancourt, Simpson, Vehtari and Gelman, Validating Bayesian Inference Algorithms with Simulation-Based Calibration, 2018."

    def identity(self) -> str:
        return signed(self.name, "central", f"levels={len(LEVELS)}")

    def features(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return per sample the excess coverage at every level, (B, levels)."""
        truth = target["clean"].to(answer.device)
        x = posterior_samples(self.name, answer, truth)
        t, s = checked(self.name, truth, "target").flatten(1), x.shape[1]
        # a sample equal to the truth counts half on either side
        rank = (x < t[:, None]).double().sum(1) + 0.5 * (x == t[:, None]).double().sum(1)
        away = ((rank + 0.5) / (s + 1) - 0.5).abs()
        grid = ((torch.arange(s + 1, dtype=torch.float64) + 0.5) / (s + 1) - 0.5).abs()
        tiny = 1e-9  # the grid meets some levels exactly
        return torch.stack([(away <= v / 2 + tiny).double().mean(1) - (grid <= v / 2 + tiny).double().mean() for v in LEVELS], 1).float()

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        return float(np.abs(features.astype(np.float64).mean(0)).mean())
