"""Runs planned units and tells the user how it goes: what `run`, `suite` and `quickstart` share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...configs.errors import RequestError
from ..monitor import Picture
from .common import duration, emit_json
from .failures import INTERRUPTED
from .request import How

if TYPE_CHECKING:
    from ..controller import Status, Summary
    from ..unit import Unit

LABELS = {"ok": "done", "cached": "skipped", "elsewhere": "done elsewhere", "failed": "failed"}
REDRAW = 0.1
"""Seconds between two drawings of the live line."""
COST = (
    "nfe", "backward", "params", "flops_per_sample", "train_s", "train_gflops", "train_nfe", "sample_s_median", "sample_s_p95", "peak_mb",
)  # fmt: skip


class Reporter:
    """One line per unit that ended, and on a terminal a live line with what is running and the time left.

    ``quiet``: units that were done already are not listed, only counted. ``stream`` lines go to stdout, or to stderr beside JSON.
    """

    def __init__(self, to_stderr: bool = False, quiet: bool = False) -> None:
        self.to_stderr, self.quiet = to_stderr, quiet
        self.live = sys.stderr.isatty()
        self.picture = Picture()
        self._drawn, self._width = 0.0, 0

    def __call__(self, status: Status) -> None:
        self.picture(status)
        if status.kind == "finished":
            self._finished(status)
        elif status.kind == "retry":
            self.line(f"retried   {status.what}: {status.message}")
        elif status.kind == "note" or (status.kind == "started" and status.message):
            self.line(status.message)
        elif status.kind == "waiting":
            self.line(f"waiting: {status.what}, {status.message}")
        self._draw(status)

    def _finished(self, status: Status) -> None:
        if self.quiet and status.outcome == "cached":
            return
        label = LABELS.get(status.outcome, status.outcome)
        text = status.message if status.outcome == "failed" else ""
        if status.outcome == "failed" and status.message.startswith("timeout:"):
            label, text = "timed out", status.message.removeprefix("timeout:").strip()
        if status.outcome == "cached":
            text = "already done"
        elif status.outcome == "ok" and status.unit is not None:
            text = self._metrics(status)
        took = f", {duration(status.seconds)}" if status.seconds >= 0.5 else ""
        left = f", {duration(status.left)} left" if status.left and status.outcome != "cached" and status.done < status.total else ""
        trained = "trained " if status.unit is None else ""
        self.line(f"{label:<9} {trained}{status.what}{': ' if text else ''}{text} ({status.done} of {status.total}{took}{left})")

    @staticmethod
    def _metrics(status: Status) -> str:
        from ...tasks.registry import get_spec

        assert status.unit is not None
        primary = get_spec(status.unit.task).primary
        value = status.facts.get("metrics", {}).get(primary)
        return f"{primary} {value:.4g}" if isinstance(value, (int, float)) else f"{primary} unavailable"

    def line(self, text: str) -> None:
        """Print one line for good."""
        self.clear()
        click.echo(text, err=self.to_stderr)
        if not self.to_stderr:
            sys.stdout.flush()

    def clear(self) -> None:
        """Remove the live line."""
        if self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)
            self._width = 0

    def _draw(self, status: Status) -> None:
        now = time.monotonic()
        if not self.live or now - self._drawn < REDRAW or status.done >= status.total:
            return
        import shutil

        self._drawn = now
        left = f", {duration(status.left)} left" if status.left is not None else ""
        rate = f", {self.picture.rate:.3g} a minute" if self.picture.rate else ""
        text = f"[{status.done} of {status.total}{rate}{left}] {'; '.join(status.running) or 'starting'}"
        if status.part:
            text += f" {100 * status.part:.0f} %"
        if best := self.picture.best():
            text += " | best so far: " + "; ".join(best_words(b) for b in best)
        text = text[: shutil.get_terminal_size().columns - 1]
        self.clear()
        click.echo("\r" + text, nl=False, err=True)
        self._width = len(text)


def best_words(best: dict[str, Any]) -> str:
    """Return one entry of `Picture.best` in words."""
    budget = "" if best["budget"] == "default" else f" {best['budget']}"
    return f"{best['task']}{budget}: {best['variant']} ({best['metric']} {best['value']:.4g})"


def execute(
    units: Sequence[Unit],
    how: How,
    store: Path,
    reporter: Reporter,
    *,
    include: tuple[Path, ...] = (),
    pins: bool = True,
    keep_samples: bool = False,
    fields: Callable[[Unit], dict[str, Any]] | None = None,
) -> tuple[Summary, list[dict[str, Any]]]:
    """Run the units and return the summary with one record per unit, each with ``cached``: whether it was there before.

    ``fields``: further fields of a unit's record; without it, how many configurations were tried. With --dry-run, --submit or --collect
    nothing is run here, and the command ends.
    """
    from ...leaderboards.ledger import Store
    from .. import controller
    from ..executors.choose import require
    from ..monitor import Monitor
    from ..sweep_plan import Tried
    from ..unit import RunContext

    if how.dry_run:
        from .dry_run import dry_run

        dry_run(units, how, store, pins=pins, as_json=reporter.to_stderr)
        raise click.exceptions.Exit(0)
    require(how.executor)
    if (how.submit or how.collect) and how.executor != "slurm":
        raise RequestError("--submit and --collect belong to --executor slurm; other executors run while this command does.")

    if how.executor == "inline" and (how.time_limit or how.memory_limit):
        raise RequestError("Time and memory limits need worker processes; leave --executor inline out.")
    if how.executor == "inline" and (how.workers or 1) > 1:
        raise RequestError(f"--executor inline runs one unit at a time, not {how.workers}; leave it out, or --workers.")
    target = Store(store)
    target.prepare()
    context = RunContext(
        store=store, include=include, keep_samples=keep_samples, pins=pins, time_limit=how.time_limit, memory_limit=how.memory_limit,
        workers=how.workers or 1,
    )  # fmt: skip
    tried = Tried(target, units)
    more = fields or (lambda unit: {"configurations_tried": tried.count(unit)})
    if how.submit or how.collect:
        from .cluster import collect, submit

        code = (submit if how.submit else collect)(units, how, context, reporter, more)
        raise click.exceptions.Exit(code)
    cached: set[str] = set()
    monitor = Monitor(store, command_line())

    def listen(status: Status) -> None:
        if status.outcome == "cached" and status.unit is not None:
            cached.add(status.unit.unit_id)
        monitor(status)
        reporter(status)

    options = how.ray if how.executor == "ray" else how.slurm
    executor = controller.default_executor(how.executor, how.workers, 1, store, options)
    if note := getattr(executor, "note", ""):
        reporter.line(note)
    try:
        with monitor:
            summary = controller.run_units(units, context, executor, listen, how.policy, more)
    except controller.Interrupted as e:
        reporter.clear()
        counts = f"{e.summary.ok + e.summary.cached} of {len(units)} units are recorded and kept"
        click.echo(f"interrupted; the same command resumes ({counts})", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    finally:
        reporter.clear()
        executor.close()
    if summary.unstarted:
        said = f"{summary.unstarted} units were not started, since {summary.failed} had failed"
        reporter.line(f"{said}; the same command goes on where this one stopped.")
    records = controller.records_of(units, target)
    return summary, [{**r, "cached": u.unit_id in cached} if r else lost(u) for u, r in zip(units, records, strict=True)]


def command_line() -> str:
    """Return what the user typed."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def lost(unit: Unit) -> dict[str, Any]:
    """Return what stands for a unit of which no record could be found."""
    error = {"kind": "crashed", "message": "no record of this unit is in the store: it was not started, or its record was lost"}
    return {
        "unit_id": unit.unit_id, "spec_id": unit.spec_id, "task": unit.task, "task_version": None, "budget": unit.budget,
        "method": unit.variant.method, "variant": str(unit.variant), "seed": unit.seed, "draw": unit.draw, "hparams": unit.hparams,
        "status": "failed", "error": error, "cached": False, "metrics": {}, "cost": {}, "observation_hash": "",
    }  # fmt: skip


def print_json(records: Sequence[dict[str, Any]]) -> None:
    """Print the records in the shape that ``run --json`` promises."""
    keep = (
        "unit_id", "spec_id", "task", "task_version", "split", "budget", "method", "variant", "preset", "seed", "draw", "hparams", "status",
        "error", "cached", "partial", "metrics", "diagnostics", "observation_hash", "selection", "track", "environment_key",
    )  # fmt: skip
    emit_json([{**{k: r[k] for k in keep if k in r}, "cost": {k: r.get("cost", {}).get(k) for k in COST}} for r in records])
