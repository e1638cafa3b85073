"""Boards as Markdown tables. Bold: not distinguishable from the best of its track."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import words
from .board import Board
from .render_json import board_data


def escape(text: str) -> str:
    """Return ``text`` so that no table cell, emphasis, link or HTML tag comes out of it."""
    for c in "\\`*_[]<>|#":
        text = text.replace(c, f"\\{c}" if c not in "<>" else {"<": "&lt;", ">": "&gt;"}[c])
    return text.replace("\n", " ")


def render(boards: Sequence[Board]) -> str:
    """Return the boards as GitHub-flavoured Markdown, one section each."""
    return "\n".join(one(board_data(b), {m: o.get("margin") for m, o in b.meta["metrics"].items()}) for b in boards)


def one(data: words.Data, margins: dict[str, Any]) -> str:
    """Return one board."""
    about = f"{escape(data['title'])}. {escape(words.spelled(data, data['primary']))}."
    lines = [f"## {escape(data['task'])} v{data['version']}", "", about, ""]
    if not data["rows"]:
        lines += ["No record yet.", ""]
        return "\n".join(lines)
    metrics = list(data["rows"][0]["metrics"])
    places = {m: words.decimals(data, m, margins) for m in metrics}
    reference = data["reference"]
    head = ["rank", "variant", "track", data["primary"]]
    head += [f"Δ {reference}", "verdict"] if reference else []
    head += [*(m for m in metrics if m != data["primary"]), "seeds×draws", "NFE", "parameters", "training", "s/sample"]
    rule = ["---:" if h not in ("variant", "track", "verdict") else "---" for h in head]
    lines += ["| " + " | ".join(escape(h) for h in head) + " |", "| " + " | ".join(rule) + " |"]
    for r in data["rows"]:
        cells = [str(r["rank"] or "–"), escape(r["variant"]) + (" (do nothing)" if r["do_nothing"] else ""), escape(r["track"])]
        cells.append(_value(r, data["primary"], places))
        if reference:
            entry = r["metrics"][data["primary"]]
            cells += ["reference" if r["reference"] else escape(words.delta(entry, places[data["primary"]])), entry.get("verdict") or ""]
        cells += [_value(r, m, places) for m in metrics if m != data["primary"]]
        cost = r["cost"]
        cells += [
            f"{r['seeds']}×{r['draws']}", words.count(cost.get("nfe")), words.count(cost.get("params")), words.seconds(cost.get("train_s")),
            ("" if cost.get("exclusive") else "\\~") + words.seconds(cost.get("sample_s_median")),
        ]  # fmt: skip
        if r["near_best"]:
            cells[1], cells[3] = f"**{cells[1]}**", f"**{cells[3]}**"
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {escape(note)}" for note in words.footnotes(data)), ""]
    return "\n".join(lines)


def _value(r: dict[str, Any], metric: str, places: dict[str, int]) -> str:
    entry = r["metrics"][metric]
    return words.number(entry["mean"], places[metric]) if "mean" in entry else "–"
