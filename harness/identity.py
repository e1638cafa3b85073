"""Content ids: canonical JSON, its hash, and files by what is in them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from json.encoder import encode_basestring as _text
from pathlib import Path
from typing import Any

from ..configs.errors import RequestError
from ..configs.loader import home, write_atomic

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
LENGTH = 32
"""Hexadecimal digits of an id (128 bits)."""


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON types; equal numbers become equal (3 and 3.0), tuples become lists."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return {"float": repr(value)}
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # numpy and torch scalars
        return _plain(value.item())
    accepted = "numbers, text, true, false, null, lists, mappings"
    raise RequestError(f"{value!r} ({type(value).__name__}) cannot be a hyper-parameter; accepted: {accepted}.")


def canonical(value: Any) -> str:
    """Return the one JSON text of ``value``: keys sorted, no spaces, equal numbers written equally."""
    if type(value) is int:
        return str(value)
    return _text(value) if type(value) is str else _ENCODER.encode(_plain(value))


def content_id(*parts: Any) -> str:
    """Return the id (32 hexadecimal digits) of ``parts``: equal exactly when their canonical JSON is."""
    return hashlib.sha256(f"[{','.join(map(canonical, parts))}]".encode()).hexdigest()[:LENGTH]


class Series:
    """The ids of many contents that differ in a few values: ``Series(fixed, names).id(values)`` equals ``content_id({**fixed, **values})``.

    Planning 100,000 units spends its time in JSON; here only the values that differ are written anew.
    """

    def __init__(self, fixed: Mapping[str, Any], names: tuple[str, ...]) -> None:
        self.names = names
        holes = {name: f"\x00{name}\x00" for name in names}
        text = canonical([{**fixed, **holes}])
        self._parts: list[str] = []
        for name in sorted(names):
            before, hole, text = text.partition(canonical(holes[name]))
            assert hole, f"{name} is in fixed"
            self._parts.append(before)
        self._parts.append(text)
        self._order = sorted(names)
        self._last: dict[str, tuple[Any, str]] = {}

    def id(self, values: Mapping[str, Any]) -> str:
        """Return the id of the fixed content with ``values`` (one for each name)."""
        text = self._parts[0]
        for name, part in zip(self._order, self._parts[1:], strict=True):
            value = values[name]
            if type(value) is int:
                text += f"{value}{part}"
                continue
            last = self._last.get(name)
            if last is None or last[0] is not value:  # many units share one mapping, which nobody changes
                last = self._last[name] = value, canonical(value)
            text += last[1] + part
        return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


class FileHashes:
    """sha256 of files and folders, remembered by (path, mtime, size) in the home folder's index."""

    def __init__(self) -> None:
        self.file = home() / "index" / "files.json"
        try:
            self._known: dict[str, Any] = json.loads(self.file.read_text())
        except (OSError, ValueError):
            self._known = {}
        if not isinstance(self._known, dict):
            self._known = {}
        self._new = False

    def file_hash(self, path: Path) -> str:
        """Return the sha256 of one file."""
        path = path.resolve()
        stat = path.stat()
        mark = [stat.st_mtime_ns, stat.st_size]
        entry = self._known.get(str(path))
        if entry is not None and entry[0] == mark:
            return entry[1]
        digest = hashlib.sha256()
        with path.open("rb") as f:
            while block := f.read(1 << 20):
                digest.update(block)
        self._known[str(path)] = [mark, digest.hexdigest()]
        self._new = True
        return digest.hexdigest()

    def path_hash(self, path: Path) -> str:
        """Return the sha256 of a file, or of a folder (names and contents of all its files)."""
        if path.is_file():
            return self.file_hash(path)
        files = sorted(p for p in path.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts))
        return hashlib.sha256(canonical([[str(p.relative_to(path)), self.file_hash(p)] for p in files]).encode()).hexdigest()

    def save(self) -> None:
        """Write the index; a home folder that is not writable costs speed only."""
        if not self._new:
            return
        try:
            write_atomic(self.file, json.dumps(self._known).encode())
            self._new = False
        except OSError:
            return


def given_file(value: Any) -> Path | None:
    """Return the path when a hyper-parameter's value names something on disk: an existing file (or a folder, if written with a '/').

    A bare word without suffix or slash is never taken for a file, so that a file called ``adam`` in the working directory changes nothing.
    """
    if not isinstance(value, (str, Path)) or not str(value) or len(str(value)) > 1000:
        return None
    text = str(value)
    path = Path(text).expanduser()
    if "/" not in text and not path.suffix:
        return None
    try:
        found = path.is_file() or ("/" in text and path.is_dir())
    except OSError:
        return None
    return path.resolve() if found else None


def resolve_files(hparams: Mapping[str, Any], hashes: FileHashes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the hyper-parameters twice: with files as absolute paths (to run) and with files as their sha256 (to hash)."""
    run, ids = dict(hparams), dict(hparams)
    for name, value in hparams.items():
        if (path := given_file(value)) is not None:
            run[name] = str(path)
            ids[name] = {"sha256": hashes.path_hash(path)}
    return run, ids
