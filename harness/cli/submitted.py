"""``scorebench inputs`` and ``scorebench score``: answers made by software outside scorebench."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from ...baselines.card import USES
from ...configs.errors import RequestError
from .common import emit_json, hint, include_folders, include_option, json_option, store_option, store_path


class Ticker:
    """A line on the terminal that counts; silent where nobody watches."""

    def __init__(self, what: str) -> None:
        self.what, self.shown = what, 0.0

    def __call__(self, k: int, n: int) -> None:
        if not sys.stderr.isatty() or (k < n and time.monotonic() - self.shown < 0.1):
            return
        self.shown = time.monotonic()
        click.echo(f"\r{self.what} {k} of {n}" + ("\n" if k == n else ""), nl=False, err=True)


@click.command("inputs")
@click.argument("task")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder (or one to be continued).")
@click.option("--split", type=click.Choice(("test", "dev")), default="test", show_default=True)
@click.option("--draw", type=click.IntRange(min=0), default=0, show_default=True, help="Which noise draw.")
@include_option
@json_option
def inputs(task: str, out: Path, split: str, draw: int, include: tuple[Path, ...], as_json: bool) -> None:
    """Write TASK's observations as arrays with a manifest, and nothing clean.

    Put one answer per sample into DIR/answers, then `scorebench score TASK DIR --name NAME`.
    """
    include_folders(include)
    from ...tasks.registry import get_spec

    get_spec(task)
    from ..submitted import write_inputs

    manifest = write_inputs(task, out, split, draw, Ticker("sample"))
    if as_json:
        emit_json(manifest)
        return
    shapes = sorted({tuple(s["answer_shape"]) for s in manifest["samples"]})
    click.echo(f"Wrote {len(manifest['samples'])} observations of {task}@{manifest['version']} ({split}, draw {draw}) to {out / 'inputs'}.")
    click.echo(f"{out / 'manifest.json'} says what each field means and which shape each answer has ({_shapes(shapes)}).")
    click.echo(f"Put float32 answers into {out / 'answers'} as {manifest['samples'][0]['name']}.npy, ..., then:")
    click.echo(f"  scorebench score {task} {out} --name NAME")


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    shown = ", ".join("x".join(map(str, s)) for s in shapes[:3])
    return shown + (f", ... {len(shapes)} shapes" if len(shapes) > 3 else "")


def parse_facts(given: tuple[str, ...]) -> dict[str, Any]:
    """Read ``--uses``: the name of a fact, or ``external_weights=imagenet,laion``."""
    facts: dict[str, Any] = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in USES:
            raise RequestError(f"--uses {name!r} is not a fact that tracks depend on; {hint(name, USES)}")
        if USES[name] is list:
            if not value:
                raise RequestError(f"--uses {name} needs what the weights were trained on, e.g. --uses {name}=imagenet.")
            facts[name] = value.split(",")
        elif value not in ("", "true", "false"):
            raise RequestError(f"--uses {name} is {value!r}; accepted: true, false.")
        else:
            facts[name] = value != "false"
    return facts


@click.command("score")
@click.argument("task")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--name", required=True, help="The name of the row on the board.")
@click.option("--uses", multiple=True, metavar="FACT", help="What the method used (clean_images, noise_known, ...): decides its track.")
@store_option
@include_option
@json_option
def score(
    task: str, folder: Path, name: str, uses: tuple[str, ...], store: Path | None, include: tuple[Path, ...], as_json: bool
) -> None:
    """Score the answers in DIR/answers and record them, marked "outputs submitted", with no cost."""
    include_folders(include)
    from ...tasks.registry import get_spec

    get_spec(task)
    facts = parse_facts(uses)
    from ...leaderboards.ledger import Store
    from ..submitted import score as score_answers

    target = Store(store_path(store))
    target.prepare()
    record, arrays = score_answers(task, folder, name, facts, Ticker("sample"))
    if target.find(record["unit_id"], record["environment_key"]) is None:
        target.append(record, arrays)
    if as_json:
        emit_json(record)
        return
    for metric, entry in record["metrics"].items():
        if "unavailable" in entry:
            click.echo(f"{metric}: unavailable, {entry['unavailable']['because']} {entry['unavailable']['remedy']}")
        else:
            click.echo(f"{metric}: {entry['value']:.4f} {entry.get('unit', '')} ({entry['identity']})")
    click.echo(f"Recorded as {name} (outputs submitted) in {target.path}; `scorebench board {task}` shows it beside the others.")
