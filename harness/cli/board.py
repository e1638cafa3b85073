"""``scorebench board``: the leaderboard of a task, a family or all tasks, from the user's records and the accepted ones."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...configs.errors import RequestError, ScorebenchError
from ...tasks.spec import TaskSpec
from .common import hint, include_folders, include_option, out_file, store_option, store_path
from .site import is_site

if TYPE_CHECKING:
    from ...leaderboards.board import Board
    from ...leaderboards.sources import Gathered

FORMATS = ("terminal", "md", "csv", "json", "html", "hf")


def meta_of(spec: TaskSpec) -> dict[str, Any]:
    """Return what a board must know of a task: its declaration and what may be shown of its data."""
    from ...datasets import registry

    return {**dataclasses.asdict(spec), "pixels": registry.get(spec.dataset).pixels}


def locked(spec: TaskSpec, split: str) -> dict[int, str]:
    """Return the locked observation hash of each draw (the lock holds draw 0); empty where the task is not in it."""
    from ...configs.loader import Document, Index
    from .. import lock

    if not lock.LOCK.is_file():
        return {}
    document: Document = Index("lock").documents([lock.LOCK])[0]
    entry = document.data.get("tasks", {}).get(f"{spec.id}@{spec.version}", {})
    return {0: entry[split]} if split in entry else {}


def gathered(store: Path) -> Gathered:
    """Return the store's records (where there is a store) and the accepted ones."""
    from ...leaderboards.sources import gather

    return gather([store] if store.is_dir() else [])


def build(
    task_id: str,
    records: Gathered,
    budget: str | None = None,
    split: str = "test",
    codes: dict[str, str] | None = None,
) -> Board:
    """Build one board."""
    from ...leaderboards.board import build as build_board
    from ...tasks.registry import get_spec

    spec = get_spec(task_id)
    return build_board(meta_of(spec), records, budget=budget, split=split, codes=codes, hashes=locked(spec, split))


def build_all(task_ids: Iterable[str], records: Gathered, budgets: Sequence[str] = (), split: str = "test", stale: bool = False) -> list[Board]:
    """Build the boards of several tasks: of the budgets asked for, else of those that have rows, else of the first."""
    from ...tasks.registry import get_spec

    out = []
    for task_id in task_ids:
        spec = get_spec(task_id)
        wanted = [b for b in budgets if b in spec.budgets] or list(spec.budgets)
        if budgets and not any(b in spec.budgets for b in budgets):
            raise RequestError(f"Task {task_id} has no budget {budgets[0]!r}; {hint(budgets[0], spec.budgets)}")
        boards = [build(task_id, records, b, split) for b in wanted]
        if stale:
            boards = [build(b.task, records, b.budget, split, codes=codes_now(b)) for b in boards]
        filled = [b for b in boards if b.rows or b.failed]
        out += boards if budgets else filled or boards[:1]
    return out


def codes_now(board: Board) -> dict[str, str]:
    """Return the code hash that each variant of a board would run with now; variants that are not installed here are left out."""
    from ..plan import plan

    out = {}
    for row in board.rows:
        first = row.group.first
        plain = row.method if first["preset"] == "default" else f"{row.method}[{first['preset']}]"
        if row.variant != plain:  # settings of its own: the record does not say which of its hyper-parameters were set
            continue
        try:
            units = plan([board.task], [plain], seeds=[first["seed"]], draws=[first["draw"]], budgets=[board.budget])
        except ScorebenchError:
            continue
        out[row.variant] = units[0].code
    return out


def render(boards: Sequence[Board], form: str, records: Gathered, single: bool = True, to_terminal: bool = False) -> str:
    """Return boards as text of one of `FORMATS`. ``single``: one board was asked for, so JSON is an object and not a list."""
    if form == "json":
        from ...leaderboards.render_json import board_data
        from .common import json_text

        data = [board_data(b) for b in boards]
        return json_text(data[0] if single and len(data) == 1 else data)
    if form == "terminal":
        from ...leaderboards.render_terminal import render as as_text

        width = shutil.get_terminal_size((100, 24)).columns if to_terminal else 100
        return as_text(boards, width=max(60, width), ansi=to_terminal)
    if form == "md":
        from ...leaderboards.render_markdown import render as as_markdown

        return as_markdown(boards)
    if form == "csv":
        from ...leaderboards.render_csv import render as as_csv

        return as_csv(boards)
    if form == "hf":
        from ...leaderboards.render_hf import render as as_hf

        return as_hf(boards)
    from ...leaderboards.html import page

    return page(boards, records)


def standings(boards: Sequence[Board], form: str) -> str:
    """Return the standings across the tasks of each family as text of a format (terminal, md or json); empty where there is but one board."""
    from ...leaderboards import across
    from .common import json_text

    families: dict[str, list[Board]] = {}
    for b in boards:
        families.setdefault(b.meta["family"], []).append(b)
    found = [across.across(members) for members in families.values() if len(members) > 1]
    if form == "json":
        return json_text([f.data() for f in found])
    if form == "md":
        return "\n".join(text for f in found if (text := across.markdown(f)))
    return "\n\n".join("\n".join(lines) for f in found if (lines := across.lines(f)))


def write_hf(boards: Sequence[Board], folder: Path, dataset: str | None) -> int:
    """Write the files of each row's model repository under ``folder``; return how many rows."""
    from ...leaderboards import render_hf

    found = render_hf.files(boards, dataset or render_hf.DATASET)
    for name, content in found.items():
        out_file(folder / name, content)
    return len({name.split("/")[0] for name in found})


def against_accepted(board: Board) -> list[str]:
    """Return one sentence for each row of the user's own that the accepted records have too: how far the two are apart."""
    metric, identity = board.primary, board.identity(board.primary)
    accepted: dict[str, float] = {}
    for r in board.gathered.records(board.task):
        entry = r["metrics"].get(metric, {})
        same = (r["task_version"], r["budget"], r["split"], entry.get("identity")) == (board.version, board.budget, board.split, identity)
        if same and r["source"] == "reference" and r["status"] == "ok":
            accepted[r["spec_id"]] = entry["value"]
    out = []
    for row in board.rows:
        mine = {r["spec_id"]: r["metrics"][metric]["value"] for r in row.group.units.values() if r["source"] == "run" and row.cells(metric)}
        common = [(value, accepted[spec]) for spec, value in mine.items() if spec in accepted]
        if common:
            here, there = (sum(values) / len(common) for values in zip(*common, strict=True))
            over = "" if len(common) == 1 else f" over {len(common)} units"
            out.append(f"{row.variant}: {metric} {here:.4f} here, {there:.4f} accepted, difference {here - there:+.4f}{over}")
    return out


def print_board(task: str, budget: str, store: Path) -> None:
    """Print one board for the terminal, and how the user's rows compare with the accepted ones."""
    records = gathered(store)
    board = build(task, records, budget)
    click.echo(render([board], "terminal", records, to_terminal=sys.stdout.isatty()))
    for line in against_accepted(board):
        click.echo(f"  {line}")


@click.command("board")
@click.argument("what", nargs=-1, required=True, metavar="TASK|FAMILY|all")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Default: terminal, or what the ending of --out says.")
@click.option("--out", type=click.Path(path_type=Path), metavar="PATH", help="Write to a file; with --format html, to a folder: a whole site.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--budget", "budgets", multiple=True, metavar="B", help="A budget of the task; repeatable (default: those with rows).")
@click.option("--split", type=click.Choice(("test", "dev")), default="test", show_default=True)
@click.option("--accepted", is_flag=True, help="Only the accepted records that ship with the package.")
@click.option("--across", "only_across", is_flag=True, help="Only the standings across a family's tasks: gap closed and win rates.")
@click.option("--hub-dataset", metavar="OWNER/NAME", help="With --format hf --out DIR: the benchmark dataset that results name.")
@click.option("--stale", is_flag=True, help="Find rows made by other code than is installed now (slower: imports the methods).")
@store_option
@include_option
def board(
    what: tuple[str, ...], form: str | None, out: Path | None, as_json: bool, budgets: tuple[str, ...], split: str, accepted: bool, stale: bool,
    only_across: bool, hub_dataset: str | None, store: Path | None, include: tuple[Path, ...],
) -> None:  # fmt: skip
    """Show the leaderboard of a task, of a family's tasks, or of all: your records and the accepted ones that ship with the package."""
    include_folders(include)
    from ...leaderboards.index import paused
    from ...leaderboards.sources import gather
    from ...tasks.registry import match, specs

    tasks = match(what)
    single = len(what) == 1 and what[0] in specs()
    form = "json" if as_json else form or _by_ending(out)
    where = store_path(store)
    if store is not None and not where.is_dir():
        raise RequestError(f"{where} is no store: there is no such folder.")
    records = gather([]) if accepted else gathered(where)
    with paused():
        boards = build_all(tasks, records, budgets, split, stale)
    if not single and not budgets:  # an empty board tells nothing among many
        boards = [b for b in boards if b.rows or b.failed] or boards
    if out is not None and is_site(form, out):
        from .site import write

        click.echo(write(boards, out, records, everything="all" in what))
        return
    if form == "hf" and out is not None:
        click.echo(f"Wrote {write_hf(boards, out, hub_dataset)} model repositories to {out}.")
        return
    if only_across:
        if form not in ("terminal", "md", "json"):
            raise RequestError(f"--across is written as terminal, md or json, not {form}.")
        text = standings(boards, form) or "One board has no standings across tasks; name a family, or all."
    else:
        text = render(boards, form, records, single, to_terminal=out is None and sys.stdout.isatty())
        if form in ("terminal", "md") and (more := standings(boards, form)):
            text += f"\n\n{more}" if form == "terminal" else f"\n{more}"
    if out is not None:
        out_file(out, text)
        click.echo(f"Wrote {len(boards)} board{'s' * (len(boards) != 1)} to {out}.")
        return
    click.echo(text, nl=not text.endswith("\n"))
    if form == "terminal" and not only_across:
        for b in boards:
            for line in against_accepted(b):
                click.echo(f"  {line}")


def _by_ending(out: Path | None) -> str:
    endings = {".md": "md", ".csv": "csv", ".json": "json", ".html": "html", ".htm": "html"}
    return endings.get(out.suffix.lower(), "terminal") if out else "terminal"
