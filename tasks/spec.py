"""The declaration of a task: `configs/tasks/*.yaml` read, checked, and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..configs.loader import Document, Field, validate

FAMILIES = ("generation", "denoising", "restoration", "inverse", "speech", "classification")
TRAINS_ON = ("paired", "noisy", "noisy-pairs", "clean", "unpaired", "none")

FIELDS: dict[str, Field] = {
    "id": Field((str,), required=True, meaning="family/name"),
    "version": Field((int,), required=True, meaning="raise it for anything that could change a number"),
    "title": Field((str,), required=True),
    "family": Field((str,), required=True, choices=FAMILIES),
    "dataset": Field((str,), required=True),
    "options": Field((dict,), default={}, meaning="what the dataset view needs: channels, size, crop, count"),
    "splits": Field((dict,), default={"test": "test", "dev": "dev"}, meaning="task split to dataset split"),
    "observe": Field((dict,), default={}, meaning="what is done to a sample; read by the family's class"),
    "ability": Field((str,), required=True),
    "gives": Field((list,), required=True),
    "returns": Field((dict,), required=True),
    "train": Field((dict, str), default=None, meaning="what a method may learn from; null: nothing"),
    "metrics": Field((dict,), required=True, meaning="metric name: {margin, and options of its protocol}"),
    "primary": Field((str,), required=True),
    "reference": Field((str,), default=None, meaning="the variant that differences on the board are taken to"),
    "do_nothing": Field((str,), required=True, meaning="the variant that answers without doing anything"),
    "budgets": Field((dict,), default={"default": {}}, meaning="track name: {nfe: N}"),
    "batch_size": Field((int,), default=8),
    "preview": Field((dict,), default={}, meaning="how a sample is shown: {kind, count}"),
    "notes": Field((str,), default=""),
}


@dataclass(frozen=True)
class TaskSpec:
    """A task's declaration. See `FIELDS` for what each attribute means."""

    id: str
    version: int
    title: str
    family: str
    dataset: str
    ability: str
    gives: tuple[str, ...]
    returns: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    primary: str
    do_nothing: str
    options: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    observe: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] | None = None
    reference: str | None = None
    budgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    batch_size: int = 8
    preview: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""
    path: Path = Path()


def parse(doc: Document) -> TaskSpec:
    """Check one task document and freeze it; RequestError with file and line when a field is wrong."""
    d = validate(doc, FIELDS)
    for need in ("kind",):
        if need not in d["returns"]:
            raise doc.error(f"field 'returns.{need}' is missing (image, points, audio, logits, ...).", ("returns",))
    if not d["id"].startswith(d["family"] + "/"):
        raise doc.error(f"field 'id' is {d['id']!r}; it must start with the family, '{d['family']}/'.", ("id",))
    if d["primary"] not in d["metrics"]:
        raise doc.error(f"field 'primary' is {d['primary']!r}; accepted: {', '.join(d['metrics'])}.", ("primary",))
    metrics = {name: dict(options or {}) for name, options in d["metrics"].items()}
    budgets = {str(name): dict(options or {}) for name, options in d["budgets"].items()}
    values = {**d, "gives": tuple(d["gives"]), "metrics": metrics, "budgets": budgets, "path": doc.path}
    if isinstance(d["train"], str):
        raise doc.error("field 'train' must be a mapping or null.", ("train",))
    return TaskSpec(**values)
