"""A bundle: records and per-sample values in one folder, made for a pull request and checked by `audit`.

    manifest.json          what is in it: sha256 of every file, tasks, variants, environments, plug-ins
    records.jsonl          the records, without what is personal
    samples/<unit>.npz     ids, clusters, per-sample metric values and diagnostics; no pixels, no sounds
    plugin/<folder>/       the plug-in folders of the methods, whole
    given/<sha>-<name>     files that hyper-parameters named (checkpoints)
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..baselines import card as cards
from ..baselines.card import Variant
from ..configs.errors import RequestError
from ..configs.loader import write_atomic
from ..leaderboards.arrays import BAD_ARCHIVE, pack, unpack
from ..leaderboards.record import Record
from ..leaderboards.sources import Gathered
from ..leaderboards.wandb_rows import public
from ..leaderboards.wandb_samples import portable
from .identity import given_file

MANIFEST = "manifest.json"
FORMAT = 1
LARGEST = 200 * 2**20
"""Bytes that a plug-in's or a given file may have."""


@dataclass(frozen=True)
class Bundle:
    """A bundle as read: its folder, manifest and records (with ``samples`` naming files in the bundle)."""

    folder: Path
    manifest: dict[str, Any]
    records: list[Record]

    @property
    def plugins(self) -> list[Path]:
        """Return the plug-in folders in the bundle."""
        return [self.folder / "plugin" / name for name in self.manifest.get("plugins", [])]

    def samples(self, record: Record) -> dict[str, np.ndarray]:
        """Return a record's arrays; RequestError when the file is missing or no archive."""
        path = self.folder / str((record.get("samples") or {}).get("file", ""))
        try:
            return unpack(path.read_bytes())
        except (OSError, *BAD_ARCHIVE):
            raise RequestError(f"{path} is missing or no archive of arrays; make the bundle again with `scorebench submit`.") from None

    def variant(self, record: Record) -> Variant:
        """Return the variant to run a record again: its preset, and the settings its name shows, with files taken from the bundle."""
        given = self.manifest.get("given", {})
        inside = record["variant"].partition("[")[2].removesuffix("]")
        if record["preset"] != "default":
            inside = inside.removeprefix(record["preset"]).lstrip(",")
        names = re.findall(r"(?:^|,)\s*([A-Za-z_]\w*)=", inside)
        values = {}
        for name in names:
            value = record["hparams"].get(name)
            values[name] = str(self.folder / given[f"{record['unit_id']}/{name}"]) if f"{record['unit_id']}/{name}" in given else value
        return Variant(record["method"], record["preset"], tuple(sorted(values.items())))


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_of(folder: Path) -> list[Path]:
    """Return the files of a bundle but its manifest, in a fixed order."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST and "__pycache__" not in p.parts)


def write(records: Sequence[Record], gathered: Gathered, folder: Path) -> dict[str, Any]:
    """Write a bundle of ``records`` to a new folder and return its manifest.

    RequestError when there is nothing to submit, a record may not be submitted, or the folder is not empty.
    """
    if not records:
        raise RequestError("There is nothing to submit: no finished unit of the variants asked for is in the store.")
    for r in records:
        why = "it failed" if r["status"] != "ok" else "it is partial" if r["partial"] else ""
        why = why or ("it was not made on the test split" if r["split"] != "test" else "")
        if why or r["provenance"].get("submitted"):
            why = why or "its outputs were made elsewhere, so nobody can run it again"
            raise RequestError(f"{r['variant']} on {r['task']} (unit {r['unit_id'][:12]}) cannot be submitted: {why}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder} exists and is not empty; give --out a new folder.")
    try:
        return _write(records, gathered, folder)
    except OSError as e:
        raise RequestError(f"{folder} cannot be written ({e.strerror}); give --out a folder you can write to.") from None


def _write(records: Sequence[Record], gathered: Gathered, folder: Path) -> dict[str, Any]:
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    lines, given = [], {}
    for r in records:
        content = pack(portable(gathered.samples(r), "never"))
        name = f"samples/{r['unit_id']}-{r['environment_key'][:8]}.npz"
        write_atomic(folder / name, content)
        slim = public(r) | {"samples": {"file": name, "sha256": hashlib.sha256(content).hexdigest()}}
        lines.append(json.dumps(slim, sort_keys=True, separators=(",", ":"), allow_nan=False))
        for parameter, value in r["hparams"].items():
            if (path := given_file(value)) is not None:
                given[f"{r['unit_id']}/{parameter}"] = _give(path, folder)
    write_atomic(folder / "records.jsonl", ("\n".join(lines) + "\n").encode())
    known = [cards.cards().get(m) for m in dict.fromkeys(r["method"] for r in records)]
    plugins = [_plug(f, folder) for f in sorted({c.folder for c in known if c is not None and c.folder is not None})]
    manifest = {
        "format": FORMAT, "scorebench": records[0]["provenance"].get("scorebench"), "units": len(records),
        "tasks": sorted({f"{r['task']}@{r['task_version']}" for r in records}), "variants": sorted({r["variant"] for r in records}),
        "environments": {r["environment_key"]: r["environment"] for r in records},
        "plugins": plugins, "given": given, "files": {str(p.relative_to(folder)): sha256(p) for p in files_of(folder)},
    }  # fmt: skip
    write_atomic(folder / MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
    return manifest


def _give(path: Path, folder: Path) -> str:
    """Copy a file that a hyper-parameter names; return its place in the bundle."""
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise RequestError(f"{path} cannot go into a bundle: accepted are files of at most {LARGEST // 2**20} MB.")
    name = f"given/{sha256(path)[:12]}-{path.name}"
    (folder / "given").mkdir(exist_ok=True)
    shutil.copyfile(path, folder / name)
    return name


def _plug(plugin: Path, folder: Path) -> str:
    """Copy a plug-in folder, without caches and hidden files; return its name in the bundle."""
    big = [p for p in plugin.rglob("*") if p.is_file() and p.stat().st_size > LARGEST]
    if big:
        raise RequestError(f"{big[0]} cannot go into a bundle: accepted are files of at most {LARGEST // 2**20} MB.")
    shutil.copytree(plugin, folder / "plugin" / plugin.name, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.pyc", "runs", "wandb"))
    return plugin.name


def read(folder: Path) -> Bundle:
    """Read a bundle; RequestError in one sentence when the folder is none."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        lines = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line]
    except OSError as e:
        raise RequestError(f"{e.filename} cannot be read ({e.strerror}); `scorebench submit --out DIR` makes a bundle.") from None
    except ValueError:
        raise RequestError(f"{folder} holds JSON that is not valid; make the bundle again with `scorebench submit`.") from None
    if not isinstance(manifest, Mapping) or manifest.get("format") != FORMAT or not isinstance(manifest.get("files"), Mapping):
        raise RequestError(f"{path} is not the manifest of a bundle of this version; make it again with `scorebench submit`.")
    outside = [n for n in (*manifest.get("plugins", []), *manifest.get("given", {}).values(), *manifest["files"]) if _leaves(str(n))]
    outside += [str(s.get("file")) for r in records if (s := r.get("samples")) and _leaves(str(s.get("file")))]
    if outside or not records:
        why = f"it names {outside[0]!r}, which lies outside" if outside else "it holds no record"
        raise RequestError(f"{folder} is not a bundle that can be audited: {why}.")
    return Bundle(folder.resolve(), dict(manifest), records)


def _leaves(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts
