"""A board: the records of one task and budget, by track, with means, differences to the reference row, and what may be said of them.

Built from records alone and rebuilt at will. What cannot be compared is refused with its reason: another observation hash, another metric
identity, another task version. Failed units, unavailable metrics, partial runs and rows chosen on test data are shown, never ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from . import batch
from . import statistics as stats
from .best import near_best
from .index import paused
from .rows import Group, Refused, agree, eligible, group_rows
from .sources import Gathered


@dataclass
class Row:
    """One variant on a board. ``rank`` is within the track, by the primary metric; None for rows that are shown, not ranked."""

    group: Group
    board: Board = field(repr=False)
    rank: int | None = None
    near_best: bool = False
    failures: list[dict[str, Any]] = field(default_factory=list)

    @property
    def variant(self) -> str:
        return self.group.variant

    @property
    def method(self) -> str:
        return self.group.method

    @property
    def track(self) -> str:
        return self.group.track

    @property
    def unranked(self) -> str:
        """Return why the row is not ranked, or an empty string."""
        if self.group.partial:
            return "partial run"
        if self.group.selection == "test-clean":
            return "chosen on clean test data"
        entry = self.group.metric(self.board.primary)
        if "unavailable" in entry:
            return "primary metric unavailable"
        return ""

    def cells(self, metric: str) -> stats.Cells | None:
        """Return the row's cells of a metric (None when it is unavailable)."""
        return self.board._cells(self.group, metric)

    def mean(self, metric: str) -> float | None:
        """Return the mean over all units of the row."""
        cells = self.cells(metric)
        return None if cells is None else cells.mean

    def delta(self, metric: str) -> stats.Estimate | None:
        """Return the difference to the reference row (fixed-set), or None where there is nothing to compare with."""
        return self.board._difference(self, self.board.reference_row, metric)

    def against_nothing(self, metric: str) -> stats.Estimate | None:
        """Return the difference to the do-nothing row (fixed-set)."""
        return self.board._difference(self, self.board.do_nothing_row, metric)

    def verdict(self, metric: str, against: str = "reference") -> str | None:
        """Return the verdict against the reference or the do-nothing row, or None."""
        estimate = self.delta(metric) if against == "reference" else self.against_nothing(metric)
        other = self.board.reference_row if against == "reference" else self.board.do_nothing_row
        if estimate is None or other is None or other is self:
            return None
        return stats.verdict(estimate, self.board.margin(metric, other.mean(metric) or 0.0), self.board.higher(metric))


class Board:
    """Records of one task and budget. Make it with `build`."""

    def __init__(self, meta: Mapping[str, Any], budget: str, split: str, gathered: Gathered) -> None:
        self.meta, self.budget, self.split, self.gathered = meta, budget, split, gathered
        self.task: str = meta["id"]
        self.version: int = meta["version"]
        self.primary: str = meta["primary"]
        self.rows: list[Row] = []
        self.failed: list[dict[str, Any]] = []
        self.refused: list[Refused] = []
        self.notes: list[str] = []
        self._cache: dict[tuple[int, str], stats.Cells | None] = {}
        self._estimates: dict[tuple[int, int, str], stats.Estimate | None] = {}
        self._identities: dict[str, dict[str, Any]] = {}

    # ------------------------------------------------------------------ metrics
    @property
    def metrics(self) -> list[str]:
        """Return the metrics in the order of the task, the primary first."""
        return [self.primary, *(m for m in self.meta["metrics"] if m != self.primary)]

    def higher(self, metric: str) -> bool:
        """Return whether higher is better."""
        return bool(self._identities.get(metric, {}).get("higher_is_better", True))

    def unit(self, metric: str) -> str:
        """Return the metric's unit, e.g. dB."""
        return str(self._identities.get(metric, {}).get("unit") or "")

    def identity(self, metric: str) -> str:
        """Return the identity (protocol) that all values of the metric on this board share."""
        return str(self._identities.get(metric, {}).get("identity", ""))

    def margin(self, metric: str, reference: float) -> float:
        """Return the metric's margin in its unit; a percentage is of the reference's value."""
        return stats.margin_value((self.meta["metrics"].get(metric) or {}).get("margin"), reference)

    # ------------------------------------------------------------------ rows
    @cached_property
    def reference_row(self) -> Row | None:
        """Return the row differences are taken to: the task's reference, else the do-nothing row, where they have been run."""
        names = [self.meta.get("reference"), self.meta.get("do_nothing")]
        return next((r for name in names for r in self.rows if r.variant == name and not r.unranked), None)

    @cached_property
    def do_nothing_row(self) -> Row | None:
        """Return the row that answers without doing anything."""
        return next((r for r in self.rows if r.variant == self.meta.get("do_nothing") and not r.unranked), None)

    @property
    def tracks(self) -> list[str]:
        """Return the tracks, the one with the best row first."""
        return list(dict.fromkeys(r.track for r in self.rows if not r.unranked))

    def row(self, variant: str) -> Row | None:
        """Return the row of a variant."""
        return next((r for r in self.rows if r.variant == variant), None)

    # ------------------------------------------------------------------ statistics
    def _cells(self, group: Group, metric: str) -> stats.Cells | None:
        key = (id(group), metric)
        if key not in self._cache:
            self._cache[key] = self._make_cells(group, metric)
        return self._cache[key]

    def _make_cells(self, group: Group, metric: str) -> stats.Cells | None:
        # a partial run has a protocol of its own where the number of samples belongs to it; it is never compared
        identity = None if group.partial else self.identity(metric)
        usable = {
            k: e for k, r in group.units.items()
            if (e := r["metrics"].get(metric)) is not None and "value" in e and (identity is None or e["identity"] == identity)
        }  # fmt: skip
        if not usable:
            return None
        seeds, draws = group.complete if len(usable) == len(group.units) else stats.complete(usable)
        keys = [(s, d) for s in seeds for d in draws]
        shape = (len(seeds), len(draws))
        level = usable[keys[0]]["level"]
        se = [usable[k].get("se") for k in keys]
        records = [group.units[k] for k in keys]

        def samples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            ids, clusters, values = self.gathered.values(records, metric)
            return ids, clusters, values.reshape(*shape, -1)

        return stats.Cells(
            np.array([usable[k]["value"] for k in keys], dtype=float).reshape(shape), seeds, draws, group.stochastic, level,
            None if any(s is None for s in se) else np.array(se, dtype=float).reshape(shape),
            samples if level == "sample" and all(r.get("samples") for r in records) else None,
        )  # fmt: skip

    def _difference(self, a: Row, b: Row | None, metric: str) -> stats.Estimate | None:
        if b is None:
            return None
        key = (id(a), id(b), metric)
        if key not in self._estimates:
            self._compare(self.rows if b is self.reference_row or b is self.do_nothing_row else [a], b, metric)
        return self._estimates[key]

    def _compare(self, rows: Sequence[Row], b: Row, metric: str) -> None:
        """Estimate the differences of ``rows`` to row ``b``, together where they allow it."""
        new = [r for r in rows if (id(r), id(b), metric) not in self._estimates]
        other = b.cells(metric)
        alone = {id(r) for r in new if other is None or r is b or r.cells(metric) is None or r.group.partial or b.group.partial}
        several = [r for r in new if id(r) not in alone]
        if several and other is not None:
            self._load(metric, [*several, b])
            cells = [c for r in several if (c := r.cells(metric)) is not None]
            for r, estimate in zip(several, batch.fixed_set(cells, other), strict=True):
                self._estimates[id(r), id(b), metric] = estimate
        for r in new:
            if id(r) in alone:
                self._estimates[id(r), id(b), metric] = self._estimate(r, b, metric)

    def _load(self, metric: str, rows: Sequence[Row]) -> None:
        """Read per-sample values at once where rows have too few draws to do without."""
        cells = [(r, r.cells(metric)) for r in rows]
        have = [(r, c) for r, c in cells if c is not None and c.samples is not None and len(c.draws) < stats.ENOUGH]
        if len(have) > 2:
            records = [[r.group.units[s, d] for s in c.seeds for d in c.draws] for r, c in have]
            batch.load_clusters([c for _, c in have], records, lambda units: self.gathered.values(units, metric))

    def _estimate(self, a: Row, b: Row, metric: str) -> stats.Estimate | None:
        ca, cb = a.cells(metric), b.cells(metric)
        if ca is None or cb is None or a.group.partial != b.group.partial:
            return None
        if a is b:
            return stats.Estimate(0.0, 0.0, 1e5, "fixed-set", ca.instance, len(ca.draws), how="the same row")
        return stats.fixed_set(ca, cb)

    def near_best(self, metric: str, rows: Sequence[Row]) -> list[Row]:
        """Return the rows that are not distinguishable from the best of ``rows`` in ``metric`` (step-down max-T, 5 %), the best first."""
        have = [r for r in rows if r.mean(metric) is not None]
        if not have:
            return []
        sign = 1 if self.higher(metric) else -1
        best = max(have, key=lambda r: sign * (r.mean(metric) or 0.0))
        others = [r for r in have if r is not best]
        self._compare(others, best, metric)
        pairs = [(r, e.flipped()) for r in others if (e := self._difference(r, best, metric)) is not None]
        cells = best.cells(metric)
        assert cells is not None
        own = 0.0
        if len(cells.seeds) >= stats.ENOUGH and cells.stochastic != "none":
            own = float(cells.means.mean(1).var(ddof=1)) / len(cells.seeds)
        near = near_best([e for _, e in pairs], [min(1.0, own / e.variance) if e.variance else 0.0 for _, e in pairs])
        return [best, *(r for (r, _), keep in zip(pairs, near, strict=True) if keep)]


@paused()
def build(
    meta: Mapping[str, Any],
    gathered: Gathered,
    *,
    budget: str | None = None,
    split: str = "test",
    codes: Mapping[str, str] | None = None,
    hashes: Mapping[int, str] | None = None,
    names: Sequence[str] = (),
) -> Board:
    """Build the board of one task and budget.

    ``meta``: the task's declaration as a mapping (id, version, title, family, metrics, primary, reference, do_nothing, budgets; also
    ``pixels``: redistribute, display or never). ``codes``: the code hash each variant would run with now, by which records are stale.
    ``hashes``: the locked observation hash of each draw; without it the reference row's counts. ``names`` restricts to some variants.
    """
    budgets = dict(meta.get("budgets") or {"default": {}})
    budget = next(iter(budgets)) if budget is None else budget
    board = Board(meta, budget, split, gathered)
    records = eligible(gathered.records(meta["id"]), meta, budget, split, board.refused)
    if names:
        records = [r for r in records if r["variant"] in names or r["variant"] in (meta.get("reference"), meta.get("do_nothing"))]
    ok = agree([r for r in records if r["status"] == "ok"], meta, board.refused, board._identities, hashes or {})
    groups = group_rows(ok, codes)
    board.rows = [Row(g, board) for g in groups]
    _failures(board, [r for r in records if r["status"] == "failed"], groups)
    _rank(board)
    board.notes += gathered.problems()
    return board


def _failures(board: Board, failed: Sequence[Mapping[str, Any]], groups: Sequence[Group]) -> None:
    """Show failed units: with the row they would have belonged to, and on their own where there is none."""
    for r in failed:
        entry = {k: r[k] for k in ("variant", "method", "seed", "draw", "unit_id", "error", "track")}
        row = next((row for row in board.rows if row.variant == r["variant"]), None)
        (row.failures if row else board.failed).append(entry)


def _rank(board: Board) -> None:
    sign = 1 if board.higher(board.primary) else -1

    def place(row: Row) -> tuple[bool, float, str]:
        mean = row.mean(board.primary)
        return bool(row.unranked) or mean is None, 0.0 if mean is None else -sign * mean, row.variant

    board.rows.sort(key=place)
    ranked = [r for r in board.rows if not r.unranked]
    for track in board.tracks:
        members = [r for r in ranked if r.track == track]
        for k, row in enumerate(members):
            same = k > 0 and row.mean(board.primary) == members[k - 1].mean(board.primary)
            row.rank = members[k - 1].rank if same else k + 1
        for row in board.near_best(board.primary, members):
            row.near_best = True


def telling(boards: Sequence[Board]) -> list[Board]:
    """Return the boards that tell something the others of their task do not.

    Left out are budgets at which nothing was run but the do-nothing row, or whose rows all came from a smaller budget; a task keeps one board.
    """
    own = {id(b): any(r.group.first["budget"] == b.budget and r is not b.do_nothing_row for r in b.rows) or bool(b.failed) for b in boards}
    tasks_with = {(b.task, b.split) for b in boards if own[id(b)]}
    first = {(b.task, b.split): id(b) for b in reversed(boards)}
    return [b for b in boards if own[id(b)] or ((b.task, b.split) not in tasks_with and first[(b.task, b.split)] == id(b))]
