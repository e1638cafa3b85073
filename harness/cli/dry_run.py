"""``--dry-run``: the plan of a run, suite or sweep, with what it will cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import duration, emit_json, table
from .request import How

if TYPE_CHECKING:
    from ..unit import ArtifactRef, Unit


def dry_run(units: Sequence[Unit], how: How, store: Path, *, pins: bool = True, as_json: bool = False) -> None:
    """Print what would be run and trained, and about how long it would take; nothing is run or written."""
    from ...leaderboards.ledger import Store
    from .. import artifacts, estimate
    from ..done import undone
    from ..environment import cores
    from .board import gathered

    records = gathered(store)
    estimator = estimate.Estimator(records.records)
    todo, done = undone(units, Store(store))
    rows = estimate.table(units, done, estimator)
    missing: dict[str, ArtifactRef] = {}
    for unit in todo:
        for ref in (r for component in unit.artifacts for r in component.walk()):
            if ref.key not in missing and artifacts.find(ref, pins, lambda _: None) is None:
                missing[ref.key] = ref
    training = {key: estimator.training(ref) for key, ref in missing.items()}
    workers = how.workers or (1 if how.executor == "inline" else cores())
    known = [r.seconds for r in rows if r.seconds is not None] + [s for s in training.values() if s is not None]
    unknown = sum(r.units for r in rows if r.seconds is None) + sum(s is None for s in training.values())
    total = sum(known)
    if as_json:
        emit_json(
            {"units": len(units), "done": len(done), "due": len(todo), "workers": workers, "core_seconds": total, "seconds": total / workers,
             "unknown": unknown, "rows": [asdict(r) for r in rows],
             "trainings": [{"what": str(ref), "gflops": ref.gflops, "seconds": training[key]} for key, ref in missing.items()]}
        )  # fmt: skip
        return
    say = lambda s: "unknown" if s is None else duration(s)  # noqa: E731
    header = ("TASK", "BUDGET", "VARIANT", "DUE", "DONE", "TIME", "FROM RECORDS OF")
    click.echo(table(header, [(r.task, r.budget, r.variant, r.units, r.done, say(r.seconds), r.basis) for r in rows]))
    for key, ref in missing.items():
        click.echo(f"to be trained: {ref} ({ref.gflops:g} GFLOPs, {say(training[key])})")
    more = f", and {unknown} of which nothing is known" if unknown else ""
    click.echo(
        f"{len(todo)} of {len(units)} units are due ({len(done)} done already) and {len(missing)} components to be trained: about "
        f"{duration(total)} of work{more}, {duration(total / workers)} with {workers} worker(s). Nothing was run."
    )
