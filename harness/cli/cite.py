"""``scorebench cite``: BibTeX of methods, datasets and metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ...configs.errors import RequestError
from .common import include_folders, include_option

MEETINGS = re.compile(r"\b(CVPR|ICCV|ECCV|ICLR|ICML|NeurIPS|NIPS|ICASSP|Interspeech|AAAI|WASPAA)\b|Conference|Workshop|Proceedings|Proc\.")


def bibtex(key: str, paper: Mapping[str, Any]) -> str:
    """Return the BibTeX entry of a card's ``paper``; its own ``bibtex`` field where it has one."""
    if paper.get("bibtex"):
        return str(paper["bibtex"]).strip()
    arxiv, venue = paper.get("arxiv"), paper.get("venue")
    authors = paper.get("authors", [])
    if isinstance(authors, str):  # cards write "First Last, First Last"; BibTeX wants "and" between names
        authors = authors.split(" and ") if " and " in authors else authors.split(", ")
    meeting = bool(venue) and bool(MEETINGS.search(str(venue)))
    fields = {
        "title": "{" + str(paper["title"]) + "}",
        "author": " and ".join(authors),
        "year": paper.get("year"),
        "booktitle" if meeting else "journal": venue or (f"arXiv preprint arXiv:{arxiv}" if arxiv else None),
        "eprint": arxiv,
        "archiveprefix": "arXiv" if arxiv else None,
        "doi": paper.get("doi"),
        "url": paper.get("url"),
    }
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
    kind = "inproceedings" if meeting else "article" if venue or arxiv else "misc"
    return f"@{kind}{{{re.sub(r'[^A-Za-z0-9:-]', '', key)},\n{body}\n}}"


def entries() -> Iterator[tuple[str, str]]:
    """Yield (id, BibTeX) of everything that has a paper."""
    from ...baselines.card import cards
    from ...datasets import registry

    for card in cards().values():
        if card.paper.get("title") or card.paper.get("bibtex"):
            yield card.id, bibtex(f"{card.id}{card.paper.get('year', '')}", card.paper)
    for dataset_id in registry.known():
        if text := registry.get(dataset_id).citation.strip():
            yield dataset_id, text


def metric_entries() -> Iterator[tuple[str, str]]:
    """Yield (name, BibTeX) of the metrics, whose papers are written out."""
    from ...tasks.metrics import registry

    for name in registry.known():
        if paper := " ".join(registry.load(name).paper.split()):
            yield name, f"@misc{{{name},\n  note = {{{paper}}}\n}}"


@click.command("cite")
@click.argument("ids", nargs=-1, metavar="[ID...]")
@include_option
def cite(ids: tuple[str, ...], include: tuple[Path, ...]) -> None:
    """Print BibTeX of the methods, datasets and metrics named, or of all that have a paper."""
    include_folders(include)
    known: dict[str, list[str]] = {}
    for name, text in [*entries(), *metric_entries()]:
        known.setdefault(name, []).append(text)
    for name in ids:
        if name not in known:
            from .show import kind_of

            raise RequestError(f"The {kind_of(name)} {name!r} names no paper to cite.")
    texts = [t for name in (ids or known) for t in known[name]]
    click.echo("\n\n".join(dict.fromkeys(texts)))
