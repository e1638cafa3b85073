"""Paper tables: published numbers as data, each mapped to what reproduces it. Here: `configs/tables/*.yaml`, read and checked.

    id: dncnn
    title: "DnCNN: ..."
    paper: {title, authors, year, venue, arxiv, doi, code}
    draws: 10                      # keyed noise draws behind a verdict; 1 only where nothing is drawn
    columns:                       # what is measured: a task and its metric
      - {id: "Set12, 25", task: denoising/set12-gaussian25, metric: psnr, level: 25}
    rows:                          # what answers
      - id: DnCNN-S
        variant: dncnn-official    # method or method[preset]; left out: a published row that nothing here reproduces
        include: examples/dncnn-official          # plug-in folder, from the repository's root or this file's folder
        files: {checkpoint: "checkpoints/dncnn-s-{level}/net.pth"}   # in $SCOREBENCH_DATA; {level} is the column's
        get: "where such files are to be had"
        set: {steps: 8}            # hyper-parameters
        kind: checkpoint           # checkpoint (the authors' weights) | retrained | reimplemented
        selection: last            # which weights the paper took
        aggregate: ...             # what the number averages
        input: ...                 # clipped? rounded to 8 bit?
        where: "Table II"          # where the number stands; per column: a list
        quoted_from: ...           # where it was read, if not in the paper itself
        disputed_by: ...           # who measured something else
        values: ["30.44"]          # one per column, as printed (text keeps its digits); null: no number
    cells: [...]                   # the same as flat cells with row, column, paper, task, ...; instead of, or beside, rows and columns

Fields of a row may stand at the top level, for all rows. `reproduce.judge` compares the cells with records.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..configs.errors import unknown
from ..configs.loader import HERE, Document, Field, Index, validate

KINDS = ("checkpoint", "retrained", "reimplemented")
SELECTIONS = ("last", "dev-noisy", "dev-clean", "test-clean", "unknown")
NUMBER = (str, int, float)

SHARED: dict[str, Field] = {
    "kind": Field((str,), choices=KINDS, meaning="checkpoint, retrained or reimplemented"),
    "selection": Field((str,), choices=SELECTIONS),
    "aggregate": Field((str,), meaning="what the number averages"),
    "input": Field((dict, str), meaning="how the paper treated its input: clip, quantise"),
    "where": Field((str, list), meaning="where the number stands; a list: one per column"),
    "quoted_from": Field((str,), default=""),
    "disputed_by": Field((str,), default=""),
    "variant": Field((str,)),
    "include": Field((str,)),
    "set": Field((dict,), default={}),
    "files": Field((dict,), default={}),
    "get": Field((str,), default=""),
    "seeds": Field((list,), default=[0]),
    "budget": Field((str,)),
    "notes": Field((str,), default=""),
}
COLUMN: dict[str, Field] = {
    "id": Field((str,), required=True),
    "task": Field((str,), required=True),
    "metric": Field((str,), required=True),
    "digits": Field((int,), meaning="decimals printed, where values are not text"),
}
ROW: dict[str, Field] = {"id": Field((str,), required=True), "values": Field((list,), required=True, meaning="one per column"), **SHARED}
CELL: dict[str, Field] = {
    "row": Field((str,), required=True), "column": Field((str,), default=""), "paper": Field(NUMBER, required=True, meaning="the number"),
    **{k: v for k, v in COLUMN.items() if k != "id"}, **SHARED,
}  # fmt: skip
FIELDS: dict[str, Field] = {
    "id": Field((str,), required=True), "title": Field((str,), required=True), "paper": Field((dict,), required=True),
    "draws": Field((int,), default=10), "columns": Field((list,), default=[]), "rows": Field((list,), default=[]),
    "cells": Field((list,), default=[]), **SHARED,
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One published number and what reproduces it. ``digits``: the decimals it is printed with."""

    row: str
    column: str
    paper: float
    digits: int
    task: str
    metric: str
    kind: str
    selection: str
    aggregate: str
    input: Any
    where: str
    quoted_from: str = ""
    disputed_by: str = ""
    variant: str | None = None
    include: Path | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    get: str = ""
    seeds: tuple[int, ...] = (0,)
    budget: str | None = None
    notes: str = ""
    at: tuple[str | int, ...] = ()

    @property
    def half(self) -> float:
        """Half of the last printed digit."""
        return 0.5 * 10.0**-self.digits

    def found(self) -> tuple[dict[str, Path], str]:
        """Return the files it needs, by hyper-parameter, and in words what is missing (an empty text when nothing is)."""
        places = [Path(p).expanduser() for p in os.environ.get("SCOREBENCH_DATA", "").split(os.pathsep) if p]
        out: dict[str, Path] = {}
        for name, relative in self.files.items():
            hit = next((p / relative for p in places if (p / relative).is_file()), None)
            if hit is None:
                source = f"; {self.get.rstrip('.')}" if self.get else ""
                return {}, f"{relative} is in no folder of $SCOREBENCH_DATA{source}"
            out[name] = hit
        return out, ""


@dataclass(frozen=True)
class PaperTable:
    """One paper table. ``cells`` go row by row."""

    id: str
    title: str
    paper: Mapping[str, Any]
    draws: int
    cells: tuple[Cell, ...]
    notes: str = ""
    path: Path = Path()

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(c.row for c in self.cells))

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(c.column for c in self.cells))


def known() -> list[str]:
    """Return the ids of the tables that ship with the package."""
    return [str(doc.data.get("id", doc.path.stem)) for doc in _documents()]


def _documents() -> list[Document]:
    return Index("tables").documents(sorted((HERE / "tables").glob("*.yaml")))


def get(name: str) -> PaperTable:
    """Return a table by id, or from a file (``path/to/table.yaml``); RequestError when unknown or wrong, with file, line and reason."""
    if name.endswith((".yaml", ".yml")):
        from ..configs.loader import read

        return parse(read(name))
    for doc in _documents():
        if doc.data.get("id", doc.path.stem) == name:
            return parse(doc)
    raise unknown("table", name, known())


def check(table: PaperTable, tasks: Mapping[str, Mapping[str, Any]], variant_problem: Callable[[str], str | None]) -> None:
    """Refuse (RequestError with file and line) what names no task, metric, budget or variant. ``tasks``: every task's declaration by id."""
    doc = Document(table.path, {})
    for c in table.cells:
        if c.task not in tasks:
            raise doc.error(str(unknown("task", c.task, tasks)), c.at)
        meta = tasks[c.task]
        if c.metric not in meta["metrics"]:
            raise doc.error(f"{c.task} has no metric {c.metric!r}; accepted: {', '.join(meta['metrics'])}.", c.at)
        if c.budget is not None and c.budget not in meta["budgets"]:
            raise doc.error(f"{c.task} has no budget {c.budget!r}; accepted: {', '.join(meta['budgets'])}.", c.at)
        if c.variant is not None and (problem := variant_problem(c.variant)) is not None:
            raise doc.error(f"row {c.row!r}: {problem}", c.at[:2])


def parse(doc: Document) -> PaperTable:
    """Check one table; RequestError with file, line and reason for whatever is wrong."""
    d = validate(doc, FIELDS)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", d["id"]):
        raise doc.error(f"field 'id' is {d['id']!r}; accepted: lower-case letters, digits, '-', '.', '+'.", ("id",))
    if d["draws"] < 1:
        raise doc.error(f"field 'draws' is {d['draws']}; accepted: 1 or more.", ("draws",))
    if bool(d["columns"]) != bool(d["rows"]) or not (d["rows"] or d["cells"]):
        raise doc.error("a table has rows and columns, or cells.", ("rows",) if d["rows"] else ())
    shared = {k: doc.data[k] for k in SHARED if k in doc.data and k != "notes"}
    cells = [*_grid(doc, d, shared), *_flat(doc, d, shared)]
    seen: set[tuple[str, str]] = set()
    for c in cells:
        if (c.row, c.column) in seen:
            raise doc.error(f"row {c.row!r} has two numbers in column {c.column!r}.", ("rows",))
        seen.add((c.row, c.column))
    if not cells:
        raise doc.error("the table holds no number.", ("rows",))
    return PaperTable(d["id"], d["title"], d["paper"], d["draws"], tuple(cells), d["notes"], doc.path)


def _grid(doc: Document, d: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[Cell]:
    columns = []
    for k, raw in enumerate(d["columns"]):
        if not isinstance(raw, dict):
            raise doc.error(f"column {k + 1} must be a mapping with id, task and metric, not {raw!r}.", ("columns", k))
        columns.append(validate(doc, COLUMN, ("columns", k), closed=False))
    for k, raw in enumerate(d["rows"]):
        at = ("rows", k)
        if not isinstance(raw, dict):
            raise doc.error(f"row {k + 1} must be a mapping with id and values, not {raw!r}.", at)
        row = {**shared, **validate(doc, ROW, at), **{n: v for n, v in shared.items() if n not in raw}}
        if len(row["values"]) != len(columns):
            raise doc.error(f"row {row['id']!r} has {len(row['values'])} values for {len(columns)} columns.", (*at, "values"))
        if isinstance(row["where"], list) and len(row["where"]) != len(columns):
            raise doc.error(f"field 'where' of row {row['id']!r} has {len(row['where'])} entries for {len(columns)} columns.", (*at, "where"))
        for i, (value, column) in enumerate(zip(row["values"], columns, strict=True)):
            if value is not None:
                where = row["where"][i] if isinstance(row["where"], list) else row["where"]
                yield _cell(doc, (*at, "values", i), {**row, "row": row["id"], "where": where}, column, value)


def _flat(doc: Document, d: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[Cell]:
    for k, raw in enumerate(d["cells"]):
        at = ("cells", k)
        if not isinstance(raw, dict):
            raise doc.error(f"cell {k + 1} must be a mapping with row, paper, task and metric, not {raw!r}.", at)
        cell = {**validate(doc, CELL, at), **{n: v for n, v in shared.items() if n not in raw}}
        column = {"id": cell["column"] or cell["task"], **{n: cell[n] for n in ("task", "metric", "digits")}}
        yield _cell(doc, (*at, "paper"), cell, column, cell["paper"])


def _cell(doc: Document, at: tuple[str | int, ...], row: Mapping[str, Any], column: Mapping[str, Any], value: Any) -> Cell:
    for name in ("kind", "selection", "aggregate", "input", "where"):
        if not row[name]:
            raise doc.error(f"the number of {row['row']!r} has no {name!r} ({SHARED[name].meaning or 'see ' + __name__}).", at[:-1])
    try:
        if isinstance(value, bool) or not isinstance(value, NUMBER):
            raise ValueError
        number = float(value)
    except ValueError:
        raise doc.error(f"{value!r} is no number; write it as printed, or null where the paper has none.", at) from None
    digits = column["digits"]
    if isinstance(value, str):
        digits = len(value.strip().partition(".")[2])
    if digits is None:
        raise doc.error(f"how many digits of {value!r} are printed is not known; write it as text ('30.40'), or give digits.", at)
    if any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in row["seeds"]) or not row["seeds"]:
        raise doc.error(f"field 'seeds' must be a list of integers of at least 0, not {row['seeds']!r}.", at[:2])
    if row["variant"] is None and (row["set"] or row["files"] or row["include"]):
        raise doc.error(f"row {row['row']!r} has settings and no variant.", at[:2])
    words = {k: v for k, v in column.items() if isinstance(v, (str, int, float))}
    files = {}
    for name, text in row["files"].items():
        try:
            files[name] = str(text).format(**words)
        except (KeyError, IndexError, ValueError):
            fields = ", ".join(words)
            raise doc.error(f"field 'files.{name}' is {text!r}; its braces must name fields of the column: {fields}.", at[:2]) from None
    return Cell(
        row["row"], str(column["id"]), number, digits, column["task"], column["metric"], row["kind"], row["selection"], row["aggregate"],
        row["input"], row["where"], row["quoted_from"], row["disputed_by"], row["variant"], _folder(doc, row["include"], at[:2]),
        dict(row["set"]), files, row["get"], tuple(row["seeds"]), row["budget"], row["notes"], tuple(at),
    )  # fmt: skip


def _folder(doc: Document, text: str | None, at: Sequence[str | int]) -> Path | None:
    """Return a plug-in folder named from the file's own folder or from the repository's root (None where it is not installed there)."""
    if text is None:
        return None
    places = [doc.path.resolve().parent, HERE.parent]  # of a package installed from a wheel the repository's folders are not there
    hit = next((p / text for p in places if (p / text).is_dir()), None)
    if hit is None and not doc.path.resolve().is_relative_to(HERE):
        raise doc.error(f"include {text!r}: no such folder beside this file or in {HERE.parent}.", tuple(at))
    return (hit or HERE.parent / text).resolve()
