"""From a sweep's points to units, each once; and what its records say afterwards: how many configurations were tried, which was best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ..baselines import card as cards
from ..baselines import components
from ..baselines.card import Variant
from ..configs.errors import DataMissing, RequestError
from ..tasks import registry as tasks
from .sweeps import RESERVED, Configuration, Sweep
from .unit import Unit

if TYPE_CHECKING:
    from ..leaderboards.ledger import Store
    from .plan import Planner, Skipped


@dataclass
class _Group:
    """What is planned in one go: everything of one task, variant and budget."""

    variant: Variant
    numbers: dict[tuple[int, int, int | None], None] = field(default_factory=dict)


def _numbers(value: Any, default: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Return the integers of a seed-like parameter: 3, or text such as 0-2 or 0,5."""
    if value is None:
        return default
    out: list[int | None] = []
    for part in str(value).split(","):
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return tuple(out)


def variant_of(point: Configuration) -> Variant:
    """Return the variant a configuration names: its method (or method[preset]) with every hyper-parameter of the sweep as an override."""
    base = cards.parse_variant(str(point["method"]))
    settings = {**dict(base.overrides), **{k: v for k, v in point.items() if k not in RESERVED}}
    return Variant(base.method, base.preset, tuple(sorted(settings.items())))


def plan_sweep(
    sweep: Sweep,
    points: Iterable[Configuration],
    *,
    split: str | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    precision: str = "32",
    pins: bool = True,
    skipped: list[Skipped] | None = None,
) -> list[Unit]:
    """Return the units of a sweep's configurations, each once, in the order of the points; ``split`` replaces the sweep's own.

    Cells that a method cannot answer, and those whose data are missing, are put into ``skipped``; without it they are a RequestError.
    """
    from .plan import CannotAnswer, Planner, Skipped  # torch comes with it, and a plan that was kept needs neither

    for folder in cards.included():
        components.include(folder)
    planners: dict[int | None, Planner] = {}
    groups: dict[tuple[int | None, str, str, str | None], _Group] = {}
    matched: dict[str, list[str]] = {}
    for point in points:
        limit = point.get("limit")
        budget = None if point.get("budget") is None else str(point["budget"])
        variant = variant_of(point)
        wanted = [
            (s, d, p) for s in _numbers(point.get("seed"), (0,)) for d in _numbers(point.get("draw"), (0,))
            for p in _numbers(point.get("prior_seed"), (None,))
        ]  # fmt: skip
        pattern = str(point["task"])
        if pattern not in matched:
            matched[pattern] = tasks.match([pattern])
        for task in matched[pattern]:
            group = groups.setdefault((limit, task, str(variant), budget), _Group(variant))
            group.numbers.update(dict.fromkeys(wanted))  # type: ignore[arg-type]
    units: dict[str, Unit] = {}
    try:
        for (limit, task, _, budget), group in groups.items():
            if limit not in planners:
                planners[limit] = Planner(split or sweep.split, limit, batch_size, device, precision, 1, pins)
            try:
                for unit in _cell(planners[limit], task, group, budget):
                    units.setdefault(unit.unit_id, unit)
            except (CannotAnswer, DataMissing) as e:
                if skipped is None:
                    raise
                skipped.append(Skipped(task, str(group.variant), str(e)))
    finally:
        for planner in planners.values():
            planner.save()
    return list(units.values())


def _cell(planner: Planner, task: str, group: _Group, budget: str | None) -> Iterable[Unit]:
    """Plan one group: at once where its numbers are a full product (a grid's always are), else each seed, draw and prior seed by itself."""
    budgets = None if budget is None else [budget]
    seeds, draws, priors = (list(dict.fromkeys(n[i] for n in group.numbers)) for i in range(3))
    if len(seeds) * len(draws) * len(priors) == len(group.numbers) and (None not in priors or len(priors) == 1):
        asked = [p for p in priors if p is not None]
        yield from planner.cell(task, group.variant, budgets, seeds, draws, asked)  # type: ignore[arg-type]
        return
    for seed, draw, prior in group.numbers:
        yield from planner.cell(task, group.variant, budgets, [seed], [draw], [] if prior is None else [prior])


# ------------------------------------------------------------------ what came out
class Tried:
    """How many configurations of a method were tried on a task's dev split: those in the store and those planned now.

    What is read from test data afterwards carries this number, whichever command reads it.
    """

    def __init__(self, store: Store, planned: Iterable[Unit] = ()) -> None:
        self.store = store
        self._found: dict[tuple[str, str], set[str]] = {}
        self._planned: dict[tuple[str, str], set[str]] = {}
        for unit in planned:
            if unit.split == "dev":
                self._planned.setdefault((unit.task, unit.variant.method), set()).add(str(unit.variant))

    def count(self, unit: Unit) -> int:
        """Return the number for a unit, itself included: at least 1."""
        where = (unit.task, unit.variant.method)
        if where not in self._found:
            records = self.store.records(unit.task, failed=False, split="dev", method=unit.variant.method)
            self._found[where] = {r["variant"] for r in records if not r.get("partial")} | self._planned.get(where, set())
        return max(1, len(self._found[where] | {str(unit.variant)} if unit.split == "dev" else self._found[where]))


@dataclass(frozen=True)
class Standing:
    """One configuration of a sweep on one task and budget: the mean of the sweep's metric over its seeds and draws (None: none came out)."""

    task: str
    budget: str
    variant: str
    value: float | None
    runs: int
    failed: int


def standings(units: Sequence[Unit], records: Sequence[Mapping[str, Any]], metric: str | None, maximize: bool) -> list[Standing]:
    """Return the configurations by task and budget, the best first; ``metric`` None takes each task's primary one, in the order planned.

    A configuration of which a run failed, or lacks the metric, has no value: a mean over fewer seeds is no fair comparison.
    """
    rows: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for unit, record in zip(units, records, strict=True):
        rows.setdefault((unit.task, unit.budget, str(unit.variant)), []).append(record)
    out = []
    for (task, budget, variant), found in rows.items():
        name = metric or tasks.get_spec(task).primary
        values = [r["metrics"].get(name, {}).get("value") if r["status"] == "ok" else None for r in found]
        good = [v for v in values if v is not None]
        out.append(Standing(task, budget, variant, fmean(good) if len(good) == len(values) else None, len(found), len(values) - len(good)))
    if metric is None:
        return out
    cells = list(dict.fromkeys((s.task, s.budget) for s in out))
    sign = -1 if maximize else 1
    return sorted(out, key=lambda s: (cells.index((s.task, s.budget)), s.value is None, sign * (s.value or 0.0)))


def best(rows: Sequence[Standing]) -> dict[tuple[str, str], Standing]:
    """Return the first configuration with a value of each task and budget (rows as `standings` sorts them)."""
    out: dict[tuple[str, str], Standing] = {}
    for row in rows:
        if row.value is not None:
            out.setdefault((row.task, row.budget), row)
    return out


def chosen(sweep: Sweep, units: Sequence[Unit], rows: Sequence[Standing], **how: Any) -> list[Unit]:
    """Return the test units of the best configuration of each task and budget, with the seeds and draws it was chosen by."""
    if sweep.metric is None:
        raise RequestError(f"{sweep.doc.path} has no metric, so nothing is chosen; add metric: {{name: ..., goal: ...}}.")
    winners = best(rows)
    out: dict[str, Unit] = {}
    for unit in units:
        won = winners.get((unit.task, unit.budget))
        if won is None or won.variant != str(unit.variant):
            continue
        point: Configuration = {"task": unit.task, "budget": unit.budget, "seed": unit.seed, "draw": unit.draw, "limit": unit.limit}
        preset = f"[{unit.variant.preset}]" if unit.variant.preset != "default" else ""
        point |= {"method": unit.variant.method + preset, **dict(unit.variant.overrides)}
        trainings = {a.seed for a in unit.artifacts if a.kind == "prior"}
        if len(trainings) == 1 and any(p.name == "prior_seed" for p in sweep.parameters):
            point["prior_seed"] = trainings.pop()
        for planned in plan_sweep(sweep, [point], split="test", **how):
            out.setdefault(planned.unit_id, planned)
    return list(out.values())


__all__ = ["Standing", "Tried", "best", "chosen", "plan_sweep", "standings", "variant_of"]
