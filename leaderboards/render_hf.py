"""Boards in the evaluation-results layouts of the Hugging Face Hub: what a model's repository says about its results.

Two layouts, both read by the Hub (`huggingface_hub` 2.4): ``.eval_results/*.yaml``, a list of {dataset: {id, task_id}, value, date, source,
notes}, shown where the dataset is registered as a benchmark; and ``model-index`` in the metadata of a model card (README.md), which needs no
registration. One row of a board is one model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .board import Board, Row
from .render_json import cell

TASK_TYPES = {
    "generation": "unconditional-image-generation", "denoising": "image-to-image", "restoration": "image-to-image",
    "inverse": "image-to-image", "speech": "audio-to-audio", "classification": "image-classification",
}  # fmt: skip
"""The Hub's nearest task type of each family."""

DATASET = "scorebench/boards"
"""The benchmark dataset named where the user names none: the Hub shows results only of a dataset that exists there."""


def rows_of(boards: Sequence[Board]) -> dict[str, list[Row]]:
    """Return the rows of each variant over several boards; partial runs are left out."""
    out: dict[str, list[Row]] = {}
    for board in boards:
        for row in board.rows:
            if not row.group.partial:
                out.setdefault(row.variant, []).append(row)
    return out


def _values(row: Row) -> list[tuple[str, Mapping[str, Any]]]:
    cells = [(m, cell(row, m)) for m in row.board.metrics]
    return [(m, c) for m, c in cells if "mean" in c]


def notes(row: Row, metric: str, c: Mapping[str, Any]) -> str:
    """Return the protocol of one value in one line: metric, identity, units behind it, track, selection."""
    g = row.group
    parts = [f"{metric}{' (' + c['unit'] + ')' if c['unit'] else ''}, {'higher' if c['higher_is_better'] else 'lower'} is better"]
    parts += [f"protocol {c['identity']}", f"{len(g.seeds)} seeds x {len(g.draws)} draws", f"n {c['n']}", f"track {g.track}"]
    parts += [f"budget {row.board.budget}"] if row.board.budget != "default" else []
    parts += [f"selection {g.selection}"] if g.selection != "last" else []
    parts += [f"not ranked: {row.unranked}"] if row.unranked else []
    return "; ".join(parts)


def eval_results(rows: Sequence[Row], dataset: str = DATASET) -> list[dict[str, Any]]:
    """Return the entries of a ``.eval_results/*.yaml`` file for the rows of one variant."""
    out = []
    for row in rows:
        b = row.board
        written = max((str(r.get("written") or "") for r in row.group.units.values()), default="")
        for metric, c in _values(row):
            budget = "" if b.budget == "default" else f"-{b.budget}"
            entry: dict[str, Any] = {"dataset": {"id": dataset, "task_id": slug(f"{b.task}-v{b.version}{budget}-{metric}")}, "value": c["mean"]}
            out.append({**entry, **({"date": written[:10]} if written else {}), "notes": notes(row, metric, c)})
    return out


def model_index(variant: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the entry of ``model-index`` for the rows of one variant."""
    results = []
    for row in rows:
        b = row.board
        metrics = [{"type": m, "value": c["mean"], "name": notes(row, m, c)} for m, c in _values(row)]
        if metrics:
            data: dict[str, Any] = {"type": str(b.meta.get("dataset", b.task)), "name": str(b.meta.get("title", b.task)), "split": b.split}
            data["config"] = f"{b.task}@{b.version}"
            family = str(b.meta.get("family", ""))
            task = {"type": TASK_TYPES.get(family, "other"), "name": family}
            results.append({"task": task, "dataset": data, "metrics": metrics})
    return {"name": variant, "results": results}


def slug(text: str) -> str:
    """Return text as a name of files and tasks: letters, digits, '-', '_', '.'."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "row"


def _yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)


def render(boards: Sequence[Board]) -> str:
    """Return ``model-index`` of every variant as YAML."""
    return _yaml({"model-index": [model_index(v, rows) for v, rows in rows_of(boards).items()]})


def files(boards: Sequence[Board], dataset: str = DATASET) -> dict[str, str]:
    """Return what goes into the model repository of each variant: relative path and content of README.md and .eval_results/scorebench.yaml."""
    out = {}
    for variant, rows in rows_of(boards).items():
        index = model_index(variant, rows)
        if not index["results"]:
            continue
        folder = slug(variant)
        out[f"{folder}/.eval_results/scorebench.yaml"] = _yaml(eval_results(rows, dataset))
        out[f"{folder}/README.md"] = f"---\n{_yaml({'model-index': [index]})}---\n"
    return out
