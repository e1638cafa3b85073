"""Where a number comes from, as data for the page: its units, seeds, code, data, environment, and the command that makes it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from .. import words
from ..board import Board, Row
from ..record import Record
from .shell import COSTS

_COST_NAMES = [name for _, name, _ in COSTS]


def key(board: Board, row: Row) -> str:
    """Return the row's key in a page's data."""
    return "|".join((board.task, board.budget, board.split, row.variant, row.group.selection, "partial" if row.group.partial else ""))


def command(board: Board, row: Row) -> str:
    """Return the command line that makes the row's units again."""
    records = list(row.group.units.values())
    parts = ["scorebench", "run", "-t", board.task, "-m", row.variant]
    if board.budget != next(iter(board.meta.get("budgets") or {"default": {}})):
        parts += ["--budget", records[0]["budget"]]
    if board.split != "test":
        parts += ["--split", board.split]
    seeds = sorted({r["seed"] for r in records})
    for flag, values in (("-s", seeds), ("--draw", sorted({r["draw"] for r in records})), ("--prior-seed", _prior_seeds(records))):
        parts += [x for v in values for x in (flag, str(v))]
    if row.group.partial:
        parts += ["--limit", str(next((e["n"] for e in records[0]["metrics"].values() if "n" in e), 1))]
    return shlex.join(parts)


def _prior_seeds(records: list[Record]) -> list[int]:
    roles = [a for r in records for role, a in r["artifacts"].items() if role != "fit" and isinstance(a, Mapping)]
    found = {a["seed"] for a in roles if isinstance(a.get("seed"), int)}
    return [] if found <= {0} else sorted(found)


def row_data(board: Board, row: Row, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page says of a row's numbers. ``data``: the row as `render_json.row_data` gives it."""
    first = row.group.first
    libraries = first["environment"].get("libraries") or {}
    environment = ", ".join([f"Python {first['environment'].get('python', '?')}", *(f"{k} {v}" for k, v in libraries.items() if v)])
    git = (first["provenance"].get("git") or {}) if isinstance(first["provenance"].get("git"), Mapping) else {}
    commit = str(git.get("commit") or "")[:12] + (" with local changes" if git.get("dirty") else "")
    artifacts = [
        f"{k} {str(v.get('sha256') or v.get('key'))[:12]}{' (pinned)' if v.get('pinned') else ''}"
        for k, v in first["artifacts"].items()
        if isinstance(v, Mapping)
    ]
    facts = [
        ("command", command(board, row)),
        ("settings", json.dumps(first["hparams"], sort_keys=True, ensure_ascii=False) if first["hparams"] else "defaults"),
        ("data", f"{board.meta.get('dataset') or board.task}, fingerprint {str(first.get('data_fingerprint', ''))[:16] or '–'}"),
        ("artifacts", "; ".join(artifacts) or "none"),
        ("conditional on", ", ".join(f"one training of {role}" for role in row.group.conditional_on)),
        ("selection", f"{row.group.selection}, {words.names([str(first.get('configurations_tried', 1))])} configuration(s) tried"),
        ("environment", environment),
        ("commit", commit),
        ("record", "accepted, ships with the package" if row.group.source == "reference" else "the user's own store"),
    ]
    return {
        "title": row.variant,
        "task": f"{board.task} v{board.version}" + ("" if board.budget == "default" else f", budget {board.budget}")
        + ("" if board.split == "test" else f", {board.split} split"),
        "facts": [[k, v] for k, v in facts if v],
        "metrics": {m: _metric(e, data) for m, e in data["metrics"].items() if "mean" in e},
        "cost": {name: data["cost"].get(name) for name in _COST_NAMES if data["cost"].get(name) is not None},
        "exclusive": bool(data["cost"].get("exclusive")),
        "units": [_unit(r) for r in row.group.units.values()],
    }  # fmt: skip


def _metric(entry: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    keep = ("mean", "n", "identity", "unit", "delta", "low", "high", "from", "about", "verdict")
    return {k: entry[k] for k in keep if entry.get(k) not in (None, "")} | ({"reference": True} if data["reference"] else {})


def _unit(r: Record) -> dict[str, Any]:
    return {
        "seed": r["seed"], "draw": r["draw"], "unit": r["unit_id"], "code": r["code"], "observations": r["observation_hash"],
        "environment": r["environment_key"], "written": str(r.get("written", ""))[:19].replace("T", " "),
        "values": {m: e["value"] for m, e in r["metrics"].items() if "value" in e},
        "cost": {name: r["cost"].get(name) for name in _COST_NAMES if r["cost"].get(name) is not None},
    }  # fmt: skip
