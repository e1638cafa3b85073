"""``scorebench nightly``: did anything get worse since the last accepted run?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ...configs.errors import RequestError
from .common import emit_json, json_option, out_file, store_path
from .execute import Reporter, execute
from .request import how, how_options, plugin_folders

ALSO = ("slower", "suspect", "moved", "unclear", "new", "better")
"""What ``--fail-on`` accepts beside the alarms."""


@click.command("nightly")
@click.argument("name", default="nightly", metavar="[SUITE]")
@click.option("--rerun", is_flag=True, help="Also run what the reference has under the same code, weights and environment.")
@click.option("--no-fresh", is_flag=True, help="Leave suspicions open instead of looking again with fresh seeds.")
@click.option("--no-pins", is_flag=True, help="Train everything, even where trained weights are shipped.")
@click.option("--fail-on", multiple=True, type=click.Choice(ALSO), help="Further findings that end with exit code 1; repeatable.")
@click.option("--md", type=click.Path(path_type=Path), metavar="FILE", help="Write the report in Markdown.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the findings as JUnit XML.")
@how_options
@json_option
def nightly(
    name: str, rerun: bool, no_fresh: bool, no_pins: bool, fail_on: Sequence[str], md: Path | None, junit: Path | None, store: Path | None,
    include: tuple[Path, ...], profile: str | None, as_json: bool, **execution: Any,
) -> int:  # fmt: skip
    """Run or resume SUITE (default: nightly) and compare it with the accepted reference and the release's.

    Exit code 1 when something is worse, missing, or no longer comparable. `scorebench accept` makes tonight's records the reference.
    """
    from ...leaderboards import gate_alert, gate_report, reference
    from ...tasks.registry import get_spec
    from .. import suites
    from ..nightly import Options, night
    from .board import meta_of

    resolved = how(profile, **execution)
    folders = plugin_folders(include)
    suite = suites.get(name)
    where = store_path(store)
    for path in (md, junit):
        if path is not None and not path.absolute().parent.is_dir():
            raise RequestError(f"{path} cannot be written: there is no folder {path.absolute().parent}.")
    reporter = Reporter(to_stderr=as_json, quiet=True)
    options = Options(
        batch_size=resolved.batch_size, device=resolved.device, precision=resolved.precision, pins=not no_pins, rerun=rerun, fresh=not no_fresh,
        reference=reference.HERE,
    )  # fmt: skip

    def run(units: Sequence[Any]) -> list[dict[str, Any]]:
        return execute(units, resolved, where, reporter, include=folders, pins=not no_pins)[1]

    found = night(suite, options, where, run, lambda task: meta_of(get_spec(task)), reporter.line)
    gate_alert.save(found, where)
    if md is not None:
        out_file(md, gate_report.markdown(found))
    if junit is not None:
        out_file(junit, gate_report.junit(found, fail_on))
    if as_json:
        emit_json({**found.data(), "alarm": found.failed(fail_on)})
    else:
        click.echo()
        click.echo("\n".join(gate_report.lines(found)))
    return 1 if found.failed(fail_on) else 0
