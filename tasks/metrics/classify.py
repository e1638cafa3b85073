"""Metrics of a classifier: the answer holds logits (B, K), the target ``label`` (B,)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...configs.errors import RunError
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
