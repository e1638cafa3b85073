"""``scorebench data``: which datasets and weights are on this machine, where the others belong, and whether they are whole."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ...configs.errors import RequestError, ScorebenchError, unknown
from .common import emit_json, json_option, table

if TYPE_CHECKING:
    from ...tasks.metrics.weights import WeightFile

PREFIX = "weights:"


@click.group("data")
def data() -> None:
    """Datasets and weights on this machine."""


def _datasets() -> list[dict[str, Any]]:
    from ...datasets import registry

    out = []
    for dataset_id in registry.known():
        d = registry.get(dataset_id)
        missing = d.missing()
        state = "missing" if missing else "embedded" if d.embedded else "here"
        out.append({"id": d.id, "state": state, "title": d.title, "licence": d.licence, "message": missing or d.title})
    return out


def _weights() -> Mapping[str, WeightFile]:
    from ...tasks.metrics.weights import WEIGHTS

    return WEIGHTS


@data.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List every dataset and weights file: embedded, here, or missing with where to get it and where to put it."""
    rows = _datasets()
    for weight in _weights().values():
        why = weight.missing("A metric")
        message = f"{why.because} {why.remedy}" if why else str(weight.path)
        rows.append({"id": PREFIX + weight.id, "state": "missing" if why else "here", "title": weight.file, "licence": "", "message": message})
    if as_json:
        emit_json(rows)
        return
    here = [r for r in rows if r["state"] != "missing"]
    click.echo(table(("ID", "STATE", "WHAT"), [(r["id"], r["state"], r["message"]) for r in here], flexible=2))
    if missing := [r for r in rows if r["state"] == "missing"]:
        click.echo("\nMissing (nothing embedded needs them):")
        for r in missing:
            click.echo(f"  {r['id']}: {r['message']}")


@data.command("verify")
@click.argument("ids", nargs=-1, metavar="[ID...]")
@json_option
def verify(ids: tuple[str, ...], as_json: bool) -> int:
    """Read datasets whole (default: all that are here) and check that they are what their fingerprints say."""
    from ...datasets import registry

    chosen = list(ids) or [r["id"] for r in _datasets() if r["state"] != "missing"]
    for dataset_id in chosen:
        if not dataset_id.startswith(PREFIX):
            registry.get(dataset_id).require()
    results = [_verify(i) for i in chosen]
    if as_json:
        emit_json(results)
    else:
        for r in results:
            click.echo(f"{r['id']}: {r['state']}, {r['message']}")
    return int(any(r["state"] == "wrong" for r in results))


def _verify(name: str) -> dict[str, Any]:
    from ...datasets import registry

    if name.startswith(PREFIX):
        weight = weight_file(name)
        why = weight.missing("a metric")
        return {"id": name, "state": "wrong" if why else "ok", "message": why.because if why else f"sha256 {weight.sha256[:16]}"}
    dataset = registry.get(name)
    try:
        content = dataset.content_hash()
        remembered = dataset.fingerprint()
    except ScorebenchError as e:
        return {"id": name, "state": "wrong", "message": str(e)}
    counts = ", ".join(f"{len(dataset.ids(s))} {s}" for s in dataset.splits)
    if content != remembered:
        message = f"read {content[:16]}, remembered {remembered[:16]}: files changed without changing their dates"
        return {"id": name, "state": "wrong", "message": message}
    return {"id": name, "state": "ok", "message": f"{counts}; fingerprint {content[:16]}"}


@data.command("path")
@click.argument("name", required=False, metavar="[ID]")
def path(name: str | None) -> None:
    """Print the folders datasets are read from, or where one dataset or weights file belongs."""
    from ...configs.loader import home
    from ...datasets import registry
    from ..doctor import data_folders

    if name is None:
        for folder in data_folders():
            click.echo(folder)
        if not data_folders():
            click.echo("SCOREBENCH_DATA is not set; set it to the folder that holds your datasets.", err=True)
        click.echo(home() / "weights")
        return
    if name.startswith(PREFIX):
        click.echo(weight_file(name).path)
        return
    dataset = registry.get(name)
    files = dataset.files() if dataset.missing() is None else []
    if files:
        import os.path

        click.echo(os.path.commonpath([f if f.is_dir() else f.parent for f in files]))
    elif dataset.missing() is None:
        click.echo(f"{name} is made by the package; it has no files.", err=True)
    else:
        dataset.require()


def weight_file(name: str) -> WeightFile:
    """Return the weights that ``weights:ID`` names; RequestError with the nearest names when unknown."""
    known = _weights()
    plain = name.removeprefix(PREFIX)
    if plain not in known:
        raise unknown("weights", name, [PREFIX + i for i in known])
    return known[plain]


def _megabytes(done: int, total: int) -> None:
    if sys.stderr.isatty():
        of = f" of {total / 1e6:.1f}" if total else ""
        click.echo(f"\r{done / 1e6:.1f}{of} MB" + ("\n" if done == total else ""), nl=False, err=True)


@data.command("fetch")
@click.argument("name", metavar="weights:ID")
def fetch(name: str) -> None:
    """Download published weights (weights:inception, weights:alex, ...) and check their sha256.

    Datasets are not downloaded: their licences ask you to get them yourself; `scorebench data list` says where.
    """
    from ...datasets import registry
    from .. import fetch as download

    if not name.startswith(PREFIX) and name in registry.known():
        missing = registry.get(name).missing()
        if missing is None:
            click.echo(f"{name} is here already.")
            return
        raise RequestError(f"scorebench does not download datasets. {missing}")
    weight = weight_file(name)
    if weight.missing("it") is None:
        click.echo(f"{name} is here already: {weight.path}")
        return
    if sys.stderr.isatty():
        click.echo(f"Fetching {weight.url}", err=True)
    click.echo(download.fetch(weight.url, weight.path, weight.sha256, _megabytes))
