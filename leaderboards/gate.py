"""The nightly gate: tonight's records against the last accepted ones and against the release's, so that small losses cannot ratchet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import gate_tiers as tiers
from .gate_cells import Key, Layer, Measure, Place, Side, changed_protocol, changed_settings, key_of, measures, same, sides, trained_again
from .gate_cost import compare_costs
from .gate_night import Finding, Night
from .gate_pools import Pools
from .gate_statistics import holm
from .record import Record
from .sources import Gathered

LAST, RELEASE = "last accepted", "release"


@dataclass
class Tonight:
    """What was asked for and what came of it: the accepted record of each unit or its last failure.

    ``skipped``: (task, variant) to why it could not be planned. ``budgets``: (task, variant) to the budgets asked for, empty for all; None
    where whatever has a record was asked for.
    """

    records: Sequence[Record]
    gathered: Gathered
    skipped: Mapping[tuple[str, str], str] = field(default_factory=dict)
    budgets: Mapping[tuple[str, str], set[str]] | None = None

    def asked(self, key: Key) -> bool:
        """Whether an accepted cell was asked for tonight."""
        if self.budgets is None:
            return any((r["task"], r["variant"]) == (key[0], key[2]) for r in self.records) or (key[0], key[2]) in self.skipped
        wanted = self.budgets.get((key[0], key[2]))
        return wanted is not None and (not wanted or key[1] in wanted)

    def cells(self) -> dict[Key, Side]:
        return sides(self.records, self.gathered)

    def failures(self) -> dict[Key, list[Record]]:
        """Return the failed units by cell."""
        out: dict[Key, list[Record]] = {}
        for r in self.records:
            if r["status"] != "ok":
                out.setdefault(key_of(r), []).append(r)
        return out


@dataclass
class _Open:
    """A retrained look whose verdict waits for the whole night."""

    finding: Finding
    look: tiers.Look


def compare(tonight: Tonight, layers: Sequence[Layer], metas: Mapping[str, Mapping[str, Any]], suite: str = "") -> Night:
    """Compare tonight with each layer (the last accepted first) and return what was found.

    ``metas``: the declaration of each task in the suite: ``metrics`` with margins, ``primary``. Cells of the reference count when they were
    asked for tonight.
    """
    night = Night(suite)
    cells, failures = tonight.cells(), tonight.failures()
    pools = Pools(layers, [cells])
    waiting: list[_Open] = []
    for layer in layers:
        first = layer is layers[0]
        for key, was in layer.cells.items():
            if key[0] not in metas or not tonight.asked(key):
                continue
            if first and (lost := _missing(key, was, cells.get(key), failures.get(key, []), tonight.skipped)):
                night.findings.append(lost)
            if key not in cells or (not first and same(was, layers[0].cells.get(key))):
                continue
            night.findings += _cell(key, was, cells[key], layer.name, metas[key[0]], pools, waiting, first)
    in_reference = {k for layer in layers for k in layer.cells}
    night.findings += [Finding(*k, "new", why="not in the reference yet") for k in cells if k not in in_reference]
    night.findings += [Finding(*k, "missing", why=_failed(rs)) for k, rs in failures.items() if k not in in_reference]
    _settle(waiting)
    night.tests = len(waiting)
    if layers:
        night.costs, night.pace = compare_costs({k: (was, cells[k]) for k, was in layers[0].cells.items() if k in cells})
    return night


def _settle(waiting: Sequence[_Open]) -> None:
    """Holm over the night's retrained looks, in both directions."""
    down = holm([1.0 if o.look.screen is None else o.look.screen for o in waiting])
    up = holm([1.0 if o.look.better is None else o.look.better for o in waiting])
    tiers.settle([o.look for o in waiting], down, up)
    for o, a, b in zip(waiting, down, up, strict=True):
        _fill(o.finding, o.look)
        if o.look.worse is not None:
            o.finding.p_holm = min(a, b)
        if o.look.verdict == "redrawn":
            o.finding.why = "same weights, and values as different as another seed's would be: the method draws other random numbers"
        elif o.look.verdict == "suspect" and o.look.worse is None:
            o.finding.why = "one seed a side: nothing is known of the spread between seeds"


def _failed(records: Sequence[Record]) -> str:
    first = records[0]["error"]
    return f"{len(records)} unit{'s' * (len(records) != 1)} failed, the first with {first['kind']}: {first['message']}"


def _missing(
    key: Key, was: Side, now: Side | None, failures: Sequence[Record], skipped: Mapping[tuple[str, str], str]
) -> Finding | None:
    """Return what of an accepted cell did not finish tonight."""
    if failures:
        return Finding(*key, "missing", why=_failed(failures), units=len(failures))
    if now is None:
        why = skipped.get((key[0], key[2])) or "it is accepted, and the suite plans no unit of it any more"
        return Finding(*key, "missing", why=why, units=len(was.units))
    return None


def _cell(
    key: Key, was: Side, now: Side, against: str, meta: Mapping[str, Any], pools: Pools, waiting: list[_Open], first: bool
) -> list[Finding]:
    """Compare one cell by all its metrics."""
    places = [p for p in was.units if p in now.units]
    about: dict[str, Any] = {"against": against, "units": len(places)}
    for old, new in [(was.units[p], now.units[p]) for p in places] or [(_first(was), _first(now))]:
        if why := changed_protocol(old, new):
            # what was accepted since the release is known; against the last accepted it is an alarm
            return [Finding(*key, "protocol" if first else "incomparable", why=why, **about)]
    if places and all(_cached(was.units[p], now.units[p]) for p in places) and len(places) == len(now.units):
        return [Finding(*key, "cached", tier="cached", **about)]
    about["settings"] = changed_settings(_first(was), _first(now))
    out = []
    for m in measures(meta, was):
        finding = Finding(*key, "", metric=m.name, margin=m.margin, unit=m.unit, **about)
        entries = [r["metrics"].get(m.name) or {} for r in now.units.values()]
        if bad := next((e for e in entries if "value" not in e), None):
            because = (bad.get("unavailable") or {}).get("because", "it was not computed")
            out.append(_said(finding, "missing" if first else "incomparable", f"{m.name} is unavailable tonight: {because}"))
        elif other := next((e["identity"] for e in entries if e["identity"] != m.identity), None):
            why = f"{m.name} has another protocol tonight: {other}, accepted {m.identity}"
            out.append(_said(finding, "protocol" if first else "incomparable", why))
        else:
            out.append(_metric(finding, was, now, [p for p in places if was.value(p, m.name) is not None], m, pools, waiting, first))
    return out


def _metric(
    finding: Finding, was: Side, now: Side, places: Sequence[Place], m: Measure, pools: Pools, waiting: list[_Open], first: bool
) -> Finding:
    again = trained_again(was, now, places)
    # a fit that no seed changes has no spread between seeds: its values are compared like those of frozen weights
    if not again or (again == "fit" and _first(now)["stochastic"] == "none" and places):
        look = tiers.frozen(was, now, places, m, _first(now)["stochastic"])
        if look.verdict == "protocol":
            return _said(finding, "protocol" if first else "incomparable", f"{m.name} was measured on other samples")
        if look.tier == "frozen":
            _fill(finding, look)
            if look.verdict == "worse" and look.gain >= -1:
                finding.why = "within the margin, and all samples agree: with frozen weights nothing random separates the two"
            return finding
    if not tiers.common_draws(was, now):
        return _said(finding, "protocol" if first else "incomparable", "no noise key in common with the reference")
    look = tiers.retrained(was, now, m, pools.of(finding.task, m, pools.kind(now, again)), "retrained" if again or not first else "redrawn")
    finding.trained = again
    waiting.append(_Open(finding, look))
    return finding


def _first(side: Side) -> Record:
    return next(iter(side.units.values()))


def _cached(was: Record, now: Record) -> bool:
    same = (was["unit_id"], was["environment_key"]) == (now["unit_id"], now["environment_key"])
    return same and all(was["metrics"].get(k, {}).get("value") == e.get("value") for k, e in now["metrics"].items())


def _said(finding: Finding, verdict: str, why: str) -> Finding:
    finding.verdict, finding.why = verdict, why
    return finding


def _fill(finding: Finding, look: tiers.Look) -> None:
    for name in ("tier", "verdict", "was", "now", "change", "gain", "seeds", "moved", "n", "samples"):
        setattr(finding, name, getattr(look, name))
    finding.se = None if look.se is None else look.se * (finding.margin or 0.0)
    ps = [p for p in (look.worse, look.better) if p is not None]
    finding.p = min(ps) if ps else None
