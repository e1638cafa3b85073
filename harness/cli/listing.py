"""``scorebench list``: what there is, without importing torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...configs.errors import RequestError
from ...tasks.spec import FAMILIES
from .common import emit_json, hint, include_folders, include_option, json_option, table

KINDS = ("tasks", "methods", "datasets", "priors", "metrics", "sweeps", "suites", "tables")


def methods(family: str | None) -> list[dict[str, Any]]:
    """Return one row per method card."""
    from ...baselines.card import cards

    return [
        {"id": c.id, "families": c.families, "title": c.title, "uses": dict(c.uses), "needs": dict(c.needs),
         "presets": [p for p in c.presets if p != "default"], "trains_on": c.trains_on, "plugin": str(c.folder) if c.folder else None}
        for c in cards().values() if family is None or family in c.families
    ]  # fmt: skip


def tasks(family: str | None) -> list[dict[str, Any]]:
    """Return one row per task."""
    from ...tasks.registry import specs

    return [
        {"id": s.id, "version": s.version, "family": s.family, "dataset": s.dataset, "primary": s.primary, "title": s.title,
         "metrics": list(s.metrics), "budgets": list(s.budgets)}
        for s in specs().values() if family in (None, s.family)
    ]  # fmt: skip


def datasets(family: str | None) -> list[dict[str, Any]]:
    """Return one row per dataset, with whether its data are on this machine."""
    from ...datasets import registry
    from ...tasks.registry import specs

    used = {s.dataset for s in specs().values() if s.family == family}
    out = []
    for dataset_id in registry.known():
        if family is not None and dataset_id not in used:
            continue
        d = registry.get(dataset_id)
        out.append(
            {"id": d.id, "version": d.version, "title": d.title, "kind": d.kind, "embedded": d.embedded, "here": d.missing() is None,
             "licence": d.licence, "pixels": d.pixels, "splits": list(d.splits)}
        )  # fmt: skip
    return out


def metrics(family: str | None) -> list[dict[str, Any]]:
    """Return one row per metric, with the tasks that use it."""
    from ...tasks.metrics import registry
    from ...tasks.registry import specs

    out = []
    for name in registry.known():
        used = [s.id for s in specs().values() if name in s.metrics and family in (None, s.family)]
        if family is None or used:
            out.append({"id": name, "title": registry.info(name).title, "tasks": used})
    return out


def declared(kind: str) -> list[dict[str, Any]]:
    """Return one row per YAML file of ``configs/<kind>``: its id and title."""
    from ...configs.loader import HERE, Index

    docs = Index(kind).documents(sorted((HERE / kind).glob("*.yaml")))
    return [{"id": doc.data.get("id", doc.path.stem), "title": doc.data.get("title", ""), **doc.data} for doc in docs]


COLUMNS: dict[str, tuple[str, ...]] = {
    "methods": ("id", "families", "presets", "title"),
    "tasks": ("id", "version", "dataset", "primary", "title"),
    "datasets": ("id", "kind", "here", "pixels", "title"),
    "priors": ("id", "kind", "form", "data", "title"),
    "sweeps": ("id", "search", "points", "split", "title"),
    "metrics": ("id", "tasks", "title"),
}


def rows_of(kind: str, family: str | None) -> list[dict[str, Any]]:
    """Return the rows of one kind; RequestError where a family does not apply."""
    by_family = {"methods": methods, "tasks": tasks, "datasets": datasets, "metrics": metrics}
    if kind in by_family:
        return by_family[kind](family)
    if family is not None:
        raise RequestError(f"--family does not apply to {kind}; it applies to {', '.join(by_family)}.")
    if kind == "sweeps":
        from .sweep import listed

        return listed()
    return declared(kind)


def _cell(kind: str, row: dict[str, Any], column: str) -> str:
    value = row.get(column, "")
    if column == "here":
        return "embedded" if row["embedded"] else "here" if value else "missing"
    if column == "tasks":
        return str(len(value))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


class Kind(click.ParamType):
    """One of `KINDS`, in the plural or the singular."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        for kind in KINDS:
            if value in (kind, kind.removesuffix("s")):
                return kind
        self.fail(f"{value!r} is nothing to list; {hint(str(value), KINDS)}", param, ctx)


@click.command("list")
@click.argument("kind", type=Kind(), metavar="KIND")
@click.option("--family", type=click.Choice(FAMILIES), help="Only what belongs to one family of tasks.")
@include_option
@json_option
def list_(kind: str, family: str | None, include: tuple[Path, ...], as_json: bool) -> None:
    """List what there is. KIND: tasks, methods, datasets, priors, metrics, sweeps, suites or tables (of papers)."""
    include_folders(include)
    rows = rows_of(kind, family)
    if as_json:
        emit_json(rows)
        return
    if not rows:
        click.echo(f"No {kind} are declared{' for ' + family if family else ''}.")
        return
    columns = COLUMNS.get(kind, ("id", "title"))
    click.echo(table([c.upper() for c in columns], [[_cell(kind, r, c) for c in columns] for r in rows], flexible=len(columns) - 1))
