"""``scorebench submit`` and ``scorebench audit``: a bundle of records for a pull request, and what it must withstand."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import click

from ...configs.errors import RequestError
from .common import emit_json, include_folders, include_option, json_option, store_option, store_path


@click.command("submit")
@click.argument("what", nargs=-1, metavar="[TASK|FAMILY|all]")
@click.option("-m", "--method", "methods", multiple=True, metavar="VARIANT", help="What to submit; repeatable (default: all).")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder.")
@store_option
@include_option
@json_option
def submit(
    what: tuple[str, ...], methods: tuple[str, ...], out: Path, store: Path | None, include: tuple[Path, ...], as_json: bool
) -> None:
    """Make a bundle of your records: hashes, per-sample values, the environment, the plug-in. It holds no pictures and no sounds.

    `scorebench audit DIR` checks it, as a maintainer will.
    """
    include_folders(include)
    from ...leaderboards.wandb_rows import own
    from ...tasks.registry import match, specs
    from ..bundle import write
    from .board import build_all, gathered

    where = store_path(store)
    if not (where / "ledger").is_dir():
        raise RequestError(f"{where} is no store: there are no records in it; give --store DIR, or run something first.")
    chosen = match(what) if what and "all" not in what else list(specs())
    records = gathered(where)
    mine = {r["task"] for r in records.records() if r["source"] == "run"}
    rows = [row for board in build_all([t for t in chosen if t in mine], records) for row in own(board, False) if not row.group.partial]
    if unknown := [m for m in methods if m not in {r.variant for r in rows} | {r.method for r in rows}]:
        there = ", ".join(sorted({r.variant for r in rows})) or "none"
        raise RequestError(f"The store holds no whole record of {unknown[0]!r} on these tasks; it has {there}.")
    wanted = [r for row in rows if not methods or row.variant in methods or row.method in methods for r in row.group.units.values()]
    manifest = write([r for r in wanted if r["source"] == "run"], records, out)
    if as_json:
        emit_json(manifest)
        return
    plugins = f", with the plug-in {', '.join(manifest['plugins'])}" if manifest["plugins"] else ""
    click.echo(f"Wrote {manifest['units']} records of {', '.join(manifest['variants'])} on {', '.join(manifest['tasks'])} to {out}{plugins}.")
    click.echo(f"Check it with `scorebench audit {out}`, then put it into a pull request.")


@click.command("audit")
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE")
@click.option("--no-run", is_flag=True, help="Only files, records and training data: execute nothing of the bundle's.")
@click.option("--units", type=click.IntRange(min=1), metavar="N", help="Run at most N units again (default: all).")
@click.option("--fresh-draw", type=click.IntRange(min=0, max=2**31 - 1), metavar="N", help="The fresh noise key (default: drawn now).")
@json_option
def audit(bundle: Path, no_run: bool, units: int | None, fresh_draw: int | None, as_json: bool) -> int:
    """Check a bundle: hashes, invariants, training data, and its methods run again, among poisoned data and with a fresh noise key.

    Running them executes the bundle's code. Exit code 1 when a check fails.
    """
    from ..bundle import read

    read_bundle = read(bundle)
    from ..audit import audit as check

    draws = {r["draw"] for r in read_bundle.records}
    if fresh_draw in draws:
        raise RequestError(f"--fresh-draw {fresh_draw} is one of the bundle's own draws; give another number, or leave it out.")
    draw = fresh_draw if fresh_draw is not None else 1000 + secrets.randbelow(2**30)
    live = sys.stderr.isatty() and not as_json
    found = check(
        read_bundle, rerun=not no_run, units=units, fresh_draw=draw, tell=lambda text: click.echo(f"{text} ...", err=True) if live else None
    )
    failed = [c for c in found if c.outcome == "failed"]
    if as_json:
        emit_json({"bundle": str(bundle), "fresh_draw": draw, "passed": not failed, "checks": [vars(c) for c in found]})
    else:
        for c in found:
            click.echo(f"{c.outcome:<8} {c.name:<13} {c.about}: {c.says}")
        ran = "" if no_run else f", fresh noise draw {draw}"
        click.echo(f"{len(found)} checks, {len(failed)} failed{ran}.")
    return 1 if failed else 0
