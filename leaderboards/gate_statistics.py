"""What the nightly gate decides with: Holm's step-down, one-sided t tests, and variances of seeds pooled within a family.

Three seeds a side tell little about their own variance (four degrees of freedom), and the cells of a family differ in theirs: the spread of
one method over seeds may be four times another's. So a cell's variance is drawn towards its family's, by as much as the family's cells
resemble each other (Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004, equations for d0 and s0^2): alike, it is the pooled variance; unlike,
mostly its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import student

FEW = 4
"""Cells with a variance of their own below which a family's spread of variances cannot be told; they are pooled outright."""
_MOST = 1e5


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values (Scand. J. Statist. 6, 1979) in the order given: compare them with the night's level."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    out, highest = [1.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        out[i] = highest
    return out


def upper_tail(t: float, df: float) -> float:
    """Return P(T >= t) of Student's t."""
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    return max(0.0, 1.0 - student.cdf(t, max(df, 1.0)))


def digamma(x: float) -> float:
    """Return the derivative of log gamma at ``x`` > 0 (recurrence to 6, then the asymptotic series)."""
    out = 0.0
    while x < 6:
        out -= 1 / x
        x += 1
    f = 1 / (x * x)
    return out + math.log(x) - 0.5 / x - f * (1 / 12 - f * (1 / 120 - f * (1 / 252 - f * (1 / 240 - f / 132))))


def trigamma(x: float) -> float:
    """Return the second derivative of log gamma at ``x`` > 0."""
    out = 0.0
    while x < 6:
        out += 1 / (x * x)
        x += 1
    f = 1 / (x * x)
    return out + 1 / x + f / 2 + f / x * (1 / 6 - f * (1 / 30 - f * (1 / 42 - f / 30)))


def trigamma_inverse(y: float) -> float:
    """Return x with trigamma(x) = ``y`` > 0, by Newton's steps on 1 / trigamma, which is nearly linear."""
    if y > 1e7:
        return 1 / math.sqrt(y)
    if y < 1e-6:
        return 1 / y
    x = 0.5 + 1 / y
    for _ in range(50):
        h = 1e-5 * x
        slope = (trigamma(x + h) - trigamma(x - h)) / (2 * h)
        value = trigamma(x)
        step = value * (1 - value / y) / slope
        x += step
        if abs(step) < 1e-8 * x:
            break
    return x


@dataclass(frozen=True)
class Spread:
    """Sum of squares about the mean and its degrees of freedom: what one cell's seeds say about their variance."""

    squares: float
    df: int

    @staticmethod
    def of(*groups: Sequence[float]) -> Spread:
        """Return the spread of several groups, each about its own mean."""
        arrays = [np.asarray(g, dtype=float) for g in groups if len(g)]
        return Spread(float(sum(((a - a.mean()) ** 2).sum() for a in arrays)), sum(len(a) - 1 for a in arrays))


@dataclass(frozen=True)
class Pool:
    """The variance of seeds in a family, and how far it may be trusted for one of its cells.

    ``variance`` s0^2 and ``df`` d0 of the family; d0 is large where its cells are alike. ``seen``: degrees of freedom behind it. ``plain``:
    the pooled variance, as if all cells were alike.
    """

    variance: float | None
    df: float
    seen: int
    plain: float = 0.0

    @staticmethod
    def of(spreads: Sequence[Spread]) -> Pool:
        """Pool the spreads of a family's cells."""
        known = [s for s in spreads if s.df > 0]
        seen = sum(s.df for s in known)
        if not seen:
            return Pool(None, 0.0, 0)
        pooled = sum(s.squares for s in known) / seen
        if len(known) < FEW or pooled <= 0:
            return Pool(pooled, _MOST, seen, pooled)
        floor = 1e-6 * pooled  # seeds that happened to agree exactly have no logarithm
        e = [math.log(max(s.squares / s.df, floor)) - digamma(s.df / 2) + math.log(s.df / 2) for s in known]
        excess = float(np.var(e, ddof=1)) - float(np.mean([trigamma(s.df / 2) for s in known]))
        if excess <= 0:
            return Pool(pooled, _MOST, seen, pooled)
        d0 = 2 * trigamma_inverse(excess)
        s0 = math.exp(float(np.mean(e)) + digamma(d0 / 2) - math.log(d0 / 2))
        return Pool(s0, d0, seen, pooled)

    def of_cell(self, own: Spread) -> tuple[float, float] | None:
        """Return (variance of one seed, its degrees of freedom) for a cell with its ``own`` spread; None when nothing is known."""
        if self.variance is None:
            return None
        if self.df >= _MOST:
            return self.variance, float(self.seen)
        return (self.df * self.variance + own.squares) / (self.df + own.df), min(self.df + own.df, float(self.seen))
