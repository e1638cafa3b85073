"""The data behind the plots of a task's page: quality against cost, and per-sample values. The page's script draws them with plotly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ...configs.errors import RunError
from .. import words
from ..board import Board, Row
from . import provenance

MOST_ROWS = 12
MOST_POINTS = 200
_COSTS = (
    ("sample_s_median", "seconds per sample"), ("nfe", "network evaluations per sample"), ("params", "parameters"),
    ("train_s", "training, seconds"), ("flops_per_sample", "FLOPs per sample"), ("peak_mb", "peak memory, MB"),
)  # fmt: skip


def quality_cost(board: Board, data: words.Data) -> dict[str, Any] | None:
    """Return the points of quality against each cost that tells rows apart, or None where there is nothing to plot."""
    ranked = [r for r in data["rows"] if not r["unranked"] and "mean" in r["metrics"][data["primary"]]]
    rows = [board_row(board, r) for r in ranked]
    costs = []
    for name, label in _COSTS:
        values = [r["cost"].get(name) for r in ranked]
        if len({v for v in values if v is not None and v > 0}) > 1:
            costs.append({"name": name, "label": label, "values": values})
    if not costs or len(ranked) < 2:
        return None
    metrics = [m for m in board.metrics if sum("mean" in r["metrics"][m] for r in ranked) > 1]
    return {
        "costs": costs,
        "shared": not all(r["cost"].get("exclusive") for r in ranked),
        "metrics": [
            {
                "name": m, "label": words.spelled(data, m), "higher": board.higher(m), "values": [r["metrics"][m].get("mean") for r in ranked],
                "places": words.decimals(data, m, {x: o.get("margin") for x, o in board.meta["metrics"].items()}),
            }
            for m in metrics
        ],
        "rows": [
            {
                "name": r["variant"], "track": r["track"], "nothing": r["do_nothing"], "reference": r["reference"],
                "key": provenance.key(board, row) if row else "",
            }
            for r, row in zip(ranked, rows, strict=True)
        ],
    }  # fmt: skip


def board_row(board: Board, data: Mapping[str, Any]) -> Row | None:
    """Return the row that ``data`` (of `render_json.row_data`) was made from."""
    known = _rows_of.setdefault(board, {})
    if not known:
        known.update({(x.variant, x.group.selection, x.group.partial): x for x in reversed(board.rows)})
    return known.get((data["variant"], data["selection"], data["partial"]))


_rows_of: WeakKeyDictionary[Board, dict[tuple[str, str, bool], Row]] = WeakKeyDictionary()


def per_sample(board: Board) -> dict[str, Any] | None:
    """Return per-sample values of the primary metric, means over units, of the best rows, the reference and the do-nothing row.

    Up to `MOST_POINTS` samples they are given one by one; of more, as many evenly spaced quantiles, which draw the same boxes.
    """
    ranked = [r for r in board.rows if not r.unranked]
    must = {id(r) for r in (board.reference_row, board.do_nothing_row) if r is not None}
    best = {id(r) for r in [r for r in ranked if id(r) not in must][: MOST_ROWS - len(must)]}
    chosen = [r for r in ranked if id(r) in must | best]
    tables: list[tuple[Row, np.ndarray, np.ndarray]] = []
    for row in chosen:
        cells = row.cells(board.primary)
        if cells is None or cells.samples is None:
            continue
        try:
            ids, _, values = cells.samples()
        except RunError:
            continue  # the store lost the samples file: the board still has the row's mean
        tables.append((row, ids, values.mean((0, 1))))
    if len(tables) < 2 or len(tables[0][1]) < 5 or _binary([v for _, _, v in tables]):
        return None
    few = all(len(ids) <= MOST_POINTS for _, ids, _ in tables)
    places = words.digits((board.meta["metrics"].get(board.primary) or {}).get("margin"), tables[0][0].mean(board.primary)) + 1
    grid = np.linspace(0, 1, MOST_POINTS)
    return {
        "metric": board.primary, "unit": board.unit(board.primary), "n": len(tables[0][1]), "points": few,
        "rows": [
            {
                "name": row.variant, "track": row.track, "nothing": row is board.do_nothing_row, "reference": row is board.reference_row,
                "values": [round(float(v), places) for v in (values if few else np.quantile(values, grid))],
                "ids": ids.tolist() if few else [],
            }
            for row, ids, values in tables
        ],
    }  # fmt: skip


def _binary(values: Sequence[np.ndarray]) -> bool:
    """Whether the values are only right or wrong, of which there is no distribution to draw."""
    return all(len(np.unique(v)) <= 2 for v in values)
