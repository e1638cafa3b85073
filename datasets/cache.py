"""Fingerprints kept on disk: hashing every sample is done once per content, then read back in a millisecond.

A cached fingerprint is keyed by everything it could depend on: id and version, the source of the dataset modules, the versions of the
libraries that decode or draw, and name, size and time of the files read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..configs.loader import home, write_atomic


@cache
def _code() -> str:
    """Return the hash of the source of every dataset module (they are few and small, so a change in any of them counts)."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).resolve().parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def versions(libraries: Sequence[str]) -> dict[str, str]:
    """Return the installed versions of ``libraries`` (distribution names) without importing them."""
    out = {}
    for name in libraries:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "none"
    return out


def stats(files: Sequence[Path]) -> str:
    """Return a hash over path, size and modification time of ``files``."""
    digest = hashlib.sha256()
    for path in files:
        stat = path.stat()
        digest.update(f"{path}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def fingerprint(dataset: str, libraries: Sequence[str], files: Sequence[Path], compute: Callable[[], str]) -> str:
    """Return ``compute()``, or what it returned last time under the same code, library versions and files."""
    key = hashlib.sha256(json.dumps([dataset, _code(), versions(libraries), stats(files)]).encode()).hexdigest()
    file = home() / "index" / "fingerprints" / f"{key[:32]}.txt"
    try:
        known = file.read_text().strip()
    except OSError:
        known = ""
    if len(known) == 64:
        return known
    value = compute()
    with suppress(OSError):  # a read-only home costs speed only
        write_atomic(file, value.encode())
    return value
