"""The index of a ledger: where each line stands and what it is about, so that one board reads only its own lines.

The files are append-only, so a file is known by how far it was read and by the bytes just before that point. The cache is only a cache:
whatever does not fit it is read again. It is one head (JSON) and one block (JSON) per task, so that a board parses its own block alone.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..configs.loader import write_atomic

_FORMAT = 3
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

    @property
    def order(self) -> tuple[str, str, int]:
        """By the time written, then by file and line: the same on every machine that reads the same files."""
        return self.written, self.file, self.offset

    def matches(self, where: Mapping[str, Any]) -> bool:
        return all(getattr(self, name) == value for name, value in where.items())


def _entry(file: str, offset: int, length: int, number: int, r: Any) -> Entry | str:
    """Make the entry of one parsed line, or say what is wrong with it."""
    if not isinstance(r, dict):
        return f"not a record but {type(r).__name__}; skipped"
    missing = [n for n in ("unit_id", "environment_key", "task", "method", "variant", "status") if not isinstance(r.get(n), str)]
    if missing:
        return f"a record without {', '.join(missing)}; skipped"
    schema = r.get("schema", 1)
    if not isinstance(schema, int):
        return f"a record of schema {schema!r}; skipped"
    partial = bool(r.get("partial"))
    return Entry(
        file, offset, length, number, r["unit_id"], r["environment_key"], str(r.get("observation_hash", "")) if partial else "", r["task"],
        str(r.get("budget", "default")), str(r.get("split", "test")), r["method"], r["variant"], r["status"], partial,
        str(r.get("written", "")), schema,
    )  # fmt: skip


@dataclass
class _File:
    """How far one ledger file was read, and what was wrong in it."""

    read: int = 0
    lines: int = 0
    tail: str = ""
    stamp: list[int] = field(default_factory=lambda: [0, 0])
    torn: int = 0
    problems: list[list[Any]] = field(default_factory=list)

    def update(self, path: Path) -> list[Entry] | None:
        """Read what was appended and return its entries; None when the file was changed otherwise, so that nothing known of it holds."""
        stat = path.stat()
        stamp = [stat.st_mtime_ns, stat.st_size]
        if stamp == self.stamp:
            return []
        entries: list[Entry] = []
        with path.open("rb") as f:
            if self.read and (stat.st_size < self.read or self._tail(f) != self.tail):
                return None
            f.seek(self.read)
            content = f.read()
            end = content.rfind(b"\n") + 1
            for line in content[:end].split(b"\n")[:-1]:
                self._line(path.name, line, entries)
            self.torn, self.stamp, self.tail = len(content) - end, stamp, self._tail(f)
        return entries

    def _tail(self, f: Any) -> str:
        f.seek(max(0, self.read - _TAIL))
        return hashlib.sha256(f.read(min(self.read, _TAIL))).hexdigest()[:16]

    def _line(self, name: str, line: bytes, entries: list[Entry]) -> None:
        self.lines += 1
        if line.strip():
            try:
                found: Entry | str = _entry(name, self.read, len(line), self.lines, json.loads(line))
            except ValueError:  # json.JSONDecodeError and UnicodeDecodeError
                found = "not valid JSON; skipped"
            if isinstance(found, str):
                self.problems.append([self.lines, found])
            else:
                entries.append(found)
        self.read += len(line) + 1


class LedgerIndex:
    """The entries of all ``*.jsonl`` files of ``folder``, kept in the file ``cache`` where that can be written."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.generation = 0
        self._files: dict[str, _File] | None = None
        self._blocks: dict[str, list[Entry] | bytes] = {}

    def update(self) -> None:
        """Read what was appended since the last update; ``generation`` grows when anything was."""
        first = self._files is None
        if first:
            self._load()
        assert self._files is not None
        paths = {p.name: p for p in sorted(self.folder.glob("*.jsonl"))}
        changed = set(self._files) - set(paths) != set()  # a file is gone
        if not changed:
            before = [f.stamp for f in self._files.values()]
            changed = not self._read(paths)
            fresh = changed or before != [f.stamp for f in self._files.values()]
        if changed:
            self._files, self._blocks, fresh = {}, {}, True
            self._read(paths)
        if fresh:
            self._save()
        self.generation += first or fresh

    def _read(self, paths: Mapping[str, Path]) -> bool:
        """Read the new lines of all files; return False when one of them was changed otherwise."""
        assert self._files is not None
        for name, path in paths.items():
            found = self._files.setdefault(name, _File()).update(path)
            if found is None:
                return False
            for e in found:
                self._block(e.task).append(e)
        return True

    def _block(self, task: str) -> list[Entry]:
        block = self._blocks.setdefault(task, [])
        if isinstance(block, bytes):
            block = self._blocks[task] = [Entry(*e) for e in json.loads(block)]
        return block

    def _load(self) -> None:
        self._files, self._blocks = {}, {}
        try:
            content = self.cache.read_bytes()
            end = content.index(b"\n")
            head = json.loads(content[:end])
            if head["format"] != _FORMAT or len(content) != end + 1 + sum(n for _, n in head["blocks"]):
                return
            at = end + 1
            blocks: dict[str, list[Entry] | bytes] = {}
            for task, length in head["blocks"]:
                blocks[task] = content[at : at + length]
                at += length
            self._files = {name: _File(**d) for name, d in head["files"].items()}
            self._blocks = blocks
        except (OSError, ValueError, KeyError, TypeError):
            self._files, self._blocks = {}, {}

    def _save(self) -> None:
        blocks = {t: b if isinstance(b, bytes) else json.dumps(b, separators=(",", ":")).encode() for t, b in self._blocks.items()}
        files = {name: asdict(file) for name, file in (self._files or {}).items()}
        head = json.dumps({"format": _FORMAT, "files": files, "blocks": [[t, len(b)] for t, b in blocks.items()]}, separators=(",", ":"))
        try:
            write_atomic(self.cache, b"".join([head.encode(), b"\n", *blocks.values()]))
        except OSError:
            return  # a store that may only be read is read without a cache

    def entries(self, task: str | None = None) -> list[Entry]:
        """Return the entries of a task, or all, in their `Entry.order`."""
        chosen = list(self._blocks) if task is None else [task] if task in self._blocks else []
        return sorted((e for t in chosen for e in self._block(t)), key=lambda e: (e.written, e.file, e.offset))

    def tasks(self) -> list[str]:
        """Return the ids of the tasks that have entries."""
        return sorted(self._blocks)

    def problems(self) -> list[tuple[str, str]]:
        """Return (file:line, reason) of every line that could not be taken."""
        out = []
        for name, file in (self._files or {}).items():
            out += [(f"{name}:{number}", str(reason)) for number, reason in file.problems]
            if file.torn:
                out.append((f"{name}:{file.lines + 1}", f"the last line has no end ({file.torn} bytes): a write was cut off; ignored"))
        return out

    def read(self, entries: Sequence[Entry]) -> list[dict[str, Any] | None]:
        """Parse the lines of ``entries``; None for one that changed under the reader."""
        out: list[dict[str, Any] | None] = [None] * len(entries)
        by_file: dict[str, list[int]] = {}
        for i, e in enumerate(entries):
            by_file.setdefault(e.file, []).append(i)
        lines: list[bytes] = []
        at: list[int] = []
        for name, positions in by_file.items():
            with (self.folder / name).open("rb") as f:
                for i in sorted(positions, key=lambda i: entries[i].offset):
                    f.seek(entries[i].offset)
                    lines.append(f.read(entries[i].length))
                    at.append(i)
        for i, record in zip(at, _parse(lines), strict=True):
            if isinstance(record, dict) and record.get("unit_id") == entries[i].unit_id:
                out[i] = record
        return out


def _parse(lines: Sequence[bytes]) -> list[Any]:
    """Return the JSON value of each line, None for one that is none. All at once takes two thirds of the time of one by one."""
    with paused():
        try:
            found = json.loads(b"[" + b",".join(lines) + b"]")
            if len(found) == len(lines):
                return found
        except ValueError:
            pass
        return [_parsed(line) for line in lines]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


@contextmanager
def paused() -> Iterator[None]:
    """Pause the garbage collector: it would walk all records again and again while they are made, and find nothing."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
