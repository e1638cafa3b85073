"""A board as plain data: what ``--json`` prints, and what every other renderer reads."""

from __future__ import annotations

import json
from typing import Any

from .board import Board, Row
from .index import paused
from .statistics import ENOUGH

_UNIT = ("unit_id", "spec_id", "seed", "draw", "code", "environment_key", "observation_hash")


def cell(row: Row, metric: str, brief: bool = False) -> dict[str, Any]:
    """Return one metric of one row: mean, difference to the reference row with its fixed-set interval, protocol; or why it is unavailable.

    ``brief``: without the difference.
    """
    cells = row.cells(metric)
    if cells is None:
        entry = row.group.metric(metric)
        if "unavailable" in entry:
            return {"unavailable": dict(entry["unavailable"])}
        because = f"measured with another protocol ({entry['identity']}, here {row.board.identity(metric)})"
        return {"unavailable": {"because": because, "remedy": "run the unit again with this version"}}
    first = row.group.metric(metric)
    estimate = None if brief else row.delta(metric)
    interval = estimate.interval() if estimate is not None else None
    return {
        "mean": float(cells.means.mean()),
        "delta": None if estimate is None else estimate.difference,
        "low": None if interval is None else interval[0],
        "high": None if interval is None else interval[1],
        "n": first.get("n"),
        "identity": first.get("identity"),
        "unit": row.board.unit(metric),
        "higher_is_better": row.board.higher(metric),
        "estimand": None if estimate is None else estimate.estimand,
        "about": None if estimate is None else "this trained instance" if estimate.instance else "method",
        "from": None if estimate is None else estimate.how,
        "verdict": None if brief else row.verdict(metric),
    }


def row_data(row: Row, brief: bool = False) -> dict[str, Any]:
    """Return one row of a board; ``brief``: differences of the primary metric alone, which is all a terminal shows."""
    g = row.group
    against = None if brief else row.against_nothing(row.board.primary)
    return {
        "rank": row.rank,
        "method": g.method,
        "variant": g.variant,
        "track": g.track,
        "seeds": len(g.seeds),
        "draws": len(g.draws),
        "stale": bool(g.stale),
        "selection": g.selection,
        "configurations_tried": max(int(r.get("configurations_tried") or 1) for r in g.units.values()),
        "cost": dict(g.costs),
        "metrics": {m: cell(row, m, brief and m != row.board.primary) for m in row.board.metrics},
        "near_best": row.near_best,
        "reference": row is row.board.reference_row,
        "do_nothing": row is row.board.do_nothing_row,
        "versus_do_nothing": None if against is None else row.verdict(row.board.primary, "do-nothing"),
        "unranked": row.unranked,
        "partial": g.partial,
        "submitted": bool(g.first["provenance"].get("submitted")),
        "source": g.source,
        "instance": g.stochastic == "fit" and len(g.seeds) < ENOUGH,
        "conditional_on": g.conditional_on,
        "superseded": g.superseded,
        "failures": [{k: f[k] for k in ("seed", "draw", "unit_id", "error")} for f in row.failures],
        "units": [{k: r.get(k) for k in _UNIT} for r in g.units.values()],
    }


@paused()
def board_data(board: Board, brief: bool = False) -> dict[str, Any]:
    """Return the whole board as plain data (the shape that ``scorebench board --json`` prints); ``brief`` as in `row_data`."""
    return {
        "task": board.task,
        "version": board.version,
        "title": board.meta.get("title", board.task),
        "family": board.meta.get("family", board.task.split("/")[0]),
        "budget": board.budget,
        "split": board.split,
        "primary": board.primary,
        "reference": board.reference_row.variant if board.reference_row else None,
        "do_nothing": board.do_nothing_row.variant if board.do_nothing_row else None,
        "estimand": "fixed-set",
        "rows": [row_data(row, brief) for row in board.rows],
        "failed": board.failed,
        "refused": [{"variant": r.variant, "unit_id": r.unit_id, "reason": r.reason} for r in board.refused],
        "notes": list(board.notes),
    }


def render(boards: list[Board]) -> str:
    """Return boards as JSON text: one object for one board, else a list."""
    data = [board_data(b) for b in boards]
    return json.dumps(data[0] if len(data) == 1 else data, indent=2, ensure_ascii=False, allow_nan=False)
