"""Metrics of feature maps (B, C, T), tokens in a row: what was taken away beside what had been added, and a linear segmentation probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...configs.errors import RunError
from .base import Metric, check, checked, integer, signed
from .signal import Correlation


class RemovedCorrelation(Correlation):
    """Pearson's correlation of what a method took away with what had been added, channel by channel."""

    name = "removed-correlation"
    title = "Correlation of what was removed with what was added"
    protocol = """Pearson's correlation over the places of one map of (noisy - answer) and (noisy - clean), float64; mean over the channels, one
    value per map. A channel from which nothing was taken, or a constant, counts 0; one to which nothing had been added is refused."""
    paper = ""

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        noisy = checked(self.name, target["noisy"].to(answer.device), "target", rank=3)
        return super().per_sample(noisy - answer, {"clean": noisy - target["clean"].to(answer.device)})


class ProbeMIoU(Metric):
    """Mean intersection over union of a linear classifier of the tokens, fitted to the answers themselves."""

    name = "probe-miou"
    title = "Linear-probe segmentation, mean IoU"
    level = "set"
    higher_is_better = True
    bounds = (0.0, 1.0)
    protocol = """A linear classifier from a token's features to its class (background or a kind of object, whichever covers most of the token),
    fitted to a method's own answers: linear discriminant analysis with the classes' shares as priors and the pooled within-class covariance
    shrunk by `shrinkage` towards its mean variance. Cross-validated over scenes: fold k holds every `folds`-th scene from the k-th on and is
    read by the classifier of the others. Intersection over union per class over all tokens of all folds, float64; mean over the classes that
    occur in the target."""
    paper = "Yang et al., Denoising Vision Transformers, ECCV 2024, arXiv:2401.02957 (linear probes; the closed form is this project's)."

    def __init__(self, folds: int = 4, shrinkage: float = 0.01, tokens: int = 64) -> None:
        self.folds, self.tokens, self.shrinkage = integer(self.name, "folds", folds, 2), integer(self.name, "tokens", tokens, 1), shrinkage

    def identity(self) -> str:
        return signed(self.name, "lda", folds=self.folds, shrinkage=self.shrinkage, tokens=self.tokens)

    def features(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return rows (B, (C + 1) * T): the answer's channels, then the class of every token."""
        check(self.name, answer, rank=3)
        label = target["classes"].to(answer)
        if label.shape != (len(answer), answer.shape[2]) or answer.shape[2] != self.tokens:
            raise RunError(f"metric {self.name} got classes of shape {tuple(label.shape)} for maps of {tuple(answer.shape)}.", "wrong-output")
        return torch.cat([answer, label[:, None]], 1).flatten(1)

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        if len(features) < 2:
            raise RunError(f"{self.name} fits its probe to some scenes and reads it on others: it needs at least 2, there is {len(features)}.")
        table = features.astype(np.float64).reshape(len(features), -1, self.tokens).transpose(0, 2, 1)
        x, y = table[..., :-1], np.rint(table[..., -1]).astype(int)
        told = np.empty_like(y)
        for k in range(self.folds):
            inside = np.arange(len(x)) % self.folds == k
            told[inside] = lda(x[~inside].reshape(-1, x.shape[-1]), y[~inside].ravel(), self.shrinkage, x[inside])
        each = [((told == c) & (y == c)).sum() / ((told == c) | (y == c)).sum() for c in np.unique(y)]
        return float(np.mean(each))


def lda(x: np.ndarray, y: np.ndarray, shrinkage: float, ask: np.ndarray) -> np.ndarray:
    """Fit linear discriminant analysis to rows x (n, d) of classes y (n,); return the classes it gives ``ask`` (..., d).

    The scores are w_c . x + b_c with w_c = S^-1 m_c and b_c = log p_c - m_c . w_c / 2 (Hastie et al., The Elements of Statistical Learning,
    eq. 4.10).
    """
    known = np.unique(y)
    share = np.array([(y == c).mean() for c in known])
    centre = np.stack([x[y == c].mean(0) for c in known])
    rest = x - centre[np.searchsorted(known, y)]
    within = rest.T @ rest / len(x)
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / len(within) * np.eye(len(within))
    w = np.linalg.solve(within, centre.T)
    return known[(ask @ w + np.log(share) - 0.5 * np.einsum("cd,dc->c", centre, w)).argmax(-1)]
