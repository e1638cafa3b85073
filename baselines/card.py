"""A method's card: `configs/methods/<id>.yaml` read, checked and frozen. No torch here: lists of methods must be quick."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..configs.errors import RequestError, nearest, unknown
from ..configs.loader import HERE, Document, Field, Index, home, validate, write_atomic

ABILITY_FAMILIES = {
    "sample": "generation",
    "denoise": "denoising",
    "restore": "restoration",
    "reconstruct": "inverse",
    "enhance": "speech",
    "logits": "classification",
}
OTHER_ABILITIES = ("edit", "invert", "embed", "detect", "log_prob", "act", "predict")
TRAINS_ON = ("paired", "noisy", "noisy-pairs", "clean", "unpaired", "none")
USES = {
    "clean_images": bool, "noise_known": bool, "second_noisy_copy": bool, "fresh_training_noise": bool, "noisy_images": bool,
    "sees_test_inputs": bool, "labels": bool, "external_weights": list,
}  # fmt: skip


def _known(values: Any, accepted: tuple[str, ...]) -> str | None:
    wrong = [v for v in values if v not in accepted]
    return f"has {wrong[0]!r}; accepted: {', '.join(accepted)}" if wrong else None


FIELDS: dict[str, Field] = {
    "id": Field((str,), required=True, meaning="the method's id, as in the catalogue where it has one"),
    "title": Field((str,), required=True),
    "target": Field((str,), required=True, meaning="module:Class", check=lambda v: None if ":" in v else "must read 'module:Class'"),
    "abilities": Field(
        (list,), required=True, check=lambda v: _known(v, (*ABILITY_FAMILIES, *OTHER_ABILITIES)) if v else "must name at least one"
    ),
    "tasks": Field((list,), default=["*"], meaning="glob patterns of the task ids it can answer; !pattern takes some out"),
    "paper": Field((dict,), default={}, meaning="title, authors, year, arxiv, doi, venue, code, bibtex"),
    "uses": Field((dict,), default={}, check=lambda v: _known(v, tuple(USES))),
    "trains_on": Field((str,), default="none", choices=TRAINS_ON),
    "needs": Field((dict,), default={}, meaning="role: {form, cond, data} or {id}"),
    "fit_per": Field((str,), default=None, choices=("budget", "task", "sample")),
    "stochastic": Field((str,), default="none", choices=("none", "inference", "fit")),
    "at_inference": Field((list,), default=[], meaning="hyper-parameters that do not retrain"),
    "presets": Field((dict,), default={}, meaning="name: {title, set: {...}, tasks: {pattern: {...}}}"),
    "claims": Field((list,), default=[]),
    "published": Field((list, str), default=[]),
    "notes": Field((str,), default=""),
}
_PRESET = {"title": Field((str,)), "set": Field((dict,), default={}), "tasks": Field((dict,), default={})}


@dataclass(frozen=True)
class Card:
    """One method's card. See `FIELDS` for the meaning of each attribute; ``folder`` is set for plug-ins."""

    id: str
    title: str
    target: str
    abilities: tuple[str, ...]
    tasks: tuple[str, ...] = ("*",)
    paper: Mapping[str, Any] = field(default_factory=dict)
    uses: Mapping[str, Any] = field(default_factory=dict)
    trains_on: str = "none"
    needs: Mapping[str, Any] = field(default_factory=dict)
    fit_per: str | None = None
    stochastic: str = "none"
    at_inference: tuple[str, ...] = ()
    presets: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Any, ...] = ()
    published: Any = ()
    notes: str = ""
    path: Path = Path()
    folder: Path | None = None

    @property
    def families(self) -> list[str]:
        """The families of its tasks, where all patterns name one (an ability may serve several); else those its abilities usually answer."""
        named = list(dict.fromkeys(pattern.split("/")[0] for pattern in self.tasks if not pattern.startswith("!")))
        if named and not any(set("*?[") & set(name) for name in named):
            return named
        return [ABILITY_FAMILIES[a] for a in self.abilities if a in ABILITY_FAMILIES]

    def answers(self, task_id: str, ability: str) -> bool:
        """Whether the method can enter the task: a pattern names it (exclusions alone name all others) and no ``!pattern`` does."""
        wanted = [p for p in self.tasks if not p.startswith("!")] or ["*"]
        return ability in self.abilities and not self.excludes(task_id) and any(fnmatchcase(task_id, p) for p in wanted)

    def excludes(self, task_id: str) -> list[str]:
        """Return the patterns, without their ``!``, by which the card leaves the task out."""
        return [p[1:] for p in self.tasks if p.startswith("!") and fnmatchcase(task_id, p[1:])]

    def preset(self, name: str, task_id: str) -> dict[str, Any]:
        """Return the hyper-parameters of preset ``name`` on a task: the default preset's, then the preset's own, task patterns last."""
        if name != "default" and name not in self.presets:
            known = ["default", *(p for p in self.presets if p != "default")]
            close = nearest(name, known)
            raise RequestError(
                f"Method {self.id!r} has no preset {name!r}; {'did you mean ' + close[0] + '?' if close else 'accepted: ' + ', '.join(known)}"
            )
        out: dict[str, Any] = {}
        for part in dict.fromkeys(("default", name)):
            preset = self.presets.get(part) or {}
            out |= preset.get("set") or {}
            for pattern, values in (preset.get("tasks") or {}).items():
                if fnmatchcase(task_id, pattern):
                    out |= values
        return out


def parse(doc: Document, folder: Path | None = None) -> Card:
    """Check one card and freeze it; RequestError with file and line when a field is missing or wrong."""
    d = validate(doc, FIELDS)
    for name in d["presets"]:
        if not isinstance(d["presets"][name], dict):
            raise doc.error(f"field 'presets.{name}' must be a mapping with 'set' and 'tasks'.", ("presets", name))
        validate(doc, _PRESET, ("presets", name))
    for name, value in d["uses"].items():
        if not isinstance(value, USES[name]):
            raise doc.error(f"field 'uses.{name}' must be {USES[name].__name__}, not {value!r}.", ("uses", name))
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", d["id"]):
        raise doc.error(f"field 'id' is {d['id']!r}; accepted: lower-case letters, digits, '-', '.', '+'.", ("id",))
    if d["trains_on"] == "noisy":
        d["uses"] = {**d["uses"], "noisy_images": True}  # learning from degraded pictures is a fact that no card needs to repeat
    values = {k: tuple(v) if isinstance(v, list) and k != "published" else v for k, v in d.items()}
    return Card(**values, path=doc.path, folder=folder)  # type: ignore[arg-type]


_FOLDERS: list[Path] = []


def include(folder: Path) -> list[str]:
    """Add the cards of a plug-in folder (``*.yaml`` with a ``target``); return their ids."""
    folder = folder.resolve()
    if not folder.is_dir():
        raise RequestError(f"--include {folder}: no such folder; give the folder that holds the method's .py file and its card.")
    if not any(found for part in (".", "priors", "tasks") for found in (folder / part).glob("*.yaml")):
        raise RequestError(
            f"--include {folder}: no card (*.yaml), priors/*.yaml or tasks/*.yaml in it; `scorebench new method NAME --family F` makes a card."
        )
    if folder not in _FOLDERS:
        _FOLDERS.append(folder)
        cards.cache_clear()
    return [c.id for c in cards().values() if c.folder == folder]


def included() -> list[Path]:
    """Return the plug-in folders included so far."""
    return list(_FOLDERS)


@lru_cache(maxsize=1)
def cards() -> dict[str, Card]:
    """Return every card by id: the package's, those of included folders, those of installed plug-in packages."""
    out: dict[str, Card] = {}
    found: list[tuple[Document, Path | None]] = [(doc, None) for doc in Index("methods").documents(sorted((HERE / "methods").glob("*.yaml")))]
    for place in [*_FOLDERS, *_entry_points()]:
        found += [(doc, place) for doc in Index("plugins").documents(sorted(place.glob("*.yaml"))) if "target" in doc.data]
    for doc, folder in found:
        card = parse(doc, folder)
        if card.id in out:
            raise doc.error(f"method id {card.id!r} is already declared in {out[card.id].path}; ids are unique.", ("id",))
        out[card.id] = card
    return out


def _entry_points() -> list[Path]:
    """Return the folders of installed packages that offer the entry point group ``scorebench.plugins``.

    Asking importlib.metadata takes longer than all else a list does, so its answer is kept for as long as no folder of ``sys.path`` changes:
    installing or removing a package makes or removes its ``.dist-info`` there.
    """
    marks = [[p, Path(p).stat().st_mtime_ns] for p in dict.fromkeys(sys.path) if p and Path(p).is_dir()]
    file = home() / "index" / f"plugins-{hashlib.sha256(repr([p for p, _ in marks]).encode()).hexdigest()[:12]}.json"
    try:
        known = json.loads(file.read_text())
        if known["marks"] == marks:
            return [Path(f) for f in known["folders"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not asked yet, or the file is damaged: ask
    folders = _find_entry_points()
    with contextlib.suppress(OSError):  # a read-only home costs speed only
        write_atomic(file, json.dumps({"marks": marks, "folders": [str(f) for f in folders]}).encode())
    return folders


def _find_entry_points() -> list[Path]:
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    folders = []
    for point in entry_points(group="scorebench.plugins"):
        try:
            spec = find_spec(point.value.partition(":")[0])
        except (ImportError, ValueError) as e:
            raise RequestError(
                f"The plug-in {point.name!r} ({point.value}) of an installed package cannot be found ({e}); reinstall or remove that package."
            ) from None
        if spec is not None and spec.origin:
            folders.append(Path(spec.origin).resolve().parent)
    return folders


def get(method_id: str) -> Card:
    """Return one card; RequestError with the nearest names when unknown."""
    known = cards()
    if method_id not in known:
        raise unknown("method", method_id, known)
    return known[method_id]


@dataclass(frozen=True)
class Variant:
    """``method[preset]``: what boards, claims and tables address. ``overrides`` come from ``--set`` and belong to the variant."""

    method: str
    preset: str = "default"
    overrides: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        inside = [] if self.preset == "default" else [self.preset]
        inside += [f"{k}={v}" for k, v in self.overrides]
        return self.method + (f"[{','.join(inside)}]" if inside else "")


def parse_variant(text: str) -> Variant:
    """Read ``method`` or ``method[preset]``."""
    m = re.fullmatch(r"([^\[\]]+)(?:\[([^\[\]]*)\])?", text.strip())
    if not m:
        raise RequestError(f"{text!r} is not a variant; write method or method[preset], e.g. dpir or ddim[eta=1].")
    return Variant(m.group(1), m.group(2) or "default")
