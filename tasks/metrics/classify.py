"""Metrics of a classifier: the answer holds logits (B, K), the target ``label`` (B,)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...configs.errors import RequestError, RunError
from .base import Metric, checked, integer, signed


def logits_and_labels(name: str, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float64 logits (B, K) and int64 labels (B,), checked."""
    logits, label = checked(name, answer, rank=2), target["label"].to(answer.device).long().reshape(-1)
    if len(label) != len(logits) or int(label.min()) < 0 or int(label.max()) >= logits.shape[1]:
        raise RunError(
            f"metric {name} got logits of shape {tuple(logits.shape)} for {len(label)} labels from {int(label.min())} to {int(label.max())}.",
            "wrong-output",
        )
    return logits, label


class Accuracy(Metric):
    """1 where the largest logit is the label's."""

    name = "accuracy"
    title = "Share of correct labels"
    level = "sample"
    higher_is_better = True
    bounds = (0.0, 1.0)
    protocol = "1 if the label's logit is the largest (ties go to the lowest class index), else 0; the set's value is the mean."

    def identity(self) -> str:
        return signed(self.name, "top1")

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        logits, label = logits_and_labels(self.name, answer, target)
        return (logits.argmax(1) == label).double()


class NLL(Metric):
    """-log softmax(logits)[label]."""

    name = "nll"
    title = "Negative log-likelihood of the label"
    level = "sample"
    higher_is_better = False
    unit = "nats"
    bounds = (0.0, float("inf"))
    protocol = "-log softmax(logits)[label] in nats, float64; the set's value is the mean over samples."

    def identity(self) -> str:
        return signed(self.name, "nats")

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        logits, label = logits_and_labels(self.name, answer, target)
        # clamped at 0 because logsumexp may round below the largest logit
        return (logits.logsumexp(1) - logits.gather(1, label[:, None])[:, 0]).clamp(min=0)


class ECE(Metric):
    """Expected calibration error of the top label over equal-width bins of confidence."""

    name = "ece"
    title = "Expected calibration error"
    level = "set"
    higher_is_better = False
    bounds = (0.0, 1.0)
    protocol = """Confidence is the largest softmax probability. Samples fall into `bins` bins of equal width, each open on the left and
        closed on the right; the value is the sum over bins of (share of samples) x |accuracy - mean confidence|."""
    paper = "Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017, eq. 3."

    def __init__(self, bins: int = 15) -> None:
        self.bins = integer(self.name, "bins", bins, 1)

    def identity(self) -> str:
        return signed(self.name, "top-label", "equal-width", bins=self.bins)

    def features(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return (confidence, correct) per sample, (B, 2)."""
        logits, label = logits_and_labels(self.name, answer, target)
        confidence, top = logits.softmax(1).max(1)
        return torch.stack([confidence, (top == label).double()], 1).float()

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        confidence, correct = features.astype(np.float64).T
        edges = np.linspace(0, 1, self.bins + 1)
        which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, self.bins - 1)
        gap = np.bincount(which, correct - confidence, self.bins)
        return float(np.abs(gap).sum() / len(confidence))


class MacroF1(Metric):
    """Mean over classes of the F1 score."""

    name = "macro-f1"
    title = "Macro-averaged F1"
    level = "set"
    higher_is_better = True
    bounds = (0.0, 1.0)
    protocol = """F1 = 2 TP / (2 TP + FP + FN) of each class that occurs among labels or predictions, averaged without weights; predictions
        are the largest logit."""
    paper = "Opitz and Burst, Macro F1 and Macro F1, arXiv:1911.03347, 2019 (the averaged F1, their second form)."

    def identity(self) -> str:
        return signed(self.name, "top1", "mean-of-f1")

    def features(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return (prediction, label), (B, 2)."""
        logits, label = logits_and_labels(self.name, answer, target)
        return torch.stack([logits.argmax(1), label], 1).float()

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        predicted, label = features.astype(np.int64).T
        k = int(max(predicted.max(), label.max())) + 1
        hit = np.bincount(label[predicted == label], minlength=k)
        total = np.bincount(predicted, minlength=k) + np.bincount(label, minlength=k)
        present = total > 0
        return float((2 * hit[present] / total[present]).mean())


class AUROC(Metric):
    """Area under the ROC curve, one class against the rest."""

    name = "auroc"
    title = "Area under the ROC curve"
    level = "set"
    higher_is_better = True
    bounds = (0.0, 1.0)
    protocol = """Of each class, the probability that a sample of the class has a larger softmax probability for it than a sample of another
        class, ties counting half (the Mann-Whitney statistic); averaged over the classes that occur, without weights. With two classes it
        is the area for class 1."""
    paper = "Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve, Radiology 143, 1982."

    def identity(self) -> str:
        return signed(self.name, "one-vs-rest", "macro")

    def features(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return (label, softmax probabilities), (B, 1 + K)."""
        logits, label = logits_and_labels(self.name, answer, target)
        return torch.cat([label[:, None].double(), logits.softmax(1)], 1).float()

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        label, scores = features[:, 0].astype(np.int64), features[:, 1:].astype(np.float64)
        classes = [1] if scores.shape[1] == 2 else range(scores.shape[1])
        areas = [_area(scores[:, k], label == k) for k in classes if 0 < (label == k).sum() < len(label)]
        if not areas:
            raise RunError("metric auroc needs samples of at least two classes.")
        return float(np.mean(areas))


def _area(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the Mann-Whitney estimate of P(score of a positive > score of a negative), ties counting half."""
    _, which, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[which]  # mean rank of each tied group, from 1
    p, n = int(positive.sum()), int((~positive).sum())
    return float((rank[positive].sum() - p * (p + 1) / 2) / (p * n))


def clopper_pearson(hits: torch.Tensor, trials: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return the one-sided lower confidence bound of level 1 - alpha on a binomial probability, float64, elementwise."""
    from scipy.stats import beta

    k, n = hits.double().cpu().numpy(), trials.double().cpu().numpy()
    return torch.as_tensor(np.where(k > 0, beta.ppf(alpha, np.maximum(k, 1), n - np.maximum(k, 1) + 1), 0.0))


def certified_radius(counts: torch.Tensor, sigma: float, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (class or -1 for abstain, certified L2 radius) of smoothed predictions (Cohen et al. 2019, CERTIFY).

    ``counts`` (B, 2, K): votes of the base classifier under N(0, sigma^2 I) noise; the first row selects the class, the second, from
    independent noise, bounds its probability.
    """
    top = counts[:, 0].argmax(1)
    votes = counts[:, 1]
    low = clopper_pearson(votes.gather(1, top[:, None])[:, 0], votes.sum(1), alpha).clamp(max=1 - 1e-16)
    radius = sigma * torch.special.ndtri(low)
    sure = low > 0.5
    return torch.where(sure, top.cpu(), -1), torch.where(sure, radius, 0.0)


class CertifiedAccuracy(Metric):
    """Share of samples classified correctly with a certified L2 radius of at least ``radius``."""

    name = "certified-accuracy"
    title = "Certified accuracy at a radius"
    level = "sample"
    higher_is_better = True
    bounds = (0.0, 1.0)
    protocol = """1 if the smoothed classifier predicts the label and its certified L2 radius sigma x Phi^-1(pA) is at least `radius`, else
        0 (abstaining counts 0). The answer holds vote counts (B, 2, K) under noise of standard deviation sigma: the first row selects the
        class, the second bounds pA from below by Clopper and Pearson at level 1 - alpha. Images in [0, 1]."""
    paper = "Cohen, Rosenfeld and Kolter, Certified Adversarial Robustness via Randomized Smoothing, ICML 2019, section 3.2."

    def __init__(self, radius: float = 0.5, sigma: float = 0.5, alpha: float = 0.001) -> None:
        for option, value, low, high in (("radius", radius, 0, 1e6), ("sigma", sigma, 1e-9, 1e6), ("alpha", alpha, 1e-12, 0.5)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise RequestError(f"option {option} of metric certified-accuracy is {value!r}; accepted: a number from {low:g} to {high:g}.")
        self.radius, self.sigma, self.alpha = float(radius), float(sigma), float(alpha)

    def identity(self) -> str:
        return signed(self.name, "L2", "clopper-pearson", radius=self.radius, sigma=self.sigma, alpha=self.alpha)

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if answer.ndim != 3 or answer.shape[1] != 2 or (answer < 0).any() or (answer != answer.round()).any():
            raise RunError(f"metric certified-accuracy takes vote counts of shape (B, 2, K), not {tuple(answer.shape)}.", "wrong-output")
        found, radius = certified_radius(answer.double(), self.sigma, self.alpha)
        return ((found == target["label"].cpu().reshape(-1)) & (radius >= self.radius)).double()
