"""``scorebench status``: what a store holds."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from ...configs.errors import RequestError
from .common import duration, emit_json, json_option, store_path, table
from .execute import best_words

WATCH = 2.0
"""Seconds between two looks."""


def summary(store: Any) -> dict[str, Any]:
    """Return counts per task, the last failure of every unit that has no accepted record, and damaged lines."""
    tasks: dict[str, dict[str, Any]] = {}
    failures = []
    for r in store.records():
        row = tasks.setdefault(r["task"], {"task": r["task"], "ok": 0, "partial": 0, "failed": 0, "variants": set(), "last": ""})
        row["failed" if r["status"] == "failed" else "partial" if r.get("partial") else "ok"] += 1
        row["variants"].add(r["variant"])
        row["last"] = max(row["last"], r.get("written", ""))
        if r["status"] == "failed":
            failures.append({"task": r["task"], "variant": r["variant"], "seed": r["seed"], "draw": r["draw"], "error": r["error"]})
    rows = [{**row, "variants": len(row["variants"])} for _, row in sorted(tasks.items())]
    return {"store": str(store.path), "tasks": rows, "failures": failures, "problems": [str(p) for p in store.problems]}


def live_lines(found: list[dict[str, Any]]) -> list[str]:
    """Return what the runs on a store say about themselves, in words."""
    out = []
    for r in found:
        counts = r.get("counts", {})
        if not r["alive"]:
            gone = f"A run on {r['host']} (process {r['pid']}) has fallen silent after {r['done']} of {r['total']}"
            out.append(f"{gone}: it was killed, or its machine is gone.")
            continue
        parts = [f"{r['done']} of {r['total']} done"]
        named = (("cached", "skipped"), ("elsewhere", "done elsewhere"), ("failed", "failed"))
        parts += [f"{counts[k]} {word}" for k, word in named if counts.get(k)]
        parts += [f"{r['retried']} tried again"] if r.get("retried") else []
        parts += [f"{r['rate']:.3g} units a minute"] if r.get("rate") else []
        parts += [f"{duration(r['left'])} left"] if r.get("left") else []
        out.append(f"Running for {duration(r['elapsed'])} on {r['host']} (process {r['pid']}): {', '.join(parts)}.")
        out += [f"  now: {what}" for what in r.get("running", [])]
        out += [f"  best so far: {best_words(b)}" for b in r.get("best", [])]
        out += [f"  command: {r['command']}"] if r.get("command") else []
    return out


@click.command("status")
@click.argument("store", required=False, type=click.Path(path_type=Path))
@click.option("--watch", is_flag=True, help="Show the runs on the store again every two seconds, until none is left.")
@json_option
def status(store: Path | None, watch: bool, as_json: bool) -> None:
    """Say what STORE (default: ./runs, or that of scorebench.toml) holds: done, partial, failed units, and lines that were ignored; and, while
    runs are going on (in another terminal, on another machine), how far they are."""
    from ...leaderboards.ledger import Store
    from ..monitor import runs

    path = store_path(store)
    if not path.is_dir():
        raise RequestError(f"{path} is no store: there is no such folder; `scorebench run` or `scorebench quickstart` makes one.")
    going = runs(path)
    while watch and not as_json and any(r["alive"] for r in going):
        if sys.stdout.isatty():
            click.clear()
        click.echo("\n".join(live_lines(going)))
        time.sleep(WATCH)
        going = runs(path)
    found = {**summary(Store(path)), "runs": going}
    if as_json:
        emit_json(found)
        return
    for line in live_lines(going):
        click.echo(line)
    if found["tasks"]:
        header = ("TASK", "DONE", "PARTIAL", "FAILED", "VARIANTS", "LAST RECORD")
        rows = [(r["task"], r["ok"], r["partial"], r["failed"], r["variants"], r["last"][:19].replace("T", " ")) for r in found["tasks"]]
        click.echo(table(header, rows))
    else:
        click.echo(f"{path} holds no records.")
    for f in found["failures"]:
        click.echo(f"failed ({f['error']['kind']}): {f['variant']} on {f['task']} seed {f['seed']} draw {f['draw']}: {f['error']['message']}")
    for p in found["problems"]:
        click.echo(f"ignored: {p}")
