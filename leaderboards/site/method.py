"""One page per method: paper, card, results on every task, claims, cost, and its own best and worst samples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .. import words
from ..gallery import own_examples
from . import plots, provenance
from .media import Media
from .overview import CLAIM_COLUMNS, Paired, board_name, claim_cells
from .shell import COSTS, Site, chip, heads, number, page, plural, raw, tools
from .task import decimals, value

UP = "../"
EXAMPLES = 3
"""Boards a method's page shows examples of."""

_FACTS = {
    "clean_images": "clean images", "noise_known": "the noise level", "second_noisy_copy": "a second noisy copy", "labels": "labels",
    "fresh_training_noise": "fresh noise in training", "sees_test_inputs": "test inputs", "external_weights": "external weights",
}  # fmt: skip


def method_page(
    site: Site, name: str, card: Mapping[str, Any], boards: Paired, claims: Sequence[Mapping[str, Any]], media: Media, path: str
) -> str:
    """Return the page. ``card``: the method's card as a mapping (empty where it is not installed); ``claims``: its own."""
    title = str(card.get("title") or name)
    own = [(b, d, r) for b, d in boards for r in d["rows"] if r["method"] == name]
    families = card.get("families") or sorted({d["family"] for _, d, _ in own})
    crumbs = " · ".join(f'<a href="{UP}index.html#{escape(f)}">{escape(f)}</a>' for f in families)
    body = f'<div class="crumbs">{crumbs}</div><h1>{escape(title)}</h1><p class="sub"><code>{escape(name)}</code></p>'
    body += f'<div class="columns">{_paper(card.get("paper") or {}, card.get("bibtex"))}{_card(card)}</div>' if card else ""
    if not card:
        body += '<p class="empty">No card: this method is not installed here; its records are all that is known of it.</p>'
    body += _results(site, own)
    if claims:
        lines = "".join(f"<tr>{claim_cells(c)}</tr>" for c in claims)
        body += f'<section id="claims"><h2>Claims</h2><div class="scroll"><table class="grid top" data-grid>{heads(CLAIM_COLUMNS)}'
        body += f"<tbody>{lines}</tbody></table></div></section>"
    elif card.get("claims"):
        count = plural(len(card["claims"]), "claim")
        body += f'<section id="claims"><h2>Claims</h2><p class="soft">Not evaluated in this site: {count}.</p></section>'
    body += _published(card.get("published") or [])
    body += _examples(own, media)
    rows = {}
    for b, _, r in own:
        row = plots.board_row(b, r)
        if row is not None:
            rows[provenance.key(b, row)] = provenance.row_data(b, row, r)
    return page(site, title=f"{title} · {site.title}", body=body, path=path, data={"rows": rows})


def _paper(paper: Mapping[str, Any], bibtex: str | None) -> str:
    if not paper:
        return '<section class="paper"><h2>Paper</h2><p class="soft">The card names none.</p></section>'
    authors = paper.get("authors") or ""
    authors = ", ".join(map(str, authors)) if isinstance(authors, (list, tuple)) else str(authors)
    about = ", ".join(str(paper[k]) for k in ("venue", "year") if paper.get(k))
    links = []
    if paper.get("arxiv"):
        links.append((f"arXiv:{paper['arxiv']}", f"https://arxiv.org/abs/{paper['arxiv']}"))
    if paper.get("doi"):
        links.append((f"doi:{paper['doi']}", f"https://doi.org/{paper['doi']}"))
    if paper.get("code"):
        code = str(paper["code"])
        links.append((f"code: {code}", code if "://" in code else f"https://github.com/{code}"))
    if paper.get("url"):
        links.append(("page", str(paper["url"])))
    shown = " · ".join(
        f'<a href="{escape(url)}" rel="noreferrer noopener">{escape(text)}</a>' for text, url in links if url.startswith(("https://", "http://"))
    )
    cite = f"<details><summary>BibTeX</summary><pre>{escape(bibtex)}</pre></details>" if bibtex else ""
    return (
        f'<section class="paper"><h2>Paper</h2><p class="title">{escape(str(paper.get("title", "")))}</p><p class="soft">{escape(authors)}</p>'
        f'<p class="soft">{escape(about)}</p><p>{shown}</p>{cite}</section>'
    )


def _card(card: Mapping[str, Any]) -> str:
    uses = []
    for key, said in (card.get("uses") or {}).items():
        if said:
            names = f" ({', '.join(map(str, said))})" if isinstance(said, (list, tuple)) else ""
            uses.append(_FACTS.get(key, str(key)) + names)
    needs = []
    for role, what in (card.get("needs") or {}).items():
        needs.append(str(role) + (f" ({', '.join(f'{k} {v}' for k, v in what.items())})" if isinstance(what, Mapping) else ""))
    changes = {"none": "nothing: the same answer every time", "inference": "its inference", "fit": "its training"}
    presets = [(k, p) for k, p in (card.get("presets") or {}).items() if isinstance(p, Mapping)]
    facts = [
        ("answers", ", ".join(card.get("abilities") or ())), ("tasks", ", ".join(card.get("tasks") or ())),
        ("may use", ", ".join(uses) or "nothing but its input"), ("trains on", str(card.get("trains_on", "none"))),
        ("needs", "; ".join(needs) or "nothing"), ("a seed changes", changes.get(str(card.get("stochastic")), "–")),
        ("presets", "; ".join(f"{k}: {p.get('title') or ''}".rstrip(": ") for k, p in presets)), ("code", str(card.get("target", ""))),
    ]  # fmt: skip
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts if v)
    notes = f'<p class="soft">{escape(str(card["notes"]))}</p>' if card.get("notes") else ""
    return f'<section class="card-facts"><h2>Card</h2><dl>{listed}</dl>{notes}</section>'


def _results(site: Site, own: Sequence[tuple[Any, words.Data, Mapping[str, Any]]]) -> str:
    if not own:
        return '<section id="results"><h2>Results</h2><p class="empty">No record yet.</p></section>'
    costs = [c for c in COSTS if any(r["cost"].get(c[1]) is not None for _, _, r in own)]
    columns = [("task", "name"), ("variant", "name"), ("rank in track", "n"), ("metric", ""), ("value", "n"), ("difference to reference", "n")]
    columns += [("verdict", ""), ("seeds × draws", "n"), *((name, "n") for name, _, _ in costs)]
    lines = []
    for b, d, r in own:
        row, primary = plots.board_row(b, r), d["primary"]
        key, places, entry = provenance.key(b, row) if row is not None else "", decimals(b, d)[primary], r["metrics"][primary]
        members = sum(x["track"] == r["track"] and not x["unranked"] for x in d["rows"])
        budget = "" if d["budget"] == "default" else f" · {d['budget']}"
        task = f'<a href="{UP}{escape(site.names.page("tasks", board_name(b)))}">{escape(d["title"])}</a>{escape(budget)}'
        star = '<span class="star">∗</span>' if r["near_best"] else ""
        cells = [f'<td class="name" data-order="{escape(d["task"] + d["budget"])}">{task}</td>']
        cells.append(f'<td class="name">{star}{escape(r["variant"])}</td>')
        rank = f"{r['rank']} of {members}" if r["rank"] else "–"
        cells.append(f'<td class="n" data-order="{r["rank"] or ""}">{rank}</td>')
        unit = f", {b.unit(primary)}" if b.unit(primary) else ""
        cells.append(f'<td class="soft">{escape(primary + unit)} {"↑" if b.higher(primary) else "↓"}</td>')
        cells.append(value(key, primary, entry, places, "primary"))
        text = "reference" if r["reference"] else words.delta(entry, places)
        cells.append(f'<td class="n" data-order="{raw(entry.get("delta"))}">{escape(text)}</td>')
        cells.append(f'<td data-search="{escape(entry.get("verdict") or "")}">{chip(entry.get("verdict"))}</td>')
        cells.append(f'<td class="n" data-order="{r["seeds"] * r["draws"]}">{r["seeds"]} × {r["draws"]}</td>')
        for _, name, spell in costs:
            around = "~" if name == "sample_s_median" and not r["cost"].get("exclusive") and r["cost"].get(name) is not None else ""
            cells.append(number(key, f"cost:{name}", around + spell(r["cost"].get(name)), r["cost"].get(name)))
        lines.append(f'<tr class="{"stale" if r["stale"] else ""}">{"".join(cells)}</tr>')
    verdicts = sorted({v for _, d, r in own if (v := r["metrics"][d["primary"]].get("verdict"))})
    return (
        f'<section id="results" class="board"><h2>Results</h2>{tools([("verdict", 6, verdicts)], "results")}<div class="scroll">'
        f'<table class="grid" data-grid>{heads(columns)}<tbody>{"".join(lines)}</tbody></table></div></section>'
    )


def _published(published: Any) -> str:
    if not published:
        return ""
    entries = [published] if isinstance(published, str) else list(published)
    lines = []
    for p in entries:
        if isinstance(p, Mapping):
            p = "; ".join(f"{k}: {v if isinstance(v, (str, int, float)) else json.dumps(v, ensure_ascii=False)}" for k, v in p.items())
        lines.append(f"<li>{escape(str(p))}</li>")
    return f'<section><h2>Published numbers</h2><ul class="soft">{"".join(lines)}</ul></section>'


def _examples(own: Sequence[tuple[Any, words.Data, Mapping[str, Any]]], media: Media) -> str:
    parts = []
    for b, d, r in own:
        row = plots.board_row(b, r)
        strips = own_examples(b, row) if row is not None else []
        if strips:
            parts.append(f"<h3>{escape(d['title'])}, {escape(r['variant'])}</h3>" + f'<div class="trio">{media.strips(strips, UP)}</div>')
        if len(parts) == EXAMPLES:
            break
    return f'<section id="examples"><h2>Its best, median and worst samples</h2>{"".join(parts)}</section>' if parts else ""
