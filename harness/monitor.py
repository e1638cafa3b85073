"""What a run looks like from outside: a small file beside the store that says how far it is, for `scorebench status` in another terminal."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .claims import _place, _process_start
from .progress import Status

BEAT = 1.0
"""Seconds between two writes."""
FOLDER = "live"


class Picture:
    """Sums up the statuses of a run: counts, rate, time left, what runs, and the best configuration so far of each task and budget."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.done = self.total = self.retried = 0
        self.left: float | None = None
        self.elapsed = 0.0
        self.running: tuple[str, ...] = ()
        self._means: dict[tuple[str, str], dict[str, tuple[int, float]]] = {}

    def __call__(self, status: Status) -> None:
        self.done, self.total, self.left, self.elapsed = status.done, status.total, status.left, status.elapsed
        self.running = status.running
        self.retried += status.kind == "retry"
        if status.kind != "finished" or status.unit is None:
            return
        self.counts[status.outcome] = self.counts.get(status.outcome, 0) + 1
        unit = status.unit
        value = status.facts.get("metrics", {}).get(primary(unit.task)[0]) if status.outcome == "ok" else None
        if value is not None:
            means = self._means.setdefault((unit.task, unit.budget), {})
            n, total = means.get(str(unit.variant), (0, 0.0))
            means[str(unit.variant)] = n + 1, total + float(value)

    @property
    def rate(self) -> float | None:
        """Units per minute of those run (not of those that were done already); None before the first."""
        ran = self.counts.get("ok", 0) + self.counts.get("failed", 0)
        return 60 * ran / self.elapsed if ran and self.elapsed else None

    def best(self) -> list[dict[str, Any]]:
        """Return the best mean so far of each task and budget, among what this run has run."""
        out = []
        for (task, budget), means in self._means.items():
            name, higher = primary(task)
            found = {variant: total / n for variant, (n, total) in means.items()}
            variant = (max if higher else min)(found, key=lambda v: found[v])
            out.append({"task": task, "budget": budget, "metric": name, "variant": variant, "value": found[variant]})
        return out

    def facts(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "done": self.done, "total": self.total, "counts": dict(self.counts), "retried": self.retried, "rate": self.rate, "left": self.left,
            "elapsed": self.elapsed, "running": list(self.running), "best": self.best(),
        }  # fmt: skip


def primary(task: str) -> tuple[str, bool]:
    """Return a task's primary metric and whether higher is better."""
    from ..tasks.metrics import registry as metrics
    from ..tasks.registry import get_spec

    name = get_spec(task).primary
    return name, metrics.info(name).higher_is_better


class Monitor:
    """Keeps the file of one run: written every second by a thread of its own, removed at the end. A full disk costs the file, never the run."""

    def __init__(self, store: Path, command: str = "") -> None:
        self.folder = store / FOLDER
        self.path = self.folder / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}.json"
        self.picture = Picture()
        self._me = {
            "place": _place(), "pid": os.getpid(), "start": _process_start(os.getpid()), "host": socket.gethostname(), "command": command,
        }  # fmt: skip
        self._beats = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="scorebench-monitor", daemon=True)

    def __enter__(self) -> Monitor:
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            for path, facts in _read_all(self.folder):  # left behind by processes of this machine that were killed
                if facts["place"] == self._me["place"] and not alive(facts):
                    path.unlink(missing_ok=True)
        self._write()
        self._thread.start()
        return self

    def __call__(self, status: Status) -> None:
        self.picture(status)

    def _go_on(self) -> None:
        while not self._stop.wait(BEAT):
            self._write()

    def _write(self) -> None:
        self._beats += 1
        temporary = self.path.with_suffix(".tmp")
        with suppress(OSError, RuntimeError):  # RuntimeError: a status changed the picture just now; the next beat is in a second
            temporary.write_text(json.dumps({**self._me, "beat": self._beats, **self.picture.facts()}))
            temporary.replace(self.path)

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        for path in (self.path, self.path.with_suffix(".tmp")):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _read_all(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    out = []
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError):
            facts = json.loads(path.read_text())
            if isinstance(facts, dict) and {"pid", "start", "place", "beat"} <= facts.keys():
                out.append((path, facts))
    return out


def alive(facts: Mapping[str, Any]) -> bool | None:
    """Whether the process of a file runs; None when it belongs to another machine, where only its beat can tell."""
    if not facts["place"] or facts["place"] != _place():
        return None
    return _process_start(int(facts["pid"])) == facts["start"]


def runs(store: Path, wait: float = 2.5 * BEAT) -> list[dict[str, Any]]:
    """Return what the runs on a store say, each with ``alive``. One on another machine is watched for ``wait`` seconds, so that
    no clocks are compared."""
    folder = store / FOLDER
    found = _read_all(folder)
    marks = {path: facts["beat"] for path, facts in found if alive(facts) is None}
    if marks:
        time.sleep(wait)
        found = _read_all(folder)
    out = []
    for path, facts in found:
        here = alive(facts)
        out.append({**facts, "alive": facts["beat"] != marks.get(path, facts["beat"]) if here is None else here})
    return out


__all__ = ["Monitor", "Picture", "alive", "runs"]
