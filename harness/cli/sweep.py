"""``scorebench sweep``: run a file in the W&B sweep schema, all of its points planned up front."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .common import json_option, store_path, table
from .execute import Reporter, execute, print_json
from .request import How, how, how_options, plugin_folders
from .run import closing, missing_data, show_results

if TYPE_CHECKING:
    from ..plan import Skipped
    from ..sweep_plan import Standing
    from ..sweeps import Sweep
    from ..unit import Unit

SHOWN = 20
"""Configurations that are listed for each task and budget."""


@click.command("sweep")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--search-seed", type=click.IntRange(min=0), default=0, metavar="S", help="Which points a random search draws (default: 0).")
@click.option("--then-test", is_flag=True, help="Run the best configuration of each task and budget on the test split, once.")
@click.option("--no-pins", is_flag=True, help="Train everything, even where trained weights are shipped.")
@how_options
@json_option
def sweep(
    files: tuple[str, ...], search_seed: int, then_test: bool, no_pins: bool, store: Path | None, include: tuple[Path, ...],
    profile: str | None, as_json: bool, **execution: Any,
) -> int:  # fmt: skip
    """Run sweeps: files in the W&B sweep schema, or the ids of shipped ones (`scorebench list sweeps`).

    Grids and random searches are planned up front, run on the dev split, and resume like everything else. `wandb sweep` runs the same file.
    """
    from .. import sweeps

    resolved = how(profile, **execution)
    folders = plugin_folders(include)
    found = [sweeps.get(name) for name in files]
    points = [s.configurations(search_seed) for s in found]
    if then_test and (bad := next((s for s in found if s.metric is None), None)):
        raise bad.doc.error("--then-test needs a metric to choose by; add metric: {name: ..., goal: ...}.", ("method",))
    reporter = Reporter(to_stderr=as_json, quiet=True)
    where = store_path(store)
    planned, skipped = plan_all(found, points, resolved, pins=not no_pins)
    for text in missing_data(skipped):
        reporter.line(text)
    units = list({u.unit_id: u for part in planned for u in part}.values())
    for s, p, part in zip(found, points, planned, strict=True):
        reporter.line(f"{s.id}: {len(p)} configurations, {len(part)} units on {s.split}")
    summary, records = execute(units, resolved, where, reporter, include=folders, pins=not no_pins)
    by_id = dict(zip((u.unit_id for u in units), records, strict=True))
    tested: list[tuple[Unit, dict[str, Any]]] = []
    out = []
    for s, part in zip(found, planned, strict=True):
        rows = rank(s, part, [by_id[u.unit_id] for u in part])
        out.append((s, rows))
        if then_test:
            finals, final_records, code = test_best(s, part, rows, resolved, where, reporter, folders, not no_pins)
            tested += zip(finals, final_records, strict=True)
            summary.failed += code
    if as_json:
        print_json([*records, *(r for _, r in tested)])
        return summary.exit_code
    for s, rows in out:
        if s.split == "dev":
            click.echo()
            click.echo(standing_table(s, rows))
    on_test = [(u, by_id[u.unit_id]) for u in units if u.split == "test"] + tested
    if on_test:
        show_results([u for u, _ in on_test], [r for _, r in on_test], where)
    click.echo(closing(summary, where))
    return summary.exit_code


def plan_all(found: list[Sweep], points: list[list[dict[str, Any]]], resolved: How, pins: bool) -> tuple[list[list[Unit]], list[Skipped]]:
    """Check every sweep in full, and plan them. A cell that a method cannot answer is skipped; a sweep of which nothing is left is an error."""
    from ...configs.errors import RequestError
    from .. import plan_cache

    skipped: list[Skipped] = []
    planned = []
    how = {"pins": pins, "batch_size": resolved.batch_size, "device": resolved.device, "precision": resolved.precision}
    for s, p in zip(found, points, strict=True):
        name = plan_cache.key(s.tasks, "sweep", s.split, p, how)
        units = plan_cache.kept(name)
        if units is None:
            from ..sweep_plan import plan_sweep
            from ..sweeps import check_settings

            check_settings(s)
            mine: list[Skipped] = []
            units = plan_sweep(s, p, skipped=mine, **how)  # type: ignore[arg-type]
            if not units:
                raise RequestError(mine[0].reason if mine else f"{s.doc.path} has no point that can be run.")
            if not mine:
                plan_cache.keep(name, units)
            skipped += mine
        planned.append(units)
    return planned, skipped


def rank(s: Sweep, units: list[Unit], records: list[dict[str, Any]]) -> list[Standing]:
    """Return the standings of one sweep."""
    from ..sweep_plan import standings

    return standings(units, records, s.metric, s.maximize)


def test_best(
    s: Sweep, units: list[Unit], rows: list[Standing], resolved: How, store: Path, reporter: Reporter, folders: tuple[Path, ...], pins: bool
) -> tuple[list[Unit], list[dict[str, Any]], int]:
    """Run what a sweep chose on the test split, once; its records say how many configurations were tried."""
    from ...leaderboards.ledger import Store
    from ..sweep_plan import Tried, chosen

    finals = chosen(s, units, rows, pins=pins, batch_size=resolved.batch_size, device=resolved.device, precision=resolved.precision)
    if not finals:
        return [], [], 0
    tried = Tried(Store(store), units)
    reporter.line(f"Chosen on dev by {s.metric}: " + "; ".join(f"{t}: {v}" for t, v in dict.fromkeys((u.task, str(u.variant)) for u in finals)))
    note = lambda unit: {"configurations_tried": tried.count(unit), "selection": "dev-clean"}  # noqa: E731
    summary, records = execute(finals, resolved, store, reporter, include=folders, pins=pins, fields=note)
    return finals, records, summary.failed


def standing_table(s: Sweep, rows: list[Standing]) -> str:
    """Return the standings in words: the best configurations of each task and budget."""
    from ...tasks.registry import get_spec

    lines = []
    shown: dict[tuple[str, str], int] = {}
    for row in rows:
        where = (row.task, row.budget)
        shown[where] = shown.get(where, 0) + 1
        if shown[where] <= SHOWN:
            value = "none" if row.value is None else f"{row.value:.5g}"
            lines.append((row.task, row.budget, row.variant, s.metric or get_spec(row.task).primary, value, row.runs, row.failed))
    text = table(("TASK", "BUDGET", "CONFIGURATION", "METRIC (dev)", "MEAN", "RUNS", "FAILED"), lines)
    hidden = sum(n - SHOWN for n in shown.values() if n > SHOWN)
    return text + (f"\n... and {hidden} more." if hidden else "")


def listed() -> list[dict[str, Any]]:
    """Return one row per shipped sweep for `scorebench list sweeps`; a broken file is said to be one."""
    from ...configs.errors import RequestError
    from .. import sweeps

    out = []
    for name, path in sweeps.known().items():
        try:
            s = sweeps.get(name)
            size = s.size() if s.search != "bayes" else s.run_cap
            out.append({"id": name, "search": s.search, "points": size, "split": s.split, "title": s.notes or s.title, "file": str(path)})
        except RequestError as e:
            out.append({"id": name, "search": "", "points": None, "split": "", "title": str(e), "file": str(path)})
    return out


__all__ = ["listed", "sweep"]
