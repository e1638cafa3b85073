"""What is published to Weights & Biases, as plain data: runs with their config, summary, tables, inputs and outputs.

Nothing here imports wandb, so what would be sent can be made, looked at and tested without an account. `wandb_client` sends it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
"""Version of what is published; another one publishes everything again."""

TAG_LENGTH = 64
MOST_ROWS = 10_000
"""Rows that W&B takes in one logged table."""


@dataclass(frozen=True)
class Picture:
    """A table cell: uint8 (H, W) or (H, W, 3)."""

    pixels: np.ndarray
    caption: str = ""


@dataclass(frozen=True)
class Sound:
    """A table cell: a WAV file's bytes."""

    wav: bytes
    caption: str = ""


Cell = str | float | int | bool | None | Picture | Sound


@dataclass(frozen=True)
class TablePlan:
    """A table of a run. All cells of a column are of one kind, or None."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]


@dataclass(frozen=True)
class Output:
    """An artifact that a run makes: its files as bytes, or as paths of files on this machine. ``version`` is an alias by its content."""

    name: str
    type: str
    files: Mapping[str, bytes | Path]
    metadata: Mapping[str, Any]
    version: str
    description: str = ""


@dataclass(frozen=True)
class Input:
    """An artifact that a run used: its name, and the alias that its content has."""

    name: str
    type: str
    version: str
    role: str

    @property
    def path(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass
class Content:
    """The heavy part of a run, made only when it is sent: tables and pictures by name, artifacts, the steps of a history, and alerts."""

    tables: dict[str, TablePlan] = field(default_factory=dict)
    media: dict[str, Picture] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    alerts: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class RunPlan:
    """One run to be published. ``make`` makes its `Content`, which must follow from ``fingerprint`` and the fields beside it."""

    id: str
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    summary: dict[str, Any]
    fingerprint: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    notes: str = ""
    make: Callable[[], Content] = Content

    @property
    def digest(self) -> str:
        """Return the hash of everything that would be published: an equal digest need not be sent again."""
        parts = [FORMAT, self.id, self.name, self.group, self.job_type, self.tags, self.config, self.summary, self.fingerprint, self.notes]
        parts += [[i.path, i.type, i.role] for i in self.inputs]
        return digest(parts)


def digest(value: Any, length: int = 32) -> str:
    """Return the first ``length`` hex digits of the sha256 of ``value`` as JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def slug(text: str, most: int = 110) -> str:
    """Return ``text`` as a name that W&B takes for runs, artifacts and tables: letters, digits, ``.``, ``_`` and ``-``."""
    out = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")
    return out if len(out) <= most else f"{out[: most - 9]}-{digest(text, 8)}"


def tags(*given: str) -> tuple[str, ...]:
    """Return tags, each once and of a length that W&B takes."""
    return tuple(dict.fromkeys(t if len(t) <= TAG_LENGTH else t[: TAG_LENGTH - 1] + "…" for t in given if t))


def scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a summary may hold: finite numbers, text and truth values; everything else is left out."""
    out = {}
    for name, value in values.items():
        if isinstance(value, (np.floating, np.integer)):
            value = value.item()
        if isinstance(value, (bool, str)) or (isinstance(value, (int, float)) and math.isfinite(value)):
            out[name] = value
    return out


def without_dots(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config whose keys hold no dots, which W&B would take for nesting."""
    out = {}
    for key, value in values.items():
        out[str(key).replace(".", "_")] = without_dots(value) if isinstance(value, Mapping) else value
    return out


def content_version(files: Mapping[str, bytes | Path]) -> str:
    """Return the alias of an artifact: twelve hex digits of the sha256 over its files' names and contents."""
    total = hashlib.sha256()
    for name in sorted(files):
        content = files[name]
        total.update(name.encode() + b"\0")
        total.update(hashlib.sha256(content.read_bytes() if isinstance(content, Path) else content).digest())
    return f"sha-{total.hexdigest()[:12]}"


def as_json(value: Any) -> bytes:
    """Return ``value`` as the bytes of a JSON file."""
    return (json.dumps(value, indent=1, sort_keys=True, default=str) + "\n").encode()


def as_lines(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Return records as JSON lines."""
    return "".join(json.dumps(r, sort_keys=True, separators=(",", ":"), default=str) + "\n" for r in records).encode()
