"""``scorebench doctor``: check this machine."""

from __future__ import annotations

from pathlib import Path

import click

from .common import defaults, emit_json, json_option, store_option, store_path

MARKS = {"ok": "ok      ", "note": "note    ", "problem": "PROBLEM "}


@click.command("doctor")
@store_option
@json_option
def doctor(store: Path | None, as_json: bool) -> int:
    """Check versions, machine, folders, data, weights and extras. Exit code 1 when something does not work."""
    from ..doctor import examine

    checks = list(examine(defaults(), store_path(store)))
    problems = [c for c in checks if c.state == "problem"]
    if as_json:
        emit_json([c.as_dict() for c in checks])
        return int(bool(problems))
    group = ""
    for c in checks:
        if c.group != group:
            click.echo(c.group)
            group = c.group
        click.echo(f"  {MARKS[c.state]}{c.name:<16}{c.message}")
    click.echo(f"{len(problems)} problems: {', '.join(c.name for c in problems)}." if problems else "No problems.")
    return int(bool(problems))
