"""Tables for papers: methods x (datasets x settings) from boards, with quoted numbers marked. Here: the spec and the grid it makes.

    title: "Grey denoising, PSNR in dB"        # the caption's first sentence
    label: tab:denoising
    bold: near                                 # near: all not distinguishable from the best (default) | single | none
    within: column                             # the best of the whole column (default), or of each track
    columns:
      - head: Photographs                      # one dataset, with its settings below
        settings:
          - {name: "15", task: denoising/photos-gaussian15, metric: psnr, budget: default, digits: 2}
    rows:
      - noisy-input                            # a variant
      - {variant: dncnn, name: DnCNN, cite: zhang2017}
      - rule                                   # a line between groups
      - {name: DnCNN-S, table: dncnn, row: DnCNN-S, cite: zhang2017}      # quoted from a paper table that ships
      - {name: BM3D, quoted: {"denoising/bsd68-gaussian25": "28.57"}, from: "Dabov et al."}

`layout` turns it and the boards into a `Grid`, which `render_paper` writes as LaTeX, Markdown, CSV or HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..configs.loader import Document, Field, validate
from . import words
from .board import Board, Row
from .tables import PaperTable

FIELDS: dict[str, Field] = {
    "title": Field((str,), required=True, meaning="the caption's first sentence"),
    "label": Field((str,), default="tab:scorebench"),
    "bold": Field((str,), default="near", choices=("near", "single", "none")),
    "within": Field((str,), default="column", choices=("column", "track")),
    "columns": Field((list,), required=True, check=lambda v: None if v else "must hold at least one mapping with head and settings"),
    "rows": Field((list,), required=True, check=lambda v: None if v else "must name at least one variant"),
}
COLUMN: dict[str, Field] = {"head": Field((str,), required=True), "settings": Field((list,), required=True)}
SETTING: dict[str, Field] = {
    "name": Field((str,), default=""),
    "task": Field((str,), required=True),
    "metric": Field((str,)),
    "budget": Field((str,)),
    "digits": Field((int,)),
}
ROW: dict[str, Field] = {
    "variant": Field((str,)),
    "name": Field((str,)),
    "cite": Field((str,), default=""),
    "table": Field((str,), meaning="a paper table that ships, whose row is quoted"),
    "row": Field((str,), meaning="the row of that table"),
    "quoted": Field((dict,), meaning="task id: number as printed"),
    "from": Field((str,), default="", meaning="whose numbers are quoted"),
}


@dataclass(frozen=True)
class Setting:
    """One column: a task, a metric and a budget under the head of a dataset."""

    head: str
    name: str
    task: str
    metric: str
    budget: str
    digits: int | None


@dataclass(frozen=True)
class Line:
    """One row: a variant measured here, or quoted numbers by task."""

    name: str
    variant: str | None = None
    cite: str = ""
    quoted: Mapping[str, str] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Spec:
    """What a paper's table shows. ``lines``: rows; None stands for a rule between groups."""

    title: str
    label: str
    bold: str
    within: str
    columns: tuple[Setting, ...]
    lines: tuple[Line | None, ...]


@dataclass(frozen=True)
class Entry:
    """One cell of the grid: text as printed ('' for none), bold or not, quoted or not, full value where it was measured."""

    text: str = ""
    bold: bool = False
    quoted: bool = False
    value: float | None = None
    apart: bool = False


@dataclass(frozen=True)
class Grid:
    """A finished table. ``notes`` are the sentences of the caption after the title."""

    title: str
    label: str
    columns: tuple[Setting, ...]
    higher: tuple[bool, ...]
    rows: tuple[tuple[Line, tuple[Entry, ...]] | None, ...]
    notes: tuple[str, ...]


def parse(
    doc: Document,
    tasks: Mapping[str, Mapping[str, Any]],
    variant_problem: Callable[[str], str | None],
    table: Callable[[str], PaperTable],
) -> Spec:
    """Check a spec; RequestError with file, line and reason for whatever is wrong. ``table`` gives a shipped paper table by id."""
    d = validate(doc, FIELDS)
    columns: list[Setting] = []
    for k, raw in enumerate(d["columns"]):
        _mapping(doc, raw, ("columns", k), "a column must be a mapping with head and settings")
        column = validate(doc, COLUMN, ("columns", k))
        for i, entry in enumerate(column["settings"]):
            at = ("columns", k, "settings", i)
            _mapping(doc, entry, at, "a setting must be a mapping with a task")
            columns.append(_setting(doc, at, column["head"], validate(doc, SETTING, at), tasks))
    if not columns:
        raise doc.error("the table has no column.", ("columns",))
    lines: list[Line | None] = []
    for k, raw in enumerate(d["rows"]):
        if raw == "rule":
            lines.append(None)
        elif isinstance(raw, str):
            lines.append(_measured(doc, ("rows", k), raw, {}, variant_problem))
        else:
            _mapping(doc, raw, ("rows", k), "a row must be a variant, 'rule', or a mapping")
            lines.append(_line(doc, ("rows", k), validate(doc, ROW, ("rows", k)), columns, tasks, variant_problem, table))
    return Spec(d["title"], d["label"], d["bold"], d["within"], tuple(columns), tuple(lines))


def _mapping(doc: Document, value: Any, at: tuple[str | int, ...], what: str) -> None:
    if not isinstance(value, dict):
        raise doc.error(f"{what}, not {value!r}.", at)


def _setting(doc: Document, at: tuple[str | int, ...], head: str, s: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> Setting:
    from ..configs.errors import unknown

    if s["task"] not in tasks:
        raise doc.error(str(unknown("task", s["task"], tasks)), (*at, "task"))
    meta = tasks[s["task"]]
    metric = s["metric"] or meta["primary"]
    if metric not in meta["metrics"]:
        raise doc.error(f"{s['task']} has no metric {metric!r}; accepted: {', '.join(meta['metrics'])}.", (*at, "metric"))
    budget = s["budget"] or next(iter(meta["budgets"]))
    if budget not in meta["budgets"]:
        raise doc.error(f"{s['task']} has no budget {budget!r}; accepted: {', '.join(meta['budgets'])}.", (*at, "budget"))
    if s["digits"] is not None and not 0 <= s["digits"] <= 9:
        raise doc.error(f"field 'digits' is {s['digits']}; accepted: 0 to 9.", (*at, "digits"))
    return Setting(head, s["name"], s["task"], metric, budget, s["digits"])


def _measured(
    doc: Document, at: tuple[str | int, ...], text: str, d: Mapping[str, Any], variant_problem: Callable[[str], str | None]
) -> Line:
    if (problem := variant_problem(text)) is not None:
        raise doc.error(problem, at)
    return Line(d.get("name") or text, text.removesuffix("[default]"), d.get("cite", ""))


def _line(
    doc: Document, at: tuple[str | int, ...], d: Mapping[str, Any], columns: Sequence[Setting], tasks: Mapping[str, Any],
    variant_problem: Callable[[str], str | None], table: Callable[[str], PaperTable],
) -> Line:  # fmt: skip
    given = [k for k in ("variant", "table", "quoted") if d[k]]
    if len(given) != 1:
        raise doc.error(f"a row needs one of variant, table or quoted, and this one has {' and '.join(given) or 'none'}.", at)
    if d["variant"]:
        return _measured(doc, (*at, "variant"), d["variant"], d, variant_problem)
    if d["table"]:
        found = table(d["table"])
        cells = [c for c in found.cells if c.row == d["row"]]
        if not cells:
            raise doc.error(f"table {found.id!r} has no row {d['row']!r}; accepted: {', '.join(found.rows)}.", (*at, "row"))
        quoted = {f"{c.task}|{c.metric}": f"{c.paper:.{c.digits}f}" for c in cells}
        return Line(d["name"] or str(d["row"]), None, d["cite"], quoted, d["from"] or cells[0].quoted_from or cells[0].where)
    if not d["name"] or not d["from"]:
        raise doc.error("a quoted row needs a 'name', and 'from': whose numbers these are.", at)
    quoted = {}
    for task, value in d["quoted"].items():
        metrics = [c.metric for c in columns if c.task == task]
        if task not in tasks or not metrics:
            raise doc.error(f"the quoted number of {task!r} stands in no column of this table.", (*at, "quoted", task))
        try:
            float(value)
        except (TypeError, ValueError):
            raise doc.error(f"{value!r} is no number.", (*at, "quoted", task)) from None
        quoted |= {f"{task}|{m}": str(value) for m in metrics[:1]}
    return Line(d["name"], None, d["cite"], quoted, d["from"])


# ---------------------------------------------------------------------- from boards to cells
def layout(spec: Spec, boards: Callable[[str, str], Board]) -> Grid:
    """Return the finished grid; ``boards`` gives the board of (task, budget)."""
    columns: list[list[Entry]] = []
    higher: list[bool] = []
    facts = _Facts()
    for setting in spec.columns:
        board = boards(setting.task, setting.budget)
        higher.append(board.higher(setting.metric))
        columns.append(_column(spec, setting, board, facts))
    rows = []
    for k, line in enumerate(spec.lines):
        rows.append(None if line is None else (line, tuple(column[k] for column in columns)))
    return Grid(spec.title, spec.label, spec.columns, tuple(higher), tuple(rows), tuple(_notes(spec, facts)))


@dataclass
class _Facts:
    """What the caption must say: protocols, units behind the rows, marks."""

    identities: dict[str, list[str]] = field(default_factory=dict)
    units: set[tuple[int, int]] = field(default_factory=set)
    quoted: list[str] = field(default_factory=list)
    apart: bool = False
    instances: list[str] = field(default_factory=list)
    absent: bool = False


def _column(spec: Spec, setting: Setting, board: Board, facts: _Facts) -> list[Entry]:
    metric = setting.metric
    found: list[Row | None] = []
    for line in spec.lines:
        rows = [r for r in board.rows if line and r.variant == line.variant and not r.group.partial and r.mean(metric) is not None]
        found.append(rows[0] if rows else None)
    ranked = [r for r in found if r is not None and not r.unranked]
    means = [r.mean(metric) or 0.0 for r in ranked]
    declared = (board.meta["metrics"].get(metric) or {}).get("margin")
    digits = setting.digits if setting.digits is not None else words.digits(declared, min((abs(m) for m in means if m), default=None))
    best = _best(spec, board, metric, ranked)
    out = []
    for line, row in zip(spec.lines, found, strict=True):
        if row is not None:
            value = row.mean(metric)
            facts.identities.setdefault(metric, []).append(board.identity(metric))
            facts.units.add((len(row.group.seeds), len(row.group.draws)))
            facts.instances += [row.variant] if row.group.stochastic == "fit" and len(row.group.seeds) < 3 else []
            facts.apart |= bool(row.unranked)
            out.append(Entry(words.number(value, digits), any(row is b for b in best), False, value, bool(row.unranked)))
        elif line is not None and (text := line.quoted.get(f"{setting.task}|{metric}")):
            facts.quoted.append(f"{line.name}: {line.source}")
            out.append(Entry(text, quoted=True))
        else:
            facts.absent |= line is not None
            out.append(Entry())
    return out


def _best(spec: Spec, board: Board, metric: str, rows: Sequence[Row]) -> list[Row]:
    """Return the rows to be set in bold: of the column, or of each track."""
    if spec.bold == "none" or not rows:
        return []
    groups = [list(rows)] if spec.within == "column" else [[r for r in rows if r.track == t] for t in dict.fromkeys(r.track for r in rows)]
    out = []
    for members in groups:
        near = board.near_best(metric, members)
        out += near if spec.bold == "near" else [r for r in near[:1] if len(members) > 1]
    return out


def _notes(spec: Spec, facts: _Facts) -> list[str]:
    """Return the sentences of the caption that follow the title."""
    where = "of the column" if spec.within == "column" else "of its track"
    bold = {"near": f"Bold: not distinguishable from the best {where} (step-down max-T, 5 %).", "single": f"Bold: the best {where}."}
    out = [bold[spec.bold]] if spec.bold in bold else []
    for metric, identities in facts.identities.items():
        out.append(f"{metric}: {'; '.join(dict.fromkeys(identities))}.")
    if facts.units:
        units = ", ".join(f"{s} x {d}" for s, d in sorted(facts.units))
        out.append(f"Means over seeds x noise draws ({units}).")
    if facts.instances:
        out.append(f"One trained instance, not the method: {words.names(facts.instances)}.")
    if facts.apart:
        out.append("‡: not ranked (chosen on clean test data).")
    if facts.quoted:
        out.append(f"†: quoted, not measured here ({'; '.join(dict.fromkeys(facts.quoted))}).")
    if facts.absent:
        out.append("–: no record.")
    return out
