"""From records to rows: which records belong on a board, which agree with each other, and which units make up one row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from . import tracks
from .record import Record
from .statistics import complete


@dataclass(frozen=True)
class Refused:
    """A record that is not on the board, and why."""

    variant: str
    unit_id: str
    reason: str


@dataclass
class Group:
    """The units of one row: one variant with one set of hyper-parameters, data, code, environment, selection."""

    variant: str
    method: str
    units: dict[tuple[int, int], Record]
    track: str
    stochastic: str
    selection: str
    partial: bool
    stale: bool | None
    source: str
    superseded: int = 0
    costs: dict[str, float | None] = field(default_factory=dict)

    @property
    def first(self) -> Record:
        return next(iter(self.units.values()))

    @cached_property
    def complete(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return (seeds, draws) of the largest complete table of the row's units."""
        return complete(self.units)

    @property
    def seeds(self) -> list[int]:
        """Return the seeds (or trainings of a prior) that the row's numbers are made of: those of the complete table."""
        return list(self.complete[0])

    @property
    def draws(self) -> list[int]:
        """Return the draws that the row's numbers are made of."""
        return list(self.complete[1])

    def metric(self, name: str) -> Mapping[str, Any]:
        """Return the metric's entry of the first unit; a metric it does not have counts as unavailable."""
        return self.first["metrics"].get(name) or {"unavailable": {"because": "it was not computed", "remedy": "run the unit again"}}

    @property
    def conditional_on(self) -> list[str]:
        """Return the roles whose one training the row's numbers are conditional on (priors, denoisers: not the row's own fit)."""
        return [] if self.trainings > 1 else [role for role, _ in _training(self.first)]

    @property
    def trainings(self) -> int:
        """Return how many trainings of its roles (priors, denoisers) the row's units stand on."""
        return len({_training(r) for r in self.units.values()})


def _training(record: Record) -> tuple[tuple[str, int], ...]:
    """Return which training of each trained role a record stands on."""
    roles = record["artifacts"].items()
    return tuple(sorted((k, a["seed"]) for k, a in roles if k != "fit" and isinstance(a, Mapping) and a.get("seed") is not None))


STRETCH = 10**6
"""More than any draw."""


def _units(members: Sequence[Record]) -> tuple[dict[tuple[int, int], Record], bool]:
    """Return a row's units by (seed, draw), the last of equal ones; and whether several trainings of a prior stand behind it.

    Where they do, the first axis is the training of the prior and the second everything else: a prior's training is drawn once for all
    samples and seeds, as a method's own is. A place on the second is the draw; where a training has several seeds each has its own stretch
    of `STRETCH`, so that places pair with another row's draws only where the observations are the same.
    """
    trainings = sorted({_training(r) for r in members})
    if len(trainings) < 2:
        return {(r["seed"], r["draw"]): r for r in members}, False
    places = {t: t[0][1] if len(t) == 1 else k for k, t in enumerate(trainings)}
    one = len({(_training(r), r["seed"]) for r in members}) == len(trainings)
    return {(places[_training(r)], r["draw"] + (0 if one else r["seed"] * STRETCH)): r for r in members}, True


def eligible(
    records: Sequence[Record], meta: Mapping[str, Any], budget: str, split: str, refused: list[Refused]
) -> list[Record]:
    """Return the records of this version, split and budget; a variant without a record at the budget enters with the largest that fits.

    A record fits a budget when the evaluations counted (``cost.nfe``) do not exceed the budget's ``nfe``. Older versions are refused.
    """
    budgets = dict(meta.get("budgets") or {})
    limit = (budgets.get(budget) or {}).get("nfe")
    exact: list[Record] = []
    smaller: dict[tuple[str, str], list[Record]] = {}
    for r in records:
        if r["split"] != split:
            continue
        if r["task_version"] != meta["version"]:
            reason = f"version {r['task_version']} of the task; this board is of version {meta['version']}"
            refused.append(Refused(r["variant"], r["unit_id"], reason))
        elif r["budget"] == budget:
            exact.append(r)
        elif limit is not None and r["status"] == "ok" and (r["cost"].get("nfe") or 0) <= limit and r["budget"] in budgets:
            smaller.setdefault((r["variant"], r["budget"]), []).append(r)
    done = {r["variant"] for r in exact if r["status"] == "ok"}
    fits: dict[str, tuple[float, list[Record]]] = {}
    for (variant, _), members in smaller.items():
        nfe = max(r["cost"].get("nfe") or 0.0 for r in members)
        if variant not in done and (variant not in fits or nfe > fits[variant][0]):
            fits[variant] = (nfe, members)
    return [*exact, *(r for _, members in fits.values() for r in members)]


def agree(
    records: Sequence[Record],
    meta: Mapping[str, Any],
    refused: list[Refused],
    identities: dict[str, dict[str, Any]],
    hashes: Mapping[int, str],
) -> list[Record]:
    """Return the records that were measured on the same observations with the same primary metric; fill ``identities`` by metric.

    What counts as "the same" is the locked hash; else what the reference row saw; else the do-nothing row; else most of the records.
    """
    whole = [r for r in records if not r["partial"]]
    newest = sorted(whole, key=lambda r: r.get("written") or "", reverse=True)  # a protocol that was mended replaces the old one
    leaders = [meta.get("reference"), meta.get("do_nothing")]
    lead = [r for name in dict.fromkeys(leaders) for r in newest if r["variant"] == name] + [r for r in newest if r["variant"] not in leaders]
    expected = dict(hashes)
    for draw in {r["draw"] for r in whole} - set(expected):
        known = [r for r in lead if r["draw"] == draw]
        named = known[0]["variant"] in leaders
        expected[draw] = known[0]["observation_hash"] if named else Counter(r["observation_hash"] for r in known).most_common(1)[0][0]
    for metric in meta["metrics"]:
        entries = [r["metrics"][metric] for r in lead or records if "value" in (r["metrics"].get(metric) or {})]
        if entries:
            named = bool(lead) and lead[0]["variant"] in leaders
            common = entries[0]["identity"] if named else Counter(e["identity"] for e in entries).most_common(1)[0][0]
            identities[metric] = dict(next(e for e in entries if e["identity"] == common))
    out = []
    wanted = identities.get(meta["primary"], {}).get("identity")
    for r in records:
        entry = r["metrics"].get(meta["primary"]) or {}
        if not r["partial"] and r["observation_hash"] != expected[r["draw"]]:
            reason = f"it saw other observations in draw {r['draw']} ({r['observation_hash'][:12]}, here {expected[r['draw']][:12]})"
            refused.append(Refused(r["variant"], r["unit_id"], reason + ": other library versions or data"))
        elif "value" in entry and entry["identity"] != wanted and not r["partial"]:
            refused.append(Refused(r["variant"], r["unit_id"], f"{meta['primary']} has another protocol ({entry['identity']}, here {wanted})"))
        else:
            out.append(r)
    return out


_canonical = json.JSONEncoder(sort_keys=True).encode


def group_rows(records: Sequence[Record], codes: Mapping[str, str] | None = None) -> list[Group]:
    """Return one group per variant (and one more for partial runs and for each other selection): of several versions of a row that differ
    in hyper-parameters, data, code or environment the one that is not stale, then the user's own, then the newest."""
    rows: dict[tuple[Any, ...], dict[tuple[Any, ...], list[Record]]] = {}
    for r in records:
        # seeds and draws share all of this; whatever differs here makes another row
        owners = tuple(sorted((k, a.get("owner")) for k, a in r["artifacts"].items() if k != "fit" and isinstance(a, Mapping)))
        version = (_canonical(r["hparams"]), r["data_fingerprint"], r["code"], r["environment_key"], r["budget"], owners)
        rows.setdefault((r["variant"], r["partial"], r["selection"]), {}).setdefault(version, []).append(r)
    out = []
    for (variant, partial, selection), versions in rows.items():
        groups = []
        for members in versions.values():
            stale = None if codes is None or variant not in codes else members[0]["code"] != codes[variant]
            own = any(r["source"] == "run" for r in members)
            groups.append(((not stale, own, max(r.get("written", "") for r in members)), stale, members))
        ((_, own, _), stale, members), *rest = sorted(groups, key=lambda g: g[0], reverse=True)
        # the last one stays: of equal units the user's own (it has pictures, the accepted one has none), else the first that was written
        by_age = sorted(members, key=lambda r: r.get("written", ""), reverse=True)
        units, several = _units(sorted(by_age, key=lambda r: r["source"] == "run"))
        first = members[0]
        out.append(
            Group(
                variant,
                first["method"],
                dict(sorted(units.items())),
                track=first.get("track") or tracks.track_of(first["facts"]),
                stochastic="fit" if several else first.get("stochastic", "fit"),
                selection=selection,
                partial=partial,
                stale=stale,
                source="run" if own else "reference",
                superseded=sum(len(m) for _, _, m in rest),
                costs=_costs(members),
            )
        )
    return out


def _costs(records: Sequence[Record]) -> dict[str, float | None]:
    """Return the row's costs: means over its units; the median of the medians, the largest p95 and memory; whether it ran alone."""
    out: dict[str, float | None] = {}
    costs = [r["cost"] for r in records]
    for name in ("nfe", "backward", "params", "flops_per_sample", "train_s", "train_gflops", "sample_s_median", "sample_s_p95", "peak_mb"):
        values = sorted([float(v) for c in costs if (v := c.get(name)) is not None])
        if not values:
            out[name] = None
        elif name == "sample_s_median":
            out[name] = values[len(values) // 2]
        else:
            out[name] = values[-1] if name in ("sample_s_p95", "peak_mb") else sum(values) / len(values)
    out["exclusive"] = all([bool(c.get("exclusive")) for c in costs])
    return out
