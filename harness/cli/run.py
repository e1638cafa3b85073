"""``scorebench run``: run variants on tasks and record the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...configs.errors import RequestError
from .agent import is_agent, report
from .common import json_option, store_path
from .execute import Reporter, execute, print_json
from .request import Asked, Integers, asked, how, how_options, plugin_folders

if TYPE_CHECKING:
    from ..plan import Skipped
    from ..unit import Unit


@click.command("run")
@click.argument("words", nargs=-1, metavar="[KEY=VALUE...]")
@click.option("-t", "--task", "tasks", multiple=True, metavar="TASK", help="An id, a family or a glob; repeatable.")
@click.option("-m", "--method", "methods", multiple=True, metavar="VARIANT", help="method or method[preset]; repeatable.")
@click.option("-s", "--seed", "seeds", multiple=True, type=Integers(), metavar="SEED", help="3, 0,2,5 or 0-4 (default: 0).")
@click.option("--draw", "draws", multiple=True, type=Integers(), metavar="N", help="Which noise draws, likewise (default: 0).")
@click.option("--prior-seed", "prior_seeds", multiple=True, type=Integers(), metavar="S", help="Other trainings of a trained prior, likewise.")
@click.option("--budget", "budgets", multiple=True, metavar="B", help="A budget of the task, or all.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A hyper-parameter, its value in YAML; repeatable.")
@click.option("--split", type=click.Choice(("test", "dev")), help="Which samples (default: test).")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N samples only: partial, never ranked.")
@click.option("--no-pins", is_flag=True, help="Train everything, even where trained weights are shipped.")
@click.option("--keep-samples", is_flag=True, help="Keep every answer beside the record.")
@click.option("--live", is_flag=True, help="Log trainings to W&B while they run: losses, learning rates, sample pictures.")
@how_options
@json_option
def run(
    words: tuple[str, ...], tasks: tuple[str, ...], methods: tuple[str, ...], seeds: tuple, draws: tuple, prior_seeds: tuple,
    budgets: tuple[str, ...], settings: tuple[str, ...], split: str | None, limit: int | None, no_pins: bool, keep_samples: bool, live: bool,
    store: Path | None, include: tuple[Path, ...], profile: str | None, as_json: bool, **execution: Any,
) -> int:  # fmt: skip
    """Run variants on tasks, record the results and show the boards.

    What is recorded already is skipped; Ctrl-C is safe, and the same command resumes.
    """
    request = asked(
        words, tasks=tasks, methods=methods, seeds=seeds, draws=draws, budgets=budgets, split=split, limit=limit, settings=settings,
        prior_seeds=prior_seeds,
    )  # fmt: skip
    resolved = how(profile, **execution)
    folders = plugin_folders(include)
    reporter = Reporter(to_stderr=as_json)
    check(request)
    units, skipped = planned(request, pins=not no_pins, batch_size=resolved.batch_size, device=resolved.device, precision=resolved.precision)
    for text in missing_data(skipped):
        reporter.line(text)
    where = store_path(store)
    if live:
        from .publish import live_to

        reporter.line(live_to(where))
    summary, records = execute(units, resolved, where, reporter, include=folders, pins=not no_pins, keep_samples=keep_samples)
    if is_agent():
        report(records)
    if as_json:
        print_json(records)
    else:
        show_results(units, records, where)
        click.echo(closing(summary, where))
    return summary.exit_code


def check(request: Asked) -> None:
    """Refuse unknown ids before torch is imported: the answer to a slip of the finger is immediate."""
    from ...baselines import card
    from ...tasks import registry

    ids = registry.match(request.tasks)
    for text in request.methods:
        variant = card.parse_variant(text)
        card.get(variant.method).preset(variant.preset, ids[0])


def planned(request: Asked, **how: Any) -> tuple[list[Unit], list[Skipped]]:
    """Plan the request: every method on every task it can answer. RequestError for a method, or a task named in full, that gets no unit."""
    from ..plan import plan

    skipped: list[Skipped] = []
    units = plan(
        list(request.tasks), list(request.methods), seeds=request.seeds, draws=request.draws, budgets=request.budgets or None,
        split=request.split, overrides=request.overrides, limit=request.limit, prior_seeds=request.prior_seeds, skipped=skipped, **how,
    )  # fmt: skip
    methods = {u.variant.method + (f"[{u.variant.preset}]" if u.variant.preset != "default" else "") for u in units}
    for text in request.methods:
        if text.removesuffix("[default]") not in methods:
            mine = [s for s in skipped if s.variant.partition("[")[0] == text.partition("[")[0]]
            raise RequestError(mine[0].reason if mine else f"{text} can answer none of the tasks.")
    touched = {u.task for u in units}
    for s in skipped:
        if s.task in request.tasks and s.task not in touched:
            raise RequestError(s.reason)
    return units, skipped


def missing_data(skipped: Sequence[Skipped]) -> list[str]:
    """Return one sentence for each task that a glob named and whose data are not here."""
    from ...datasets import registry as datasets
    from ...tasks import registry

    out = {}
    for s in skipped:
        if (why := datasets.get(registry.get_spec(s.task).dataset).missing()) is not None:
            out[s.task] = f"skipped   {s.task}: {why}"
    return list(out.values())


def show_results(units: Sequence[Unit], records: Sequence[dict[str, Any]], store: Path) -> None:
    """Print the board of every task touched; for partial runs, and those on dev, which no board ranks, the values themselves."""
    from .board import print_board

    unranked = [r for r in records if r["status"] == "ok" and (r.get("partial") or r.get("split") == "dev")]
    for r in unranked:
        values = ", ".join(f"{name} {m['value']:.4g}" if "value" in m else f"{name} unavailable" for name, m in r["metrics"].items())
        what = "partial" if r.get("partial") else "dev split"
        click.echo(f"{r['variant']} on {r['task']} seed {r['seed']} ({what}, never ranked): {values}")
    ranked = {(u.task, u.budget): None for u, r in zip(units, records, strict=True) if r["status"] == "ok" and r not in unranked}
    for task, budget in ranked:
        click.echo()
        print_board(task, budget, store)


def closing(summary: Any, store: Path) -> str:
    """Return the last line: what came of it and where it is."""
    parts = [f"{summary.ok} done"]
    parts += [f"{summary.cached} skipped (already done)"] if summary.cached else []
    parts += [f"{summary.failed} failed"] if summary.failed else []
    failed = f" Tracebacks are in {store / 'logs'}; failed units run again with the same command." if summary.failed else ""
    return f"{', '.join(parts)}. Records are in {store / 'ledger'}.{failed}"
