"""What several commands share: options, the user's defaults, printing."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ...configs.errors import RequestError, nearest
from ..config import Config, load

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
include_option = click.option(
    "--include", "include", multiple=True, type=click.Path(path_type=Path), metavar="DIR", help="A folder with a method of yours; repeatable."
)
store_option = click.option("--store", type=click.Path(path_type=Path), metavar="DIR", help="Where records are (default: ./runs).")


def defaults() -> Config:
    """Return the user's defaults (scorebench.toml), read once per command line."""
    context = click.get_current_context(silent=True)
    if context is None:
        return load()
    meta = context.find_root().meta
    if "scorebench.config" not in meta:
        meta["scorebench.config"] = load()
    return meta["scorebench.config"]


def hint(name: str, known: Iterable[str]) -> str:
    """Return the clause that helps with an unknown name: the nearest known ones, else all of them."""
    known = list(known)
    close = nearest(name, known)
    return f"did you mean {' or '.join(close)}?" if close else f"accepted: {', '.join(known) or 'none'}."


def store_path(given: Path | None) -> Path:
    """Return the store asked for, or the default one."""
    return given if given is not None else defaults().store


def include_folders(given: Iterable[Path] = ()) -> list[Path]:
    """Make the methods and tasks of plug-in folders known: those asked for and those of the defaults. Return the folders."""
    from ...baselines import card
    from ...tasks import registry

    folders = list(dict.fromkeys(Path(f).expanduser().resolve() for f in (*defaults().include, *given)))
    for folder in folders:
        card.include(folder)
        registry.include(folder)
    return folders


def _plain(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value


def json_text(value: Any) -> str:
    """Return ``value`` as JSON, indented, without NaN."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def emit_json(value: Any) -> None:
    """Print ``value`` as JSON."""
    click.echo(json_text(value))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], flexible: int | None = None) -> str:
    """Return an aligned text table; on a terminal, column ``flexible`` is cut so that lines fit."""
    cells = [[str(c) for c in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    if flexible is not None and sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - (sum(widths) - widths[flexible]) - 2 * (len(widths) - 1)
        widths[flexible] = max(12, min(widths[flexible], room))
    lines = []
    for row in cells:
        shown = [c if len(c) <= w else c[: w - 1] + "…" for c, w in zip(row, widths, strict=True)]
        lines.append("  ".join(c.ljust(w) for c, w in zip(shown, widths, strict=True)).rstrip())
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return seconds as people say them: 8 s, 2 min 5 s, 1 h 3 min."""
    s = max(0, round(seconds))
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60} s" if s % 60 else f"{s // 60} min"
    return f"{s // 3600} h {s % 3600 // 60} min"


def parse_duration(text: str) -> float:
    """Return the seconds that ``90``, ``90s``, ``10m`` or ``2h`` name; RequestError otherwise."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    body, unit = (text[:-1], units[text[-1]]) if text and text[-1] in units else (text, 1.0)
    try:
        value = float(body) * unit
    except ValueError:
        value = -1.0
    if not (0 < value < math.inf):
        raise RequestError(f"Time limit {text!r} is not a duration; write seconds, or 90s, 10m, 2h.")
    return value


def out_file(path: Path, content: str) -> None:
    """Write a report where the user asked; one sentence when that is not possible."""
    from ...configs.loader import write_atomic

    try:
        write_atomic(path, content.encode("utf-8"))
    except OSError as e:
        raise RequestError(f"{path} cannot be written ({e.strerror}); give --out a path in a folder you can write to.") from None
