"""From the rows of a board to runs: one a row, or one a unit; ids that never change, so that publishing again updates and never doubles."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from ..configs.loader import home
from .board import Board, Row
from .record import Record
from .render_json import cell
from .sources import plain
from .wandb_plan import Content, Input, Output, RunPlan, as_lines, content_version, digest, scalars, slug, tags, without_dots
from .wandb_samples import row_content

PERSONAL = ("pid", "host", "user", "command", "working_directory_git")
"""Provenance that says something about a person's machine and nothing about the numbers."""

COSTS = ("nfe", "backward", "params", "flops_per_sample", "train_s", "train_gflops", "sample_s_median", "sample_s_p95", "peak_mb")


@dataclass(frozen=True)
class Component:
    """What is known here of one trained component (a prior, a fit): its report, its weights if they are here, and what it learned from.

    ``pixels`` is the licence of the training data; ``meta`` holds task, trains_on, hparams, seed, train_s, losses where they are known.
    """

    sha256: str
    key: str
    owner: str
    kind: str
    seed: int | None
    meta: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    dataset: str = ""
    pixels: str = "never"

    @property
    def run_id(self) -> str:
        return slug(f"train-{self.key[:16]}")

    @property
    def name(self) -> str:
        return slug(f"{self.kind}-{self.owner}")

    @property
    def version(self) -> str:
        return f"sha-{self.sha256[:12]}"


def impersonal(value: Any) -> Any:
    """Return plain data without the folders of this machine."""
    text = json.dumps(value, default=str)
    folders = ((home(), "$SCOREBENCH_HOME"), (Path(gettempdir()), "$TMPDIR"), (Path.home(), "~"))
    for folder, name in sorted(folders, key=lambda f: -len(str(f[0]))):  # one may lie in another
        if str(folder) not in ("/", ""):
            text = re.sub(re.escape(json.dumps(str(folder))[1:-1]) + r"(?![\w-])", name, text)
    return json.loads(text)


def public(record: Record) -> dict[str, Any]:
    """Return a record as it may leave the machine: without what is personal, and without a path to its samples file."""
    out = plain(record) | {"provenance": {k: v for k, v in record["provenance"].items() if k not in PERSONAL}}
    return impersonal(out)


def board_slug(board: Board) -> str:
    """Return a board's name in artifacts and tables: ``denoising-photos-gaussian25-v1``, with the budget where the task has several."""
    several = len(board.meta.get("budgets") or {}) > 1 or board.budget != "default"
    return slug(f"{board.task}-v{board.version}{f'-{board.budget}' if several else ''}{'' if board.split == 'test' else f'-{board.split}'}", 90)


def own(board: Board, accepted: bool) -> list[Row]:
    """Return the rows that were run at this board's budget, by the user (or, with ``accepted``, by the maintainers too)."""
    return [r for r in board.rows if r.group.first["budget"] == board.budget and (accepted or r.group.source == "run")]


def row_id(board: Board, row: Row) -> str:
    """Return the id of a row's run: task, version, split, budget, variant, hyper-parameters, selection. New seeds and new code update it."""
    first = row.group.first
    parts = [board.task, board.version, board.split, board.budget, row.variant, first["hparams"], row.group.selection, row.group.partial]
    return f"row-{digest(parts, 16)}"


def row_plan(board: Board, row: Row, components: Mapping[str, Component]) -> RunPlan:
    """Return the run of one board row: seeds and draws as lines of its table ``units``, samples as lines of its table ``samples``."""
    records = list(row.group.units.values())
    name = f"{row.variant} on {board.task}" + ("" if board.budget == "default" else f" {board.budget}")
    plan = _plan(board, row, records, components, row_id(board, row), name, "row")
    plan.config |= {"seeds": row.group.seeds, "draws": row.group.draws}
    plan.summary |= scalars(_statistics(board, row))
    return plan


def unit_plans(board: Board, row: Row, components: Mapping[str, Component]) -> Iterator[RunPlan]:
    """Yield one run per unit of a row (``--units``)."""
    for r in row.group.units.values():
        budget = "" if board.budget == "default" else f" {board.budget}"
        name = f"{row.variant} on {board.task}{budget} seed {r['seed']} draw {r['draw']}"
        plan = _plan(board, row, [r], components, f"unit-{digest([r['unit_id'], r['environment_key']], 16)}", name, "unit")
        plan.config |= {"seed": r["seed"], "draw": r["draw"], "unit_id": r["unit_id"], "spec_id": r["spec_id"], "row": row_id(board, row)}
        plan.summary |= scalars({m: e.get("value") for m, e in r["metrics"].items()} | {f"cost/{c}": r["cost"].get(c) for c in COSTS})
        yield plan


def _plan(
    board: Board, row: Row, records: Sequence[Record], components: Mapping[str, Component], run_id: str, name: str, job: str
) -> RunPlan:
    first = records[0]
    inputs = [dataset_input(board, first), *_component_inputs(records, components)]
    parents = sorted({components[i.version].run_id for i in inputs if i.version in components})
    config = {
        "task": board.task, "version": board.version, "split": board.split, "budget": board.budget, "family": _family(board),
        "dataset": board.meta.get("dataset"), "method": row.method, "variant": row.variant, "preset": first["preset"], "track": row.track,
        "hparams": without_dots(first["hparams"]), "facts": first["facts"], "selection": row.group.selection, "partial": row.group.partial,
        "configurations_tried": first.get("configurations_tried", 1), "stochastic": row.group.stochastic, "code": first["code"],
        "environment": {"key": first["environment_key"], **without_dots(first["environment"])}, "source": row.group.source,
        "submitted": bool(first["provenance"].get("submitted")), "primary": board.primary,
        "metrics": {m: _protocol(board, row, m) for m in board.metrics},
        "observations": {str(r["draw"]): r["observation_hash"] for r in records},
        "reference": board.reference_row.variant if board.reference_row else None, "conditional_on": row.group.conditional_on,
        "inputs": {i.role: i.path for i in inputs}, "parent": parents,
    }  # fmt: skip
    labels = tags(
        _family(board), board.task, row.track, row.method, "partial" if row.group.partial else "", "stale" if row.group.stale else "",
        "submitted" if config["submitted"] else "", row.group.selection if row.group.selection != "last" else "",
        *(f"parent:{p}" for p in parents),
    )  # fmt: skip
    artifact = slug(f"results-{board_slug(board)}-{row.variant}") + f"-{run_id.rpartition('-')[2][:6]}"
    seen = [f"{r['unit_id']}|{r['environment_key']}|{(r.get('samples') or {}).get('sha256', '')}" for r in records]
    seen.append(str(board.meta.get("pixels", "never")))

    def make() -> Content:
        content, files = row_content(board, row, records)
        everything: dict[str, bytes | Path] = {"records.jsonl": as_lines([public(r) for r in records]), **files}
        metadata = {"task": board.task, "version": board.version, "variant": row.variant, "units": [r["unit_id"] for r in records],
                    "pixels": board.meta.get("pixels", "never"), "inputs": config["inputs"]}  # fmt: skip
        content.outputs.append(
            Output(artifact, "results", everything, metadata, content_version(everything), f"Records and per-sample values of {name}.")
        )
        return content

    return RunPlan(run_id, name, board.task, job, labels, impersonal(config), {}, tuple(seen), tuple(inputs), "", make)


def _family(board: Board) -> str:
    return str(board.meta.get("family") or board.task.split("/")[0])


def _protocol(board: Board, row: Row, metric: str) -> dict[str, Any]:
    entry = row.group.metric(metric)
    if "unavailable" in entry:
        return {"unavailable": entry["unavailable"]["because"]}
    return {"identity": entry["identity"], "unit": entry.get("unit", ""), "higher_is_better": entry["higher_is_better"], "n": entry["n"],
            "margin": (board.meta["metrics"].get(metric) or {}).get("margin")}  # fmt: skip


def _statistics(board: Board, row: Row) -> dict[str, Any]:
    """Return a row's summary: means under the metrics' names, differences to the reference with intervals, rank, verdict, costs."""
    out: dict[str, Any] = {"rank": row.rank, "near_best": row.near_best, "unranked": row.unranked or None}
    for m in board.metrics:
        entry = cell(row, m)
        if "unavailable" in entry:
            continue
        out[m] = entry["mean"]
        out |= {f"{m}/{k}": entry[k] for k in ("delta", "low", "high", "n", "verdict")}
    out |= {f"cost/{c}": row.group.costs.get(c) for c in COSTS} | {"cost/exclusive": bool(row.group.costs.get("exclusive"))}
    for name, values in _diagnostics(row).items():
        out[f"diagnostic/{name}"] = sum(values) / len(values)
    return out | {"units": len(row.group.units), "seeds": len(row.group.seeds), "draws": len(row.group.draws), "failures": len(row.failures)}


def _diagnostics(row: Row) -> dict[str, list[float]]:
    out: dict[str, list[float]] = {}
    for r in row.group.units.values():
        for name, value in r["diagnostics"].items():
            if isinstance(value, (int, float)):
                out.setdefault(name, []).append(float(value))
    return out


def dataset_input(board: Board, record: Record) -> Input:
    """Return the dataset that a unit was scored on."""
    dataset = str(board.meta.get("dataset"))
    fingerprint = record["data_fingerprint"] or digest([dataset, record["observation_hash"]])
    return Input(slug(f"dataset-{dataset}"), "dataset", f"sha-{fingerprint[:12]}", "dataset")


def _component_inputs(records: Sequence[Record], components: Mapping[str, Component]) -> list[Input]:
    """Return the trained components that units stand on, each once."""
    out: dict[str, Input] = {}
    for r in records:
        for role, entry in r["artifacts"].items():
            if isinstance(entry, Mapping) and entry.get("sha256"):
                version = f"sha-{entry['sha256'][:12]}"
                known = components.get(version)
                name = known.name if known else slug(f"{'fit' if role == 'fit' else 'prior'}-{entry.get('owner', role)}")
                label = role if entry.get("seed") is None else f"{role} seed {entry['seed']}"
                out[version] = Input(name, "model", version, label)
    return list(out.values())
