"""``scorebench paper``: a table for a paper, methods by datasets and settings, from the records."""

from __future__ import annotations

from pathlib import Path

import click

from ...configs.errors import RequestError
from .common import include_folders, include_option, out_file, store_option, store_path

ENDINGS = {".tex": "latex", ".md": "md", ".csv": "csv", ".html": "html", ".htm": "html"}


@click.command("paper")
@click.argument("spec", type=click.Path(path_type=Path), metavar="SPEC.yaml")
@click.option("--format", "form", type=click.Choice(("latex", "md", "csv", "html")), help="Default: latex, or what the ending of --out says.")
@click.option("--bold", type=click.Choice(("near", "single", "none")), help="Over the spec's: all near the best, the single best, or none.")
@click.option("--out", type=click.Path(path_type=Path), metavar="PATH", help="Write to a file instead.")
@click.option("--accepted", is_flag=True, help="Only the accepted records that ship with the package.")
@store_option
@include_option
def paper(
    spec: Path, form: str | None, bold: str | None, out: Path | None, accepted: bool, store: Path | None, include: tuple[Path, ...]
) -> None:
    """Write the table that SPEC.yaml describes: rows are methods, columns datasets and settings, quoted numbers are marked."""
    include_folders(include)
    import dataclasses

    from ...configs.loader import read
    from ...leaderboards import tables
    from ...leaderboards.board import Board
    from ...leaderboards.paper import layout, parse
    from ...leaderboards.render_paper import FORMATS
    from ...leaderboards.sources import gather
    from .board import build, gathered
    from .claims import metas, variant_problem

    where = store_path(store)
    if store is not None and not where.is_dir():
        raise RequestError(f"{where} is no store: there is no such folder.")
    parsed = parse(read(spec), metas(), variant_problem, tables.get)
    if bold:
        parsed = dataclasses.replace(parsed, bold=bold)
    records = gather([]) if accepted else gathered(where)
    built: dict[tuple[str, str], Board] = {}

    def board(task: str, budget: str) -> Board:
        if (task, budget) not in built:
            built[task, budget] = build(task, records, budget)
        return built[task, budget]

    grid = layout(parsed, board)
    text = FORMATS[form or (ENDINGS.get(out.suffix.lower(), "latex") if out else "latex")](grid)
    if out is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    out_file(out, text)
    click.echo(f"Wrote the table to {out}.")
