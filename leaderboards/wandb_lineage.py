"""The runs that stand around the rows: datasets, trainings with their checkpoints, and the leaderboard with a table per task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..configs.errors import RunError
from .board import Board, Row
from .render_json import board_data, cell
from .render_markdown import render as as_markdown
from .wandb_plan import Cell, Content, Input, Output, RunPlan, TablePlan, as_json, content_version, digest, scalars, slug, tags, without_dots
from .wandb_rows import Component, board_slug, dataset_input, impersonal, own, row_id

TRAINING = ("train_s", "train_samples", "train_gflops", "steps", "params")
LEADERBOARD = "leaderboard"
"""The id of the one run that holds all boards."""


# ------------------------------------------------------------------ datasets
def dataset_plans(boards: Iterable[Board], facts: Mapping[str, Mapping[str, Any]], accepted: bool = False) -> list[RunPlan]:
    """Return one run per dataset and fingerprint, whose artifact says which samples were used: ids and hashes, never pixels.

    ``facts``: of each dataset title, kind, licence, pixels, source, version.
    """
    used: dict[tuple[str, str], list[Board]] = {}
    inputs: dict[tuple[str, str], Input] = {}
    for board in boards:
        for row in own(board, accepted):
            made = dataset_input(board, row.group.first)
            where = (made.name, made.version)
            inputs[where] = made
            if board not in used.setdefault(where, []):
                used[where].append(board)
    return [_dataset_plan(inputs[where], members, facts.get(str(members[0].meta.get("dataset")), {})) for where, members in used.items()]


def _dataset_plan(made: Input, boards: Sequence[Board], facts: Mapping[str, Any]) -> RunPlan:
    config = {"dataset": str(boards[0].meta.get("dataset")), "fingerprint": made.version, **facts}
    hashes = {
        f"{b.task}@{b.version} {b.split}": {str(r["draw"]): r["observation_hash"] for row in b.rows for r in row.group.units.values()}
        for b in boards
    }

    def make() -> Content:
        samples = {}
        for b in boards:
            ids = next((i for row in b.rows for r in row.group.units.values() if (i := _ids(b, r))), None)
            if ids is not None:
                samples[f"{b.task}@{b.version} {b.split}"] = ids
        files: dict[str, bytes | Path] = {"manifest.json": as_json({**config, "observations": hashes, "samples": samples})}
        about = f"Which samples of {config['dataset']} were used, by id and hash; the data themselves are not in here."
        return Content(outputs=[Output(made.name, "dataset", files, {**config, "pixels": facts.get("pixels", "never")}, made.version, about)])

    run_id = slug(f"{made.name}-{made.version.removeprefix('sha-')}", 60)
    return RunPlan(
        run_id, str(config["dataset"]), "datasets", "dataset", tags(str(facts.get("kind", "")), str(facts.get("pixels", ""))),
        impersonal(config), scalars({"tasks": len(boards)}), tuple(sorted(digest(hashes[k]) + k for k in hashes)), make=make,
    )  # fmt: skip


def _ids(board: Board, record: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the cluster of each sample id of a record, None when its samples cannot be read."""
    try:
        arrays = board.gathered.samples(dict(record))
    except (RunError, KeyError):
        return None
    return dict(zip(map(str, arrays["ids"]), map(str, arrays["clusters"]), strict=True))


# ------------------------------------------------------------------ trainings
def training_plans(boards: Iterable[Board], components: Mapping[str, Component], weights: bool = True, accepted: bool = False) -> list[RunPlan]:
    """Return one run per trained component that published rows stand on: what it took, its losses, and its checkpoint.

    ``weights`` False, and weights that are not here or were learned from data that may never be shown, leave the hash alone.
    """
    used: dict[str, set[str]] = {}
    data: dict[str, Input] = {}
    for board in boards:
        for row in own(board, accepted):
            made = dataset_input(board, row.group.first)
            data[str(board.meta.get("dataset"))] = made
            for r in row.group.units.values():
                for entry in r["artifacts"].values():
                    if isinstance(entry, Mapping) and entry.get("sha256"):
                        used.setdefault(f"sha-{entry['sha256'][:12]}", set()).add(board.task)
    return [_training_plan(c, sorted(tasks), weights, data.get(c.dataset)) for v, tasks in used.items() if (c := components.get(v)) is not None]


def _training_plan(c: Component, tasks: Sequence[str], weights: bool, data: Input | None) -> RunPlan:
    there = weights and c.path is not None and c.pixels != "never"
    config = {
        "owner": c.owner, "kind": c.kind, "seed": c.seed, "sha256": c.sha256, "trained on": {"task": c.meta.get("task"), "dataset": c.dataset,
        "pixels": c.pixels, "with": c.meta.get("trains_on")}, "hparams": without_dots(c.meta.get("hparams") or {}), "key": c.meta.get("key"),
    }  # fmt: skip

    def make() -> Content:
        about = {**impersonal(config), "used by": list(tasks), "weights": "here" if there else "by hash only"}
        files: dict[str, bytes | Path] = {"training.json": as_json(about | {k: c.meta.get(k) for k in TRAINING})}
        if there and c.path is not None:
            files["weights.safetensors"] = c.path
        steps = [(int(step), {"loss": float(loss)}) for step, loss in c.meta.get("losses") or []]
        return Content(outputs=[Output(c.name, "model", files, about, c.version, f"Weights of {c.owner}, seed {c.seed}.")], history=steps)

    name = f"{c.kind} {c.owner} seed {c.seed}" + (f" on {c.meta['task']}" if c.meta.get("task") else "")
    summary = scalars({k: c.meta.get(k) for k in TRAINING} | ({"loss": c.meta["losses"][-1][1]} if c.meta.get("losses") else {}))
    return RunPlan(
        c.run_id, name, str(c.meta.get("task") or "priors"), "train", tags(c.kind, c.owner), impersonal(config), summary,
        ("weights" if there else "hash",), () if data is None else (data,), make=make,
    )  # fmt: skip


# ------------------------------------------------------------------ the leaderboard
def board_table(board: Board) -> TablePlan:
    """Return one board as a table: one line per row, accepted ones too."""
    metrics = [m for m in board.metrics if any(row.cells(m) is not None for row in board.rows)]
    columns = [
        "rank", "variant", "track", *([board.primary] if board.primary in metrics else []), "delta", "low", "high", "verdict", "not beaten",
        *(m for m in metrics if m != board.primary), "seeds", "draws", "nfe", "params", "train_s", "sample_s_median", "exclusive", "selection",
        "unranked", "from", "run",
    ]  # fmt: skip
    return TablePlan(tuple(columns), [_line(board, row, metrics) for row in board.rows])


def _line(board: Board, row: Row, metrics: Sequence[str]) -> tuple[Cell, ...]:
    primary, cost = cell(row, board.primary), row.group.costs
    first = [row.mean(board.primary)] if board.primary in metrics else []
    return (
        row.rank, row.variant, row.track, *first, primary.get("delta"), primary.get("low"), primary.get("high"), primary.get("verdict"),
        row.near_best, *(row.mean(m) for m in metrics if m != board.primary), len(row.group.seeds), len(row.group.draws), cost.get("nfe"),
        cost.get("params"), cost.get("train_s"), cost.get("sample_s_median"), bool(cost.get("exclusive")), row.group.selection, row.unranked,
        "accepted" if row.group.source == "reference" else "run here", row_id(board, row),
    )  # fmt: skip


def leaderboard_plan(boards: Sequence[Board], results: Sequence[Input] = (), link: str | None = None) -> RunPlan:
    """Return the run that holds every board as a table and as an artifact; ``results`` are the published rows' artifacts, ``link`` the
    collection that boards will be linked to."""
    best = {b: next((r for r in b.rows if r.rank == 1), None) for b in boards}
    summary: dict[str, Any] = {"boards": len(boards), "rows": sum(len(b.rows) for b in boards)}
    for b, row in best.items():
        if row is not None:
            summary |= {f"best/{board_slug(b)}": row.variant, f"best/{board_slug(b)}/{b.primary}": row.mean(b.primary)}
    names = {board_slug(b): f"{b.task}@{b.version} {b.budget}" for b in boards}

    def make() -> Content:
        content = Content(tables={board_slug(b): board_table(b) for b in boards})
        for b in boards:
            files: dict[str, bytes | Path] = {"board.json": as_json(impersonal(board_data(b))), "board.md": as_markdown([b]).encode()}
            metadata = {"task": b.task, "version": b.version, "budget": b.budget, "split": b.split, "primary": b.primary, "rows": len(b.rows)}
            about = f"The leaderboard of {b.task}, version {b.version}."
            content.outputs.append(Output(f"board-{board_slug(b)}", "board", files, metadata, content_version(files), about))
        return content

    seen = (*(digest(board_data(b)) for b in boards), *([f"link {link}"] if link else []))
    return RunPlan(
        LEADERBOARD, "leaderboard", "leaderboards", LEADERBOARD, tags(*dict.fromkeys(b.task.split("/")[0] for b in boards)),
        {"boards": names, "inputs": {i.role: i.path for i in results}}, scalars(summary), seen, tuple(results),
        "Boards of scorebench; one table per task. Differences are to the reference row, with 95 % intervals on these samples.", make,
    )  # fmt: skip
