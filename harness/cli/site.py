"""The site of ``scorebench board ... --format html --out DIR``: boards with cards, claims and paper tables, as static pages."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...configs.errors import ScorebenchError

if TYPE_CHECKING:
    from ...leaderboards.board import Board
    from ...leaderboards.sources import Gathered


def is_site(form: str | None, out: Path | None) -> bool:
    """Whether a site is asked for: HTML to a folder, or to a name without the ending of a file."""
    return form == "html" and out is not None and (out.is_dir() or not out.suffix)


def write(boards: Sequence[Board], out: Path, gathered: Gathered, everything: bool) -> str:
    """Write the site and return what to say of it. ``everything``: all boards were asked for, so all methods and tables are shown."""
    from ... import __version__
    from ...leaderboards.site.build import write_site
    from ...leaderboards.site.vendor import REMEDY

    named = {r.method for b in boards for r in b.rows}
    cards = {name: data for name, data in _cards().items() if everything or name in named}
    (claims, problems), tables = _claims(gathered), _tables(gathered)
    if not everything:
        tasks = {b.task for b in boards}
        claims = [c for c in claims if c["method"] in named and (not c.get("tasks") or tasks & set(c["tasks"]))]
        tables = [t for t in tables if any(r["task"] in tasks for r in t["results"])]
    newest = max((str(r.get("written", ""))[:10] for b in boards for row in b.rows for r in row.group.units.values()), default="")
    facts = {"scorebench": __version__} | ({"records up to": newest} if newest else {})
    written = write_site(boards, out, cards=cards, claims=claims, tables=tables, facts=facts, hide=_folders())
    said = f"Wrote {written.pages} pages to {out}; open {out / 'index.html'}."
    if written.missing:
        problems.append(f"Without {' and '.join(written.missing)}: {REMEDY}")
    return "\n".join([said, *problems])


def _folders() -> dict[str, str]:
    """Return this machine's folders with what stands for them: a site may be published, and tells nothing of its maker's disk."""
    from ...configs.loader import home

    data = [p for p in os.environ.get("SCOREBENCH_DATA", "").split(os.pathsep) if len(p) > 2]
    found = {p.rstrip("/"): "$SCOREBENCH_DATA" for p in data} | {str(home()): "$SCOREBENCH_HOME"}
    return found | ({str(Path.home()): "~"} if len(str(Path.home())) > 2 else {})


def _cards() -> dict[str, dict[str, Any]]:
    from ...baselines.card import cards
    from .cite import bibtex

    out = {}
    for name, card in cards().items():
        cite = bibtex(f"{name}{card.paper.get('year', '')}", card.paper) if card.paper.get("title") or card.paper.get("bibtex") else None
        out[name] = {**dataclasses.asdict(card), "families": card.families, "bibtex": cite}
    return out


def _claims(gathered: Gathered) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the verdicts on all claims, and what is wrong with cards whose claims cannot be read."""
    from ...baselines.card import cards
    from .claims import verdicts

    try:
        return verdicts(gathered), []
    except ScorebenchError:
        found, problems = list[dict[str, Any]](), list[str]()
    for name in cards():
        try:
            found += verdicts(gathered, name)
        except ScorebenchError as e:
            problems.append(f"Without the claims of {name}: {e}")
    return found, problems


def _tables(gathered: Gathered) -> list[dict[str, Any]]:
    """Return the paper tables with what became of their cells; a table whose plug-in or data are wrong here is left out."""
    from ...leaderboards.tables import known
    from .reproduce import judged, load

    out = []
    for name in known():
        try:
            found = load(name)
            results = [r.data() for r in judged(found, gathered)]
        except ScorebenchError:
            continue  # `scorebench reproduce NAME` says what is wrong with it
        out.append({"id": found.id, "title": found.title, "paper": dict(found.paper), "results": results})
    return out
