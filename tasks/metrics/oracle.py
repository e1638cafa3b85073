"""Metrics that use an exactly known distribution: Wasserstein distance to exact draws, likelihood under the density, score error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ...configs.errors import RequestError, RunError
from ...datasets import registry as datasets
from .base import Hashed, Metric, Reference, checked, integer, signed
from .frechet import check_rows
from .manifold import squared_distances
from .points import PointSet


class Wasserstein2(PointSet):
    """The 2-Wasserstein distance of two equally large empirical measures, by optimal assignment."""

    name = "w2"
    title = "2-Wasserstein distance"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    protocol = """sqrt of the least mean squared distance over one-to-one assignments (exact optimal transport) of the first `points`
        samples to the first `points` reference samples, fewer where a set is smaller; float64. Two independent exact sets do not reach
        zero: the floor depends on their number, which is in the identity."""
    paper = "Peyre and Cuturi, Computational Optimal Transport, Foundations and Trends in Machine Learning 11, 2019, section 2."

    def __init__(self, points: int = 1000) -> None:
        self.points = integer(self.name, "points", points, 1, 5000)

    def identity(self) -> str:
        return signed(self.name, "assignment", points=self.points)

    def reference(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> Reference:
        hashed = Hashed(batches)
        rows = np.concatenate([self.features(b["answer"], b).numpy() for b in hashed])
        return Reference(rows[: self.points].astype(np.float64), len(rows), hashed.hash())

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        x, y = check_rows(features), reference.data
        n = min(self.points, len(x), len(y))
        cost = np.concatenate([block for _, block in squared_distances(x[:n], y[:n])])
        return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def _known(metric: str, dataset: str) -> Any:
    """Return a dataset that knows its own density; RequestError when it does not."""
    found = datasets.get(dataset)
    if not hasattr(found, "log_density"):
        raise RequestError(f"metric {metric} needs a dataset with an exact density (gmm2d, gmm2d-uneven), not {dataset!r}.")
    return found


@lru_cache(maxsize=8)
def entropy(dataset: str) -> float:
    """Return the differential entropy, in nats, of a planar mixture, by the trapezoidal rule on a grid (error below 1e-8: the
    integrand is analytic and vanishes at the border)."""
    known = _known("oracle-nll", dataset)
    widest = float(np.sqrt(np.linalg.eigvalsh(known.covariances).max()))
    narrow = float(np.sqrt(np.linalg.eigvalsh(known.covariances).min()))
    step = narrow / 3
    axes = [np.arange(lo, hi, step) for lo, hi in zip(known.means.min(0) - 9 * widest, known.means.max(0) + 9 * widest, strict=True)]
    total = 0.0
    for x in axes[0]:
        log = known.log_density(np.stack([np.full(len(axes[1]), x), axes[1]], 1))
        total -= float((np.exp(log) * log).sum())
    return total * step * step


class OracleNLL(Metric):
    """How far the mean exact negative log-likelihood of the samples is from the entropy."""

    name = "oracle-nll"
    title = "Distance of the samples' exact NLL from the entropy"
    level = "set"
    higher_is_better = False
    unit = "nats"
    bounds = (0.0, float("inf"))
    protocol = """|mean of -log p(x) over the samples - entropy of p|, in nats, with the exact density p of the dataset. Exact samples give
        zero up to sampling error; both samples off the modes and samples drawn together at their centres raise it. The NLL alone would
        reward collapse."""
    paper = "Cover and Thomas, Elements of Information Theory, 2006, chapter 8 (the cross-entropy and the differential entropy)."

    def __init__(self, dataset: str = "gmm2d") -> None:
        self.dataset = dataset
        _known(self.name, dataset)

    def identity(self) -> str:
        return signed(self.name, f"{self.dataset}@{datasets.get(self.dataset).version}", "abs")

    def features(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the points."""
        return checked(self.name, answer, rank=2).float()

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        return abs(float(-_known(self.name, self.dataset).log_density(check_rows(features)).mean()) - entropy(self.dataset))


class ScoreError(Metric):
    """Weighted squared error of a score."""

    name = "score-error"
    title = "Squared error of the score, noise-weighted"
    level = "sample"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    protocol = """sigma^2 |s - s*|^2 / d of one point: the answer s beside the exact score s* (target `score`) at noise level sigma (target
        `sigma`, 1 where the task gives none). With this weight it is the squared error of the predicted noise per dimension."""
    paper = "Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, ICLR 2021, eq. 7."

    def identity(self) -> str:
        return signed(self.name, "sigma^2", "per-dimension")

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        exact = target["score"].to(answer.device)
        if answer.shape != exact.shape:
            raise RunError(f"metric score-error got {tuple(answer.shape)} for exact scores of {tuple(exact.shape)}.", "wrong-output")
        error = (checked(self.name, answer) - checked(self.name, exact, "target")).flatten(1).square().mean(1)
        sigma = target["sigma"].to(error).reshape(-1) if "sigma" in target else torch.ones_like(error)
        return sigma.square() * error
