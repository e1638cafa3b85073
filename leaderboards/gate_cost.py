"""Did anything get slower? Seconds only from runs with nothing beside them on the same processor, counted costs always.

A machine has slow nights: what all cells share is the machine's pace, and is taken out before a cell is called slower. The bar is the
larger of 1.5 times and four standard errors of the cell's ratio, from the spread of its units and of all cells; where neither can be told
(few cells, and one or two units) nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .gate_cells import Key, Side
from .gate_night import Cost
from .record import Record

COUNTED = ("nfe", "backward", "params", "flops_per_sample")
"""Costs that are counted: they have no noise, and a change of one thousandth is a change."""
LEAST = 1.5
ERRORS = 4.0
ENOUGH = 5
"""Cells from which the machine's pace is told."""
UNITS = 3
"""Units from which a cell's own spread is told."""
SHORTEST = 5e-4
"""Seconds per sample below which a timer says more about Python than about the method."""


def _timed(was: Record, now: Record) -> float | None:
    """Return log(tonight's seconds per sample / the reference's), None where the two may not be compared."""
    a, b = was["cost"], now["cost"]
    if not (a.get("exclusive") and b.get("exclusive")):
        return None
    same = all(a.get(k) == b.get(k) for k in ("threads", "batch_size")) and was["provenance"].get("cpu") == now["provenance"].get("cpu")
    old, new = a.get("sample_s_median"), b.get("sample_s_median")
    if not same or not old or not new or min(old, new) < SHORTEST or was["environment"].get("device") != now["environment"].get("device"):
        return None
    return math.log(new / old)


def compare_costs(pairs: Mapping[Key, tuple[Side, Side]]) -> tuple[list[Cost], float | None]:
    """Return what became slower or quicker (or dearer, by count), and the night's pace."""
    out: list[Cost] = []
    logs: dict[Key, np.ndarray] = {}
    for key, (was, now) in pairs.items():
        common = [p for p in was.units if p in now.units and was.units[p] is not now.units[p]]
        out += [c for name in COUNTED if (c := _counted(key, name, [(was.units[p], now.units[p]) for p in common]))]
        ratios = [r for p in common if (r := _timed(was.units[p], now.units[p])) is not None]
        if ratios:
            logs[key] = np.array(ratios)
    if not logs:
        return out, None
    centres = np.array([np.median(r) for r in logs.values()])
    pace = float(np.median(centres)) if len(centres) >= ENOUGH else 0.0
    between = 1.4826 * float(np.median(np.abs(centres - pace))) if len(centres) >= ENOUGH else 0.0
    inside = [r.var(ddof=1) for r in logs.values() if len(r) > 1]
    within = float(np.mean(inside)) if inside else 0.0
    for key, found in logs.items():
        if len(centres) < ENOUGH and len(found) < UNITS:
            continue
        error = max(between, math.sqrt(within / len(found)))
        bar = max(math.log(LEAST), ERRORS * error)
        excess = float(np.median(found)) - pace
        if abs(excess) > bar:
            was, now = pairs[key]
            old, new = (_seconds(side) for side in (was, now))
            out.append(Cost(*key, "seconds per sample", old, new, math.exp(excess), math.exp(bar), False))
    return out, math.exp(float(np.median(centres)))


def _counted(key: Key, name: str, pairs: list[tuple[Any, Any]]) -> Cost | None:
    values = [(a["cost"].get(name), b["cost"].get(name)) for a, b in pairs]
    known = [(float(a), float(b)) for a, b in values if a is not None and b is not None]
    if not known:
        return None
    old, new = (float(np.mean(x)) for x in zip(*known, strict=True))
    if abs(new - old) <= 1e-3 * max(abs(old), abs(new)):
        return None
    return Cost(*key, name, old, new, new / old if old else math.inf, 1.0, True)


def _seconds(side: Side) -> float:
    return float(np.median([s for r in side.units.values() if (s := r["cost"].get("sample_s_median"))]))
