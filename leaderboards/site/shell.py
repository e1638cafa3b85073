"""What every page of the site shares: head, navigation, footer, links, and cells that open their provenance."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from .. import words
from .vendor import Scripts

POLICY = (
    "default-src 'none'; script-src 'self' file: 'unsafe-inline'; style-src 'self' file: 'unsafe-inline'; "
    "img-src 'self' file: data: blob:; media-src 'self' file: data:; connect-src 'none'; form-action 'none'; base-uri 'none'"
)
"""Nothing is loaded from anywhere but the site's own folder."""

_TOGGLE = '<button id="theme" type="button" title="light or dark" aria-label="light or dark">◐</button>'
_THEME = 'try{var t=localStorage.getItem("scorebench-theme");if(t)document.documentElement.dataset.theme=t}catch(e){}'


@dataclass
class Names:
    """File names of pages: readable, safe on every file system, and each given once."""

    taken: dict[str, str] = field(default_factory=dict)
    known: dict[tuple[str, str], str] = field(default_factory=dict)

    def page(self, kind: str, name: str) -> str:
        """Return the path of a page, relative to the site: ``tasks/denoising-bsd68.html``."""
        if (kind, name) not in self.known:
            plain = re.sub(r"[^a-z0-9.+=]+", "-", name.lower()).strip("-.") or "page"
            if plain in ("con", "nul", "aux", "prn") or len(plain) > 80:
                plain = plain[:60] + "-" + _short(name)
            path = f"{kind}/{plain}.html"
            if self.taken.setdefault(path, name) != name:
                path = f"{kind}/{plain}-{_short(name)}.html"
                self.taken[path] = name
            self.known[kind, name] = path
        return self.known[kind, name]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass
class Site:
    """What pages need to know of the whole: its name, its scripts, its other pages."""

    title: str
    scripts: Scripts
    names: Names
    families: Sequence[str]
    facts: str
    has_tables: bool = False
    has_claims: bool = False
    methods: frozenset[str] = frozenset()

    def method_link(self, method: str, text: str, up: str) -> str:
        """Return ``text`` as a link to the method's page, where it has one."""
        if method not in self.methods:
            return escape(text)
        return f'<a href="{up}{escape(self.names.page("methods", method))}">{escape(text)}</a>'


def page(site: Site, *, title: str, body: str, path: str, here: str = "", data: Mapping[str, Any] | None = None, plots: bool = False) -> str:
    """Return a whole page. ``path``: where it will lie in the site; ``data``: what its script reads (rows, plots)."""
    up = "../" * path.count("/")
    links = [("index.html", "Overview"), ("methods.html", "Methods")]
    links += [("claims.html", "Claims")] * site.has_claims + [("tables.html", "Tables")] * site.has_tables
    nav = "".join(f'<a href="{up}{href}"{" aria-current=page" if text == here else ""}>{text}</a>' for href, text in links)
    scripts = ["datatables.js"] * site.scripts.tables + ["plotly.min.js"] * (site.scripts.plots and plots) + ["site.js"]
    tags = "".join(f'<script defer src="{up}assets/{name}"></script>\n' for name in scripts)
    embedded = f'<script type="application/json" id="data">{as_json(data)}</script>\n' if data else ""
    missing = ""
    if site.scripts.missing:
        missing = f'<p class="soft">Built without {escape(" and ".join(site.scripts.missing))}.</p>'
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<meta name="referrer" content="no-referrer">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<link rel="stylesheet" href="{up}assets/site.css">\n'
        f"<script>{_THEME}</script>\n{tags}</head>\n<body>\n"
        f'<a class="skip" href="#main">Skip to content</a>\n<nav class="top" aria-label="site"><div>'
        f'<a class="brand" href="{up}index.html">{escape(site.title)}</a>{nav}{_TOGGLE}</div></nav>\n'
        f'<main id="main">{body}</main>\n<footer>{missing}<p>{site.facts}</p></footer>\n'
        '<dialog id="provenance" aria-label="where this number comes from"></dialog><dialog id="enlarged" aria-label="enlarged"></dialog>\n'
        f"{embedded}</body>\n</html>\n"
    )


def as_json(data: Any) -> str:
    """Return data as JSON that may stand in a page: no character in it can end the element it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def ident(text: str) -> str:
    """Return text as an id of an element."""
    return "".join(c if c.isalnum() else "-" for c in text)


def raw(value: float | None) -> str:
    """Return a number as tables sort by it."""
    return "" if value is None else repr(float(value))


def number(row: str, of: str, text: str, value: float | None, kind: str = "", title: str = "") -> str:
    """Return a cell whose number opens where it comes from. ``row``: its key in the page's data; ``of``: a metric or ``cost:name``."""
    about = f' title="{escape(title)}"' if title else ""
    if value is None:
        return f'<td class="n {kind}" data-order=""{about}>{escape(text)}</td>'
    button = f'<button type="button" class="num" data-row="{escape(row)}" data-of="{escape(of)}"{about}>{escape(text)}</button>'
    return f'<td class="n {kind}" data-order="{raw(value)}">{button}</td>'


def chip(verdict: str | None) -> str:
    """Return a verdict as a chip; the word is one of a fixed list or shown as plain text."""
    if not verdict:
        return ""
    return f'<span class="chip {ident(verdict)}">{escape(verdict)}</span>'


def heads(columns: Sequence[tuple[str, str]]) -> str:
    """Return the head row of a table from (text, class) pairs; ``n`` marks a column of numbers."""
    return "<thead><tr>" + "".join(f'<th scope="col" class="{c}">{escape(t)}</th>' for t, c in columns) + "</tr></thead>"


def tools(filters: Sequence[tuple[str, int, Sequence[str]]], what: str) -> str:
    """Return search box and filters of the table that follows: (label, column, accepted values)."""
    selects = "".join(
        f'<label>{escape(label)} <select data-column="{column}"><option value="">all</option>'
        + "".join(f'<option value="{escape(v)}">{escape(v)}</option>' for v in values)
        + "</select></label>"
        for label, column, values in filters
        if len(values) > 1
    )
    search = f'<input type="search" placeholder="Search {escape(what)}" aria-label="search {escape(what)}">'
    return f'<div class="tools" hidden>{search}{selects}<span class="shown soft" aria-live="polite"></span></div>'


def plural(n: int, word: str) -> str:
    """Return ``3 rows``."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


COSTS = (
    ("NFE", "nfe", words.count), ("params", "params", words.count), ("training", "train_s", words.seconds),
    ("s / sample", "sample_s_median", words.seconds),
)  # fmt: skip
