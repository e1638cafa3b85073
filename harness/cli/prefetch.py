"""``scorebench fetch``: make ready, where there is a network, what a suite or a sweep needs where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...configs.errors import RequestError, ScorebenchError, unknown
from .common import duration, store_path
from .request import How, how, how_options, plugin_folders

if TYPE_CHECKING:
    from ..plan import Skipped
    from ..unit import Unit


def planned(name: str, resolved: How, pins: bool) -> tuple[list[Unit], list[Skipped]]:
    """Plan the suite or sweep of that name (or file)."""
    from .. import suites, sweeps
    from . import suite as suite_command
    from . import sweep as sweep_command

    if name in suites.known():
        return suite_command.planned(suites.get(name), resolved, pins)
    if name in sweeps.known() or Path(name).suffix in (".yaml", ".yml"):
        found = sweeps.get(name)
        units, skipped = sweep_command.plan_all([found], [found.configurations()], resolved, pins)
        return units[0], skipped
    raise unknown("suite or sweep", name, [*suites.known(), *sweeps.known()])


@click.command("fetch")
@click.argument("name", metavar="SUITE|SWEEP")
@click.option("--no-train", is_flag=True, help="Fetch weights only; leave priors and fits to the run.")
@click.option("--no-pins", is_flag=True, help="Train everything, even where trained weights are shipped.")
@how_options
def fetch(
    name: str, no_train: bool, no_pins: bool, store: Path | None, include: tuple[Path, ...], profile: str | None, **execution: Any
) -> int:
    """Make ready what a suite or sweep needs, on a machine with a network: published weights, trained priors and fits, all in $SCOREBENCH_HOME.

    Compute nodes then need no network. Datasets are not downloaded: what is missing is said, with where to put it.
    """
    from .. import fetch as download
    from .. import prefetch
    from ..executors.choose import default_executor
    from ..unit import RunContext
    from .data import _megabytes, weight_file
    from .run import missing_data

    resolved = how(profile, **execution)
    if resolved.executor not in ("inline", "process"):
        raise RequestError(f"scorebench fetch runs on this machine; leave --executor {resolved.executor} out.")
    folders = plugin_folders(include)
    where = store_path(store)
    units, skipped = planned(name, resolved, not no_pins)
    problems = 0
    for text in missing_data(skipped):
        click.echo(text)
        problems += 1
    for weight in prefetch.weights_needed(dict.fromkeys(u.task for u in units)):
        try:
            found = weight_file(weight)
            click.echo(f"fetched   {weight}: {download.fetch(found.url, found.path, found.sha256, _megabytes)}")
        except ScorebenchError as e:
            click.echo(f"failed    {weight}: {e}")
            problems += 1
    missing = {} if no_train else prefetch.missing_components(units, not no_pins)
    if missing:
        context = RunContext(store=where.resolve(), include=folders, pins=not no_pins, memory_limit=resolved.memory_limit)
        executor = default_executor(resolved.executor, resolved.workers, 1, None)

        def tell(ref: Any, result: Any) -> None:
            text = f"{result.kind}: {result.message}" if result.status != "ok" else duration(result.seconds)
            click.echo(f"{'trained' if result.status == 'ok' else 'failed':<9} {ref}: {text}")

        try:
            problems += len(prefetch.train(missing, context, executor, tell))
        finally:
            executor.close()
    ready = "everything is ready" if not problems else f"{problems} things are missing"
    click.echo(f"{name}: {len(units)} units; {ready}. Compute nodes must see the same $SCOREBENCH_HOME, $SCOREBENCH_DATA and store.")
    return int(problems > 0)
