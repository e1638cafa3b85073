"""The index of a ledger: where each line stands and what it is about, so that one board reads only its own lines.

The files are append-only, so a file is known by how far it was read and by the bytes just before that point. The cache is only a cache:
whatever does not fit it is read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..configs.loader import write_atomic

_FORMAT = 2
_TAIL = 512


class Entry(NamedTuple):
    """One line of the ledger: its place, and the fields by which records are selected."""

    file: str
    offset: int
    length: int
    number: int
    unit_id: str
    environment_key: str
    seen: str
    task: str
    budget: str
    split: str
    method: str
    variant: str
    status: str
    partial: bool
    written: str
    schema: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What may be accepted once, as `record.key`."""
        return self.unit_id, self.environment_key, self.seen

    @property
    def where(self) -> str:
        return f"{self.file}:{self.number}"

    def matches(self, where: Mapping[str, Any]) -> bool:
        return all(getattr(self, name) == value for name, value in where.items())


def _entry(file: str, offset: int, length: int, number: int, r: Any) -> Entry | str:
    """Make the entry of one parsed line, or say what is wrong with it."""
    if not isinstance(r, dict):
        return f"not a record but {type(r).__name__}; skipped"
    missing = [n for n in ("unit_id", "environment_key", "task", "method", "variant", "status") if not isinstance(r.get(n), str)]
    if missing:
        return f"a record without {', '.join(missing)}; skipped"
    partial = bool(r.get("partial"))
    return Entry(
        file, offset, length, number, r["unit_id"], r["environment_key"], str(r.get("observation_hash", "")) if partial else "", r["task"],
        str(r.get("budget", "default")), str(r.get("split", "test")), r["method"], r["variant"], r["status"], partial,
        str(r.get("written", "")), int(r.get("schema", 1)),
    )  # fmt: skip


class _File:
    """How far one ledger file was read, and what was found."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self.read = 0
        self.lines = 0
        self.tail = ""
        self.stamp = [0, 0]
        self.entries: list[Entry] = []
        self.problems: list[tuple[int, str]] = []
        self.torn = 0

    def update(self) -> bool:
        """Read what is new; return whether anything is."""
        stat = self.path.stat()
        stamp = [stat.st_mtime_ns, stat.st_size]
        if stamp == self.stamp:
            return False
        with self.path.open("rb") as f:
            if self.read and (stat.st_size < self.read or self._tail(f) != self.tail):  # not an append: somebody edited it
                self.__init__(self.path)  # type: ignore[misc]
            f.seek(self.read)
            content = f.read()
            end = content.rfind(b"\n") + 1
            for line in content[:end].split(b"\n")[:-1]:
                self._line(line)
            self.torn = len(content) - end
            self.stamp = stamp
            self.tail = self._tail(f)
        return True

    def _tail(self, f: Any) -> str:
        f.seek(max(0, self.read - _TAIL))
        return hashlib.sha256(f.read(min(self.read, _TAIL))).hexdigest()[:16]

    def _line(self, line: bytes) -> None:
        self.lines += 1
        if line.strip():
            try:
                found: Entry | str = _entry(self.name, self.read, len(line), self.lines, json.loads(line))
            except ValueError:  # json.JSONDecodeError and UnicodeDecodeError
                found = "not valid JSON; skipped"
            if isinstance(found, str):
                self.problems.append((self.lines, found))
            else:
                self.entries.append(found)
        self.read += len(line) + 1

    def dump(self) -> dict[str, Any]:
        names = ("read", "lines", "tail", "stamp", "problems", "torn")
        return {**{n: getattr(self, n) for n in names}, "entries": [list(e)[1:] for e in self.entries]}

    def load(self, d: Mapping[str, Any]) -> None:
        for name in ("read", "lines", "tail", "stamp", "torn"):
            setattr(self, name, d[name])
        self.problems = [(int(n), str(p)) for n, p in d["problems"]]
        self.entries = [Entry(self.name, *e) for e in d["entries"]]


class LedgerIndex:
    """The entries of all ``*.jsonl`` files of ``folder``, kept in the file ``cache`` where that can be written."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.generation = 0
        self._files: dict[str, _File] | None = None

    def update(self) -> None:
        """Read what was appended since the last update; ``generation`` grows when anything was."""
        files = self._load() if self._files is None else self._files
        paths = sorted(self.folder.glob("*.jsonl"))
        changed = self._files is None or {p.name for p in paths} != set(files)
        new_content = False
        self._files = {}
        for path in paths:
            file = files.get(path.name) or _File(path)
            new_content |= file.update()
            self._files[path.name] = file
        if changed or new_content:
            self.generation += 1
        if new_content:
            self._save()

    def _load(self) -> dict[str, _File]:
        out: dict[str, _File] = {}
        try:
            data = json.loads(self.cache.read_bytes())
            if data["format"] == _FORMAT:
                for name, d in data["files"].items():
                    out[name] = _File(self.folder / name)
                    out[name].load(d)
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return out

    def _save(self) -> None:
        files = {name: file.dump() for name, file in (self._files or {}).items()}
        try:
            write_atomic(self.cache, json.dumps({"format": _FORMAT, "files": files}, separators=(",", ":")).encode())
        except OSError:
            return  # a store that may only be read is read without a cache

    def entries(self) -> list[Entry]:
        """Return all entries, file by file."""
        return [e for file in (self._files or {}).values() for e in file.entries]

    def problems(self) -> list[tuple[str, str]]:
        """Return (file:line, reason) of every line that could not be taken."""
        out = []
        for name, file in (self._files or {}).items():
            out += [(f"{name}:{number}", reason) for number, reason in file.problems]
            if file.torn:
                out.append((f"{name}:{file.lines + 1}", f"the last line has no end ({file.torn} bytes): a write was cut off; ignored"))
        return out

    def read(self, entries: Sequence[Entry]) -> list[dict[str, Any] | None]:
        """Parse the lines of ``entries``; None for one that changed under the reader."""
        out: list[dict[str, Any] | None] = [None] * len(entries)
        by_file: dict[str, list[int]] = {}
        for i, e in enumerate(entries):
            by_file.setdefault(e.file, []).append(i)
        for name, positions in by_file.items():
            with (self.folder / name).open("rb") as f:
                for i in sorted(positions, key=lambda i: entries[i].offset):
                    f.seek(entries[i].offset)
                    try:
                        record = json.loads(f.read(entries[i].length))
                    except ValueError:
                        continue
                    if isinstance(record, dict) and record.get("unit_id") == entries[i].unit_id:
                        out[i] = record
        return out
