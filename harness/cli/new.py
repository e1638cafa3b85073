"""``scorebench new``: start a method in a folder of your own."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from string import Template

import click

from ...configs.errors import RequestError
from ...configs.loader import write_atomic
from ...tasks.spec import FAMILIES
from .common import include_folders

SCAFFOLD = Path(__file__).resolve().parent.parent / "scaffold"
RULE = "2 to 40 characters: lower-case letters, digits and single '-', starting with a letter, ending with a letter or digit"

FACTS: dict[str, dict[str, str]] = {
    "generation": {"ability": "sample", "task": "generation/gmm2d", "trains_on": "clean", "stochastic": "inference",
                   "uses": "clean_images: true", "preset": "bandwidth: 0.3", "preset_title": "more noise", "limit": "200"},
    "denoising": {"ability": "denoise", "task": "denoising/photos-gaussian25", "preset": "width: 1.2", "preset_title": "a wider average"},
    "restoration": {"ability": "restore", "task": "restoration/photos-deblur", "preset": "amount: 0.8", "preset_title": "sharper"},
    "inverse": {"ability": "reconstruct", "task": "inverse/photos-inpaint", "preset": "steps: 60", "preset_title": "more steps"},
    "speech": {"ability": "enhance", "task": "speech/speech-noise", "preset": "strength: 2.0", "preset_title": "more attenuation"},
    "classification": {"ability": "logits", "task": "classification/digits", "trains_on": "paired", "uses": "labels: true",
                       "preset": "sharpness: 4.0", "preset_title": "more confident", "limit": "100"},
}  # fmt: skip
"""What the templates need to know about each family."""
COMMON = {"trains_on": "none", "stochastic": "none", "uses": "", "limit": "2"}


@click.group("new")
def new() -> None:
    """Start something of your own."""


@new.command("method")
@click.argument("name")
@click.option("--family", required=True, type=click.Choice(FAMILIES), help="The family of tasks it shall answer.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where to write it (default: ./NAME).")
def method(name: str, family: str, out: Path | None) -> None:
    """Write a folder with a working method, its card and a test, ready to be changed.

    NAME becomes the method's id: lower-case letters, digits and '-'.
    """
    include_folders()
    check_name(name)
    folder = out if out is not None else Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder} already exists and is not an empty folder; give another NAME or --out DIR.")
    files = write(name, family, folder)
    click.echo(f"Wrote {folder}/: {', '.join(f.name for f in files)}. Next:")
    click.echo(f"  pytest {folder}")
    click.echo(f"  scorebench run -t {FACTS[family]['task']} -m {name} --include {folder}")
    click.echo(f"  scorebench board {FACTS[family]['task']}")


def check_name(name: str) -> None:
    """Raise RequestError unless ``name`` can be the id of a new method and the name of its module."""
    from ...baselines.card import cards

    if not (2 <= len(name) <= 40 and re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name)):
        raise RequestError(f"{name!r} cannot be a method's name; accepted: {RULE}.")
    if name in cards():
        raise RequestError(f"A method {name!r} exists already ({cards()[name].path}); choose another name.")
    module = name.replace("-", "_")
    if find_spec(module) is not None:
        raise RequestError(f"{name!r} would hide the installed Python module {module!r}; choose another name.")


def write(name: str, family: str, folder: Path) -> list[Path]:
    """Write the files of a new method into ``folder`` and return their paths; RequestError when that is not possible."""
    from ...tasks.registry import get_spec

    facts = {**COMMON, **FACTS[family]}
    module = name.replace("-", "_")
    values = {
        **facts,
        "id": name,
        "family": family,
        "module": module,
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "title": name.replace("-", " ").capitalize(),
        "primary": get_spec(facts["task"]).primary,
    }
    plan = {
        folder / f"{module}.py": f"{family}.py.tmpl",
        folder / f"{name}.yaml": "card.yaml.tmpl",
        folder / f"test_{module}.py": "test.py.tmpl",
        folder / "README.md": "README.md.tmpl",
    }
    try:
        for path, template in plan.items():
            write_atomic(path, Template((SCAFFOLD / template).read_text(encoding="utf-8")).substitute(values).encode())
    except OSError as e:
        raise RequestError(f"{folder} cannot be written ({e.strerror}); give --out a folder you can write to.") from None
    return list(plan)
