"""Which rows are not distinguishable from the best: one simultaneous test instead of a table of all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from .statistics import Estimate


def near_best(differences: Sequence[Estimate], shared: Sequence[float], alpha: float = 0.05, runs: int = 4000) -> np.ndarray:
    """Return which rows are not distinguishable from the best: step-down max-T over the differences best - row (Romano and Wolf 2005).

    ``shared`` gives for each difference the share of its variance that is the best row's own, and so common to all of them. The null
    distribution of the largest statistic is simulated with fixed random numbers (one common factor; each statistic with its own degrees
    of freedom, put on one scale by Wallace's transformation to normality). A difference without a variance is never called near.
    """
    out = np.zeros(len(differences), dtype=bool)
    with_variance = [i for i, e in enumerate(differences) if e.variance is not None]
    tested = []
    for i in with_variance:
        if differences[i].variance == 0:  # known exactly
            out[i] = differences[i].difference == 0
        else:
            tested.append(i)
    df = np.array([differences[i].df for i in tested])
    t = np.array([abs(differences[i].difference) / (differences[i].se or 1.0) for i in tested])
    # rows that Bonferroni's bound tells apart at a hundredth of alpha need no simulation, and step-down goes on without them
    open_ = _normal_scale(t, df) < NormalDist().inv_cdf(1 - alpha / (200 * max(1, len(tested))))
    tested, df, t = [i for i, keep in zip(tested, open_, strict=True) if keep], df[open_], t[open_]
    if not tested:
        return out
    load = np.sqrt(np.clip([shared[i] for i in tested], 0, 0.95))
    rng = np.random.Generator(np.random.Philox(20200229))
    z = load * rng.standard_normal((runs, 1)) + np.sqrt(1 - load**2) * rng.standard_normal((runs, len(tested)))
    null = _normal_scale(np.abs(z) / np.sqrt(rng.chisquare(df, (runs, len(tested))) / df), df)
    seen = _normal_scale(t, df)
    order = np.argsort(seen)
    largest = np.maximum.accumulate(null[:, order], axis=1)
    p = (1 + (largest >= seen[order]).sum(0)) / (1 + runs)
    p = np.maximum.accumulate(p[::-1])[::-1]  # step down: a row is told apart only when all that lie farther are
    out[np.array(tested)[order]] = p > alpha
    return out


def _normal_scale(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Wallace's transformation of |t| to a standard normal deviate (Ann. Math. Stat. 30, 1959)."""
    return np.sqrt(df * np.log1p(t * t / df)) * (8 * df + 1) / (8 * df + 3)
