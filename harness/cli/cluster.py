"""``--submit`` and ``--collect``: hand a plan to Slurm and leave, come back and see what has become of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from .execute import Reporter, print_json
from .request import How

if TYPE_CHECKING:
    from ..unit import RunContext, Unit

SHOWN = 10
"""Failures that are listed one by one."""


def submit(units: Sequence[Unit], how: How, context: RunContext, reporter: Reporter, fields: Callable[[Unit], dict[str, Any]]) -> int:
    """Submit what is due and print the jobs; return the exit code."""
    from .. import submission
    from ..executors.choose import default_executor

    executor = default_executor("slurm", how.workers, 1, context.store, how.slurm)
    sent = submission.submit(units, context, executor, how.policy, fields)  # type: ignore[arg-type]
    left_out = [f"{n} {what}" for n, what in ((sent.done, "are done"), (sent.queued, "are in the queue already")) if n]
    if not sent.jobs:
        reporter.line(f"Nothing to submit: of {len(units)} units {' and '.join(left_out)}.")
        return 0
    arrays = Counter(job.split("_")[0] for job in sent.jobs)
    first = f", after {sent.components} components are trained" if sent.components else ""
    rest = "; " + " and ".join(left_out) if left_out else ""
    reporter.line(f"Submitted {sent.units} of {len(units)} units in {len(sent.jobs)} jobs{first}{rest}.")
    reporter.line("Slurm: " + ", ".join(f"{array} ({n} jobs)" for array, n in arrays.items()))
    reporter.line("The same command with --collect instead of --submit says how far they are; `scorebench status STORE` shows those that run.")
    return 0


def collect(units: Sequence[Unit], how: How, context: RunContext, reporter: Reporter, fields: Callable[[Unit], dict[str, Any]]) -> int:
    """Say what has come in, what waits and what is lost; return 0 when every unit is recorded, else 1."""
    from ...leaderboards.ledger import Store
    from .. import submission
    from ..controller import records_of
    from .execute import lost

    found = records_of(units, Store(context.store))
    waiting = submission.queued(context.store)
    counts: Counter[str] = Counter()
    failures, records = [], []
    for unit, record in zip(units, found, strict=True):
        state = "done" if record is not None and record["status"] == "ok" else waiting.get(unit.unit_id, "").lower()
        if not state and record is not None:
            state = "failed"
            failures.append(f"failed    {unit}: {record['error']['kind']}: {record['error']['message']}")
        counts[state or "not in the queue"] += 1
        records.append({**(record or lost(unit)), "cached": True})
    if reporter.to_stderr:
        print_json(records)
    else:
        for text in failures[:SHOWN]:
            click.echo(text)
        if len(failures) > SHOWN:
            click.echo(f"... and {len(failures) - SHOWN} more that failed.")
        click.echo(f"{len(units)} units: {', '.join(f'{n} {state}' for state, n in counts.items())}.")
        if counts["failed"] or counts["not in the queue"]:
            click.echo("The same command with --submit submits again what failed and what is not in the queue.")
    return 0 if counts["done"] == len(units) else 1
