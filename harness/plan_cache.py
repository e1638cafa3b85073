"""Plans kept from one start to the next, so that a finished sweep is known to be finished without importing torch and every method.

A plan depends on declarations, code, library versions, data and weights on this machine; a kept one is used only while none of these has
changed, by the marks (time and size of every file) that code hashes are kept by. Plans with plug-ins or with files of the user are not kept.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..baselines import card as cards
from ..baselines.card import Variant
from ..configs.errors import ScorebenchError
from ..configs.loader import HERE, home, write_atomic
from ..datasets import registry as datasets
from ..tasks import registry as tasks
from .environment import environment
from .identity import content_id
from .unit import ArtifactRef, Unit

PACKAGE = HERE.parent
ASIDE = ("tests", "benchmarks", "build", "docs", "examples", "runs")
KEPT = 50
"""Plans kept; the oldest are removed."""


def _marks(files: Iterable[Path]) -> list[Any]:
    out = []
    for f in files:
        with contextlib.suppress(OSError):
            stat = f.stat()
            out.append([str(f), stat.st_mtime_ns, stat.st_size])
    return sorted(out)


def _package() -> list[Path]:
    folders = [d for d in PACKAGE.iterdir() if d.is_dir() and not d.name.startswith(".") and d.name not in ASIDE]
    code = [f for d in folders for f in d.rglob("*.py")]
    return [*code, *(f for f in HERE.rglob("*") if f.suffix in (".yaml", ".lock"))]


def key(task_ids: Iterable[str], *asked: Any) -> str | None:
    """Return what a plan for these tasks depends on, hashed; None when it is not to be kept (plug-ins are in play, data are missing)."""
    if cards.included() or any(c.folder is not None for c in cards.cards().values()):
        return None
    data = {}
    names = list(task_ids)
    try:
        for task_id in names:
            spec = tasks.get_spec(task_id)
            for name in {spec.dataset, (spec.train or {}).get("dataset", spec.dataset)}:
                data[name] = datasets.get(name).fingerprint()
    except ScorebenchError:
        return None
    weights = home() / "weights"
    here = _marks(weights.rglob("*")) if weights.is_dir() else []
    return content_id("plan", 1, names, [str(a) for a in asked], data, environment(), _marks(_package()), here)


def kept(name: str | None) -> list[Unit] | None:
    """Return the plan kept under a key, None when there is none."""
    if name is None:
        return None
    try:
        content = json.loads((_folder() / f"{name}.json").read_text())
        refs: dict[str, ArtifactRef] = {}
        for entry in content["refs"]:
            here, needs = entry.pop("name"), tuple(refs[n] for n in entry.pop("needs"))
            refs[here] = ArtifactRef(**entry, needs=needs)
        return [_unit(entry, refs) for entry in content["units"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(name: str | None, units: Sequence[Unit]) -> None:
    """Keep a plan, unless JSON would not give it back unchanged or it names files."""
    if name is None or not units:
        return
    refs: dict[str, dict[str, Any]] = {}
    content = {"units": [_entry(u, refs) for u in units], "refs": list(refs.values())}
    try:
        text = json.dumps(content)
        if json.loads(text) != content or _names_files(content):
            return
        folder = _folder()
        write_atomic(folder / f"{name}.json", text.encode())
        for old in sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, TypeError, ValueError):
        return  # a read-only home, or a value that JSON does not have, costs speed only


def planned(task_ids: Iterable[str], asked: Sequence[Any], make: Callable[[], list[Unit]]) -> list[Unit]:
    """Return the plan kept for this request, or make it and keep it."""
    name = key(task_ids, *asked)
    found = kept(name)
    if found is None:
        found = make()
        keep(name, found)
    return found


def _folder() -> Path:
    return home() / "index" / "plans"


def _entry(unit: Unit, refs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    out = {f.name: getattr(unit, f.name) for f in fields(Unit)}
    v = unit.variant
    out["variant"] = [v.method, v.preset, [list(o) for o in v.overrides]]
    out["artifacts"] = [_ref(a, refs) for a in unit.artifacts]
    return out


def _ref(ref: ArtifactRef, refs: dict[str, dict[str, Any]]) -> str:
    """Put a component into the table, once for all units that share it, and return its name there."""
    name = f"{ref.role}/{ref.key}/{ref.preset}/{ref.budget}"
    if name not in refs:
        needs = [_ref(n, refs) for n in ref.needs]
        entry = asdict(ref)
        refs[name] = {**entry, "needs": needs, "name": name}
    return name


def _unit(entry: dict[str, Any], refs: dict[str, ArtifactRef]) -> Unit:
    method, preset, overrides = entry["variant"]
    variant = Variant(method, preset, tuple((k, v) for k, v in overrides))
    return Unit(**{**entry, "variant": variant, "artifacts": tuple(refs[n] for n in entry["artifacts"])})


def _names_files(value: Any) -> bool:
    """Whether a path stands anywhere in a plan: what is in the file is part of the plan, and only its name is kept."""
    if isinstance(value, dict):
        return any(_names_files(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return any(_names_files(v) for v in value)
    return isinstance(value, str) and value.startswith(("/", "~", "./", "../"))


__all__ = ["keep", "kept", "key", "planned"]
