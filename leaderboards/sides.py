"""The two sides of a claim as tables of cells: a metric, a cost or a diagnostic of one row; a number; a slope over several rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from . import statistics as stats
from .board import Board, Row
from .claims import Claim, Slope
from .record import COST

TIMES = ("train_s", "sample_s_median", "sample_s_p95", "peak_mb")
"""Costs that are measured and not counted: they mean something only in runs that had the machine to themselves."""


class Missing(Exception):
    """Why a side has no value: nothing was run, or what was run does not tell."""


def find(board: Board, variant: str) -> Row:
    """Return the row of a variant; `Missing` says why there is none."""
    row = next((r for r in board.rows if r.variant == variant and not r.group.partial), None)
    if row is not None:
        return row
    failed = next((f["error"]["message"] for f in board.failed if f["variant"] == variant), None)
    refused = next((r.reason for r in board.refused if r.variant == variant), None)
    why = f"{variant} failed ({failed.rstrip('.')})" if failed else f"the record of {variant} was refused ({refused})" if refused else ""
    partial = any(r.variant == variant for r in board.rows)
    raise Missing(why or f"{variant} has {'only a partial run' if partial else 'no record'} on {board.task} at budget {board.budget}")


def cells_of(row: Row, metric: str) -> stats.Cells:
    """Return a row's cells of a metric of the task, of a cost, or of a diagnostic (``method/name``)."""
    name = metric.partition("/")[2]
    if name:
        values = {k: r["diagnostics"].get(name) for k, r in row.group.units.items()}
    elif metric in COST:
        if metric in TIMES and not row.group.costs.get("exclusive"):
            raise Missing(f"{metric} of {row.variant} was taken beside other work")
        values = {k: r["cost"].get(metric) for k, r in row.group.units.items()}
    else:
        cells = row.cells(metric)
        if cells is None:
            raise Missing(f"{metric} of {row.variant} is unavailable")
        return cells
    known = {k: float(v) for k, v in values.items() if v is not None}
    if not known:
        raise Missing(f"{metric} of {row.variant} was not recorded")
    seeds, draws = stats.complete(known)
    means = np.array([[known[s, d] for d in draws] for s in seeds])
    counted = not name and metric not in TIMES  # exact: a second run would count the same
    return stats.Cells(means, seeds, draws, row.group.stochastic, "set", np.zeros_like(means) if counted else None)


def combine(parts: Sequence[tuple[float, stats.Cells]], constant: float = 0.0) -> stats.Cells:
    """Return ``constant`` + the weighted sum of tables, cell by cell over the draws and seeds they share; one seed stands for any.

    Seeds are added in their order: of rows that stand on the same trainings that pairs them, of others it does not matter.
    """
    draws = [d for d in parts[0][1].draws if all(d in c.draws for _, c in parts)]
    if not draws:
        raise Missing("the rows have no draw in common")
    tables = [(w, c.at(draws)) for w, c in parts]
    several = [len(c.seeds) for _, c in tables if len(c.seeds) > 1]
    size = min(several, default=1)

    def cut(values: np.ndarray) -> np.ndarray:
        return values[:size] if len(values) > 1 else np.repeat(values, size, axis=0)

    means = constant + np.sum([w * cut(c.means) for w, c in tables], axis=0)
    se = None if any(c.se is None for _, c in tables) else np.sqrt(sum((w * cut(c.se)) ** 2 for w, c in tables if c.se is not None))
    first = tables[0][1]

    @cache
    def samples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        total: np.ndarray | float = constant
        reference: tuple[np.ndarray, np.ndarray] | None = None
        for w, c in tables:
            assert c.samples is not None
            ids, clusters, values = c.samples()
            reference = reference or (ids, clusters)
            if ids is not reference[0] and not np.array_equal(ids, reference[0]):
                place = {i: k for k, i in enumerate(ids.tolist())}
                if set(place) != set(reference[0].tolist()):
                    raise Missing("the rows have different samples")
                values = values[:, :, [place[i] for i in reference[0].tolist()]]
            total = total + w * cut(values)
        assert reference is not None and isinstance(total, np.ndarray)
        return *reference, total

    kinds = [c.stochastic for _, c in tables]
    stochastic = "fit" if "fit" in kinds else "inference" if "inference" in kinds else "none"
    loadable = all(c.samples is not None for _, c in tables) and all(c.level == "sample" for _, c in tables)
    longest = next((c.seeds for _, c in tables if len(c.seeds) == size), first.seeds[:size])
    return stats.Cells(means, longest, tuple(draws), stochastic, "sample" if loadable else "set", se, samples if loadable else None)


def constant(value: float, like: stats.Cells) -> stats.Cells:
    """Return a number as a table that fits ``like``."""
    means = np.full((1, len(like.draws)), value)
    load = like.samples

    def samples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert load is not None
        ids, clusters, _ = load()
        return ids, clusters, np.full((1, len(like.draws), len(ids)), value)

    return stats.Cells(means, like.seeds[:1], like.draws, "none", like.level, np.zeros_like(means), samples if load else None)


def slope(side: Slope, parts: Sequence[stats.Cells]) -> stats.Cells:
    """Return the least-squares slope of several rows' values over ``side.x``; with ``log``, linearised about the means."""
    x = np.log(side.x) if side.log else np.array(side.x)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    if not side.log:
        return combine(list(zip(weights.tolist(), parts, strict=True)))
    levels = [float(c.means.mean()) for c in parts]
    if min(levels) <= 0:
        raise Missing("a value is not above 0, so it has no logarithm")
    offset = float(sum(w * (np.log(m) - 1) for w, m in zip(weights, levels, strict=True)))  # log y = log m + (y - m)/m near m
    return combine([(float(w / m), c) for w, m, c in zip(weights, levels, parts, strict=True)], offset)


def rows_of(side: object, board: Board, other: Callable[[str], Board]) -> list[Row]:
    """Return the rows that a side of a claim stands on; ``other`` gives the board of another budget."""
    if isinstance(side, str):
        return [find(board, side)]
    if isinstance(side, Slope):
        return [find(board if budget is None else other(budget), variant) for variant, budget in side.points]
    return []


def tables(claim: Claim, board: Board, other: Callable[[str], Board]) -> tuple[stats.Cells, stats.Cells, list[Row]]:
    """Return left and ``ratio`` x right as cells, and every row behind them; `Missing` says what is not there.

    Where both sides are rows on the same trainings of the same prior (and have no fit of their own), left is the difference and right zero:
    what a training of the prior does to both then drops out.
    """
    metric = claim.metric or board.primary
    rows: list[list[Row]] = []
    cells: list[stats.Cells | None] = []
    for side in (claim.left, claim.right):
        found = rows_of(side, board, other)
        rows.append(found)
        got = [cells_of(r, metric) for r in found]
        cells.append(slope(side, got) if isinstance(side, Slope) else got[0] if got else None)
    left, right = cells
    anchor = left or right
    if anchor is None:
        raise Missing("both sides are numbers")
    if left is None:
        left = constant(float(claim.left), anchor)  # type: ignore[arg-type]
    if right is None:
        right = constant(float(claim.right) * claim.ratio, anchor)  # type: ignore[arg-type]
    elif claim.ratio != 1:
        right = combine([(claim.ratio, right)])
    if cells[0] is not None and cells[1] is not None and _same_trainings(rows[0] + rows[1], left, right):
        left = combine([(1.0, left), (-1.0, right)])
        right = constant(0.0, left)
    return left, right, [*rows[0], *rows[1]]


def trained_on(row: Row) -> set[tuple[str, int]]:
    """Return the trainings of priors and other roles behind a row: (what was trained, its seed); not its own fit, not exact priors."""
    roles = [(k, a) for r in row.group.units.values() for k, a in r["artifacts"].items() if k != "fit" and isinstance(a, Mapping)]
    return {(str(a.get("owner") or k), a["seed"]) for k, a in roles if a.get("seed") is not None}


def _same_trainings(rows: Sequence[Row], left: stats.Cells, right: stats.Cells) -> bool:
    """Whether the rows' seeds are trainings of one and the same prior, equal on both sides."""
    behind = {frozenset(trained_on(r)) for r in rows}
    own = any(r["artifacts"].get("fit") for row in rows for r in row.group.units.values())
    return len(behind) == 1 and len(behind.pop()) > 1 and left.seeds == right.seeds and not own
