"""The first page, the list of methods, and the pages of all claims and paper tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from .. import words
from ..across import across
from ..across import notes as across_notes
from ..board import Board
from .shell import Site, chip, heads, ident, page, plural, raw, tools
from .task import decimals

Paired = Sequence[tuple[Board, words.Data]]


def overview(site: Site, boards: Paired) -> str:
    """Return the first page: every task with its best row, by family."""
    families = ""
    for f in site.families:
        members = [(b, d) for b, d in boards if d["family"] == f]
        families += f'<section class="family" id="{ident(f)}"><h2>{escape(f)}</h2>{_family(site, members)}{_standings(site, members)}</section>'
    jump = "".join(f'<a href="#{ident(f)}">{escape(f)}</a>' for f in site.families)
    lead = (
        f"<header><h1>{escape(site.title)}</h1><p class='lead'>{_count(boards)}</p><div class='tabs' role='navigation' "
        f"aria-label='families'>{jump}</div></header>"
    )
    reading = (
        '<section class="reading"><h2>How to read the boards</h2><p>Every number opens where it comes from: its units, seeds, draws, code, '
        "data, environment, and the command that makes it again. Differences are to a task's reference row, with 95 % intervals on the samples "
        "at hand (random are training seeds and noise draws). <b>better</b> and <b>worse</b>: the interval lies beyond the metric's margin. "
        "<b>equivalent</b>: it lies inside. <b>∗</b>: not distinguishable from the best of its track. Rows are ranked within tracks, which "
        "follow from what a method may use. In the lines above, the left end is doing nothing, a ring the reference, a full dot a row not "
        "distinguishable from the best of its track.</p></section>"
    )
    return page(site, title=site.title, body=lead + _attention(site, boards) + families + reading, path="index.html", here="Overview")


def _count(boards: Paired) -> str:
    methods = {r["method"] for _, d in boards for r in d["rows"]}
    units = {(u["unit_id"], u["environment_key"]) for _, d in boards for r in d["rows"] for u in r["units"]}
    tasks = {d["task"] for _, d in boards}
    return f"{plural(len(tasks), 'task')}, {plural(len(methods), 'method')}, {plural(len(units), 'record')}."


def _attention(site: Site, boards: Paired) -> str:
    """Return what should be looked at: failed units, stale rows, refused records."""
    lines = []
    for b, d in boards:
        failed = len(d["failed"]) + sum(len(r["failures"]) for r in d["rows"])
        found = [plural(failed, "failed unit")] * bool(failed)
        found += [plural(n, "stale row") for n in [sum(r["stale"] for r in d["rows"])] if n]
        found += [plural(len(d["refused"]), "refused record")] * bool(d["refused"])
        if found:
            lines.append(f"<li>{_link(site, b, d)}: {escape(', '.join(found))}</li>")
    if not lines:
        return ""
    return f'<details class="attention"><summary>{plural(len(lines), "board")} to look at</summary><ul>{"".join(lines)}</ul></details>'


def _link(site: Site, board: Board, data: words.Data) -> str:
    budget = "" if data["budget"] == "default" else f" · {data['budget']}"
    return f'<a href="{escape(site.names.page("tasks", board_name(board)))}">{escape(data["title"])}</a>{escape(budget)}'


def board_name(board: Board) -> str:
    """Return the name a board's page is made from."""
    first = next(iter(board.meta.get("budgets") or {"default": {}}))
    return board.task + ("" if board.budget == first else f"-{board.budget}") + ("" if board.split == "test" else f"-{board.split}")


def _family(site: Site, boards: Paired) -> str:
    budgets = any(d["budget"] != "default" for _, d in boards)
    columns = [("task", "name"), *[("budget", "b")] * budgets, ("best", "name"), ("value", "n"), ("metric", "m")]
    columns += [("doing nothing to best", "t"), ("rows", "n r"), ("records", "n r")]
    lines, last = [], ""
    for b, d in boards:
        best = next((r for r in d["rows"] if r["rank"] == 1), None)
        primary, path = d["primary"], escape(site.names.page("tasks", board_name(b)))
        if d["task"] != last:
            sub = f'<span class="sub"><code>{escape(d["task"])}</code></span>'
            cells = [f'<td class="name"><a href="{path}">{escape(d["title"])}</a>{sub}</td>']
        else:
            cells = ["<td></td>"]
        cells += [f'<td class="b"><a href="{path}">{escape(d["budget"])}</a></td>'] * budgets
        if best is None:
            cells.append('<td class="soft">no ranked row</td><td></td>')
        else:
            value = words.number(best["metrics"][primary]["mean"], decimals(b, d)[primary])
            cells.append(f'<td class="name">{site.method_link(best["method"], best["variant"], "")}</td>')
            link = f'<a href="{path}#open={escape(quote(best["variant"]))}" title="where this number comes from">{value}</a>'
            cells.append(f'<td class="n primary">{link}</td>')
        unit = f", {b.unit(primary)}" if b.unit(primary) else ""
        arrow = "↑" if b.higher(primary) else "↓"
        cells.append(f'<td class="m soft" title="{escape(words.spelled(d, primary))}">{escape(primary + unit)} {arrow}</td>')
        cells.append(f'<td class="t">{_ticks(b, d)}</td>')
        units = sum(len(r["units"]) for r in d["rows"])
        cells.append(f'<td class="n r">{len(d["rows"])}</td><td class="n r">{units}</td>')
        lines.append(f'<tr{" class=more" if d["task"] == last else ""}>{"".join(cells)}</tr>')
        last = d["task"]
    kind = "grid plain budgets" if budgets else "grid plain"
    return f'<div class="scroll"><table class="{kind}">{heads(columns)}<tbody>{"".join(lines)}</tbody></table></div>'


def _standings(site: Site, boards: Paired) -> str:
    """Return how a family's variants stand across its tasks: share of the gap closed and win rate, by track."""
    found = across([b for b, _ in boards])
    standings = [s for s in found.data()["rows"] if s["gap_closed"] is not None]
    if len(found.boards) < 2 or not standings:
        return ""
    methods = {r["variant"]: r["method"] for _, d in boards for r in d["rows"]}
    columns = [("rank in track", "n"), ("variant", "name"), ("track", ""), ("gap closed", "n"), ("", "bar"), ("win rate", "n"), ("boards", "n")]
    lines = []
    for s in standings:
        low = "" if s["low"] is None or s["high"] is None else f"{100 * s['low']:.1f} to {100 * s['high']:.1f} %"
        win = "–" if s["win_rate"] is None else f"{100 * s['win_rate']:.0f} %"
        width = min(1.0, max(0.0, s["gap_closed"])) * 120
        closed = f"{100 * s['gap_closed']:.1f} %"
        bar = f'<svg class="share" viewBox="0 0 120 8" role="img" aria-label="{closed}"><rect class="all" width="120" height="8" rx="4"/>'
        bar += f'<rect class="part" width="{width:.1f}" height="8" rx="4"/></svg>'
        cells = [f'<td class="n">{s["rank"] or "–"}</td><td class="name">{site.method_link(methods[s["variant"]], s["variant"], "")}</td>']
        cells.append(f'<td class="soft">{escape(s["track"])}</td><td class="n" title="{low}">{closed}</td><td class="bar">{bar}</td>')
        cells.append(f'<td class="n">{win}</td><td class="n">{s["boards"]}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f"<li>{escape(x)}</li>" for x in across_notes(found))
    return (
        f'<details class="standings"><summary>Across {plural(len(found.boards), "board")}</summary><div class="scroll"><table class="grid">'
        f'{heads(columns)}<tbody>{"".join(lines)}</tbody></table></div><ul class="soft">{notes}</ul></details>'
    )


def _ticks(board: Board, data: words.Data) -> str:
    """Return all rows of a board on one line, from the do-nothing row (left) to the best (right), the reference as a ring."""
    primary = data["primary"]
    rows = [(r, r["metrics"][primary]["mean"]) for r in data["rows"] if not r["unranked"] and "mean" in r["metrics"][primary]]
    if len(rows) < 2:
        return ""
    sign = 1 if board.higher(primary) else -1
    nothing = next((v for r, v in rows if r["do_nothing"]), None)
    best = max((v for _, v in rows), key=lambda v: sign * v)
    worst = nothing if nothing is not None and nothing != best else min((v for _, v in rows), key=lambda v: sign * v)
    if best == worst:
        return ""
    parts = ['<line class="axis" x1="4" x2="216" y1="9" y2="9"/>']
    for r, v in rows:
        x = 6 + 208 * min(1.0, max(0.0, (v - worst) / (best - worst)))
        kind = "nothing" if r["do_nothing"] else "reference" if r["reference"] else "best" if r["near_best"] else "row"
        title = f"<title>{escape(r['variant'])}: {words.number(v, 4)}</title>"
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="9" r="4">{title}</circle>')
    return f'<svg class="ticks" viewBox="0 0 220 18" role="img" aria-label="{len(rows)} rows">{"".join(parts)}</svg>'


def methods_page(site: Site, cards: Mapping[str, Mapping[str, Any]], boards: Paired, claims: Sequence[Mapping[str, Any]]) -> str:
    """Return the list of methods with what was run of them."""
    columns = [("method", "name"), ("family", ""), ("paper", "name"), ("year", "n"), ("learns from", ""), ("boards", "n")]
    columns += [("first places", "n")] + [("claims supported", "n")] * bool(claims)
    lines = []
    families: set[str] = set()
    for name in sorted(site.methods):
        card = cards.get(name) or {}
        rows = [(d, r) for _, d in boards for r in d["rows"] if r["method"] == name]
        where = card.get("families") or sorted({d["family"] for d, _ in rows})
        families |= set(where)
        paper = card.get("paper") or {}
        learns = ", ".join(dict.fromkeys(r["track"] for _, r in rows)) or str(card.get("trains_on", ""))
        first = len({(d["task"], d["budget"]) for d, r in rows if r["rank"] == 1})
        title = f'<span class="sub">{escape(str(card["title"]))}</span>' if card.get("title") else ""
        cells = [f'<td class="name" data-order="{escape(name)}">{site.method_link(name, name, "")}{title}</td>']
        cells += [f"<td>{escape(', '.join(where))}</td>", f'<td class="name soft">{escape(str(paper.get("title", "")))}</td>']
        year = paper.get("year")
        cells.append(f'<td class="n" data-order="{raw(year) if isinstance(year, (int, float)) else ""}">{escape(str(year or "–"))}</td>')
        cells.append(f'<td class="soft">{escape(learns)}</td>')
        cells += [f'<td class="n" data-order="{n}">{n or "–"}</td>' for n in (len({(d["task"], d["budget"]) for d, _ in rows}), first)]
        if claims:
            mine = [c["verdict"] for c in claims if c["method"] == name]
            held = mine.count("supported")
            cells.append(f'<td class="n" data-order="{held if mine else ""}">{f"{held} of {len(mine)}" if mine else ""}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = "<h1>Methods</h1><p class='sub'>Every method that is installed or has records here.</p>"
    body += f'<section class="board">{tools([("family", 1, sorted(families))], "methods")}<div class="scroll"><table class="grid" data-grid>'
    body += f"{heads(columns)}<tbody>{''.join(lines)}</tbody></table></div></section>"
    return page(site, title=f"Methods · {site.title}", body=body, path="methods.html", here="Methods")


CLAIM_COLUMNS = [("claim", "name"), ("verdict", ""), ("effect", "n"), ("95 % interval", "n"), ("scale", ""), ("why", "name")]


def claim_cells(c: Mapping[str, Any]) -> str:
    """Return the cells of one claim (of `evidence.evaluate`)."""
    interval = "" if c.get("low") is None or c.get("high") is None else f"{c['low']:+.4g} to {c['high']:+.4g}"
    effect = "" if c.get("effect") is None else f"{c['effect']:+.4g}"
    where = f'<span class="sub">{escape(str(c["where"]))}</span>' if c.get("where") else ""
    tested = f'<span class="sub"><code>{escape(str(c["inequality"]))}</code></span>' if c.get("inequality") else ""
    scale = escape(str(c.get("scale") or "")) + (f", {escape(str(c['parity']))}" if c.get("parity") not in (None, "", "none") else "")
    behind = ""
    if records := c.get("records") or []:
        units = escape(", ".join(str(r)[:12] for r in records))
        behind = f'<details><summary>{plural(len(records), "record")}</summary><code>{units}</code></details>'
    verdict = str(c["verdict"])
    return (
        f'<td class="name claim">{escape(str(c["statement"]))}{where}{tested}</td>'
        f'<td data-search="{escape(verdict)}">{chip(verdict)}</td>'
        f'<td class="n" data-order="{raw(c.get("effect"))}">{effect}</td><td class="n">{interval}</td>'
        f'<td class="soft">{scale}</td>'
        f'<td class="name soft">{escape(str(c.get("note") or ""))}{behind}</td>'
    )


def claims_page(site: Site, claims: Sequence[Mapping[str, Any]]) -> str:
    """Return all claims with their verdicts."""
    count = {v: sum(c["verdict"] == v for c in claims) for v in ("supported", "contradicted", "inconclusive", "not-run")}
    said = ", ".join(f"{n} {v}" for v, n in count.items() if n)
    names = [site.method_link(str(c["method"]), str(c["method"]), "") for c in claims]
    lines = "".join(f'<tr><td class="name">{name}</td>{claim_cells(c)}</tr>' for name, c in zip(names, claims, strict=True))
    body = f"<h1>Claims</h1><p class='sub'>What papers say, as inequalities that records support or contradict: {escape(said)}.</p>"
    filters = [("verdict", 2, [v for v, n in count.items() if n])]
    body += f'<section class="board">{tools(filters, "claims")}<div class="scroll"><table class="grid top" data-grid>'
    body += f"{heads([('method', 'name'), *CLAIM_COLUMNS])}<tbody>{lines}</tbody></table></div></section>"
    return page(site, title=f"Claims · {site.title}", body=body, path="claims.html", here="Claims")


def tables_page(site: Site, tables: Sequence[Mapping[str, Any]]) -> str:
    """Return the paper tables: published numbers beside the reproduced ones.

    Each has id, title, paper, and results (of `reproduce.Result.data`).
    """
    parts = []
    columns = [("row", "name"), ("column", ""), ("metric", ""), ("paper", "n"), ("reproduced", "n"), ("difference", "n"), ("tolerance", "n")]
    columns += [("verdict", ""), ("where it stands", "name"), ("note", "name")]
    for t in tables:
        lines = "".join(f"<tr>{_cell(r)}</tr>" for r in t["results"])
        paper = t.get("paper") or {}
        cited = ", ".join(str(paper[k]) for k in ("title", "venue", "year") if paper.get(k))
        verdicts = sorted({str(r["verdict"]) for r in t["results"]})
        parts.append(
            f'<section class="board" id="{ident(str(t["id"]))}"><h2>{escape(str(t["title"]))}</h2><p class="sub">{escape(cited)} · '
            f'<code>scorebench reproduce {escape(str(t["id"]))}</code></p>{tools([("verdict", 7, verdicts)], "cells")}'
            f'<div class="scroll"><table class="grid top" data-grid>{heads(columns)}<tbody>{lines}</tbody></table></div></section>'
        )
    body = "<h1>Paper tables</h1><p class='sub'>Published numbers beside those measured here, over keyed noise draws. "
    body += "† read elsewhere than in the paper itself.</p>"
    return page(site, title=f"Paper tables · {site.title}", body=body + "".join(parts), path="tables.html", here="Tables")


def _cell(r: Mapping[str, Any]) -> str:
    """Return one cell of a paper table as a row of columns."""
    places = int(r.get("digits") or 2)
    beside = [f"{said} {r[k]}" for said, k in (("quoted from", "quoted_from"), ("disputed by", "disputed_by")) if r.get(k)]
    kind = f'<span class="sub">{escape(str(r["kind"]))}</span>' if r.get("kind") else ""
    cells = [f'<td class="name">{escape(str(r["row"]))}{kind}</td><td>{escape(str(r.get("column") or r.get("task") or ""))}</td>']
    cells.append(f"<td>{escape(str(r['metric']))}</td>")
    mark = "†" if r.get("quoted_from") else ""
    cells.append(f'<td class="n" data-order="{raw(r["paper"])}">{words.number(r["paper"], places)}{mark}</td>')
    for k in ("reproduced", "difference", "tolerance"):
        shown = words.number(r.get(k), places + 1, sign=k == "difference")
        cells.append(f'<td class="n" data-order="{raw(r.get(k))}">{escape(shown)}</td>')
    cells.append(f'<td data-search="{escape(str(r["verdict"]))}">{chip(str(r["verdict"]))}</td>')
    cells.append(f'<td class="name soft">{escape(str(r.get("where") or ""))}<span class="sub">{escape("; ".join(beside))}</span></td>')
    cells.append(f'<td class="name soft">{escape(str(r.get("note") or ""))}</td>')
    return "".join(cells)
