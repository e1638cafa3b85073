"""Paper tables against records: paper | reproduced | difference | tolerance | verdict, cell by cell.

The tolerance is derived, not chosen: a number that a paper got from one unknown noise key lies within 3 standard deviations of the mean over
n keyed draws, and was rounded: 3 x SD over draws x sqrt(1 + 1/n) + half of the last printed digit. Retrained cells add the spread
between training seeds in the same way. One lucky noise key proves nothing, so a cell has a verdict only with all of the table's draws.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import statistics as stats
from .record import Record
from .sources import Gathered
from .tables import Cell, PaperTable

VERDICTS = ("reproduced", "missed", "not-run", "unavailable")
SIGMAS = 3.0


@dataclass(frozen=True)
class Result:
    """What became of one cell. ``value`` is the mean over the draws (and seeds) found, ``sd`` their standard deviation over draws."""

    cell: Cell
    verdict: str
    value: float | None = None
    sd: float | None = None
    draws: int = 0
    tolerance: float | None = None
    note: str = ""
    identity: str = ""
    records: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        """Return the result as ``scorebench reproduce --json`` prints it."""
        c = self.cell
        return {
            "row": c.row, "column": c.column, "task": c.task, "metric": c.metric, "paper": c.paper, "digits": c.digits, "kind": c.kind,
            "where": c.where, "reproduced": self.value, "difference": None if self.value is None else self.value - c.paper,
            "tolerance": self.tolerance, "verdict": self.verdict, "sd": self.sd, "draws": self.draws, "note": self.note,
            "selection": c.selection, "aggregate": c.aggregate, "input": c.input, "quoted_from": c.quoted_from, "disputed_by": c.disputed_by,
            "variant": c.variant, "identity": self.identity, "records": list(self.records),
        }  # fmt: skip


def tolerance(sd: float, draws: int, half: float, seed_sd: float = 0.0, seeds: int = 1) -> float:
    """Return how far a published number may lie from the mean of ``draws`` draws and ``seeds`` trainings; ``half``: half its last digit."""
    variance = sd**2 * (1 + 1 / draws) + seed_sd**2 * (1 + 1 / seeds)
    return SIGMAS * math.sqrt(variance) + half


def judge(table: PaperTable, gathered: Gathered, metas: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]) -> list[Result]:
    """Return the result of every cell, from the records there are.

    ``metas``: every task's declaration by id. ``missing``: of tasks whose data are not on this machine, the sentence that says so.
    """
    return [_one(table, c, gathered, metas[c.task], missing.get(c.task, "")) for c in table.cells]


def _one(table: PaperTable, c: Cell, gathered: Gathered, meta: Mapping[str, Any], data_missing: str) -> Result:
    if c.variant is None:
        return Result(c, "unavailable", note=c.notes or "nothing here reproduces this row")
    found = newest(matching(c, gathered, meta))
    _, files_missing = c.found()
    if c.include is not None and not c.include.is_dir():
        files_missing = f"the plug-in {c.include.name} is not installed with the package; it is in the repository's examples"
    if not found:
        if why := "; ".join(x for x in (data_missing.rstrip("."), files_missing) if x):
            return Result(c, "unavailable", note=why)
        return Result(c, "not-run", note=f"no record of {c.variant} on {c.task}; leave --no-run out to run it")
    seeds, draws = stats.complete({(r["seed"], r["draw"]): r for r in found})
    chosen = {(r["seed"], r["draw"]): r for r in found}
    units = [chosen[s, d] for s in seeds for d in draws]
    means = np.array([r["metrics"][c.metric]["value"] for r in units], dtype=float).reshape(len(seeds), len(draws))
    about: dict[str, Any] = {
        "value": float(means.mean()), "draws": len(draws), "identity": units[0]["metrics"][c.metric]["identity"],
        "records": tuple(r["unit_id"] for r in units),
    }  # fmt: skip
    sd = float(means.mean(0).std(ddof=1)) if len(draws) > 1 else None
    if len(draws) < table.draws:
        return Result(c, "not-run", sd=sd, note=f"{len(draws)} of {table.draws} draws; a verdict needs all of them", **about)
    seed_sd, n = 0.0, 1
    if c.kind == "retrained":
        if len(seeds) < stats.ENOUGH:
            return Result(c, "not-run", sd=sd, note=f"{len(seeds)} of at least {stats.ENOUGH} trainings", **about)
        seed_sd, n = float(means.mean(1).std(ddof=1)), len(seeds)
    allowed = tolerance(sd or 0.0, len(draws), c.half, seed_sd, n)
    hit = abs(means.mean() - c.paper) <= allowed
    return Result(c, "reproduced" if hit else "missed", sd=sd, tolerance=allowed, note=c.notes, **about)


def matching(c: Cell, gathered: Gathered, meta: Mapping[str, Any]) -> list[Record]:
    """Return the whole, unfailed records of a cell's task, variant, settings and files, whose metric has a value.

    A file counts as the cell's when its path ends as the table says; which bytes it held is in the record's ``spec_id``.
    """
    method, _, preset = c.variant.partition("[") if c.variant else ("", "", "")
    preset = preset.rstrip("]") or "default"
    budget = c.budget or next(iter(meta["budgets"]))

    def fits(r: Record) -> bool:
        if (r["status"], r["partial"], r["split"], r["task_version"]) != ("ok", False, "test", meta["version"]):
            return False
        if (r["method"], r["preset"], r["budget"]) != (method, preset, budget) or r["seed"] not in c.seeds:
            return False
        if any(_plain(r["hparams"].get(k)) != _plain(v) for k, v in c.set.items()):
            return False
        if not all(Path(str(r["hparams"].get(k, ""))).as_posix().endswith(f"/{v}") for k, v in c.files.items()):
            return False
        settled = set(c.set) | set(c.files)
        return "value" in r["metrics"].get(c.metric, {}) and set(_overrides(r["variant"], r["preset"])) <= settled

    return [r for r in gathered.records(c.task) if fits(r)]


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _overrides(variant: str, preset: str) -> list[str]:
    """Return the names of the settings in ``method[preset,name=value]``: a variant with others is not the cell's."""
    inside = variant.partition("[")[2].removesuffix("]").removeprefix(preset).strip(",")
    return [part.partition("=")[0] for part in inside.split(",") if "=" in part]


def newest(records: Sequence[Record]) -> list[Record]:
    """Return the records of one version (hyper-parameters, data, code, environment): of several the one with most draws, then the newest."""
    versions: dict[tuple[Any, ...], list[Record]] = {}
    for r in records:
        key = (_plain(r["hparams"]), r["data_fingerprint"], r["code"], r["environment_key"])
        versions.setdefault(key, []).append(r)
    return max(versions.values(), key=lambda m: (len({r["draw"] for r in m}), max(r.get("written", "") for r in m)), default=[])


def exit_code(results: Sequence[Result]) -> int:
    """Return 1 on a miss, or when no cell could be reproduced; else 0."""
    verdicts = [r.verdict for r in results]
    return int("missed" in verdicts or "reproduced" not in verdicts)
