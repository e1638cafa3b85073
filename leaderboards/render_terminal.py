"""Boards as aligned text for the terminal: readable at 100 columns, bold only where the output is a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from . import words
from .board import Board
from .render_json import board_data

BOLD, DIM, OFF = "\033[1m", "\033[2m", "\033[0m"


def render(boards: Sequence[Board], *, width: int = 100, ansi: bool = False) -> str:
    """Return the boards as text. ``ansi``: bold and dim by escape codes (for a terminal; never into a pipe or file)."""
    return "\n\n".join(one(board_data(b, brief=True), {m: o.get("margin") for m, o in b.meta["metrics"].items()}, width, ansi) for b in boards)


def one(data: words.Data, margins: dict[str, Any], width: int = 100, ansi: bool = False) -> str:
    """Return one board (as `board_data` gives it)."""
    title = f"{data['task']} v{data['version']}: {data['title']}"
    budget = "" if data["budget"] == "default" else f" · budget {data['budget']}"
    split = "" if data["split"] == "test" else f" · {data['split']} split"
    n = next((r["metrics"][data["primary"]]["n"] for r in data["rows"] if "mean" in r["metrics"][data["primary"]]), None)
    samples = f" · {n} samples" if n else ""
    lines = [_style(title, BOLD, ansi), words.spelled(data, data["primary"]) + samples + budget + split]
    if not data["rows"]:
        lines.append("No record yet.")
    else:
        lines += ["", *_table(data, margins, width, ansi)]
    notes = words.footnotes(data) if data["rows"] or data["failed"] or data["refused"] else []
    for note in notes:
        lines += [_style(x, DIM, ansi) for x in textwrap.wrap(note, width, subsequent_indent="  ")]
    return "\n".join(lines)


def _style(text: str, code: str, ansi: bool) -> str:
    return f"{code}{text}{OFF}" if ansi else text


def _table(data: words.Data, margins: dict[str, Any], width: int, ansi: bool) -> list[str]:
    primary = data["primary"]
    metrics = [m for m in data["rows"][0]["metrics"]]
    shown = [m for m in metrics if m == primary or any("mean" in r["metrics"][m] for r in data["rows"])]
    places = {m: words.decimals(data, m, margins) for m in shown}
    head = ["", "variant", primary]
    reference = data["reference"]
    columns = [m for m in shown if m != primary]
    optional: list[tuple[str, Any]] = [(m, lambda r, m=m: _value(r, m, places[m])) for m in columns]
    optional += [
        ("units", lambda r: f"{r['seeds']}×{r['draws']}"),
        ("s/sample", lambda r: ("" if r["cost"].get("exclusive") else "~") + words.seconds(r["cost"].get("sample_s_median"))),
        ("NFE", lambda r: words.count(r["cost"].get("nfe"))),
        ("params", lambda r: words.count(r["cost"].get("params"))),
        ("train", lambda r: words.seconds(r["cost"].get("train_s"))),
    ]
    if reference:
        head += [f"Δ {reference}", "verdict"]
    rows = []
    for r in data["rows"]:
        mark = "*" if r["near_best"] else " "
        line = [f"{r['rank'] or '–'} {mark}", _name(r), _value(r, primary, places[primary])]
        if reference:
            line += [_delta(r, primary, places[primary]), words.SHORT.get(r["metrics"][primary].get("verdict") or "", "")]
        rows.append((r, line))
    used = sum(max(len(head[i]), *(len(line[i]) for _, line in rows)) + 2 for i in range(len(head)))
    for name, get in optional:  # as many as fit, in the order of their weight
        column = [get(r) for r, _ in rows]
        size = max(len(name), *(len(c) for c in column)) + 2
        if used + size > width:
            continue
        if all(c.strip("~– ") == "" for c in column):
            continue
        used += size
        head.append(name)
        for (_, line), text in zip(rows, column, strict=True):
            line.append(text)
    return _align(data, head, rows, ansi)


def _align(data: words.Data, head: list[str], rows: list[tuple[dict[str, Any], list[str]]], ansi: bool) -> list[str]:
    sizes = [max(len(head[i]), *(len(line[i]) for _, line in rows)) for i in range(len(head))]
    left = {1, head.index("verdict")} if "verdict" in head else {1}

    def join(cells: list[str]) -> str:
        return "  ".join(c.ljust(s) if i in left else c.rjust(s) for i, (c, s) in enumerate(zip(cells, sizes, strict=True))).rstrip()

    tracks = list(dict.fromkeys(r["track"] for r, _ in rows if not r["unranked"]))
    out = [_style(join(head), DIM, ansi)]
    for track in [*tracks, None]:
        members = [(r, line) for r, line in rows if (r["track"] == track and not r["unranked"]) or (track is None and r["unranked"])]
        if not members:
            continue
        if len(tracks) > 1 or track is None:
            out.append(_style(f"  {track or 'not ranked'}", DIM, ansi))
        out += [_style(join(line), BOLD, ansi and r["near_best"]) for r, line in members]
    return out


def _name(r: dict[str, Any]) -> str:
    marks = ["do nothing"] * r["do_nothing"] + ["stale"] * r["stale"] + [f"{len(r['failures'])} failed"] * bool(r["failures"])
    name = r["variant"] if len(r["variant"]) <= 34 else r["variant"][:33] + "…"
    return name + (f" ({', '.join(marks)})" if marks else "")


def _value(r: dict[str, Any], metric: str, places: int) -> str:
    entry = r["metrics"][metric]
    return words.number(entry["mean"], places) if "mean" in entry else "–"


def _delta(r: dict[str, Any], metric: str, places: int) -> str:
    return "reference" if r["reference"] else words.delta(r["metrics"][metric], places)
