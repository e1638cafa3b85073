"""``scorebench suite``: run a named list of tasks, variants and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import json_option, store_path
from .execute import Reporter, execute, print_json
from .request import How, how, how_options, plugin_folders
from .run import closing, missing_data

if TYPE_CHECKING:
    from ..plan import Skipped
    from ..suites import Suite
    from ..unit import Unit


def planned(suite: Suite, resolved: How, pins: bool) -> tuple[list[Unit], list[Skipped]]:
    """Plan every cell of a suite, each unit once. Cells whose data are missing are skipped."""
    from .. import suites
    from ..plan import plan

    units: dict[str, Unit] = {}
    skipped: list[Skipped] = []
    for cell in suite.cells:
        found = plan(
            cell.tasks, suites.expand(cell), seeds=cell.seeds, draws=cell.draws, budgets=cell.budgets or None, pins=pins,
            prior_seeds=cell.prior_seeds, skipped=skipped,
            batch_size=resolved.batch_size, device=resolved.device, precision=resolved.precision,
        )  # fmt: skip
        units.update({u.unit_id: u for u in found if u.unit_id not in units})
    return list(units.values()), skipped


def run_suite(
    name: str, resolved: How, store: Path, folders: tuple[Path, ...], *, pins: bool = True, as_json: bool = False, quiet: bool = False
) -> tuple[Any, list[Unit], list[dict[str, Any]]]:
    """Plan and run a suite; return the summary, its units and their records."""
    from .. import suites

    reporter = Reporter(to_stderr=as_json, quiet=quiet)
    units, skipped = planned(suites.get(name), resolved, pins)
    for text in missing_data(skipped):
        reporter.line(text)
    summary, records = execute(units, resolved, store, reporter, include=folders, pins=pins)
    return summary, units, records


@click.command("suite")
@click.argument("name")
@click.option("--no-pins", is_flag=True, help="Train everything, even where trained weights are shipped.")
@how_options
@json_option
def suite(
    name: str, no_pins: bool, store: Path | None, include: tuple[Path, ...], profile: str | None, as_json: bool, **execution: Any
) -> int:
    """Run a suite: a named list of tasks, variants and seeds. `scorebench list suites` shows them."""
    from .. import suites
    from .board import print_board

    resolved = how(profile, **execution)
    folders = plugin_folders(include)
    suites.get(name)
    where = store_path(store)
    summary, units, records = run_suite(name, resolved, where, folders, pins=not no_pins, as_json=as_json)
    if as_json:
        print_json(records)
    else:
        for task, budget in dict.fromkeys((u.task, u.budget) for u in units):
            click.echo()
            print_board(task, budget, where)
        click.echo(closing(summary, where))
    return summary.exit_code
