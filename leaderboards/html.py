"""One self-contained page: a board per task, by family, with example pictures and sounds and the provenance of every number.

No network, no file beside it: style, script, pictures and sounds stand in the page. Everything that comes from records is escaped. What a
dataset's licence does not allow to be shown is not in the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..configs.loader import write_atomic
from . import words
from .assets import SCRIPT, STYLE
from .board import Board, telling
from .gallery import Figure, Gallery, Strip, gallery
from .render_json import board_data
from .sources import Gathered

Cost = tuple[str, str, Callable[[float | None], str]]
_COSTS: tuple[Cost, ...] = (
    ("NFE", "nfe", words.count), ("params", "params", words.count), ("training", "train_s", words.seconds),
    ("s / sample", "sample_s_median", words.seconds),
)  # fmt: skip

ORDER = ("denoising", "restoration", "inverse", "generation", "speech", "classification")


def family_order(family: str) -> tuple[int, str]:
    """Return the place of a family on pages."""
    return (ORDER.index(family) if family in ORDER else len(ORDER)), family


def page(boards: Sequence[Board], gathered: Gathered | None = None, title: str = "scorebench", meta: Mapping[str, Any] | None = None) -> str:
    """Return the page of ``boards`` as HTML. ``meta``: facts for the head, label to text (run time, machine, version).

    ``gathered`` is accepted for symmetry with the other renderers; a board knows where its records are.
    """
    boards = telling(boards)
    data = [board_data(b) for b in boards]
    families = sorted(dict.fromkeys(d["family"] for d in data), key=family_order)
    parts = []
    for family in families:
        parts.append(f'<h2 id="{_id(family)}">{escape(family)}</h2>')
        parts += [_task(b, d) for b, d in zip(boards, data, strict=True) if d["family"] == family]
    facts = " · ".join(f"{escape(str(k))}: {escape(str(v))}" for k, v in (meta or {}).items())
    nav = "".join(f'<a href="#{_id(f)}">{escape(f)}</a>' for f in families)
    cards = "".join(_card(f, [(b, d) for b, d in zip(boards, data, strict=True) if d["family"] == f]) for f in families)
    policy = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1><p class="soft">{facts or _count(data)}</p><div class="cards">{cards}</div></header>\n'
        f'<nav aria-label="families"><div>{nav}<button id="theme" type="button">light / dark</button></div></nav>\n'
        f"<main>{''.join(parts)}</main>\n<footer>{_legend()}</footer>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def write_page(
    boards: Sequence[Board], out: Path, gathered: Gathered | None = None, title: str = "scorebench", meta: Mapping[str, Any] | None = None
) -> Path:
    """Write `page` to the file ``out`` (or to index.html in a folder) and return the file."""
    file = out if out.suffix else out / "index.html"
    write_atomic(file, page(boards, gathered, title, meta).encode())
    return file


def _id(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text)


def _count(data: Sequence[words.Data]) -> str:
    variants = {r["variant"] for d in data for r in d["rows"]}
    units = sum(len(r["units"]) for d in data for r in d["rows"])
    return f"{len(data)} board{'s' * (len(data) != 1)} · {len(variants)} variants · {units} units"


def _legend() -> str:
    return (
        "<p>∗ and bold: not distinguishable from the best of its track. Differences are to the reference row, with 95 % intervals on the "
        "samples at hand; the shaded band is the metric's margin. Shaded rows do nothing: what any method must beat. "
        "Click a value to see where it comes from.</p>"
    )


def _card(family: str, boards: Sequence[tuple[Board, words.Data]]) -> str:
    board, data = boards[0]
    best = next((r for r in data["rows"] if r["rank"] == 1), None)
    if best is None:
        inner = "<strong>no ranked row</strong>"
    else:
        entry, places = best["metrics"][data["primary"]], _places(board, data)[data["primary"]]
        unit = f" {escape(entry['unit'])}" if entry["unit"] else ""
        inner = f"<strong>{escape(best['variant'])}</strong>"
        inner += f'<span class="sub">{escape(data["primary"])} {words.number(entry["mean"], places)}{unit} on {escape(data["task"])}</span>'
    return f'<a class="card" href="#{_id(family)}"><b>{escape(family)}</b>{inner}</a>'


def _places(board: Board, data: words.Data) -> dict[str, int]:
    margins = {m: o.get("margin") for m, o in board.meta["metrics"].items()}
    return {m: words.decimals(data, m, margins) for m in board.metrics}


def _task(board: Board, data: words.Data) -> str:
    budget = "" if data["budget"] == "default" else f" · budget {escape(data['budget'])}"
    n = next((r["metrics"][data["primary"]]["n"] for r in data["rows"] if "mean" in r["metrics"][data["primary"]]), None)
    about = f"<code>{escape(data['task'])}</code> v{data['version']} · {escape(words.spelled(data, data['primary']))}"
    about += (f" · {n:,} samples" if n else "") + budget + ("" if data["split"] == "test" else f" · {escape(data['split'])} split")
    notes = words.footnotes(data)
    first = f"<li>{escape(notes[0])}</li>" if notes else ""
    rest = "".join(f"<li>{escape(x)}</li>" for x in notes[1:])
    more = f"<details><summary>{len(notes) - 1} more notes</summary><ul>{rest}</ul></details>" if rest else ""
    table = _table(board, data) if data["rows"] else "<p>No record yet.</p>"
    return (
        f'<section class="task" id="{_id(data["task"] + "-" + data["budget"])}"><h3>{escape(data["title"])}</h3><p class="sub">{about}</p>'
        f'<div class="scroll">{table}</div><div class="notes"><ul>{first}</ul>{more}</div>{_gallery(gallery(board))}</section>'
    )


def _table(board: Board, data: words.Data) -> str:
    places, primary = _places(board, data), data["primary"]
    others = [m for m in board.metrics if m != primary and any("mean" in r["metrics"][m] for r in data["rows"])]
    heads = [("rank", ""), ("variant", "l"), (primary, "")]
    heads += [(f"Δ {data['reference']}", "l"), ("verdict", "l")] if data["reference"] else []
    costs = [c for c in _COSTS if any(r["cost"].get(c[1]) is not None for r in data["rows"])]
    heads += [(m, "") for m in others] + [("seeds × draws", ""), *((name, "") for name, _, _ in costs)]
    sortable = '<th scope="col" class="{}"><button type="button">{}</button></th>'
    head = "".join(sortable.format(c, escape(h)) for h, c in heads)
    scale = scale_of(board, data)
    bodies = "".join(_row(board, data, r, places, others, costs, scale, len(heads)) for r in data["rows"])
    return f'<table class="board"><thead><tr>{head}</tr></thead>{bodies}</table>'


def _row(
    board: Board,
    data: words.Data,
    r: dict[str, Any],
    places: Mapping[str, int],
    others: Sequence[str],
    costs: Sequence[Cost],
    scale: tuple[float, float],
    width: int,
) -> str:
    primary, cost = data["primary"], r["cost"]
    entry = r["metrics"][primary]
    marks = [r["track"], "does nothing" if r["do_nothing"] else "", "stale" if r["stale"] else "", r["unranked"]]
    marks = [m for m in [*marks, f"{len(r['failures'])} failed" if r["failures"] else ""] if m]
    name = f'<span class="name">{escape(r["variant"])}</span><span class="sub">{escape(" · ".join(marks))}</span>'
    cells = [_td(str(r["rank"] or "–"), r["rank"]), f'<td class="l">{name}</td>', _value(entry, places[primary], opens=True)]
    if data["reference"]:
        text = "reference" if r["reference"] else words.delta(entry, places[primary])
        cells.append(f'<td class="l" data-value="{_raw(entry.get("delta"))}">{escape(text)}{forest(board, r, entry, scale)}</td>')
        verdict = entry.get("verdict") or ""
        cells.append(f'<td class="l">{f"""<span class="chip {verdict}">{verdict}</span>""" if verdict else ""}</td>')
    cells += [_value(r["metrics"][m], places[m]) for m in others]
    around = "" if cost.get("exclusive") else "~"
    cells.append(_td(f"{r['seeds']} × {r['draws']}", r["seeds"] * r["draws"]))
    for _, key, shown in costs:
        about = around if key == "sample_s_median" and cost.get(key) is not None else ""
        cells.append(_td(about + shown(cost.get(key)), cost.get(key)))
    flags = ("near_best", "near"), ("do_nothing", "do-nothing"), ("stale", "stale"), ("unranked", "unranked")
    kind = " ".join(c for key, c in flags if r[key])
    more = f'<tr class="more" hidden><td class="wide" colspan="{width}">{_provenance(board, r)}</td></tr>'
    return f'<tbody><tr class="row {kind}">{"".join(cells)}</tr>{more}</tbody>'


def _raw(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _td(text: str, value: float | None) -> str:
    return f'<td data-value="{_raw(value)}">{escape(text)}</td>'


def _value(entry: Mapping[str, Any], places: int, opens: bool = False) -> str:
    if "mean" not in entry:
        why = entry["unavailable"]
        return f'<td data-value="" title="{escape(why["because"] + "; " + why["remedy"])}">–</td>'
    text = words.number(entry["mean"], places)
    if opens:
        text = f'<button type="button" class="open" aria-expanded="false" title="{escape(entry["identity"])}">{text}</button>'
    return f'<td class="{"primary" if opens else ""}" data-value="{_raw(entry["mean"])}" title="{escape(entry["identity"])}">{text}</td>'


def scale_of(board: Board, data: words.Data) -> tuple[float, float]:
    """Return the range of the interval plots: all rows but the do-nothing row, whose distance would flatten the others."""
    ends = [0.0]
    for r in data["rows"]:
        entry = r["metrics"][data["primary"]]
        if entry.get("delta") is not None and not r["do_nothing"]:
            ends += [entry["delta"], *(x for x in (entry["low"], entry["high"]) if x is not None)]
    margin = board.margin(data["primary"], board.reference_row.mean(data["primary"]) or 0.0) if board.reference_row else 0.0
    low, high = min(*ends, -2 * margin), max(*ends, 2 * margin)
    spare = 0.06 * (high - low or 1.0)
    return low - spare, high + spare


def forest(board: Board, r: Mapping[str, Any], entry: Mapping[str, Any], scale: tuple[float, float]) -> str:
    """Return the difference with its interval as a small drawing: zero line, margin band, whisker and dot."""
    if entry.get("delta") is None:
        return ""

    def at(value: float) -> float:
        return min(149.0, max(1.0, 150 * (value - scale[0]) / (scale[1] - scale[0])))

    metric = board.primary
    margin = board.margin(metric, board.reference_row.mean(metric) or 0.0) if board.reference_row else 0.0
    left, right = at(-margin), at(margin)
    parts = [f'<rect x="{left:.1f}" y="1" width="{max(0.5, right - left):.1f}" height="12" fill="currentColor" opacity=".13"/>']
    parts.append(f'<line x1="{at(0):.1f}" x2="{at(0):.1f}" y1="0" y2="14" stroke="currentColor" opacity=".4"/>')
    if not r["reference"]:
        x = at(entry["delta"])
        if not scale[0] <= entry["delta"] <= scale[1]:  # beyond the scale: an arrow at the edge
            tip, base = (1, 8) if entry["delta"] < scale[0] else (149, 142)
            parts.append(f'<path d="M{tip} 7 L{base} 3 L{base} 11 Z" fill="currentColor"/>')
        else:
            if entry["low"] is not None:
                ends = f'x1="{at(entry["low"]):.1f}" x2="{at(entry["high"]):.1f}"'
                parts.append(f'<line {ends} y1="7" y2="7" stroke="currentColor" stroke-width="1.6"/>')
            parts.append(f'<circle cx="{x:.1f}" cy="7" r="3.2" fill="currentColor"/>')
    label = "reference" if r["reference"] else words.delta(entry, 4)
    kind = entry.get("verdict") or ""
    return f'<svg class="forest {kind}" viewBox="0 0 150 14" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _provenance(board: Board, r: Mapping[str, Any]) -> str:
    """Return where a row's numbers come from: units, settings, artifacts, environment, and the command that makes them again."""
    row = next(x for x in board.rows if x.variant == r["variant"] and x.group.selection == r["selection"] and x.group.partial == r["partial"])
    first = row.group.first
    libraries = first["environment"].get("libraries") or {}
    units = row.group.units.values()
    seeds = " ".join(f"-s {s}" for s in sorted({u["seed"] for u in units}))
    draws = " ".join(f"--draw {d}" for d in sorted({u["draw"] for u in units}))
    if row.group.trainings > 1:  # then the first axis is the training of the prior
        seeds += "".join(f" --prior-seed {s}" for s in row.group.seeds)
    facts = [
        ("command", f"scorebench run -t {board.task} -m '{r['variant']}' {seeds} {draws}"),
        ("protocol", "; ".join(f"{m}: {e['identity']}" for m, e in r["metrics"].items() if "identity" in e)),
        ("settings", json.dumps(first["hparams"], sort_keys=True, ensure_ascii=False) if first["hparams"] else "defaults"),
        ("interval from", r["metrics"][board.primary].get("from") or "–"),
        ("against doing nothing", r["versus_do_nothing"] or "–"),
        ("selection", f"{r['selection']}, {first.get('configurations_tried', 1)} configuration(s) tried"),
        ("artifacts", "; ".join(f"{k} {str(v.get('sha256') or v.get('key'))[:12]}{' (pinned)' if v.get('pinned') else ''}"
                                for k, v in first["artifacts"].items() if isinstance(v, Mapping)) or "none"),
        ("environment", ", ".join([f"Python {first['environment'].get('python', '?')}", *(f"{k} {v}" for k, v in libraries.items() if v)])),
        ("data", str(first.get("data_fingerprint", ""))[:16] or "–"),
        ("record", "accepted, ships with the package" if r["source"] == "reference" else "this store"),
    ]  # fmt: skip
    listed = "".join(f"<dt>{escape(k)}</dt><dd><code>{escape(v)}</code></dd>" for k, v in facts)
    lines = []
    for unit in row.group.units.values():
        entry = unit["metrics"].get(board.primary) or {}
        value = words.number(entry["value"], 4) if "value" in entry else "–"
        ids = [unit["unit_id"], unit["code"], unit["observation_hash"], unit["environment_key"]]
        lines.append(
            f"<tr><td>{unit['seed']}</td><td>{unit['draw']}</td><td>{value}</td>"
            + "".join(f'<td class="l" title="{escape(str(x))}"><code>{escape(str(x)[:16])}</code></td>' for x in ids)
            + f'<td class="l">{escape(unit.get("written", "")[:19])}</td></tr>'
        )
    heads = "".join(f"<th>{h}</th>" for h in ("seed", "draw", escape(board.primary)))
    heads += "".join(f'<th class="l">{h}</th>' for h in ("unit", "code", "observations", "environment", "written"))
    return f"<dl>{listed}</dl><table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _gallery(shown: Gallery) -> str:
    out = "".join(_strip(s) for s in shown.strips if s.figures)
    return out + (f'<p class="sub">{escape(shown.note)}</p>' if shown.note else "")


def _strip(strip: Strip) -> str:
    figures = "".join(_figure(f, strip.kind) for f in strip.figures)
    return f'<div class="strip {strip.kind}"><p>{escape(strip.title)}</p><div class="figures">{figures}</div></div>'


def _figure(f: Figure, kind: str) -> str:
    w, h = f.size
    zoom = 1 if kind == "audio" else max(1, round(200 / max(h, 1))) if max(w, h) < 200 else 1
    size = "" if kind in ("audio", "label") else f' width="{w * zoom}" height="{h * zoom}"'
    crisp = ' class="crisp"' if zoom > 1 or kind == "label" else ""
    sound = f'<audio controls preload="none" src="{f.audio}"></audio>' if f.audio else ""
    grade = "" if f.good is None else ' class="right"' if f.good else ' class="wrong"'
    caption = f"<span>{escape(f.caption)}</span>" if f.caption else ""
    image = f'<img src="{f.image}" alt="{escape(f.title)}"{size}{crisp}>'
    return f"<figure>{image}{sound}<figcaption{grade}>{escape(f.title)}{caption}</figcaption></figure>"
