"""One night: plan a suite, run what the reference does not answer already, compare, and look again with fresh seeds at what is suspected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..baselines.card import Variant
from ..configs.errors import RequestError
from ..leaderboards import gate
from ..leaderboards.gate_cells import Key, Layer, sides
from ..leaderboards.gate_confirm import Wanted, confirm, wanted
from ..leaderboards.gate_night import Finding, Night
from ..leaderboards.reference import ReferenceSource, release_folder
from ..leaderboards.sources import HERE, Gathered, StoreSource
from . import suites
from .environment import environment, environment_key
from .plan import Skipped, plan
from .suites import Cell, Suite
from .unit import Unit

Run = Callable[[Sequence[Unit]], list[dict[str, Any]]]
"""Runs units and returns their records, in order."""


@dataclass(frozen=True)
class Options:
    """How a night is planned and compared. ``rerun``: also what the reference has under the same unit and environment."""

    batch_size: int | None = None
    device: str = "cpu"
    precision: str = "32"
    pins: bool = True
    rerun: bool = False
    fresh: bool = True
    reference: Path = HERE


def layers(folder: Path = HERE) -> tuple[list[Layer], list[str]]:
    """Return the reference's layers that have records, the last accepted first, and what must be said about them."""
    found = [(gate.LAST, folder), (gate.RELEASE, release_folder(folder))]
    out = [Layer.of(name, Gathered([ReferenceSource(path)])) for name, path in found if path.is_dir()]
    out = [layer for layer in out if layer.cells]
    if not out or out[0].name != gate.LAST:
        return [], ["There are no accepted records, so nothing can be compared."]
    return out, [] if len(out) > 1 else ["There is no release reference yet; `scorebench accept --release` writes one."]


def planned(suite: Suite, o: Options, **changes: Any) -> tuple[list[Unit], dict[tuple[str, str], str]]:
    """Plan a suite; return its units and, by (task, variant), why others could not be planned. One broken method does not end the night."""
    units: dict[str, Unit] = {}
    lost: dict[tuple[str, str], str] = {}
    for cell in suite.cells:
        variants = suites.expand(cell)
        try:
            found = _plan(cell, variants, o, lost)
        except RequestError:
            found = []
            for variant in variants:
                try:
                    found += _plan(cell, [variant], o, lost)
                except Exception as e:
                    lost |= {(task, variant): " ".join(f"it cannot be planned: {e}".split()) for task in cell.tasks}
        units.update({u.unit_id: u for u in found if u.unit_id not in units})
    return list(units.values()), lost


def _plan(cell: Cell, variants: Sequence[str], o: Options, lost: dict[tuple[str, str], str]) -> list[Unit]:
    skipped: list[Skipped] = []
    found = plan(
        cell.tasks, variants, seeds=cell.seeds, draws=cell.draws, budgets=cell.budgets or None, prior_seeds=cell.prior_seeds, pins=o.pins,
        skipped=skipped, batch_size=o.batch_size, device=o.device, precision=o.precision,
    )  # fmt: skip
    lost.update({(s.task, s.variant): s.reason for s in skipped})
    return found


def budgets(suite: Suite) -> dict[tuple[str, str], set[str]]:
    """Return the budgets that a suite asks for by (task, variant); an empty set means every budget."""
    out: dict[tuple[str, str], set[str]] = {}
    for cell in suite.cells:
        for task in cell.tasks:
            for variant in suites.expand(cell):
                at, known_before = (task, variant), (task, variant) in out
                everything = not cell.budgets or (known_before and not out[at])
                out[at] = set() if everything else out.get(at, set()) | set(cell.budgets)
    return out


def known(units: Sequence[Unit], last: Layer | None) -> dict[str, dict[str, Any]]:
    """Return, by unit id, the reference's record of each unit it has under the same unit id and environment: nothing could differ."""
    if last is None:
        return {}
    there = {(r["unit_id"], r["environment_key"]): r for side in last.cells.values() for r in side.units.values()}
    keys = {where: environment_key(environment(*where)) for where in {(u.device, u.precision) for u in units}}
    return {u.unit_id: there[at] for u in units if u.limit is None and (at := (u.unit_id, keys[u.device, u.precision])) in there}


def fresh_units(asked: Sequence[Wanted], o: Options, variants: Mapping[str, Variant]) -> list[Unit]:
    """Plan the units of a second look; ``variants`` by their name in records."""
    out: list[Unit] = []
    for w in asked:
        task, budget, variant = w.key
        own, prior = (w.seeds, ()) if w.of == "method" else ((0,), w.seeds)
        out += plan(
            [task], [variants[variant]], seeds=own, prior_seeds=prior, draws=w.draws, budgets=[budget], pins=o.pins, batch_size=o.batch_size,
            device=o.device, precision=o.precision,
        )  # fmt: skip
    return out


def night(suite: Suite, o: Options, store: Path, run: Run, metas: Callable[[str], Mapping[str, Any]], say: Callable[[str], None]) -> Night:
    """Run or resume ``suite`` in ``store`` and compare it with the reference; see `leaderboards.gate`.

    ``run`` executes units (those done already are skipped); ``metas`` gives a task's declaration; ``say`` prints a line.
    """
    compared, notes = layers(o.reference)
    units, lost = planned(suite, o)
    cached = {} if o.rerun else known(units, compared[0] if compared else None)
    if cached:
        say(f"{len(cached)} of {len(units)} units are in the reference with the same code and environment; they are not run again.")
    todo = [u for u in units if u.unit_id not in cached]
    records = run(todo) if todo else []
    source = Gathered([StoreSource(store), ReferenceSource(o.reference)])
    source.records()  # so that it knows where each record is from
    tonight = gate.Tonight([*records, *cached.values()], source, lost, budgets(suite))
    declared = {task: metas(task) for task in suite.tasks()}
    found = gate.compare(tonight, compared, declared, suite.id)
    found.notes += notes
    cells = tonight.cells()
    asked = wanted(found, compared, cells) if o.fresh else []
    if asked:
        names = ", ".join(f"{w.key[2]} on {w.key[0]}" for w in asked[:4]) + (" ..." if len(asked) > 4 else "")
        say(f"Looking again with fresh seeds {asked[0].seeds[0]}-{asked[0].seeds[-1]}: {names}.")
        more = run(fresh_units(asked, o, {str(u.variant): u.variant for u in units}))
        source.records()
        confirm(found, _whole(sides(more, source), asked), compared, cells, declared)
        found.findings += [
            Finding(*w.key, "missing", why="a unit of the second look, with fresh seeds, failed") for w in asked if _failed(more, w.key)
        ]
    found.facts = {"units": len(units), "run": len(todo), "cached": len(cached), "fresh": sum(len(w.seeds) * len(w.draws) for w in asked)}
    return found


def _whole(cells: dict[Key, Any], asked: Sequence[Wanted]) -> dict[Key, Any]:
    """Return the cells whose fresh units have all finished."""
    return {w.key: cells[w.key] for w in asked if w.key in cells and len(cells[w.key].units) == len(w.seeds) * len(w.draws)}


def _failed(records: Sequence[Mapping[str, Any]], key: Key) -> bool:
    return any(r["status"] != "ok" and (r["task"], r["budget"], r["variant"]) == key for r in records)
