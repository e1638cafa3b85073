"""Claims: one file says who is doing a thing (a unit, a fit), and its heartbeat says that he is alive.

No clock is compared across machines and no file lock is needed (a network file system may lack both). The owner counts up in the file;
an observer calls a claim stale when the count stood still for a while on his own monotonic clock, or, on the same machine, at once when
the owner's process is gone. A claim saves double work only; that a record is accepted once is the ledger's doing.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BEAT = 2.0
"""Seconds between two heartbeats."""
STALE = 30.0
"""Seconds without a heartbeat after which a claim from another machine is stale."""


def _process_start(pid: int) -> str | None:
    """Return the kernel's start time of a process (to tell it from a later one with its number), None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _place() -> str:
    """Return what tells this machine and process namespace from others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""  # unknown: only heartbeats count
    return f"{socket.gethostname()}/{boot}/{namespace}"


class Claims:
    """The claims of one process in ``folder``. `take` and `drop` are cheap; one thread beats for all that are held."""

    def __init__(self, folder: Path, beat: float = BEAT, stale: float = STALE) -> None:
        self.folder, self.beat, self.stale = folder, beat, stale
        self.owner = uuid.uuid4().hex
        self._me = {"owner": self.owner, "place": _place(), "pid": os.getpid(), "start": _process_start(os.getpid())}
        self._held: set[str] = set()
        self._seen: dict[str, tuple[tuple[Any, Any], float]] = {}
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, name: str) -> bool:
        """Try to claim ``name``: True when it is ours now. OSError when the folder is not writable."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        for _ in range(2):
            try:
                self._create(path)
            except FileExistsError:
                if not self._is_stale(name):
                    return False
                self._remove_stale(name)
                continue
            with self._guard:
                self._held.add(name)
            self._start_beating()
            return True
        return False

    def _create(self, path: Path) -> None:
        """Create the file with its content, or raise FileExistsError."""
        content = json.dumps({**self._me, "beat": 0})
        temporary = path.with_name(f".{path.name}.{self.owner}")
        temporary.write_text(content)
        try:
            os.link(temporary, path)  # the content is there from the first instant
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with path.open("x") as f:
                f.write(content)
        finally:
            temporary.unlink(missing_ok=True)

    def drop(self, name: str) -> None:
        """Give a claim back."""
        with self._guard:
            if name not in self._held:
                return
            self._held.discard(name)
            if (self._read(name) or {}).get("owner") == self.owner:
                (self.folder / name).unlink(missing_ok=True)

    def free(self, name: str) -> bool:
        """Whether ``name`` can be claimed: nobody holds it, or whoever did is dead."""
        return not (self.folder / name).exists() or self._is_stale(name)

    def sweep(self) -> None:
        """Remove what dead processes of this machine left behind."""
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                found = self._read(entry.name)
                if found is not None and self._is_dead(found):
                    (self.folder / entry.name).unlink(missing_ok=True)

    def close(self) -> None:
        """Give all claims back and stop beating."""
        for name in list(self._held):
            self.drop(name)
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / name).read_text())
        except (OSError, ValueError):
            return None

    def _is_here(self, found: dict[str, Any]) -> bool:
        return bool(found.get("place")) and found["place"] == self._me["place"]

    def _is_dead(self, found: dict[str, Any]) -> bool:
        return self._is_here(found) and _process_start(int(found["pid"])) != found["start"]

    def _is_stale(self, name: str) -> bool:
        found = self._read(name)
        if found is not None and self._is_here(found):
            return self._is_dead(found)
        mark = (None, None) if found is None else (found.get("owner"), found.get("beat"))
        before = self._seen.get(name)
        now = time.monotonic()
        if before is None or before[0] != mark:
            self._seen[name] = (mark, now)
            return False
        return now - before[1] > self.stale

    def _remove_stale(self, name: str) -> None:
        """Move a stale claim away; what was moved is looked at again, since another observer may have been faster."""
        away = self.folder / f".{name}.{uuid.uuid4().hex}.stale"
        expected = self._read(name)
        try:
            (self.folder / name).rename(away)
        except OSError:
            return
        try:
            moved = json.loads(away.read_text())
        except (OSError, ValueError):
            moved = None
        if moved is not None and moved.get("owner") != (expected or {}).get("owner"):
            # it was a living claim: put it back. Where a third one claimed in between, two do the same work and the ledger accepts one record
            with suppress(OSError):
                os.link(away, self.folder / name)
        away.unlink(missing_ok=True)
        self._seen.pop(name, None)

    def _start_beating(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat_on, name="scorebench-claims", daemon=True)
            self._thread.start()

    def _beat_on(self) -> None:
        count = 0
        while not self._stop.wait(self.beat):
            count += 1
            content = json.dumps({**self._me, "beat": count})
            with self._guard:
                for name in list(self._held):
                    try:
                        if (self._read(name) or {}).get("owner") != self.owner:
                            self._held.discard(name)  # taken over while this process stood still
                            continue
                        temporary = self.folder / f".{name}.{self.owner}"
                        temporary.write_text(content)
                        temporary.replace(self.folder / name)
                    except OSError:
                        continue  # disk full or share gone: the next beat tries again


@contextmanager
def hold(folder: Path, name: str, waiting: Callable[[], None] | None = None, poll: float = 0.2) -> Iterator[None]:
    """Hold the claim ``name`` for the block, waiting until whoever holds it drops it or dies; ``waiting`` is called once if so."""
    claims = Claims(folder)
    told = False
    try:
        while not claims.take(name):
            if not told and waiting is not None:
                waiting()
            told = True
            time.sleep(poll)
        yield
    finally:
        claims.close()
