"""One page per task and budget: the table, quality against cost, per-sample values, and the same samples across methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from weakref import WeakKeyDictionary

from .. import words
from ..board import Board
from ..gallery import gallery
from ..html import forest, scale_of
from . import plots, provenance
from .media import Media
from .shell import COSTS, Site, chip, heads, ident, number, page, plural, raw, tools

UP = "../"
SAMPLES = 3
ROWS = 16


def task_page(site: Site, board: Board, data: words.Data, siblings: Sequence[tuple[str, str]], media: Media, path: str) -> str:
    """Return the page. ``siblings``: (budget, path) of the task's boards, this one included."""
    shown = gallery(board, ROWS, SAMPLES, extremes=True)
    pareto, spread = (plots.quality_cost(board, data), plots.per_sample(board)) if site.scripts.plots else (None, None)
    rows = {}
    for r in data["rows"]:
        row = plots.board_row(board, r)
        if row is not None:
            rows[provenance.key(board, row)] = provenance.row_data(board, row, r)
    body = head(board, data, siblings) + summary(site, board, data)
    body += table(site, board, data) if data["rows"] else "<p>No record yet.</p>"
    body += notes(data) + figures(board, data, pareto, spread)
    body += '<section id="examples"><h2>Examples</h2>' + examples(shown.strips, shown.note, board, media) + "</section>"
    name = escape(path.rsplit("/", 1)[-1].removesuffix(".html"))
    body += f'<p class="soft">The same board as data: <a href="{name}.json">JSON</a>, <a href="{name}.csv">CSV</a>.</p>'
    embedded = {"rows": rows, "pareto": pareto, "spread": spread}
    title = f"{data['title']} · {site.title}"
    return page(site, title=title, body=body, path=path, data=embedded, plots=bool(pareto or spread))


def head(board: Board, data: words.Data, siblings: Sequence[tuple[str, str]]) -> str:
    """Return title, what is measured, and links to the task's other budgets."""
    n = next((r["metrics"][data["primary"]]["n"] for r in data["rows"] if "mean" in r["metrics"][data["primary"]]), None)
    about = [f"<code>{escape(data['task'])}</code> v{data['version']}", escape(words.spelled(data, data["primary"]))]
    about += [plural(n, "sample")] if n else []
    about += [f"dataset {escape(str(board.meta.get('dataset')))}"] * bool(board.meta.get("dataset"))
    about += [f"{escape(data['split'])} split"] * (data["split"] != "test")
    tabs = ""
    if len(siblings) > 1:
        links = ""
        for budget, path in siblings:
            current = " aria-current=page" if budget == data["budget"] else ""
            links += f'<a href="{UP}{escape(path)}"{current}>{escape(budget)}</a>'
        tabs = f'<div class="tabs" role="navigation" aria-label="budgets"><span class="soft">budget</span>{links}</div>'
    family = f'<a href="{UP}index.html#{ident(data["family"])}">{escape(data["family"])}</a>'
    title = escape(data["title"])
    return f'<div class="crumbs">{family}</div><h1>{title}</h1><p class="sub">{" · ".join(about)}</p>{tabs}'


def summary(site: Site, board: Board, data: words.Data) -> str:
    """Return the page's few leading facts: the best row of each track, the reference, what doing nothing gives."""
    places = decimals(board, data)[data["primary"]]
    unit = board.unit(data["primary"])
    cards = []

    def card(label: str, r: Mapping[str, Any] | None) -> None:
        if r is None or "mean" not in r["metrics"][data["primary"]]:
            return
        row = plots.board_row(board, r)
        value = words.number(r["metrics"][data["primary"]]["mean"], places)
        button = escape(value)
        if row is not None:
            where = f'data-row="{escape(provenance.key(board, row))}" data-of="{escape(data["primary"])}"'
            button = f'<button type="button" class="num" {where}>{value}</button>'
        name = site.method_link(r["method"], r["variant"], UP)
        cards.append(f'<div class="fact"><b>{escape(label)}</b><strong>{button}<i>{escape(unit)}</i></strong><span>{name}</span></div>')

    ranked = [r for r in data["rows"] if not r["unranked"]]
    tracks = list(dict.fromkeys(r["track"] for r in ranked))
    for track in tracks[:3]:
        card("best" if len(tracks) == 1 else f"best, {track}", next(r for r in ranked if r["track"] == track))
    card("reference", next((r for r in ranked if r["reference"] and r["rank"] != 1), None))
    card("doing nothing", next((r for r in ranked if r["do_nothing"] and r["rank"] != 1), None))
    units = sum(len(r["units"]) for r in data["rows"])
    count = f'<div class="fact"><b>records</b><strong>{units:,}</strong><span>{plural(len(data["rows"]), "row")}</span></div>'
    return f'<div class="facts">{"".join(cards)}{count}</div>'


def decimals(board: Board, data: words.Data) -> dict[str, int]:
    """Return the decimals of each metric's column."""
    if board not in _decimals:
        margins = {m: o.get("margin") for m, o in board.meta["metrics"].items()}
        _decimals[board] = {m: words.decimals(data, m, margins) for m in board.metrics}
    return _decimals[board]


_decimals: WeakKeyDictionary[Board, dict[str, int]] = WeakKeyDictionary()


def table(site: Site, board: Board, data: words.Data) -> str:
    """Return the board as a table that can be sorted and filtered, each number a button to its provenance."""
    places, primary = decimals(board, data), data["primary"]
    others = [m for m in board.metrics if m != primary and any("mean" in r["metrics"][m] for r in data["rows"])]
    costs = [c for c in COSTS if any(r["cost"].get(c[1]) is not None for r in data["rows"])]
    several = len({r["track"] for r in data["rows"]}) > 1
    columns = [("rank", "n"), ("method", "name"), *[("track", "")] * several, (primary, "n")]
    columns += [(f"difference to {data['reference']}", "n"), ("verdict", "")] if data["reference"] else []
    columns += [(m, "n") for m in others] + [("seeds × draws", "n"), *((name, "n") for name, _, _ in costs)]
    scale = scale_of(board, data)
    lines = []
    for r in data["rows"]:
        row = plots.board_row(board, r)
        key = provenance.key(board, row) if row is not None else ""
        entry = r["metrics"][primary]
        marks = ["does nothing"] * r["do_nothing"] + ["stale"] * r["stale"] + ["outputs submitted"] * r["submitted"]
        marks += [r["unranked"]] * bool(r["unranked"]) + [plural(len(r["failures"]), "failed unit")] * bool(r["failures"])
        marks += [f"selection {r['selection']}"] * (r["selection"] != "last")
        sub = f'<span class="sub">{escape(" · ".join(marks))}</span>' if marks else ""
        star = '<span class="star" title="not distinguishable from the best of its track">∗</span>' if r["near_best"] else ""
        cells = [f'<td class="n" data-order="{r["rank"] or 1e9}">{r["rank"] or "–"}</td>']
        cells.append(f'<td class="name" data-order="{escape(r["variant"])}">{star}{site.method_link(r["method"], r["variant"], UP)}{sub}</td>')
        cells += [f'<td class="soft">{escape(r["track"])}</td>'] * several
        cells.append(value(key, primary, entry, places[primary], "primary"))
        if data["reference"]:
            text = "reference" if r["reference"] else words.delta(entry, places[primary])
            drawn = forest(board, r, entry, scale)
            cells.append(f'<td class="n delta" data-order="{raw(entry.get("delta"))}"><span>{escape(text)}</span>{drawn}</td>')
            verdict = entry.get("verdict") or ("reference" if r["reference"] else "")
            cells.append(f'<td data-search="{escape(verdict)}">{chip(entry.get("verdict"))}</td>')
        cells += [value(key, m, r["metrics"][m], places[m]) for m in others]
        cells.append(f'<td class="n" data-order="{r["seeds"] * r["draws"]}">{r["seeds"]} × {r["draws"]}</td>')
        for _, name, spell in costs:
            around = "~" if name == "sample_s_median" and not r["cost"].get("exclusive") and r["cost"].get(name) is not None else ""
            cells.append(number(key, f"cost:{name}", around + spell(r["cost"].get(name)), r["cost"].get(name)))
        flags = ("near_best", "near"), ("do_nothing", "do-nothing"), ("stale", "stale"), ("unranked", "unranked")
        lines.append(f'<tr id="{escape(ident(r["variant"]))}" class="{" ".join(c for f, c in flags if r[f])}">{"".join(cells)}</tr>')
    filters = [("track", 2, sorted({r["track"] for r in data["rows"]}))] * several
    if data["reference"]:
        filters.append(("verdict", 4 + several, sorted({v for r in data["rows"] if (v := r["metrics"][primary].get("verdict"))})))
    return (
        f'<section id="board" class="board">{tools(filters, "methods")}<div class="scroll"><table class="grid" data-grid>{heads(columns)}'
        f"<tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def value(key: str, metric: str, entry: Mapping[str, Any], places: int, kind: str = "") -> str:
    """Return the cell of one metric."""
    if "mean" not in entry:
        why = entry["unavailable"]
        return number(key, metric, "–", None, kind, f"{why['because']}; {why['remedy']}")
    return number(key, metric, words.number(entry["mean"], places), entry["mean"], kind, entry["identity"])


def notes(data: words.Data) -> str:
    """Return what a reader must know to read the board rightly."""
    found = words.footnotes(data)
    if not found:
        return ""
    rest = "".join(f"<li>{escape(x)}</li>" for x in found[1:])
    more = f"<details><summary>{plural(len(found) - 1, 'more note')}</summary><ul>{rest}</ul></details>" if rest else ""
    return f'<div class="notes"><p>{escape(found[0])}</p>{more}</div>'


def figures(board: Board, data: words.Data, pareto: Mapping[str, Any] | None, spread: Mapping[str, Any] | None) -> str:
    """Return the places of the two plots, with what to read in them."""
    parts = []
    if pareto:
        selects = f'<label>cost <select id="pareto-cost">{options([(c["name"], c["label"]) for c in pareto["costs"]])}</select></label>'
        if len(pareto["metrics"]) > 1:
            names = options([(m["name"], m["name"]) for m in pareto["metrics"]])
            selects += f'<label>quality <select id="pareto-metric">{names}</select></label>'
        beside = " Times were taken beside other work: read them as orders of magnitude." if pareto["shared"] else ""
        parts.append(
            f'<figure class="plot"><figcaption><h2>Quality and cost</h2><div class="pick">{selects}</div></figcaption>'
            '<div id="pareto" class="canvas" role="img" aria-label="quality against cost of every method"></div>'
            f'<p class="soft">The line joins the rows that no other row beats at lower cost; a diamond is the reference.{beside} '
            '<span id="pareto-idle"></span> '
            "Click a point for its numbers.</p></figure>"
        )
    if spread:
        unit = f", {escape(spread['unit'])}" if spread["unit"] else ""
        how = "each point a sample" if spread["points"] else f"boxes of {spread['n']:,} samples"
        choice = '<label>show <select id="spread-what"><option value="value">values</option><option value="difference">'
        choice += "differences to the reference</option></select></label>"
        choice = choice if spread["points"] and any(r["reference"] for r in spread["rows"]) else ""
        parts.append(
            f'<figure class="plot"><figcaption><h2>Sample by sample</h2><div class="pick">{choice}</div></figcaption>'
            '<div id="spread" class="canvas" role="img" aria-label="distribution over samples"></div>'
            f'<p class="soft">{escape(spread["metric"])}{unit}, {how}, means over seeds and draws.</p></figure>'
        )
    if not parts:
        return ""
    return f'<section id="plots" class="plots">{"".join(parts)}</section>'


def options(pairs: Sequence[tuple[str, str]]) -> str:
    """Return options of a select."""
    return "".join(f'<option value="{escape(v)}">{escape(t)}</option>' for v, t in pairs)


def examples(strips: Sequence[Any], note: str, board: Board, media: Media) -> str:
    """Return the strips; in their place why there are none, and what to do."""
    if strips:
        return media.strips(strips, UP) + (f'<p class="soft">{escape(note)}</p>' if note else "")
    if board.meta.get("pixels", "never") == "never":
        return f'<p class="empty">{escape(note)}</p>'
    variant = board.reference_row.variant if board.reference_row else next((r.variant for r in board.rows), "METHOD")
    command = f"scorebench run -t {escape(board.task)} -m {escape(variant)}"
    return (
        '<p class="empty">Nothing to see or hear yet: the accepted records that ship with the package carry numbers, no pictures and no '
        f"sounds. Run the task, and build the site from your store: <code>{command}</code></p>"
    )
