"""Which units are done: recorded, not failed, of the same unit and environment. Imports no torch, so that a finished plan is seen at once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Set
from pathlib import Path
from typing import TYPE_CHECKING

from .environment import environment, environment_key
from .unit import Unit

if TYPE_CHECKING:
    from ..leaderboards.ledger import Store

QUICK = 0.005
"""Seconds that listing the ledger's files may take before it is not repeated for every unit."""


def undone(units: Iterable[Unit], store: Store) -> tuple[list[Unit], list[Unit]]:
    """Split units into (still to run, done): done means recorded as ok under an equal unit_id and environment_key."""
    done = store.done()
    keys: dict[tuple[str, str], str] = {}
    todo: list[Unit] = []
    finished: list[Unit] = []
    for unit in units:
        where = (unit.device, unit.precision)
        if where not in keys:
            keys[where] = environment_key(environment(*where))
        (finished if unit.limit is None and (unit.unit_id, keys[where]) in done else todo).append(unit)
    return todo, finished


class Others:
    """What other processes record in ``ledger`` from the moment this is made. A look reads only what was appended since the last one."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        self.done: set[tuple[str, str]] = set()
        self._next = 0.0
        self._read = self._sizes()

    def _sizes(self) -> dict[str, int]:
        with os.scandir(self.ledger) as entries:
            return {e.name: e.stat().st_size for e in entries if e.name.endswith(".jsonl")}

    def look(self, ours: Set[str]) -> set[tuple[str, str]]:
        """Return (unit_id, environment_key) of what was done since the start; files named in ``ours`` are not read. OSError: unreadable.

        Listing thousands of files, or those of a slow share, takes a twentieth of the time at most; what is missed meanwhile is done twice
        and accepted once.
        """
        start = time.monotonic()
        if start < self._next:
            return self.done
        sizes = self._sizes()
        cost = time.monotonic() - start
        self._next = start + (20 * cost if cost > QUICK else 0.0)
        for name, size in sizes.items():
            if name not in ours and size > self._read.get(name, 0):
                self._read[name] = self._follow(name, self._read.get(name, 0))
        return self.done

    def _follow(self, name: str, start: int) -> int:
        """Read a file's whole lines from byte ``start`` on; return where they end (a line still being written is read the next time)."""
        with (self.ledger / name).open("rb") as f:
            f.seek(start)
            content = f.read()
        end = content.rfind(b"\n") + 1
        for line in content[:end].splitlines():
            try:
                r = json.loads(line)
            except ValueError:
                continue  # the store reports corrupt lines
            if isinstance(r, dict) and r.get("status") == "ok" and not r.get("partial"):
                self.done.add((str(r.get("unit_id")), str(r.get("environment_key"))))
        return start + end
