"""What the nightly gate compares: the units of one cell (task, budget, variant) in the reference and tonight, paired and put side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .record import Record
from .sources import Gathered
from .statistics import margin_value

Key = tuple[str, str, str]
"""Task, budget, variant."""
Place = tuple[tuple[tuple[str, int], ...], int, int]
"""Trainings of the priors, seed, draw: what pairs a unit of the reference with one of tonight."""


def key_of(record: Mapping[str, Any]) -> Key:
    """Return the cell a record belongs to."""
    return record["task"], record["budget"], record["variant"]


def place_of(record: Record) -> Place:
    """Return what a record is paired by."""
    roles = record.get("artifacts", {}).items()
    trainings = sorted((k, int(a["seed"])) for k, a in roles if k != "fit" and isinstance(a, Mapping) and a.get("seed") is not None)
    return tuple(trainings), record["seed"], record["draw"]


def weights_of(record: Record) -> dict[str, str]:
    """Return the sha256 of each trained component behind a record."""
    parts = record.get("artifacts", {}).items()
    return {role: str(a["sha256"]) for role, a in parts if isinstance(a, Mapping) and a.get("sha256")}


@dataclass
class Side:
    """The finished units of one cell on one side, by `place_of`; ``gathered`` finds their per-sample values."""

    units: dict[Place, Record]
    gathered: Gathered

    def value(self, place: Place, metric: str) -> float | None:
        """Return the metric of a unit, None where it is unavailable."""
        return (self.units[place]["metrics"].get(metric) or {}).get("value")

    def table(self, places: Sequence[Place], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return sample ids (N,), clusters (N,) and values (units, N)."""
        return self.gathered.values([self.units[p] for p in places], metric)

    def by_seed(self, metric: str, draws: Iterable[int]) -> dict[Any, float]:
        """Return the mean over ``draws`` for each seed that has all of them; trainings of a prior, where there are several, count as seeds."""
        wanted = set(draws)
        several = len({p[0] for p in self.units}) > 1
        found: dict[Any, dict[Any, float]] = {}
        for place in self.units:
            value = self.value(place, metric)
            if place[2] in wanted and value is not None:
                trainings, seed, draw = place
                found.setdefault(trainings if several else seed, {})[(seed if several else 0, draw)] = value
        complete = max((len(v) for v in found.values()), default=0)
        return {seed: float(np.mean(list(v.values()))) for seed, v in found.items() if len(v) == complete}


@dataclass
class Layer:
    """One layer of the reference (last accepted, or release), by cell."""

    name: str
    gathered: Gathered
    cells: dict[Key, Side] = field(default_factory=dict)

    @staticmethod
    def of(name: str, gathered: Gathered) -> Layer:
        """Read a layer: finished, whole units of the test split; of a unit accepted in several environments the last one."""
        return Layer(name, gathered, sides(gathered.records(), gathered))


def sides(records: Iterable[Record], gathered: Gathered) -> dict[Key, Side]:
    """Return the finished, whole records by cell."""
    out: dict[Key, Side] = {}
    for r in sorted(records, key=lambda r: str(r.get("written", ""))):
        if r["status"] == "ok" and not r["partial"] and r["split"] == "test":
            out.setdefault(key_of(r), Side({}, gathered)).units[place_of(r)] = r
    return out


def same(was: Side, other: Side | None) -> bool:
    """Whether two sides hold the same units of a cell."""
    return other is not None and _ids(was) == _ids(other)


def _ids(side: Side) -> set[tuple[str, str]]:
    return {(r["unit_id"], r["environment_key"]) for r in side.units.values()}


@dataclass(frozen=True)
class Measure:
    """A metric of a cell as the gate reads it: ``sign`` +1 where higher is better, ``margin`` in the metric's unit.

    ``share``: the margin as a share of the value, where the task gives a percentage.
    """

    name: str
    identity: str
    level: str
    sign: float
    margin: float
    unit: str
    share: float | None = None


def measures(meta: Mapping[str, Any], side: Side) -> list[Measure]:
    """Return the metrics of a task that have a margin and a value in ``side``, the primary first."""
    out = []
    for name in [meta["primary"], *(m for m in meta["metrics"] if m != meta["primary"])]:
        entries = [e for r in side.units.values() if "value" in (e := r["metrics"].get(name) or {})]
        declared = (meta["metrics"].get(name) or {}).get("margin")
        margin = margin_value(declared, float(np.mean([e["value"] for e in entries])) if entries else 0.0)
        share = margin_value(declared, 1.0) if isinstance(declared, str) and declared.strip().endswith("%") else None
        if entries and margin > 0:
            e = entries[0]
            out.append(Measure(name, e["identity"], e["level"], 1.0 if e["higher_is_better"] else -1.0, margin, e.get("unit", ""), share))
    return out


def trained_again(was: Side, now: Side, places: Sequence[Place]) -> str:
    """Return what was trained again since the reference: ``fit``, ``prior`` (any component that is handed in), or an empty string.

    Without a unit in common everything counts as trained again.
    """
    roles = {r for p in places for r in _other_weights(was.units[p], now.units[p])}
    return "prior" if roles - {"fit"} else "fit" if roles or not places else ""


def _other_weights(was: Record, now: Record) -> set[str]:
    old, new = weights_of(was), weights_of(now)
    return {role for role in {*old, *new} if old.get(role) != new.get(role)}


def changed_protocol(was: Record, now: Record) -> str:
    """Return what makes two units of one place incomparable, or an empty string."""
    if was["task_version"] != now["task_version"]:
        return f"the task is version {now['task_version']}, the reference is of version {was['task_version']}"
    if was["data_fingerprint"] != now["data_fingerprint"]:
        return f"the data are others (fingerprint {now['data_fingerprint'][:12]}, accepted {was['data_fingerprint'][:12]})"
    if was["observation_hash"] != now["observation_hash"]:
        seen = f"{now['observation_hash'][:12]}, accepted {was['observation_hash'][:12]}"
        return f"other observations in draw {now['draw']} ({seen}): other noise, keys or library versions"
    return ""


def changed_settings(was: Record, now: Record) -> list[str]:
    """Return the hyper-parameters that differ, in words."""
    old, new = was["hparams"], now["hparams"]
    return [f"{k} {old.get(k, 'absent')} -> {new.get(k, 'absent')}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
