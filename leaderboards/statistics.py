"""What a difference between two variants is worth: intervals that name their estimand, and verdicts.

Two estimands. ``fixed-set``: the difference on exactly these samples; random are training seeds and draws. ``population``: the difference
on samples like these; random are also the samples, by cluster (photograph, speaker, scene), never by crop. Seeds are unpaired, draws
and samples paired. Variances come from mean squares (classical analysis of variance of a crossed seeds x draws table) and the t from
Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946). A main effect of seeds or draws enters only when its mean square stands
out of the residual at the 20 % level, and is pooled with the residual otherwise (Bozivich, Bancroft and Hartley, Ann. Math. Stat. 27,
1956): of sixty simulated mixes of variances and numbers of seeds, draws and clusters, 59 are then covered in 93 to 97 % (one in 97.3 %).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ..configs.errors import RunError
from . import student

STANDS_OUT = 0.842
"""The normal quantile of 0.80: a main effect whose mean square stays below the 80 % point of F is pooled with the residual."""
ENOUGH = 3
"""Training seeds for a word about a method, and draws for a variance between draws."""

Samples = Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Returns sample ids (N,), their clusters (N,) and the per-sample values (S, D, N) of a table of cells."""


@dataclass(frozen=True)
class Cells:
    """What one variant scored: a complete table of units, seeds by draws.

    ``means`` (S, D): the metric of each unit. ``stochastic``: what a second seed changes (none, inference, fit). ``level``: sample or set.
    ``se`` (S, D): jackknife standard errors of set-level values. ``samples`` loads the per-sample values behind ``means``.
    """

    means: np.ndarray
    seeds: tuple[int, ...]
    draws: tuple[int, ...]
    stochastic: str = "fit"
    level: str = "sample"
    se: np.ndarray | None = None
    samples: Samples | None = None

    @property
    def instance(self) -> bool:
        """Whether words are about this trained instance, because there are fewer than three trainings of a trained method."""
        return self.stochastic == "fit" and len(self.seeds) < ENOUGH

    @cached_property
    def mean(self) -> float:
        """Return the mean over all units."""
        return float(self.means.mean())

    @cached_property
    def by_cluster(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return sample ids (N,), cluster number of each (N,), samples in each cluster (C,), and means over draws by cluster (S, C)."""
        assert self.samples is not None
        ids, names, values = self.samples()
        index, counts = clusters(names.tobytes(), names.dtype.str)
        return ids, index, counts, np.stack([np.bincount(index, row.mean(0)) / counts for row in values])

    def at(self, draws: Sequence[int]) -> Cells:
        """Return the cells of some of the draws."""
        if tuple(draws) == self.draws:
            return self
        if (known := self._subsets.get(tuple(draws))) is not None:
            return known
        at = [self.draws.index(d) for d in draws]
        load = self.samples

        def part() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            assert load is not None
            ids, clusters, values = load()
            return ids, clusters, values[:, at]

        se = None if self.se is None else self.se[:, at]
        found = replace(self, means=self.means[:, at], draws=tuple(draws), se=se, samples=part if load else None)
        self._subsets[tuple(draws)] = found
        return found

    @cached_property
    def _subsets(self) -> dict[tuple[int, ...], Cells]:
        return {}


@dataclass(frozen=True)
class Estimate:
    """A difference and its variance; ``variance`` is None when the units at hand cannot tell it, and ``how`` says from what it comes."""

    difference: float
    variance: float | None
    df: float
    estimand: str
    instance: bool
    draws: int
    clusters: int | None = None
    how: str = ""
    terms: dict[str, float] = field(default_factory=dict)

    @property
    def se(self) -> float | None:
        """Return the standard error."""
        return None if self.variance is None else math.sqrt(self.variance)

    @cached_property
    def _intervals(self) -> dict[float, tuple[float, float]]:
        return {}

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Return the two-sided interval at ``level``, or None."""
        if self.variance is None:
            return None
        if level not in self._intervals:
            half = student.quantile(0.5 + level / 2, self.df) * math.sqrt(self.variance)
            self._intervals[level] = self.difference - half, self.difference + half
        return self._intervals[level]

    def flipped(self) -> Estimate:
        """Return the estimate of b - a."""
        return Estimate(
            -self.difference, self.variance, self.df, self.estimand, self.instance, self.draws, self.clusters, self.how, self.terms
        )


class _Sum:
    """A sum of mean squares with their degrees of freedom (Satterthwaite)."""

    def __init__(self) -> None:
        self.value, self._squares = 0.0, 0.0
        self.terms: dict[str, float] = {}

    def add(self, name: str, value: float, df: float) -> None:
        if value:
            self.value += value
            self._squares += value * value / df
            self.terms[name] = self.terms.get(name, 0.0) + value

    @property
    def df(self) -> float:
        return max(self.value**2 / self._squares, 1.0) if self._squares else 1e5


def _stands_out(ms: float, residual: float, df: float, df_residual: float) -> bool:
    """Whether the F ratio ms/residual exceeds its 80 % point (Paulson's cube-root approximation, Ann. Math. Stat. 13, 1942)."""
    if residual <= 0:
        return ms > 0
    a, b, root = 2 / (9 * df), 2 / (9 * df_residual), (ms / residual) ** (1 / 3)
    return ((1 - b) * root - (1 - a)) / math.sqrt(b * root * root + a) > STANDS_OUT


def _interaction(table: np.ndarray) -> tuple[float, int]:
    """Return the residual sum of squares and degrees of freedom of a two-way table (S, D)."""
    rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    return float((rest**2).sum()), (table.shape[0] - 1) * (table.shape[1] - 1)


def _common(a: Cells, b: Cells) -> tuple[Cells, Cells]:
    draws = [d for d in a.draws if d in b.draws]
    return a.at(draws), b.at(draws)


def fixed_set(a: Cells, b: Cells) -> Estimate:
    """Return the difference a - b on these samples; random are training seeds and draws (of draws both have).

    With three draws or more everything comes from the units' values. With fewer, the variance between draws cannot be told from them: it is
    bounded by the spread between clusters of the paired differences (noise is drawn per sample, so that spread contains it), and for a
    set-level metric taken from the block jackknife of each set.
    """
    if not set(a.draws) & set(b.draws):
        return Estimate(float(a.means.mean() - b.means.mean()), None, 1, "fixed-set", a.instance or b.instance, 0, how="no draw in common")
    a, b = _common(a, b)
    difference, n = float(a.means.mean() - b.means.mean()), len(a.draws)
    about: dict[str, Any] = {"estimand": "fixed-set", "instance": a.instance or b.instance, "draws": n}
    if n >= ENOUGH:
        total = _table(a, b)
        return Estimate(difference, total.value, total.df, how="seeds and draws", terms=total.terms, **about)
    total = _Sum()
    if a.level == "set":
        for row in (a, b):
            if len(row.seeds) >= ENOUGH and row.stochastic != "none":
                total.add("seed", _seed_variance(row.means), len(row.seeds) - 1)
            elif row.se is None:
                return Estimate(difference, None, 1, how="one set, and no jackknife standard error", **about)
            else:
                total.add("set", float((row.se**2).mean()) / row.means.size, 19)
        return Estimate(difference, total.value, total.df, how="seeds, or the block jackknife of one set", terms=total.terms, **about)
    for row in (a, b):
        if len(row.seeds) >= ENOUGH and row.stochastic != "none":
            total.add("seed", _seed_variance(row.means), len(row.seeds) - 1)
    if a.samples is None or b.samples is None:
        return Estimate(difference, None, 1, how="fewer than 3 draws, and no per-sample values", **about)
    clusters, variance, df, _, _ = _paired(a, b)
    if clusters < 2:
        return Estimate(difference, None, 1, clusters=clusters, how="fewer than 3 draws, and one cluster", **about)
    total.add("draw (bound)", variance, df)
    how = f"{n} draw{'s' if n > 1 else ''}: their variance is bounded by the spread between clusters"
    return Estimate(difference, total.value, total.df, clusters=clusters, how=how, terms=total.terms, **about)


def _seed_variance(means: np.ndarray) -> float:
    return float(means.mean(1).var(ddof=1)) / means.shape[0]


def _table(a: Cells, b: Cells) -> _Sum:
    """Return Var(mean a - mean b) from two crossed tables seeds x draws, whose draws are paired."""
    draws = len(a.draws)
    rows = []
    for row in (a, b):
        seeds = len(row.seeds)
        if seeds < 2:
            rows.append((seeds, 0.0, 1, 0.0, 1, False))
            continue
        ms, df = draws * float(row.means.mean(1).var(ddof=1)), seeds - 1
        squares, df_rest = _interaction(row.means)
        rest = squares / df_rest
        # seeds that are only repetitions (or only two) have no main effect to estimate: they are pooled
        active = len(row.seeds) >= ENOUGH and row.stochastic != "none" and _stands_out(ms, rest, df, df_rest)
        if not active:
            rest, df_rest = (df * ms + squares) / (df + df_rest), df + df_rest
        rows.append((seeds, ms, df, rest, df_rest, active))
    between = float((a.means.mean(0) - b.means.mean(0)).var(ddof=1))
    noise = sum(rest / seeds for seeds, _, _, rest, _, _ in rows)
    spread = sum((rest / seeds) ** 2 / df for seeds, _, _, rest, df, _ in rows)
    # a row with one seed shows its own noise nowhere but between draws
    shared = any(seeds < 2 for seeds, *_ in rows) or _stands_out(between, noise, draws - 1, noise**2 / spread if spread else 1)
    total = _Sum()
    if shared:
        total.add("draw", between / draws, draws - 1)
    for seeds, ms, df, rest, df_rest, active in rows:
        if active:
            total.add("seed", ms / (seeds * draws), df)
        # both mean squares above contain the residual, which must be counted once
        total.add("residual", (1 - active - shared) * rest / (seeds * draws), df_rest)
    return total


@lru_cache(maxsize=64)
def clusters(names: bytes, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (cluster number of each sample, samples in each cluster) of packed cluster names."""
    _, index = np.unique(np.frombuffer(names, dtype=dtype), return_inverse=True)
    return index, np.bincount(index)


def _paired(a: Cells, b: Cells) -> tuple[int, float, float, np.ndarray, list[np.ndarray]]:
    """Return clusters, the variance of the mean difference from its spread over clusters, its df, weights, and (S, C) tables of a and b."""
    assert a.samples is not None and b.samples is not None
    ids, index, counts, table_a = a.by_cluster
    ids_b, index_b, _, table_b = b.by_cluster
    if len(ids) != len(ids_b) or (ids != ids_b).any():
        position = {i: k for k, i in enumerate(ids_b.tolist())}
        if set(position) != set(ids.tolist()):
            raise RunError("The two rows have different samples, so their differences cannot be paired; run the units again.")
        index_b = index_b[[position[i] for i in ids.tolist()]]
    if index is not index_b and (index != index_b).any():
        raise RunError("The two rows have their samples in different clusters, so their differences cannot be paired; run the units again.")
    weights = counts / counts.sum()
    difference = table_a.mean(0) - table_b.mean(0)
    c, w2 = len(counts), float((weights**2).sum())
    if c < 2:
        return c, 0.0, 1.0, weights, [table_a, table_b]
    variance = float((weights**2 * (difference - weights @ difference) ** 2).sum()) * c / (c - 1)
    return c, variance, max(w2**2 / float((weights**4).sum()) - 1, 1.0), weights, [table_a, table_b]


def population(a: Cells, b: Cells) -> Estimate:
    """Return the difference a - b on samples like these; random are clusters, training seeds and draws.

    The spread between clusters of the paired differences holds the noise of draws, inference and crops; what seeds move in all clusters
    alike is added where it stands out of the rest. Set-level metrics have no per-sample differences: they get the fixed-set estimate.
    """
    if a.level == "set":
        return replace(fixed_set(a, b), how="set-level: between sets made by seeds and draws, against one reference set")
    if not set(a.draws) & set(b.draws) or a.samples is None or b.samples is None:
        return replace(fixed_set(a, b), variance=None, estimand="population", how="no draw in common, or no per-sample values")
    a, b = _common(a, b)
    difference = float(a.means.mean() - b.means.mean())
    about: dict[str, Any] = {"estimand": "population", "instance": a.instance or b.instance, "draws": len(a.draws)}
    clusters, variance, df, weights, tables = _paired(a, b)
    if clusters < 2:
        return Estimate(difference, None, 1, clusters=clusters, how="one cluster", **about)
    total = _Sum()
    total.add("cluster", variance, df)
    for row, table in zip((a, b), tables, strict=True):
        seeds = len(row.seeds)
        if seeds < ENOUGH or row.stochastic == "none":
            continue
        between = float((table @ weights).var(ddof=1))
        squares, df_rest = _interaction(table)
        inside = squares / df_rest * float((weights**2).sum())
        if between > inside and _stands_out(between, inside, seeds - 1, df_rest):
            total.add("seed", between / seeds, seeds - 1)
            total.add("seed x cluster", -inside / seeds, df_rest)
    return Estimate(difference, total.value, total.df, clusters=clusters, how="clusters and seeds", terms=total.terms, **about)


# ---------------------------------------------------------------------- verdicts
VERDICTS = ("better", "worse", "equivalent", "inconclusive", "too-few-samples")


def margin_value(margin: float | str | None, *values: float) -> float:
    """Return a margin as a number: ``0.05``, or ``'1.5%'`` of the mean size of ``values``; None is 0."""
    if margin is None:
        return 0.0
    if isinstance(margin, str):
        return float(margin.rstrip("% ")) / 100 * float(np.mean(np.abs(values))) if margin.strip().endswith("%") else float(margin)
    return float(margin)


def too_few(clusters: int, comparisons: int = 1, alpha: float = 0.05) -> bool:
    """Whether not even ``clusters`` differences of one sign could reach ``alpha`` over ``comparisons`` (exact two-sided sign test)."""
    return 2 * 0.5**clusters > alpha / comparisons


def _hopeless(estimate: Estimate) -> bool:
    """Whether a population's estimate rests on so few clusters that no outcome could count."""
    return estimate.estimand == "population" and too_few(estimate.clusters or 0)


def verdict(estimate: Estimate, margin: float, higher_is_better: bool) -> str:
    """Return what the estimate says about a against b (one of `VERDICTS`); ``margin`` in the metric's unit.

    better, worse: the 95 % interval lies beyond the margin. equivalent: the 90 % interval lies inside it (two one-sided tests at 5 %).
    """
    interval, inner = estimate.interval(0.95), estimate.interval(0.90)
    if interval is None or inner is None or _hopeless(estimate):
        return "too-few-samples"
    low, high = interval if higher_is_better else (-interval[1], -interval[0])
    if low > margin:
        return "better"
    if high < -margin:
        return "worse"
    return "equivalent" if -margin <= inner[0] and inner[1] <= margin else "inconclusive"


def smallest_detectable(estimate: Estimate, margin: float, power: float = 0.8) -> float | None:
    """Return the true difference at which `verdict` would say better or worse with probability ``power``, at this variance.

    None where no difference could be told.
    """
    if estimate.se is None or _hopeless(estimate):
        return None
    return margin + (student.quantile(0.975, estimate.df) + student.quantile(power, estimate.df)) * estimate.se


# ---------------------------------------------------------------------- one row
def components(cells: Cells) -> dict[str, float | None]:
    """Return the standard deviations of one row: between training seeds, draws, clusters, and the residual of the seeds x draws table.

    None where the units cannot tell it (fewer than two seeds or draws). Negative estimates of a variance are zero.
    """
    seeds, draws = cells.means.shape
    out: dict[str, float | None] = dict.fromkeys(("train seed", "draw", "cluster", "residual"))
    rest = 0.0
    if seeds > 1 and draws > 1:
        squares, df = _interaction(cells.means)
        rest = squares / df
        out["residual"] = math.sqrt(rest)
    if seeds > 1:
        out["train seed"] = math.sqrt(max(0.0, float(cells.means.mean(1).var(ddof=1)) - rest / draws))
    if draws > 1:
        out["draw"] = math.sqrt(max(0.0, float(cells.means.mean(0).var(ddof=1)) - rest / seeds))
    if cells.samples is not None:
        _, _, counts, table = cells.by_cluster
        if len(counts) > 1:
            out["cluster"] = float(table.mean(0).std(ddof=1))
    return out


def complete(units: dict[tuple[int, int], Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (seeds, draws) of the largest complete table among the (seed, draw) keys of ``units``; ties go to more seeds."""
    draws_of: dict[int, set[int]] = {}
    for seed, draw in units:
        draws_of.setdefault(seed, set()).add(draw)
    best: tuple[int, int, tuple[int, ...], tuple[int, ...]] | None = None
    for draws in sorted({tuple(sorted(d)) for d in draws_of.values()}):
        seeds = tuple(sorted(s for s, d in draws_of.items() if d.issuperset(draws)))
        candidate = (len(seeds) * len(draws), len(seeds), seeds, draws)
        best = candidate if best is None or candidate[:2] > best[:2] else best
    assert best is not None
    return best[2], best[3]
