"""``scorebench status``: what a store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...configs.errors import RequestError
from .common import emit_json, json_option, store_path, table


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


@click.command("status")
@click.argument("store", required=False, type=click.Path(path_type=Path))
@json_option
def status(store: Path | None, as_json: bool) -> None:
    """Say what STORE (default: ./runs, or that of scorebench.toml) holds: done, partial, failed units, and lines that were ignored."""
    from ...leaderboards.ledger import Store

    path = store_path(store)
    if not path.is_dir():
        raise RequestError(f"{path} is no store: there is no such folder; `scorebench run` or `scorebench quickstart` makes one.")
    found = summary(Store(path))
    if as_json:
        emit_json(found)
        return
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
