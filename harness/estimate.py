"""What a plan will cost, from the records of earlier runs: seconds a unit and a training, as a guess that says what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .unit import ArtifactRef, Unit

OVERHEAD = 0.1
"""Seconds a unit takes beside its samples in a worker that has imported torch."""
GFLOPS = 20.0
"""GFLOP/s one core trains with, where no record of a training says better."""
LEVELS = ("this variant and budget", "this variant", "this method", "this task")


@dataclass(frozen=True)
class Estimate:
    """Seconds of one unit on one worker, None where nothing like it was ever run; ``basis`` is one of `LEVELS`."""

    seconds: float | None
    basis: str = "nothing recorded"


class Estimator:
    """Reads, task by task, what earlier units took. ``records`` gives the records of a task (of the store and the accepted reference)."""

    def __init__(self, records: Callable[[str], Iterable[Mapping[str, Any]]]) -> None:
        self._records = records
        self._seen: dict[str, list[dict[tuple[str, ...], list[float]]]] = {}
        self._rates: dict[str, list[float]] = {}

    def _of(self, task: str) -> list[dict[tuple[str, ...], list[float]]]:
        if task in self._seen:
            return self._seen[task]
        levels: list[dict[tuple[str, ...], list[float]]] = [{}, {}, {}, {}]
        for r in self._records(task):
            cost = r.get("cost") or {}
            per, count = cost.get("sample_s_median"), max((m.get("n", 0) for m in r.get("metrics", {}).values()), default=0)
            if r.get("status") != "ok" or r.get("partial") or not per or not count:
                continue
            keys: tuple[tuple[str, ...], ...] = ((r["variant"], r["budget"]), (r["variant"],), (r["method"],), ())
            for level, key in zip(levels, keys, strict=True):
                level.setdefault(key, []).append(per * count + OVERHEAD)
            if cost.get("train_s") and cost.get("train_gflops"):
                self._rates.setdefault(r["method"], []).append(cost["train_gflops"] / cost["train_s"])
        self._seen[task] = levels
        return levels

    def unit(self, unit: Unit) -> Estimate:
        """Return what a unit will take, without what must be trained before it."""
        keys: tuple[tuple[str, ...], ...] = ((str(unit.variant), unit.budget), (str(unit.variant),), (unit.variant.method,), ())
        for level, key, basis in zip(self._of(unit.task), keys, LEVELS, strict=True):
            if key in level:
                return Estimate(median(level[key]), basis)
        return Estimate(None)

    def training(self, ref: ArtifactRef) -> float | None:
        """Return the seconds a component's training will take, None for one without a training budget (a closed form, a search)."""
        if not ref.gflops:
            return None
        if ref.task is not None:
            self._of(ref.task)
        rates = self._rates.get(ref.owner) or [r for found in self._rates.values() for r in found] or [GFLOPS]
        return ref.gflops / median(rates)


@dataclass(frozen=True)
class Row:
    """One line of a plan: a task, budget and variant; how many of its units are due; what they will take in all."""

    task: str
    budget: str
    variant: str
    units: int
    done: int
    seconds: float | None
    basis: str


def table(units: Sequence[Unit], done: Sequence[Unit], estimator: Estimator) -> list[Row]:
    """Return the plan by task, budget and variant, in the order planned."""
    finished = {u.unit_id for u in done}
    groups: dict[tuple[str, str, str], list[Unit]] = {}
    for unit in units:
        groups.setdefault((unit.task, unit.budget, str(unit.variant)), []).append(unit)
    out = []
    for (task, budget, variant), found in groups.items():
        due = [u for u in found if u.unit_id not in finished]
        each = estimator.unit(due[0] if due else found[0])
        seconds = None if each.seconds is None and due else (each.seconds or 0.0) * len(due)
        out.append(Row(task, budget, variant, len(due), len(found) - len(due), seconds, each.basis if due else "done"))
    return out


__all__ = ["Estimate", "Estimator", "Row", "table"]
