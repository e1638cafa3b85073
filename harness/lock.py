"""The lock of observations: for every task whose data are here, the hash of its observations, with the library versions that made them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from ..configs.loader import HERE, write_atomic
from ..tasks import registry
from . import environment

LOCK = HERE / "tasks" / "observations.lock"
FIRST = 4
"""Beside the hash of a whole split stands that of its first few observations, which a quick test recomputes."""

HEAD = """\
# sha256 of the observations (draw 0) of every task and split, made by `scorebench lock`. A test recomputes them: where a library upgrade
# changes an observation, the task's version must be raised, since its numbers can no longer be compared with the old ones.
"""


def entry(task_id: str) -> dict[str, str]:
    """Return the hashes of one task's dev and test observations."""
    task = registry.get(task_id)
    out = {}
    for split in ("dev", "test"):
        ids = task.ids(split)
        out[split] = task.observation_hash(split, 0, ids)
        out[f"{split}-first{FIRST}"] = task.observation_hash(split, 0, ids[:FIRST])
    return out


def read() -> dict[str, Any]:
    """Return the lock's content; empty when there is none yet."""
    if not LOCK.is_file():
        return {"versions": {}, "tasks": {}}
    return yaml.safe_load(LOCK.read_text())


def update(task_ids: Iterable[str] | None = None, path: Path = LOCK, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Recompute the entries of ``task_ids`` (default: all whose data are here) and write the lock; return its content."""
    content = read()
    known = {f"{t}@{s.version}" for t, s in registry.specs().items()}
    entries = {k: v for k, v in content["tasks"].items() if k in known}
    for task_id in task_ids if task_ids is not None else registry.specs():
        task = registry.get(task_id)
        if (why := task.dataset.missing()) is not None:
            say(f"{task_id}: kept as it is; {why}")
            continue
        name = f"{task_id}@{task.version}"
        new = entry(task_id)
        if entries.get(name) != new:
            say(f"{name}: {'changed' if name in entries else 'new'}")
        entries[name] = new
    versions = {k: v for k, v in environment.environment()["libraries"].items() if v}
    content = {"versions": versions, "tasks": dict(sorted(entries.items()))}
    write_atomic(path, (HEAD + yaml.safe_dump(content, sort_keys=False, width=144)).encode())
    return content
