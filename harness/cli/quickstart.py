"""``scorebench quickstart``: six families on embedded data, boards, and one page with pictures."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from ...tasks.spec import FAMILIES
from .common import duration, json_option, out_file, store_path
from .execute import print_json
from .request import how, how_options, plugin_folders

SUITE = "quickstart"


@click.command("quickstart")
@click.option("--full", is_flag=True, help="Train everything from scratch instead of using the weights that are shipped.")
@how_options
@json_option
def quickstart(
    full: bool, store: Path | None, include: tuple[Path, ...], profile: str | None, as_json: bool, **execution: Any
) -> int:
    """Benchmark methods of six families on data that come with the installed packages, and write a page with boards and pictures.

    Nothing is downloaded. Run it again and only what is new is run.
    """
    started = time.monotonic()
    resolved = how(profile, **execution)
    folders = plugin_folders(include)
    where = store_path(store)
    from .suite import run_suite

    say = lambda text: click.echo(text, err=as_json)  # noqa: E731
    how_trained = "everything trained from scratch" if full else "from weights that are shipped"
    say(f"Six families on embedded data, {how_trained}. Records go to {where}/.")
    summary, units, records = run_suite(SUITE, resolved, where, folders, pins=not full, as_json=as_json, quiet=True)
    page = write_page(list(dict.fromkeys((u.task, u.budget) for u in units)), where, time.monotonic() - started)
    if as_json:
        print_json(records)
    else:
        show_boards(list(dict.fromkeys((u.task, u.budget) for u in units)), where)
    say("")
    say(f"{summary.ok} units done, {summary.cached} done before, {summary.failed} failed, in {duration(time.monotonic() - started)}.")
    for what, kind, message in summary.failures:
        say(f"  failed ({kind}): {what}: {message}")
    say(f"Boards with pictures: {page}")
    say("Next: `scorebench board all`, `scorebench show TASK`, `scorebench new method NAME --family F`.")
    return summary.exit_code


def show_boards(tasks: list[tuple[str, str]], store: Path) -> None:
    """Print the boards, family by family."""
    from .board import build, gathered, render

    records = gathered(store)
    for family in FAMILIES:
        boards = [build(task, records, budget) for task, budget in tasks if task.split("/")[0] == family]
        if boards:
            click.echo(f"\n=== {family} ===\n")
            click.echo(render(boards, "terminal", records, to_terminal=sys.stdout.isatty()))


def write_page(tasks: list[tuple[str, str]], store: Path, seconds: float) -> Path:
    """Write the page with boards and example pictures, spectrograms and samples into the store; return its path."""
    from ... import __version__
    from ...leaderboards.html import page
    from ..environment import cores, cpu_model
    from .board import build, gathered

    records = gathered(store)
    facts = {"version": __version__, "machine": f"{cores()} cores, {cpu_model()}", "this run took": duration(seconds)}
    text = page([build(task, records, budget) for task, budget in tasks], records, title="scorebench quickstart", meta=facts)
    path = store / "quickstart.html"
    out_file(path, text)
    return path
