"""``scorebench compare``: two variants on the same samples, in words."""

from __future__ import annotations

from pathlib import Path

import click

from ...configs.errors import RequestError, unknown
from .common import emit_json, hint, include_folders, include_option, json_option, store_option, store_path


@click.command("compare")
@click.argument("a")
@click.argument("b")
@click.option("-t", "--task", "tasks", multiple=True, metavar="TASK", help="Ids, families or globs (default: every task that both ran).")
@click.option("--metric", "metrics", multiple=True, help="Repeatable (default: the task's primary metric; all for every one).")
@click.option("--budget", metavar="B", help="A budget of the task.")
@click.option("--split", type=click.Choice(("test", "dev")), default="test", show_default=True)
@store_option
@include_option
@json_option
def compare(
    a: str, b: str, tasks: tuple[str, ...], metrics: tuple[str, ...], budget: str | None, split: str, store: Path | None,
    include: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Compare variants A and B: the paired difference, its interval, a verdict, and the smallest difference that could have been seen."""
    include_folders(include)
    from ...leaderboards.compare import compare as compare_rows
    from ...tasks.registry import get_spec, match
    from .board import build, gathered

    where = store_path(store)
    if store is not None and not where.is_dir():
        raise RequestError(f"{where} is no store: there is no such folder.")
    if a == b:
        raise RequestError(f"A and B are both {a!r}; name two variants.")
    records = gathered(where)
    ran: dict[str, set[str]] = {}
    for r in records.records():
        if r["status"] == "ok" and r["split"] == split and not r["partial"]:
            ran.setdefault(r["variant"], set()).add(r["task"])
    for name in (a, b):
        if name not in ran:
            raise _no_record(name, list(ran))
    chosen = match(tasks) if tasks else sorted(ran[a] & ran[b])
    if not chosen:
        raise RequestError(f"No task has records of both: {a} ran on {', '.join(sorted(ran[a]))}, {b} on {', '.join(sorted(ran[b]))}.")
    out = []
    for task in chosen:
        spec = get_spec(task)
        wrong = [m for m in metrics if m not in spec.metrics and m != "all"]
        if wrong:
            raise RequestError(f"Task {task} has no metric {wrong[0]!r}; {hint(wrong[0], spec.metrics)}")
        names = list(spec.metrics) if "all" in metrics else list(metrics) or [spec.primary]
        budgets = [budget] if budget else list(spec.budgets)
        if budget and budget not in spec.budgets:
            raise RequestError(f"Task {task} has no budget {budget!r}; {hint(budget, spec.budgets)}")
        boards = [build(task, records, name, split) for name in budgets]
        both = [x for x in boards if x.row(a) and x.row(b)] or boards[:1]
        out += [c for x in both for c in compare_rows(x, a, b, names)]
    if as_json:
        emit_json([c.data() for c in out])
    else:
        click.echo("\n\n".join(c.words() for c in out))
    if all(c.estimate is None for c in out):
        raise RequestError(f"{a} and {b} cannot be compared: {out[0].reason}.")


def _no_record(name: str, known: list[str]) -> RequestError:
    """Tell a variant that was never run from one that does not exist."""
    from ...baselines import card

    variant = card.parse_variant(name)
    if variant.method in card.cards():
        return RequestError(f"{name} has no record here; run it with `scorebench run -t TASK -m {name}` first.")
    return unknown("method", name, [*card.cards(), *known])
