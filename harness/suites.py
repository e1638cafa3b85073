"""Suites: named lists of (tasks x variants x seeds), declared in ``configs/suites/*.yaml``.

    id: quickstart
    title: ...
    seeds: [0]                                # of every cell that names none
    cells:
      - tasks: [denoising/photos-gaussian25]  # ids, families or globs
        variants: [noisy-input, dncnn]        # method or method[preset]; "*" is every method that can answer
        seeds: [0, 1, 2]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configs.errors import unknown
from ..configs.loader import HERE, Document, Field, Index, validate


def _integers(values: Any) -> str | None:
    bad = [v for v in values if isinstance(v, bool) or not isinstance(v, int) or v < 0]
    return f"has {bad[0]!r}; accepted: integers of at least 0" if bad else None if values else "must name at least one"


def _texts(values: Any) -> str | None:
    bad = [v for v in values if not isinstance(v, str)]
    return f"has {bad[0]!r}; accepted: ids" if bad else None if values else "must name at least one"


FIELDS: dict[str, Field] = {
    "id": Field((str,), required=True),
    "title": Field((str,), required=True),
    "notes": Field((str,), default=""),
    "seeds": Field((list,), default=[0], check=_integers),
    "draws": Field((list,), default=[0], check=_integers),
    "cells": Field((list,), required=True, check=lambda v: None if v else "must hold at least one mapping with tasks and variants"),
}
CELL: dict[str, Field] = {
    "tasks": Field((list,), required=True, check=_texts, meaning="task ids, families or globs"),
    "variants": Field((list,), required=True, check=_texts, meaning="method or method[preset]; '*' is every method that can answer"),
    "seeds": Field((list,), check=_integers),
    "draws": Field((list,), check=_integers),
    "prior_seeds": Field((list,), default=[], check=lambda v: _integers(v) if v else None, meaning="other trainings of trained priors"),
    "budgets": Field((list,), default=[], check=lambda v: _texts(v) if v else None, meaning="budgets of the tasks; none: each method's own"),
}


@dataclass(frozen=True)
class Cell:
    """One block of a suite: every variant on every task it can answer, with every seed and draw. ``tasks`` are resolved ids."""

    tasks: tuple[str, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    draws: tuple[int, ...] = (0,)
    budgets: tuple[str, ...] = ()
    prior_seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Suite:
    """A suite's declaration."""

    id: str
    title: str
    cells: tuple[Cell, ...]
    notes: str = ""
    path: Path = Path()

    def tasks(self) -> list[str]:
        """Return the ids of the suite's tasks, each once, in order."""
        return list(dict.fromkeys(t for c in self.cells for t in c.tasks))


def expand(cell: Cell) -> list[str]:
    """Return the cell's variants, ``*`` replaced by every method that can answer one of its tasks."""
    from ..baselines.card import cards
    from ..tasks.registry import get_spec

    out: list[str] = []
    for text in cell.variants:
        specs = [get_spec(t) for t in cell.tasks]
        able = [c.id for c in cards().values() if any(c.answers(s.id, s.ability) for s in specs)]
        out += [v for v in (able if text == "*" else [text]) if v not in out]
    return out


def _documents() -> dict[str, Document]:
    docs = Index("suites").documents(sorted((HERE / "suites").glob("*.yaml")))
    out: dict[str, Document] = {}
    for doc in docs:
        name = str(doc.data.get("id", doc.path.stem))
        if name in out:
            raise doc.error(f"suite id {name!r} is already declared in {out[name].path}; ids are unique.", ("id",))
        out[name] = doc
    return out


def known() -> list[str]:
    """Return the ids of all suites."""
    return list(_documents())


def get(suite_id: str) -> Suite:
    """Return one suite, its tasks resolved and its variants checked to exist; RequestError when unknown or wrong."""
    documents = _documents()
    if suite_id not in documents:
        raise unknown("suite", suite_id, documents)
    return parse(documents[suite_id])


def parse(doc: Document) -> Suite:
    """Check one suite document and resolve it; RequestError with file and line when a field is wrong."""
    from ..baselines import card
    from ..configs.errors import RequestError
    from ..tasks import registry

    d = validate(doc, FIELDS)
    cells = []
    for i in range(len(d["cells"])):
        c = validate(doc, CELL, ("cells", i))
        try:
            tasks = tuple(registry.match(c["tasks"]))
            for text in c["variants"]:
                if text != "*":
                    variant = card.parse_variant(text)
                    card.get(variant.method).preset(variant.preset, tasks[0])
        except RequestError as e:
            raise doc.error(str(e), ("cells", i)) from None
        seeds, draws = c["seeds"] or d["seeds"], c["draws"] or d["draws"]
        cells.append(Cell(tasks, tuple(c["variants"]), tuple(seeds), tuple(draws), tuple(c["budgets"]), tuple(c["prior_seeds"])))
    return Suite(d["id"], d["title"], tuple(cells), d["notes"], doc.path)
