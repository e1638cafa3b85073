"""Boards as CSV: one line per row, every metric with its mean, difference and interval, at full precision."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from .board import Board
from .render_json import board_data

_BOARD = ("task", "version", "budget", "split")
_FIXED = (*_BOARD, "track", "rank", "method", "variant", "near_best", "seeds", "draws", "selection", "stale", "unranked")
_COST = ("nfe", "params", "train_s", "sample_s_median", "sample_s_p95", "peak_mb", "exclusive")
_METRIC = ("mean", "delta", "low", "high", "n", "verdict", "identity")


def guarded(value: Any) -> Any:
    """Return text that no spreadsheet takes for a formula; numbers as they are."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def render(boards: Sequence[Board]) -> str:
    """Return all boards as one CSV table (RFC 4180, lines end in CRLF). Metrics of other boards are left empty."""
    data = [board_data(b) for b in boards]
    metrics = list(dict.fromkeys(m for d in data for r in d["rows"] for m in r["metrics"]))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*_FIXED, *(f"{m}_{f}" for m in metrics for f in _METRIC), *(f"cost_{c}" for c in _COST), "reference", "unit_ids"])
    for d in data:
        for r in d["rows"]:
            values = [d[f] if f in _BOARD else r[f] for f in _FIXED]
            values += [r["metrics"].get(m, {}).get(f) for m in metrics for f in _METRIC]
            values += [r["cost"].get(c) for c in _COST]
            writer.writerow([guarded(v) for v in [*values, d["reference"], " ".join(u["unit_id"] for u in r["units"])]])
    return out.getvalue()
