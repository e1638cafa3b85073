"""Differences of many rows to one other row at once: `statistics.fixed_set` over arrays, for boards of hundreds of rows.

Nothing is estimated here that `fixed_set` does not estimate; rows that do not fit a batch (other draws, other samples, no per-sample
values) go through `fixed_set` one by one. A test holds the two together to twelve digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..configs.errors import RunError
from . import statistics as stats
from .statistics import ENOUGH, STANDS_OUT, Cells, Estimate

Load = Callable[[Sequence[Any]], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Returns ids (N,), clusters (N,) and values (R, N) of records."""

_FEW = 4
"""Below this many rows a batch saves nothing."""
_AT_ONCE = 64
"""Rows whose per-sample values are loaded at once."""


def fixed_set(rows: Sequence[Cells], other: Cells) -> list[Estimate]:
    """Return ``statistics.fixed_set(row, other)`` of every row, in order."""
    out: list[Estimate | None] = [None] * len(rows)
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, row in enumerate(rows):
        alike.setdefault((len(row.seeds), row.draws, row.stochastic, row.level), []).append(i)
    for members in alike.values():
        first = rows[members[0]]
        draws = [d for d in first.draws if d in other.draws]
        if len(members) < _FEW or not draws:
            continue
        if len(draws) >= ENOUGH:
            found = _crossed([rows[i] for i in members], other, draws)
        elif first.level == "sample" and tuple(draws) == first.draws == other.draws and "by_cluster" in other.__dict__:
            mine = other.by_cluster
            members = [i for i in members if "by_cluster" in rows[i].__dict__ and all(rows[i].by_cluster[k] is mine[k] for k in (0, 1))]
            found = _bounded([rows[i] for i in members], other)
        else:
            continue
        for i, estimate in zip(members, found, strict=True):
            out[i] = estimate
    return [stats.fixed_set(row, other) if e is None else e for row, e in zip(rows, out, strict=True)]


def load_clusters(cells: Sequence[Cells], records: Sequence[Sequence[Any]], load: Load) -> None:
    """Give ``cells`` their means by cluster (`Cells.by_cluster`) from one reading of all their ``records``, where these fit each other.

    ``records``: of each cells, seed by seed and draw by draw. What cannot be read so is left to each row, which then says why.
    """
    alike: dict[tuple[int, int], list[int]] = {}
    for i, c in enumerate(cells):
        if c.samples is not None and "by_cluster" not in c.__dict__:
            alike.setdefault((len(c.seeds), len(c.draws)), []).append(i)
    shared: tuple[Any, ...] = ()
    for (seeds, draws), members in alike.items():
        for part in (members[k : k + _AT_ONCE] for k in range(0, len(members), _AT_ONCE)):
            try:
                ids, clusters, values = load([r for i in part for r in records[i]])
            except RunError:
                break
            index, counts = stats.clusters(clusters.tobytes(), clusters.dtype.str)
            if not shared or len(ids) != len(shared[0]) or index is not shared[1] or (ids != shared[0]).any():
                shared = ids, index, counts
            means = values.reshape(len(part), seeds, draws, -1)
            tables = _by_cluster(means.mean(2) if draws > 1 else means[:, :, 0], shared[1], shared[2])
            for i, table in zip(part, tables, strict=True):
                cells[i].__dict__["by_cluster"] = (*shared, table)


def _by_cluster(values: np.ndarray, index: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return means by cluster (R, S, C) of values (R, S, N)."""
    order = np.argsort(index, kind="stable")
    if len(counts) == len(index):  # every sample its own cluster
        return values[..., order]
    return np.add.reduceat(values[..., order], np.r_[0, np.cumsum(counts)[:-1]], axis=-1) / counts


class _Sum:
    """Sums of mean squares of R rows with their degrees of freedom, as `statistics._Sum` has of one."""

    def __init__(self, rows: int) -> None:
        self.value, self._squares = np.zeros(rows), np.zeros(rows)
        self._terms: list[tuple[str, np.ndarray]] = []

    def add(self, name: str, value: Any, df: Any) -> None:
        value = np.broadcast_to(np.asarray(value, dtype=float), self.value.shape)
        self.value = self.value + value
        self._squares = self._squares + value * value / df
        self._terms.append((name, value))

    def estimates(self, difference: np.ndarray, draws: int, instance: bool, how: str, clusters: int | None = None) -> list[Estimate]:
        """Return the estimates of the rows."""
        with np.errstate(divide="ignore", invalid="ignore"):
            df = np.where(self._squares > 0, np.maximum(self.value**2 / self._squares, 1.0), 1e5)
        terms: list[dict[str, float]] = [{} for _ in range(len(difference))]
        for name, values in self._terms:
            for place, value in zip(terms, values.tolist(), strict=True):
                if value:
                    place[name] = place.get(name, 0.0) + value
        return [
            Estimate(d, v, f, "fixed-set", instance, draws, clusters, how, t)
            for d, v, f, t in zip(difference.tolist(), self.value.tolist(), df.tolist(), terms, strict=True)
        ]


def _seeds(total: _Sum, rows: Sequence[Cells], other: Cells, means: np.ndarray, theirs: np.ndarray) -> None:
    if len(rows[0].seeds) >= ENOUGH and rows[0].stochastic != "none":
        total.add("seed", means.mean(2).var(axis=1, ddof=1) / means.shape[1], means.shape[1] - 1)
    if len(other.seeds) >= ENOUGH and other.stochastic != "none":
        total.add("seed", float(theirs.mean(1).var(ddof=1)) / len(theirs), len(theirs) - 1)


def _bounded(rows: Sequence[Cells], other: Cells) -> list[Estimate]:
    """Per-sample metrics with fewer than three draws: seeds, and the bound from the spread between clusters."""
    if not rows:
        return []
    counts, n = other.by_cluster[2], len(other.draws)
    means = np.stack([r.means for r in rows])
    difference = means.mean((1, 2)) - other.mean
    instance = rows[0].instance or other.instance
    if len(counts) < 2:
        how = "fewer than 3 draws, and one cluster"
        return [Estimate(d, None, 1, "fixed-set", instance, n, len(counts), how) for d in difference.tolist()]
    total = _Sum(len(rows))
    _seeds(total, rows, other, means, other.means)
    weights = counts / counts.sum()
    w2 = weights**2
    apart = np.stack([r.by_cluster[3] for r in rows]).mean(1) - other.by_cluster[3].mean(0)
    variance = ((apart - (apart @ weights)[:, None]) ** 2) @ w2 * len(counts) / (len(counts) - 1)
    total.add("draw (bound)", variance, max(float(w2.sum()) ** 2 / float((weights**4).sum()) - 1, 1.0))
    how = f"{n} draw{'s' if n > 1 else ''}: their variance is bounded by the spread between clusters"
    return total.estimates(difference, n, instance, how, len(counts))


def _stands_out(ms: np.ndarray, residual: np.ndarray, df: float, df_residual: np.ndarray | float) -> np.ndarray:
    """`statistics._stands_out` over arrays."""
    a, b = 2 / (9 * df), 2 / (9 * np.asarray(df_residual, dtype=float))
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.cbrt(ms / residual)
        return np.where(residual > 0, ((1 - b) * root - (1 - a)) / np.sqrt(b * root * root + a) > STANDS_OUT, ms > 0)


def _parts(cells: Cells, means: np.ndarray, draws: int) -> Mapping[str, Any]:
    """Return the mean squares of seeds and the residual of rows with tables (R, S, D), as `statistics._table` takes them."""
    rows, seeds = means.shape[:2]
    if seeds < 2:
        return {"seeds": seeds, "ms": np.zeros(rows), "df": 1, "rest": np.zeros(rows), "df_rest": np.ones(rows), "active": np.zeros(rows, bool)}
    ms, df = draws * means.mean(2).var(axis=1, ddof=1), seeds - 1
    apart = means - means.mean(2, keepdims=True) - means.mean(1, keepdims=True) + means.mean((1, 2), keepdims=True)
    squares, df_rest = (apart**2).sum((1, 2)), (seeds - 1) * (draws - 1)
    rest = squares / df_rest
    active = np.zeros(rows, bool)
    if seeds >= ENOUGH and cells.stochastic != "none":
        active = _stands_out(ms, rest, df, df_rest)
    pooled = (df * ms + squares) / (df + df_rest)
    rest, df_left = np.where(active, rest, pooled), np.where(active, df_rest, df + df_rest)
    return {"seeds": seeds, "ms": ms, "df": df, "rest": rest, "df_rest": df_left, "active": active}


def _crossed(rows: Sequence[Cells], other: Cells, draws: Sequence[int]) -> list[Estimate]:
    """Three draws or more: everything from the crossed tables seeds x draws, whose draws are paired."""
    n = len(draws)
    at = [rows[0].draws.index(d) for d in draws]
    means = np.stack([r.means for r in rows])[:, :, at]
    theirs = other.at(draws).means[None]
    a, b = _parts(rows[0], means, n), _parts(other, theirs, n)
    between = (means.mean(1) - theirs.mean(1)).var(axis=1, ddof=1)
    noise = a["rest"] / a["seeds"] + b["rest"] / b["seeds"]
    spread = (a["rest"] / a["seeds"]) ** 2 / a["df_rest"] + (b["rest"] / b["seeds"]) ** 2 / b["df_rest"]
    if min(a["seeds"], b["seeds"]) < 2:
        shared = np.ones(len(rows), bool)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            shared = _stands_out(between, noise, n - 1, np.where(spread > 0, noise**2 / spread, 1.0))
    total = _Sum(len(rows))
    total.add("draw", np.where(shared, between / n, 0.0), n - 1)
    for x in (a, b):
        total.add("seed", np.where(x["active"], x["ms"] / (x["seeds"] * n), 0.0), x["df"])
        # both mean squares above contain the residual, which must be counted once
        total.add("residual", (1 - x["active"].astype(int) - shared) * x["rest"] / (x["seeds"] * n), x["df_rest"])
    difference = means.mean((1, 2)) - float(theirs.mean())
    return total.estimates(difference, n, rows[0].instance or other.instance, "seeds and draws")
