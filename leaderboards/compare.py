"""Two variants, one question: does the evidence support that they differ, by how much, and what could it have seen at all?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import statistics as stats
from . import words
from .board import Board


@dataclass(frozen=True)
class Comparison:
    """The comparison of variants ``a`` and ``b`` by one metric of one task. ``estimate`` is of a - b; None when one has no value."""

    task: str
    metric: str
    a: str
    b: str
    mean_a: float | None
    mean_b: float | None
    estimate: stats.Estimate | None
    fixed: stats.Estimate | None
    margin: float
    higher: bool
    unit: str
    verdict: str
    mde: float | None
    seeds: tuple[int, int]
    instances: tuple[bool, bool]
    reason: str = ""
    declared: Any = None

    def data(self) -> dict[str, Any]:
        """Return the comparison as ``scorebench compare --json`` prints it."""
        interval = self.estimate.interval() if self.estimate else None
        inner = self.fixed.interval() if self.fixed else None
        return {
            "task": self.task, "metric": self.metric, "a": self.a, "b": self.b,
            "difference": None if self.estimate is None else self.estimate.difference,
            "low": None if interval is None else interval[0], "high": None if interval is None else interval[1],
            "n": None if self.estimate is None else self.estimate.clusters, "mde": self.mde, "verdict": self.verdict,
            "mean_a": self.mean_a, "mean_b": self.mean_b, "margin": self.margin, "unit": self.unit, "higher_is_better": self.higher,
            "estimand": None if self.estimate is None else self.estimate.estimand,
            "from": None if self.estimate is None else self.estimate.how,
            "fixed_set": None if inner is None else {"low": inner[0], "high": inner[1]},
            "about": ["this trained instance" if i else "method" for i in self.instances], "seeds": list(self.seeds), "reason": self.reason,
        }  # fmt: skip

    def words(self) -> str:
        """Return the comparison in words and numbers: what was seen, what it supports, and what could have been seen."""
        if self.estimate is None:
            return f"{self.task}, {self.metric}: {self.a} and {self.b} cannot be compared: {self.reason}."
        places = words.digits(self.declared, min(abs(self.mean_a or 0), abs(self.mean_b or 0))) + 1
        unit = f" {self.unit}" if self.unit else ""
        d, interval = self.estimate.difference, self.estimate.interval()
        lead = f"{self.task}, {self.metric} ({'higher' if self.higher else 'lower'} is better): "
        lead += f"{self.a} {words.number(self.mean_a, places)}, {self.b} {words.number(self.mean_b, places)}{unit}. "
        who = " and ".join(
            ("this trained instance of " if i else "") + name for i, name in zip(self.instances, (self.a, self.b), strict=True)
        )
        if interval is None:
            return lead + f"Difference {words.number(d, places, True)}{unit}; no interval can be told: {self.estimate.how}."
        on = "samples like these" if self.estimate.estimand == "population" else "these samples"
        n = f" ({self.estimate.clusters} clusters)" if self.estimate.clusters else ""
        seen = f"Difference {words.number(d, places, True)}{unit}, 95 % interval {words.number(interval[0], places, True)} to "
        seen += f"{words.number(interval[1], places, True)} on {on}{n}, between {who}. "
        margin = f"{words.number(self.margin, places)}{unit}"
        said = {
            "better": f"{self.a} is better, by more than the margin of {margin}.",
            "worse": f"{self.a} is worse, by more than the margin of {margin}.",
            "equivalent": f"They are equivalent: the 90 % interval lies inside the margin of {margin}.",
            "inconclusive": f"The evidence does not decide whether they differ by more than the margin of {margin}.",
            "too-few-samples": f"Too few samples: no outcome of {self.estimate.clusters} clusters could reach the 5 % level; 6 or more could.",
        }[self.verdict]
        if self.mde is None:
            return lead + seen + said
        could = f" The smallest difference this comparison would have called (80 % power): {words.number(self.mde, places)}{unit}."
        return lead + seen + said + could


def compare(board: Board, a: str, b: str, metrics: Sequence[str] | None = None) -> list[Comparison]:
    """Compare variants ``a`` and ``b`` on a board, metric by metric (one test each); population estimand for per-sample metrics."""
    return [_one(board, a, b, metric) for metric in metrics or board.metrics]


def _one(board: Board, a: str, b: str, metric: str) -> Comparison:
    row_a, row_b = board.row(a), board.row(b)
    cells = [row.cells(metric) if row else None for row in (row_a, row_b)]
    means = [None if c is None else float(c.means.mean()) for c in cells]
    reason = ""
    for name, row, c in zip((a, b), (row_a, row_b), cells, strict=True):
        if row is None:
            refused = next((r.reason for r in board.refused if r.variant == name), None)
            failed = next((f["error"]["message"] for f in board.failed if f["variant"] == name), None)
            reason = reason or f"{name} has no record" + (f" ({refused})" if refused else f" that did not fail ({failed})" if failed else "")
        elif row.group.partial:
            reason = reason or f"{name} has only a partial run"
        elif c is None:
            reason = reason or f"{metric} of {name} is unavailable"
    estimate = fixed = None
    if not reason and cells[0] is not None and cells[1] is not None:
        estimate, fixed = stats.population(cells[0], cells[1]), stats.fixed_set(cells[0], cells[1])
    declared = (board.meta["metrics"].get(metric) or {}).get("margin")
    margin = stats.margin_value(declared, *(m for m in means if m is not None)) if any(m is not None for m in means) else 0.0
    return Comparison(
        board.task, metric, a, b, means[0], means[1], estimate, fixed, margin, board.higher(metric), board.unit(metric),
        stats.verdict(estimate, margin, board.higher(metric)) if estimate else "too-few-samples",
        stats.smallest_detectable(estimate, margin) if estimate else None,
        (len(cells[0].seeds) if cells[0] else 0, len(cells[1].seeds) if cells[1] else 0),
        (bool(cells[0] and cells[0].instance), bool(cells[1] and cells[1].instance)), reason, declared,
    )  # fmt: skip
