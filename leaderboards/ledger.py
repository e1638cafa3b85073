"""The ledger: the append-only store of records. One JSON-lines file per writer, so that writers never wait for or tear each other.

    STORE/ledger/<writer>.jsonl   one line per record: its summary and the sha256 of its samples file
    STORE/samples/<unit>.<sha>.npz   per-sample values and previews, written and synced before the line that names them
    STORE/claims/, STORE/logs/    for the runner
    STORE/index/                  a cache; may be deleted at any time

A crash can leave a last line without its end (ignored, and reported) or a samples file that no line names; neither loses a record.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.errors import RequestError, RunError
from ..configs.loader import write_atomic
from .arrays import pack, unpack
from .index import Entry, LedgerIndex
from .record import RECORD_VERSION, Record

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _writer() -> str:
    """Return a name no other writer has: host, process, and eight random hex digits."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Problem:
    """Something in the ledger that could not be taken: where, and why."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class Store:
    """A store of records at ``path``. Reading never writes anything but the cache; `append` adds exactly one record.

    After reading, ``problems`` lists what was ignored: torn last lines, corrupt lines and, of the tasks read, duplicates.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.ledger, self.samples_folder = self.path / "ledger", self.path / "samples"
        self.claims, self.logs = self.path / "claims", self.path / "logs"
        self._index = LedgerIndex(self.ledger, self.path / "index" / "ledger.json")
        self._file: Path | None = None
        self._pid = -1
        self._resolved: dict[str, tuple[dict[tuple[str, ...], Entry], list[Entry], list[Problem]]] = {}
        self._seen = -1

    # ------------------------------------------------------------------ writing
    def prepare(self) -> None:
        """Make the folders and try to write: RequestError in one sentence when the store cannot be written to."""
        probe = self.ledger / f".probe-{secrets.token_hex(4)}"
        try:
            for folder in (self.ledger, self.samples_folder, self.claims, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"scorebench")
        except OSError as e:
            raise self._unwritable(e) from None
        finally:
            if probe.exists():
                probe.unlink(missing_ok=True)

    @property
    def writer(self) -> str | None:
        """The name of the ledger file this process appends to, None before its first record."""
        return self._file.name if self._file is not None and self._pid == os.getpid() else None

    def _unwritable(self, e: OSError) -> RequestError | RunError:
        reason = (e.strerror or str(e)).lower()
        if e.errno in FULL:
            return RunError(f"The store {self.path} could not take the record ({reason}); free some space, then run the same command again.")
        return RequestError(f"The store {self.path} is not writable ({reason}); choose another folder with --store DIR.")

    def append(self, record: Mapping[str, Any], samples: Mapping[str, np.ndarray] | None = None) -> Record:
        """Write a record and its ``samples`` (names of record.py); return the record as it stands in the ledger.

        The samples file is complete and synced before the line that names it is written, in one write, and synced. Raises RequestError
        when the store is not writable, RunError when the disk is full; nothing already recorded is touched by either.
        """
        record = {**record, "written": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        try:
            if samples is not None:
                record["samples"] = self._put_samples(record["unit_id"], samples)
            line = json.dumps(record, allow_nan=False, separators=(",", ":"), default=_plain)
            self._append_line(line.encode() + b"\n")
        except OSError as e:
            raise self._unwritable(e) from None
        except ValueError as e:
            raise RunError(f"The record cannot be written as JSON: {e}.", "not-finite") from None
        return json.loads(line)

    def _put_samples(self, unit_id: str, samples: Mapping[str, np.ndarray]) -> dict[str, str]:
        arrays: dict[str, Any] = {name: np.asarray(a) for name, a in samples.items()}
        if objects := [name for name, a in arrays.items() if a.dtype.kind == "O"]:
            raise RunError(f"Samples {objects[0]!r} are Python objects; a store holds numbers and text only.", "wrong-output")
        content = pack(arrays)
        digest = hashlib.sha256(content).hexdigest()
        # The digest is part of the name: the same unit measured in another environment, or by a second runner, overwrites nothing.
        name = f"samples/{unit_id}.{digest[:12]}.npz"
        write_atomic(self.path / name, content)
        _sync_folder(self.samples_folder)
        return {"file": name, "sha256": digest}

    def _append_line(self, line: bytes) -> None:
        if self._file is None or self._pid != os.getpid():  # a forked child must not go on in its parent's file
            self.ledger.mkdir(parents=True, exist_ok=True)
            self._file, self._pid = self.ledger / f"{_writer()}.jsonl", os.getpid()
        fd = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            before = os.fstat(fd).st_size
            try:
                if os.write(fd, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, before)  # this file has one writer, so what stands behind `before` is ours
                raise
        finally:
            os.close(fd)
        if before == 0:
            _sync_folder(self.ledger)

    # ------------------------------------------------------------------ reading
    def scan(self) -> None:
        """Read what was appended since the last scan (every reading method begins with it)."""
        if self.ledger.is_dir():
            self._index.update()
        if self._index.generation != self._seen:
            self._seen = self._index.generation
            self._resolved = {}

    def _task(self, task: str) -> tuple[dict[tuple[str, ...], Entry], list[Entry], list[Problem]]:
        """Return of one task: the accepted entry of each unit and environment, failed entries in order, and what was ignored."""
        if task not in self._resolved:
            accepted: dict[tuple[str, ...], Entry] = {}
            failed, problems = [], []
            for entry in self._index.entries(task):
                if entry.schema > RECORD_VERSION:
                    problems.append(Problem(entry.where, f"schema {entry.schema} is newer than this version's {RECORD_VERSION}; skipped"))
                elif entry.status != "ok":
                    failed.append(entry)
                elif entry.key in accepted:
                    first = accepted[entry.key]
                    problems.append(Problem(entry.where, f"unit {entry.unit_id[:12]} was already recorded at {first.where}; ignored"))
                else:
                    accepted[entry.key] = entry
            self._resolved[task] = accepted, failed, problems
        return self._resolved[task]

    @property
    def problems(self) -> list[Problem]:
        """Return what was ignored: in any file, and in the tasks read so far."""
        lines = [Problem(where, reason) for where, reason in self._index.problems()]
        return lines + [p for _, _, problems in self._resolved.values() for p in problems]

    def done(self) -> set[tuple[str, str]]:
        """Return (unit_id, environment_key) of every unit that is done: recorded, not failed, not partial."""
        self.scan()
        return {(e.unit_id, e.environment_key) for task in self._index.tasks() for e in self._task(task)[0].values() if not e.partial}

    def records(self, task: str | None = None, *, failed: bool = True, **where: Any) -> list[Record]:
        """Return the accepted records, task by task in the order written, and with ``failed`` the last failure of each unit that has none.

        ``task`` and ``where`` (method, variant, budget, split, unit_id, ...: fields of `index.Entry`) select; unselected lines are not parsed.
        """
        self.scan()
        chosen: list[Entry] = []
        for name in self._index.tasks() if task is None else [task]:
            accepted, failures, _ = self._task(name)
            chosen += [e for e in accepted.values() if e.matches(where)]
            if failed:
                last = {e.key: e for e in failures if e.key not in accepted and e.matches(where)}
                chosen += last.values()
        return [r for r in self._index.read(chosen) if r is not None]

    def find(self, unit_id: str, environment_key: str) -> Record | None:
        """Return the accepted record of a unit in an environment, or None."""
        self.scan()
        for task in self._index.tasks():
            if (entry := self._task(task)[0].get((unit_id, environment_key, ""))) is not None:
                return self._index.read([entry])[0]
        return None

    def tasks(self) -> list[str]:
        """Return the ids of the tasks that have records."""
        self.scan()
        return self._index.tasks()

    def samples(self, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the arrays of a record's samples file, after checking its sha256; RunError when it is missing or was changed."""
        return load_samples(self.path, record)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records())


def load_samples(root: Path, record: Mapping[str, Any], keep: Callable[[str], bool] | None = None) -> dict[str, np.ndarray]:
    """Read the samples file that ``record`` names under ``root`` (the arrays whose names ``keep`` takes); RunError when it is missing or its
    sha256 is another."""
    entry = record.get("samples")
    if not entry:
        raise RunError(f"Unit {record['unit_id']} has no samples file: it {'failed' if record['status'] == 'failed' else 'kept none'}.")
    path = root / entry["file"]
    try:
        content = path.read_bytes()
    except OSError as e:
        raise RunError(f"The samples file {path} cannot be read ({(e.strerror or str(e)).lower()}); run the unit again.") from None
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise RunError(f"The samples file {path} is not the one its record names (another sha256); run the unit again.")
    return unpack(content, keep)


def _plain(value: Any) -> Any:
    """Turn NumPy scalars and small arrays, tuples and paths into what JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise ValueError(f"{type(value).__name__} {value!r} is not a plain value")


def _sync_folder(folder: Path) -> None:
    """Sync a folder's entries, so that a new file survives a power cut (where the platform can)."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some file systems cannot sync a folder
            raise
    finally:
        os.close(fd)
