"""The accepted records that ship with the package: ``reference/<family>.jsonl`` and, beside it, their per-sample values in one archive.

They hold no pixels and no features: ids, clusters and metric values only, so a full board can be shown, with intervals, right after
installation. `accept` writes them from a store.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir

import numpy as np

from ..configs.errors import RequestError, RunError
from ..configs.loader import home, write_atomic
from .arrays import BAD_ARCHIVE, pack, unpack
from .record import Record
from .sources import HERE, Gathered, Source, Table, plain, stack

Samples = Mapping[str, np.ndarray]
"""Arrays of one record by name: ids, clusters, metric values."""
_DROPPED = {"pid", "started", "finished", "host", "user", "command", "working_directory_git"}
"""Provenance that says something about a person's machine and nothing about the numbers."""


class ReferenceSource(Source):
    """The accepted records in ``folder``. Their archive is opened only when per-sample values are asked for."""

    name = "reference"

    def __init__(self, folder: Path = HERE) -> None:
        self.folder = folder
        self._archives: dict[str, dict[str, np.ndarray]] = {}
        self._problems: list[str] = []

    def records(self, task: str | None = None) -> list[Record]:
        families = sorted(self.folder.glob("*.jsonl")) if task is None else [self.folder / f"{task.split('/')[0]}.jsonl"]
        out, self._problems = [], []
        for file in families:
            if not file.is_file():
                continue
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                if task is not None and f'"task":"{task}"' not in line:
                    continue
                try:
                    record = json.loads(line)
                except ValueError:
                    self._problems.append(f"{file.name}:{number}: not valid JSON; skipped")
                    continue
                if task is None or record["task"] == task:
                    out.append({**record, "source": "reference"})
        return out

    def problems(self) -> list[str]:
        return list(self._problems)

    def samples(self, record: Record) -> dict[str, np.ndarray]:
        """Return ids, clusters and metric values of one record."""
        archive, at = self._at(record)
        name = record["task"]
        out = {"ids": archive[f"{name}|{at[0]}|ids"], "clusters": archive[f"{name}|{at[0]}|clusters"]}
        prefix = f"{name}|{at[0]}|metric/"
        for key, values in archive.items():
            if key.startswith(prefix) and np.isfinite(values[at[1]]).all():
                out[key.split("|")[2]] = values[at[1]]
        return out

    def values(self, records: Sequence[Record], metric: str) -> Table:
        return stack([self.samples(r) for r in records], metric)

    def _at(self, record: Record) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
        """Return the archive of a record's family and (group, row) of the record in it."""
        entry = record.get("samples") or {}
        name = entry.get("file", "")
        if name not in self._archives:
            try:
                content = (self.folder / name).read_bytes()
            except OSError:
                raise RunError(f"The accepted values {self.folder / name} cannot be read; install the package again.") from None
            if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
                raise RunError(f"The accepted values {self.folder / name} are not those their records name; install the package again.")
            try:
                self._archives[name] = unpack(content)
            except BAD_ARCHIVE:
                raise RunError(f"The accepted values {self.folder / name} cannot be read; install the package again.") from None
        return self._archives[name], (entry["group"], entry["row"])


def accept(samples: Callable[[Record], Samples], records: Sequence[Record], out: Path = HERE) -> dict[str, int]:
    """Write ``records`` (ok, whole, not chosen on test data) as the accepted ones of their families; return how many per family.

    ``samples`` gives the arrays of a record. A family's files are replaced as a whole; other families stay. RequestError names the first
    record that cannot be accepted.
    """
    families: dict[str, list[Record]] = {}
    for r in records:
        why = "it failed" if r["status"] != "ok" else "it is partial" if r["partial"] else ""
        why = why or ("it was chosen on test data" if r["selection"] == "test-clean" else "")
        if why:
            raise RequestError(f"The record of {r['variant']} on {r['task']} (unit {r['unit_id'][:12]}) cannot be accepted: {why}.")
        families.setdefault(r["task"].split("/")[0], []).append(r)
    for family, members in families.items():
        order = sorted(members, key=lambda r: (r["task"], r["budget"], r["variant"], r["seed"], r["draw"], r["unit_id"]))
        arrays, places = _collect(samples, order)
        content = pack(arrays)
        digest = hashlib.sha256(content).hexdigest()
        lines = []
        for r, (group, row) in zip(order, places, strict=True):
            slim = {**plain(r), "samples": {"file": f"{family}.npz", "sha256": digest, "group": group, "row": row}}
            slim["provenance"] = {k: v for k, v in r["provenance"].items() if k not in _DROPPED}
            lines.append(_impersonal(json.dumps(slim, allow_nan=False, separators=(",", ":"), sort_keys=True)))
        write_atomic(out / f"{family}.npz", content)
        write_atomic(out / f"{family}.jsonl", ("\n".join(lines) + "\n").encode())
    return {family: len(members) for family, members in families.items()}


def _impersonal(line: str) -> str:
    """Return a record's line without the folders of the machine it was made on (messages name where files are missing)."""
    folders = ((home(), "$SCOREBENCH_HOME"), (Path(gettempdir()), "$TMPDIR"), (Path.home(), "~"))
    for folder, name in sorted(folders, key=lambda f: -len(str(f[0]))):  # one may lie in another
        line = re.sub(re.escape(json.dumps(str(folder))[1:-1]) + r"(?![\w-])", name, line)
    return line


def _collect(samples: Callable[[Record], Samples], records: Sequence[Record]) -> tuple[dict[str, np.ndarray], list[tuple[int, int]]]:
    """Return matrices (records, samples) per task, group of equal sample ids and metric, and each record's (group, row)."""
    groups: dict[tuple[str, bytes], int] = {}
    columns: dict[str, list[tuple[int, np.ndarray]]] = {}
    sizes: dict[tuple[str, int], int] = {}
    out: dict[str, np.ndarray] = {}
    places = []
    for r in records:
        part = samples(r)
        key = (r["task"], part["ids"].tobytes())
        group = groups.setdefault(key, sum(1 for t, _ in groups if t == r["task"]))
        name = f"{r['task']}|{group}"
        row = sizes.get((r["task"], group), 0)
        sizes[(r["task"], group)] = row + 1
        out[f"{name}|ids"], out[f"{name}|clusters"] = part["ids"], part["clusters"]
        for array, values in part.items():
            if array.startswith("metric/"):
                columns.setdefault(f"{name}|{array}", []).append((row, values))
        places.append((group, row))
    for name, entries in columns.items():
        task, group_text, _ = name.split("|")
        matrix = np.full((sizes[(task, int(group_text))], len(entries[0][1])), np.nan)
        for row, values in entries:
            matrix[row] = values
        out[name] = matrix
    return out, places


def release_folder(folder: Path = HERE) -> Path:
    """Return where the reference of the last release is: the second layer, which small losses accepted one by one cannot move."""
    return folder / "release"


def release(tasks: Sequence[str], folder: Path = HERE) -> dict[str, int]:
    """Make the accepted records of ``tasks`` the release's too; its records of other tasks stay. Return how many per family."""
    families = {t.split("/")[0] for t in tasks}
    out = release_folder(folder)
    both = Gathered([ReferenceSource(folder), ReferenceSource(out)])
    both.records()
    records = [r for r in ReferenceSource(folder).records() if r["task"] in tasks]
    records += [r for r in ReferenceSource(out).records() if r["task"] not in tasks and r["task"].split("/")[0] in families]
    return accept(both.samples, records, out)


def load_reference(folder: Path = HERE) -> Gathered:
    """Return the accepted records alone."""
    return Gathered([ReferenceSource(folder)])
