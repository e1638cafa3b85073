"""``scorebench reproduce`` (alias ``table``): a paper's published numbers beside ours, with a verdict."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import emit_json, include_folders, json_option, store_path
from .common import table as aligned
from .request import How, how, how_options

if TYPE_CHECKING:
    from ...leaderboards.reproduce import Result
    from ...leaderboards.sources import Gathered
    from ...leaderboards.tables import Cell, PaperTable


def load(name: str) -> PaperTable:
    """Return a table, checked against the tasks and methods there are; its plug-in folders are included."""
    from ...leaderboards import tables
    from .claims import metas, variant_problem

    found = tables.get(name)
    folders = {c.include for c in found.cells if c.include is not None}
    include_folders([f for f in folders if f.is_dir()])
    absent = {c.variant for c in found.cells if c.include is not None and not c.include.is_dir()}
    tables.check(found, metas(), lambda v: None if v in absent else variant_problem(v))
    return found


def missing_data(found: PaperTable) -> dict[str, str]:
    """Return, for each task of a table whose data are not on this machine, the sentence that says so."""
    from ...datasets import registry as datasets
    from ...tasks.registry import get_spec

    tasks = dict.fromkeys(c.task for c in found.cells)
    return {t: why for t in tasks if (why := datasets.get(get_spec(t).dataset).missing()) is not None}


def judged(found: PaperTable, gathered: Gathered) -> list[Result]:
    """Return the result of every cell from the records there are."""
    from ...leaderboards.reproduce import judge
    from .claims import metas

    return judge(found, gathered, metas(), missing_data(found))


def units_of(found: PaperTable, resolved: How) -> list[Any]:
    """Plan what the cells need that can be run here: every draw of every cell whose data and files are on this machine."""
    from ...tasks.registry import get_spec
    from ..plan import plan

    absent = missing_data(found)
    units: dict[str, Any] = {}
    for c in found.cells:
        files, lacking = c.found()
        if c.variant is None or c.task in absent or lacking or (c.include is not None and not c.include.is_dir()):
            continue
        planned = plan(
            [c.task], [c.variant], seeds=c.seeds, draws=range(found.draws), budgets=[c.budget or next(iter(get_spec(c.task).budgets))],
            overrides={**c.set, **{k: str(v) for k, v in files.items()}},
            batch_size=resolved.batch_size, device=resolved.device, precision=resolved.precision,
        )  # fmt: skip
        units |= {u.unit_id: u for u in planned}
    return list(units.values())


def lines(found: PaperTable, results: Sequence[Result]) -> list[str]:
    """Return the table in words: one line per cell, then what must be known to read it."""
    from ...leaderboards.words import names

    rows = []
    for r in results:
        c, places = r.cell, r.cell.digits + 1
        ours = "–" if r.value is None else f"{r.value:.{places}f}"
        apart = "–" if r.value is None else f"{r.value - c.paper:+.{places}f}"
        allowed = "–" if r.tolerance is None else f"{r.tolerance:.{places}f}"
        rows.append([c.row, c.column, c.metric, f"{c.paper:.{c.digits}f}", ours, apart, allowed, c.kind, r.verdict + ("*" if r.note else "")])
    head = ["ROW", "COLUMN", "METRIC", "PAPER", "REPRODUCED", "DIFFERENCE", "TOLERANCE", "KIND", "VERDICT"]
    out = [f"{found.id}: {found.title}", "", aligned(head, rows), ""]
    notes: dict[str, list[str]] = {}
    for r in results:
        if r.note:
            notes.setdefault(r.note, []).append(f"{r.cell.row} ({r.cell.column})")
    out += [f"* {names(where, 2)}: {note.rstrip('.')}." for note, where in notes.items()]
    for where, quoted in dict.fromkeys((r.cell.where, r.cell.quoted_from) for r in results):
        out.append(f"Numbers stand in {where}" + (f", quoted from {quoted}." if quoted else "."))
    for text in dict.fromkeys(r.cell.disputed_by for r in results if r.cell.disputed_by):
        out.append(f"Disputed: {text.rstrip('.')}.")
    for identity in dict.fromkeys(r.identity for r in results if r.identity):
        out.append(f"Measured as {identity}.")
    n = found.draws
    spread = f"3 SD over {n} draws x sqrt(1 + 1/{n}), and " if n > 1 else ""
    out.append(f"Tolerance: {spread}half the last printed digit.")
    return out


@click.command("reproduce")
@click.argument("name", metavar="NAME|FILE.yaml")
@click.option("--no-run", is_flag=True, help="Judge from the records there are; run nothing.")
@how_options
@json_option
def reproduce(
    name: str, no_run: bool, store: Path | None, include: tuple[Path, ...], profile: str | None, as_json: bool, **execution: Any
) -> int:
    """Reproduce a paper's table: run what is missing, and print paper, reproduced, difference and verdict of every cell.

    `scorebench list tables` shows the tables. Exit code 1 when a number is missed, or when none could be reproduced.
    """
    from ...leaderboards.reproduce import exit_code
    from .board import gathered

    include_folders(include)
    resolved = how(profile, **execution)
    found = load(name)
    where = store_path(store)
    failed: list[str] = []
    if not no_run:
        failed = _run(found, resolved, where, include, as_json)
    results = judged(found, gathered(where))
    if as_json:
        emit_json([r.data() for r in results])
    else:
        counts = Counter(r.verdict for r in results)
        click.echo("\n".join(lines(found, results)))
        click.echo(f"{len(results)} numbers: {', '.join(f'{n} {v}' for v, n in counts.most_common())}.")
        for text in failed:
            click.echo(text)
    return max(exit_code(results), int(bool(failed)))


table = copy.copy(reproduce)
table.name = "table"


def _run(found: PaperTable, resolved: How, store: Path, include: tuple[Path, ...], as_json: bool) -> list[str]:
    """Run the units of a table that are not done; return one sentence for each that failed."""
    from .execute import Reporter, execute
    from .request import plugin_folders

    units = units_of(found, resolved)
    if not units:
        return []
    folders = plugin_folders([*include, *{c.include for c in found.cells if c.include is not None and c.include.is_dir()}])
    _, records = execute(units, resolved, store, Reporter(to_stderr=as_json, quiet=True), include=folders)
    return [f"failed: {u}: {r['error']['message']}" for u, r in zip(units, records, strict=True) if r["status"] != "ok"]


def show_table(name: str) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Return a table in words and as data, for ``scorebench show table ID``."""
    from .show import words

    found = load(name)
    paper = ", ".join(str(found.paper[k]) for k in ("title", "authors", "venue", "year") if found.paper.get(k))
    out = [(f"table {found.id}", found.title), ("paper", paper), ("draws", str(found.draws))]
    for row in found.rows:
        cells = [c for c in found.cells if c.row == row]
        values = ", ".join(f"{c.column}: {c.paper:.{c.digits}f}" for c in cells)
        out.append((row, f"{cells[0].kind}, {_by(cells[0])}; {values}"))
    places = dict.fromkeys((c.where, c.quoted_from) for c in found.cells)
    out += [("where", f"{where}" + (f" (quoted from {quoted})" if quoted else "")) for where, quoted in places]
    facts = dict.fromkeys((c.aggregate, words(c.input), c.selection) for c in found.cells)
    out += [("protocol", f"{aggregate}; input {given}; weights {selection}") for aggregate, given, selection in facts]
    out += [("disputed", text) for text in dict.fromkeys(c.disputed_by for c in found.cells) if text]
    out += [("notes", found.notes), ("file", str(found.path))]
    data = {
        "id": found.id, "title": found.title, "paper": dict(found.paper), "draws": found.draws, "notes": found.notes,
        "cells": [{k: v for k, v in vars(c).items() if k != "at"} for c in found.cells],
    }  # fmt: skip
    return out, data


def _by(c: Cell) -> str:
    return f"by {c.variant}" if c.variant else "by nothing here"

