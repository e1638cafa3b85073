"""Comparisons of point-set, exact-oracle, posterior, classification and speech metrics with SciPy, scikit-learn and closed forms."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from ...datasets import registry as datasets
from .base import Reference
from .classify import certified_radius, clopper_pearson
from .oracle import entropy
from .posterior import w2_to_normal
from .proof import Proof
from .registry import make


def reference(metric: Any, points: torch.Tensor, label: torch.Tensor | None = None) -> Reference:
    """Return the digested reference set of two batches."""
    batches = [{"answer": points[s], **({} if label is None else {"label": label[s]})} for s in (slice(0, 7), slice(7, None))]
    return metric.reference(batches)


@lru_cache(maxsize=8)
def cloud(n: int, seed: int, d: int = 2) -> torch.Tensor:
    """Return n points in d dimensions."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * torch.linspace(0.5, 2, d)


# ---------------------------------------------------------------- points
def sliced_scipy(n: int, m: int) -> float:
    """W2 of every projection as a linear programme over couplings, solved by SciPy's assignment on repeated points."""
    from scipy.optimize import linear_sum_assignment

    metric: Any = make("sliced-wasserstein", {"projections": 5})
    x, y = cloud(n, 1), cloud(m, 2)
    total = 0.0
    for direction in metric.directions(2).T:
        a, b = np.repeat(x.numpy() @ direction, m), np.repeat(y.numpy() @ direction, n)
        cost = np.square(a[:, None] - b[None])
        total += cost[linear_sum_assignment(cost)].mean() / 5
    return abs(metric.value(x.numpy(), reference(metric, y)) - float(np.sqrt(total)))


def sliced_closed() -> float:
    """A set moved by v: W2^2 of direction theta is (theta.v)^2."""
    metric: Any = make("sliced-wasserstein")
    x, v = cloud(60, 3, 5).double(), torch.arange(1.0, 6.0)
    expected = np.sqrt(np.square(v.numpy() @ metric.directions(5)).mean())
    return abs(metric.value((x + v).numpy(), reference(metric, x)) - float(expected))


def coverage_closed() -> float:
    """Exact draws reach all modes; draws of three of eight reach 3/8; one stray point of 2,000 does not count."""
    known: Any = datasets.get("gmm2d")
    metric: Any = make("mode-coverage")
    points, mode = known.draw(4000, "proof", 0)
    real = reference(metric, torch.from_numpy(points), torch.from_numpy(mode))
    fake, other = known.draw(4000, "proof", 1)
    three = np.concatenate([fake[other < 3], known.means[5:6]])
    return max(abs(metric.value(fake, real) - 1), abs(metric.value(three, real) - 3 / 8))


# ---------------------------------------------------------------- exact oracle
def w2_brute() -> float:
    """All 5,040 assignments of seven points."""
    from itertools import permutations

    metric: Any = make("w2")
    x, y = cloud(7, 4).double(), cloud(7, 5)
    best = min(float((x - y[list(order)]).square().sum(1).mean()) for order in permutations(range(7)))
    return abs(metric.value(x.numpy(), reference(metric, y)) - best**0.5)


def nll_closed() -> float:
    """The entropy of well-separated equal modes is log K + log(2 pi e s^2); points at a mode's centre have a known density."""
    known: Any = datasets.get("gmm2d")
    # neighbours of the ring are 7.65 standard deviations apart: the overlap term is below 1e-3
    parts = float(np.log(8) + np.log(2 * np.pi * np.e * 0.2**2))
    centre = float(np.log(8) + np.log(2 * np.pi * 0.2**2))
    metric: Any = make("oracle-nll")
    return max(abs(entropy("gmm2d") - parts), abs(metric.value(known.means) - abs(centre - entropy("gmm2d"))))


def nll_scipy() -> float:
    """-log p of the uneven mixture from SciPy's multivariate normal, and its entropy from 200,000 draws (to their standard error)."""
    from scipy.stats import multivariate_normal

    known: Any = datasets.get("gmm2d-uneven")
    x = known.draw(500, "proof", 2)[0]
    density = sum(w * multivariate_normal(m, c).pdf(x) for w, m, c in zip(known.weights, known.means, known.covariances, strict=True))
    metric: Any = make("oracle-nll", {"dataset": "gmm2d-uneven"})
    return abs(metric.value(x) - abs(float(-np.log(density).mean()) - entropy("gmm2d-uneven")))


def score_closed() -> float:
    """N(0, s^2) noised: the error of the score of another variance, weighted, by hand."""
    x = cloud(9, 6).double()
    target = {"score": -x / 4, "sigma": torch.full((9,), 2.0)}
    found = make("score-error").per_sample(-x / 9, target)
    return float((found - 4 * (x * (1 / 4 - 1 / 9)).square().mean(1)).abs().max())


# ---------------------------------------------------------------- posterior
def posterior_quadrature() -> float:
    """W2^2 of three points from N(0, v) by numerical integration over levels."""
    from scipy.integrate import quad
    from scipy.stats import norm

    x, v = np.array([-0.7, 0.1, 1.9]), 1.7
    parts = [quad(lambda u, i=i: (x[i] - np.sqrt(v) * norm.ppf(u)) ** 2, i / 3, (i + 1) / 3, limit=400)[0] for i in range(3)]
    return abs(float(w2_to_normal(torch.tensor(x)[None, :, None], torch.tensor([[v]]))) - sum(parts))


def posterior_mean() -> float:
    """On gauss-lin under a dense operator: the least-squares (Wiener) solution has none, and another estimate's error is by hand."""
    known: Any = datasets.get("gauss-lin")
    rng = np.random.default_rng(3)
    a, sigma = rng.standard_normal((20, 64)) / 8, 0.1
    x = known.mean + np.linalg.cholesky(known.covariance) @ rng.standard_normal(64)
    y = a @ x + sigma * rng.standard_normal(20)
    # the same posterior as a regularised least-squares problem, solved without the dataset's formula
    precision = np.linalg.inv(known.covariance) + a.T @ a / sigma**2
    mean = np.linalg.solve(precision, np.linalg.solve(known.covariance, known.mean) + a.T @ y / sigma**2)
    exact, cov = known.posterior(a, y, sigma)
    target = {"posterior_mean": torch.tensor(exact)[None], "posterior_cov": torch.tensor(cov)[None]}
    metric = make("posterior-mean-error")
    none = float(metric.per_sample(torch.tensor(mean)[None], target))
    shifted = float(metric.per_sample(torch.tensor(mean + 0.1)[None], target))
    return max(none, abs(shifted - 64 * 0.01 / np.trace(np.linalg.inv(precision))))


def posterior_shift() -> float:
    """Many exact samples moved by a: W2^2 of direction theta is (theta.a)^2 more than that of the samples as they are, when centred."""
    g = torch.Generator().manual_seed(0)
    half = torch.randn(1, 400, 3, generator=g, dtype=torch.float64)
    x = torch.cat([half, -half], 1)  # mean zero exactly
    target = {"clean": torch.zeros(1, 3), "posterior_mean": torch.zeros(1, 3), "posterior_cov": torch.eye(3)[None]}
    metric: Any = make("posterior-distance")
    shift = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    gap = metric.per_sample(x + shift, target).square() - metric.per_sample(x, target).square()
    from ..randomness import keyed

    theta = keyed("posterior-distance", 3, metric.projections).standard_normal((3, metric.projections))
    theta /= np.linalg.norm(theta, axis=0)
    return abs(float(gap) - float(np.square(shift.numpy() @ theta).mean()))


def calibration_closed() -> float:
    """Truths spread evenly over the ranks have no calibration error; a truth always below the samples has the largest."""
    s = 9
    samples = torch.arange(s, dtype=torch.float64).expand(s + 1, s)[..., None]
    even = (torch.arange(s + 1, dtype=torch.float64) - 0.5)[:, None]
    metric: Any = make("posterior-calibration")
    found = metric.value(metric.features(samples, {"clean": even}).numpy())
    below = metric.value(metric.features(samples, {"clean": torch.full((s + 1, 1), -1.0)}).numpy())
    grid = np.abs((np.arange(s + 1) + 0.5) / (s + 1) - 0.5)
    inside = [float((grid <= level / 2 + 1e-9).mean()) for level in np.arange(1, 20) * 0.05]
    miss = [abs((level / 2 + 1e-9 >= 0.45) - share) for level, share in zip(np.arange(1, 20) * 0.05, inside, strict=True)]
    return max(abs(found), abs(below - float(np.mean(miss))))


def consistency_closed() -> float:
    """A diagonal operator by hand."""
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    x, y = torch.ones(2, 3, dtype=torch.float64), torch.tensor([[1.0, 2.0, 5.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    found = make("data-consistency").per_sample(x, {"operator": lambda v: v * scale, "y": y})  # type: ignore[dict-item]
    return float((found - torch.tensor([2 / 30**0.5, 0.0], dtype=torch.float64)).abs().max())


# ---------------------------------------------------------------- classification
@lru_cache(maxsize=2)
def votes(n: int = 400, k: int = 7) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return logits that are right more often than not, with tied ones among them, and labels."""
    g = torch.Generator().manual_seed(8)
    label = torch.randint(0, k, (n,), generator=g)
    logits = torch.randn(n, k, generator=g)
    logits[torch.arange(n), label] += 1.2
    return (logits * 4).round() / 4, {"label": label}


def classifier_sklearn(name: str) -> float:
    from sklearn import metrics

    logits, target = votes()
    label, p = target["label"].numpy(), logits.double().softmax(1).numpy()
    top = logits.argmax(1).numpy()
    if name == "auroc":
        expected = metrics.roc_auc_score(label, p, multi_class="ovr", average="macro")
    else:
        expected = {
            "accuracy": lambda: metrics.accuracy_score(label, top),
            "nll": lambda: metrics.log_loss(label, p),
            "macro-f1": lambda: metrics.f1_score(label, top, average="macro"),
        }[name]()
    metric = make(name)
    if metric.level == "sample":
        return abs(float(metric.per_sample(logits, target).mean()) - float(expected))
    return abs(metric.value(metric.features(logits, target).numpy()) - float(expected))


def ece_torchmetrics() -> float:
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, target = votes()
    theirs = multiclass_calibration_error(logits.softmax(1), target["label"], num_classes=7, n_bins=15, norm="l1")
    metric = make("ece")
    return abs(metric.value(metric.features(logits, target).numpy()) - float(theirs))


def ece_closed() -> float:
    """Confidence 0.8 and 60 % right: 0.2."""
    return abs(make("ece").value(np.array([[0.8, 1.0]] * 6 + [[0.8, 0.0]] * 4)) - 0.2)


def certified_closed() -> float:
    """The bound against statsmodels' definition by SciPy's exact binomial test, and the radius when all of n votes agree."""
    from scipy.stats import binomtest, norm

    hits, n = torch.tensor([0, 50, 87, 99, 100]), 100
    mine = clopper_pearson(hits, torch.full((5,), n), 0.001).numpy()
    # a two-sided interval of level 1 - 2 alpha has the one-sided lower bound of level 1 - alpha
    theirs = [binomtest(int(h), n).proportion_ci(0.998, "exact").low for h in hits]
    counts = torch.zeros(1, 2, 3)
    counts[0, :, 1] = 100
    _, radius = certified_radius(counts, 0.25, 0.001)
    return max(float(np.abs(mine - theirs).max()), abs(float(radius) - 0.25 * float(norm.ppf(0.001 ** (1 / 100)))))


# ---------------------------------------------------------------- speech
@lru_cache(maxsize=1)
def spoken() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return a signal with the rhythm of speech beside itself with noise, (2, 1, 16000)."""
    g = torch.Generator().manual_seed(5)
    t = torch.arange(16000) / 16000
    clean = (torch.sin(2 * torch.pi * 4 * t).clamp(min=0) * torch.randn(2, 16000, generator=g))[:, None] * 0.1
    return clean + torch.tensor([0.02, 0.1])[:, None, None] * torch.randn(clean.shape, generator=g), {"clean": clean}


def sisdr_torchmetrics() -> float:
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    answer, target = spoken()
    theirs = scale_invariant_signal_distortion_ratio(answer[:, 0].double(), target["clean"][:, 0].double(), zero_mean=False)
    return float((make("si-sdr").per_sample(answer, target) - theirs).abs().max())


def estoi_pystoi() -> float:
    from pystoi import stoi

    answer, target = spoken()
    theirs = [stoi(c[0].numpy(), a[0].numpy(), 16000, extended=True) for a, c in zip(answer, target["clean"], strict=True)]
    return float(np.abs(make("estoi").per_sample(answer, target).numpy() - np.array(theirs)).max())


PROOFS = [
    Proof("sliced-wasserstein", "SciPy's assignment", "24 and 24 points", 1e-9, lambda: sliced_scipy(24, 24)),
    Proof("sliced-wasserstein", "SciPy's assignment", "15 and 12 points", 1e-9, lambda: sliced_scipy(15, 12)),
    Proof("sliced-wasserstein", "closed form", "a set moved", 1e-6, sliced_closed),
    Proof("mode-coverage", "closed form", "gmm2d: exact draws, three of eight modes", 1e-12, coverage_closed),
    Proof("w2", "all assignments", "seven points", 1e-6, w2_brute),
    Proof("oracle-nll", "closed form", "gmm2d: entropy of separate modes, mode centres", 1e-3, nll_closed),
    Proof("oracle-nll", "SciPy's densities", "gmm2d-uneven, 500 exact draws", 1e-9, nll_scipy),
    Proof("score-error", "closed form", "Gaussian of the wrong variance", 1e-12, score_closed),
    Proof("posterior-mean-error", "regularised least squares; closed form", "gauss-lin, dense operator", 1e-6, posterior_mean),
    Proof("posterior-distance", "SciPy's quadrature", "three points", 1e-6, posterior_quadrature),
    Proof("posterior-distance", "closed form", "centred samples moved", 1e-9, posterior_shift),
    Proof("posterior-calibration", "closed form", "even ranks; truth always lowest", 1e-6, calibration_closed),
    Proof("data-consistency", "closed form", "diagonal operator", 1e-12, consistency_closed),
    *(
        Proof(n, "scikit-learn", "400 logits of 7 classes, with ties", 1e-6, partial(classifier_sklearn, n))
        for n in ("accuracy", "nll", "macro-f1", "auroc")
    ),
    Proof("ece", "torchmetrics", "400 logits of 7 classes", 1e-6, ece_torchmetrics),
    Proof("ece", "closed form", "one bin", 1e-7, ece_closed),
    Proof("certified-accuracy", "SciPy's exact binomial interval; closed form", "votes of 100", 1e-9, certified_closed),
    Proof("si-sdr", "torchmetrics", "modulated noise", 1e-5, sisdr_torchmetrics),
    Proof("estoi", "pystoi", "modulated noise", 1e-9, estoi_pystoi),
]
