"""Across the tasks of one family and track: the share of the gap closed, and win rates. No average of metrics of different units.

The share of the gap that a row closes on a task is (row - nothing) / (reference - nothing) in the task's primary metric: 0 for the do-nothing
row, 1 for the task's reference, above 1 beyond it. Tasks on the same dataset (noise levels, budgets) are averaged first and count as one
dataset. The interval is about these tasks and samples; errors of different tasks may hang together (one network serves several noise
levels), so standard errors are averaged and not divided by the root of their number: it is never too narrow for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import statistics as stats
from . import student, words
from .board import Board, Row
from .sides import Missing, combine, constant


@dataclass(frozen=True)
class Share:
    """What a row closes of one task's gap, with the standard error and degrees of freedom of that share (None where none can be told)."""

    value: float
    se: float | None
    df: float


@dataclass
class Standing:
    """One variant across the tasks of a family. ``rank`` is within the track; None where it lacks a task that others of the track have."""

    variant: str
    track: str
    shares: dict[tuple[str, str], Share] = field(default_factory=dict)
    wins: dict[tuple[str, str], float] = field(default_factory=dict)
    share: float = math.nan
    low: float | None = None
    high: float | None = None
    win_rate: float | None = None
    missing: int = 0
    rank: int | None = None


@dataclass
class Across:
    """The standings of a family's variants over several boards, and the boards left out with their reasons."""

    family: str
    boards: list[Board]
    datasets: list[str]
    standings: list[Standing]
    left_out: list[str]

    def data(self) -> dict[str, Any]:
        """Return the standings as plain data (what ``scorebench board FAMILY --across --json`` prints)."""
        return {
            "family": self.family, "datasets": self.datasets, "estimand": "fixed-set",
            "boards": [{"task": b.task, "budget": b.budget, "reference": b.meta.get("reference"), "metric": b.primary} for b in self.boards],
            "rows": [
                {
                    "rank": s.rank, "variant": s.variant, "track": s.track, "gap_closed": s.share, "low": s.low, "high": s.high,
                    "win_rate": s.win_rate, "boards": len(s.shares), "missing": s.missing,
                    "shares": [{"task": t, "budget": b, "gap_closed": x.value} for (t, b), x in s.shares.items()],
                }
                for s in self.standings
            ],
            "left_out": self.left_out,
        }  # fmt: skip


def across(boards: Sequence[Board]) -> Across:
    """Return the standings over the boards of one family."""
    used, left_out = [], []
    standings: dict[tuple[str, str], Standing] = {}
    for board in boards:
        if why := _unfit(board):
            left_out.append(f"{board.task} ({why})")
            continue
        used.append(board)
        rows = [r for r in board.rows if not r.unranked and r.mean(board.primary) is not None]
        wins = _wins(rows, board)
        for row in rows:
            standing = standings.setdefault((row.variant, row.track), Standing(row.variant, row.track))
            standing.shares[board.task, board.budget] = _share(row, board)
            if row.variant in wins:
                standing.wins[board.task, board.budget] = wins[row.variant]
    left_out = list(dict.fromkeys(left_out))
    datasets = list(dict.fromkeys(b.meta.get("dataset", b.task) for b in used))
    of = {(b.task, b.budget): b.meta.get("dataset", b.task) for b in used}
    for s in standings.values():
        _average(s, of)
    for track in {s.track for s in standings.values()}:
        members = [s for s in standings.values() if s.track == track]
        keys = {k for s in members for k in s.shares}
        for s in members:
            s.missing = len(keys) - len(s.shares)
        ranked = sorted((s for s in members if not s.missing), key=lambda s: -s.share)
        for k, s in enumerate(ranked):
            s.rank = k + 1
    order = sorted(standings.values(), key=lambda s: (s.track, s.missing > 0, -s.share, s.variant))
    return Across(boards[0].meta["family"] if boards else "", used, datasets, order, left_out)


def _unfit(board: Board) -> str:
    """Say why a board has no gap to close."""
    reference, nothing = board.row(str(board.meta.get("reference"))), board.do_nothing_row
    if board.meta.get("reference") in (None, board.meta.get("do_nothing")):
        return "no reference beside the do-nothing row is declared"
    if reference is None or reference.unranked or nothing is None:
        return "the reference or the do-nothing row has not been run"
    a, b = reference.mean(board.primary), nothing.mean(board.primary)
    if a is None or b is None:
        return f"{board.primary} of the reference or of the do-nothing row is unavailable"
    gap = (a - b) * (1 if board.higher(board.primary) else -1)
    return "" if gap > board.margin(board.primary, a) else "the reference is not above the do-nothing row by more than the margin"


def _share(row: Row, board: Board) -> Share:
    """Return the share and, by linearisation, the standard error of the ratio of two differences."""
    reference, nothing = board.row(str(board.meta["reference"])), board.do_nothing_row
    assert reference is not None and nothing is not None
    m, a, b = (r.mean(board.primary) or 0.0 for r in (row, reference, nothing))
    share = (m - b) / (a - b)
    if row is reference or row is nothing:  # 1 and 0 by definition
        return Share(share, 0.0, 1e5)
    parts = [(w, r.cells(board.primary)) for w, r in ((1.0, row), (-share, reference), (share - 1.0, nothing))]
    try:
        rest = combine([(w, c) for w, c in parts if c is not None])  # row - share x reference - (1 - share) x nothing, which is 0 in the mean
        estimate = stats.fixed_set(rest, constant(0.0, rest))
    except Missing:
        return Share(share, None, 1)
    return Share(share, None if estimate.se is None else estimate.se / abs(a - b), estimate.df)


def _wins(rows: Sequence[Row], board: Board) -> dict[str, float]:
    """Return each row's win rate over the others of its track: 1 where it is better by more than the margin, a half within it, else 0.

    The do-nothing row takes no part, and a row without others has no rate.
    """
    sign = 1 if board.higher(board.primary) else -1
    out: dict[str, float] = {}
    for track in {r.track for r in rows}:
        members = [r for r in rows if r.track == track and r is not board.do_nothing_row]
        means = np.array([r.mean(board.primary) or 0.0 for r in members])
        margins = np.array([board.margin(board.primary, float(m)) for m in means])
        lead = sign * (means[:, None] - means)
        score = np.where(lead > margins, 1.0, np.where(lead < -margins, 0.0, 0.5))
        np.fill_diagonal(score, 0.0)
        if len(members) > 1:
            out |= {r.variant: float(total) / (len(members) - 1) for r, total in zip(members, score.sum(1), strict=True)}
    return out


def _average(s: Standing, of: dict[tuple[str, str], str]) -> None:
    """Average a standing's shares and wins: first over the boards of a dataset, then over datasets."""

    def mean(values: dict[tuple[str, str], float]) -> float:
        by: dict[str, list[float]] = {}
        for key, value in values.items():
            by.setdefault(of[key], []).append(value)
        return sum(sum(v) / len(v) for v in by.values()) / len(by)

    s.share = mean({k: x.value for k, x in s.shares.items()})
    s.win_rate = mean(s.wins) if s.wins else None
    errors = {k: x.se for k, x in s.shares.items() if x.se is not None}
    if len(errors) == len(s.shares) and any(errors.values()):
        half = student.quantile(0.975, min(x.df for x in s.shares.values())) * mean(errors)
        s.low, s.high = s.share - half, s.share + half


def lines(result: Across) -> list[str]:
    """Return the standings as an aligned text table, with what must be known to read it."""
    if not result.standings:
        return [f"No gap to close across {result.family}: " + "; ".join(result.left_out) + "."] if result.left_out else []
    head = ["", "variant", "gap closed", "95 % interval", "win rate", "boards"]
    rows: list[list[str]] = []
    for s in result.standings:
        interval = "" if s.low is None or s.high is None else f"[{100 * s.low:.1f}, {100 * s.high:.1f}] %"
        win = "–" if s.win_rate is None else f"{100 * s.win_rate:.0f} %"
        rows.append([str(s.rank or "–"), s.variant, f"{100 * s.share:.1f} %", interval, win, f"{len(s.shares)}/{len(s.shares) + s.missing}"])
    sizes = [max(len(head[i]), *(len(r[i]) for r in rows)) for i in range(len(head))]

    def join(cells: list[str]) -> str:
        return "  ".join(c.ljust(w) if i == 1 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, sizes, strict=True))).rstrip()

    n, boards = len(result.datasets), len(result.boards)
    out = [f"Across {result.family}: {boards} board{'s' * (boards > 1)} on {n} dataset{'s' * (n > 1)}", join(head)]
    track = None
    for s, row in zip(result.standings, rows, strict=True):
        if s.track != track:
            out.append(f"  {s.track}")
            track = s.track
        out.append(join(row))
    return [*out, *notes(result)]


def notes(result: Across) -> list[str]:
    """Return what must be known to read the standings, one sentence each."""
    out = [
        "Share of the gap between the do-nothing row and each task's reference, in its primary metric; boards of one dataset count as one.",
        "Win rate: over the others of the track, beyond the metric's margin; ties count a half.",
    ]
    if any(s.missing for s in result.standings):
        out.append("Rows that lack boards others of their track have are not ranked.")
    if result.left_out:
        out.append(f"Left out: {words.names(result.left_out, 3)}.")
    return out


def markdown(result: Across) -> str:
    """Return the standings as a Markdown table."""
    from .render_markdown import escape

    if not result.standings:
        return ""
    out = [f"## Across {escape(result.family)}", "", "| rank | variant | track | gap closed | 95 % interval | win rate | boards |"]
    out.append("| ---: | --- | --- | ---: | ---: | ---: | ---: |")
    for s in result.standings:
        interval = "–" if s.low is None or s.high is None else f"{100 * s.low:.1f} to {100 * s.high:.1f} %"
        win = "–" if s.win_rate is None else f"{100 * s.win_rate:.0f} %"
        cells = [str(s.rank or "–"), escape(s.variant), escape(s.track), f"{100 * s.share:.1f} %", interval, win]
        out.append("| " + " | ".join([*cells, f"{len(s.shares)}/{len(s.shares) + s.missing}"]) + " |")
    return "\n".join([*out, "", *(f"- {escape(n)}" for n in notes(result)), ""])
