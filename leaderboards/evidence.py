"""The verdicts on claims: supported, contradicted, inconclusive or not-run, with effect, interval and the records they stand on.

A claim holds where the 95 % interval of its effect lies beyond what it says. The estimand is the population where samples have values of
their own (samples like these), else these sets (see `statistics`). Three trainings are needed for a word about a trained method, and three
trainings of its prior, or an exact prior, for one about a solver. Evidence against a claim contradicts it at the protocol's scale or with
the official weights or code; a toy run that goes the other way is ``inconclusive``, "not seen at embedded scale".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..configs.errors import RequestError, RunError
from ..configs.loader import load_object
from . import statistics as stats
from .board import Board, Row
from .claims import VERDICTS, Claim
from .record import Record
from .sides import Missing, tables, trained_on

NOT_SEEN = "not seen at embedded scale"


@dataclass(frozen=True)
class Part:
    """What one board (task, budget) says about a claim. ``against`` is "yes" where the interval lies on the other side."""

    task: str
    budget: str
    verdict: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    estimand: str | None = None
    note: str = ""
    records: tuple[str, ...] = ()
    lead: float | None = None

    def data(self) -> dict[str, Any]:
        """Return the part as it stands in JSON."""
        return {
            "task": self.task, "budget": self.budget, "verdict": self.verdict, "effect": self.effect, "low": self.low, "high": self.high,
            "estimand": self.estimand, "note": self.note, "records": list(self.records),
        }  # fmt: skip


Boards = Callable[[str, str], Board]
"""Gives the board of (task, budget); asked for the same one twice, it should not build it twice."""


def evaluate(
    claims: Iterable[tuple[Claim, Sequence[str]]], boards: Boards, metas: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return one mapping per claim (the shape that ``scorebench claims --json`` prints).

    ``claims``: each with the ids of its tasks (`claims.resolve`). ``metas``: the declaration of each task.
    """
    return [_verdict(claim, list(tasks), boards, metas) for claim, tasks in claims]


def _verdict(claim: Claim, tasks: list[str], boards: Boards, metas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    if claim.unchecked:
        return result(claim, "not-run", note=f"no check: {claim.unchecked}")
    if claim.check is not None:
        return checked(claim, [r for task in tasks or list(metas) for r in kept(task, list(metas[task]["budgets"]), boards)])
    cells = []
    for task in tasks:
        names = list(metas[task]["budgets"])
        cells += [(task, budget) for budget in (names if "all" in claim.budgets else claim.budgets or names[:1])]
    parts = []
    for task, budget in cells:
        parts.append(_part(claim, boards(task, budget), lambda other, task=task: boards(task, other), len(cells)))  # type: ignore[misc]
    return _joined(claim, parts)


def _part(claim: Claim, board: Board, other: Callable[[str], Board], of: int) -> Part:
    """Judge a claim on one board of ``of``. Where all intervals must hold at once (evidence against, medians) they are widened for that."""
    where = (board.task, board.budget)
    try:
        left, right, rows = tables(claim, board, other)
        estimate = stats.population(left, right)
        if estimate.variance is None:
            estimate = stats.fixed_set(left, right)
    except Missing as e:
        return Part(*where, "not-run", note=str(e))
    except RunError as e:
        return Part(*where, "inconclusive", note=str(e).rstrip("."))
    sign = 1 if claim.upward else -1
    lead = sign * estimate.difference - claim.by
    used = tuple(dict.fromkeys(r["unit_id"] for row in rows for r in row.group.units.values()))
    about: dict[str, Any] = {"effect": estimate.difference, "records": used, "estimand": estimate.estimand, "lead": lead}
    wide = estimate.interval(1 - 0.05 / of)
    interval = wide if claim.over == "median" else estimate.interval()
    if interval is None or wide is None:
        return Part(*where, "inconclusive", note=f"no interval can be told: {estimate.how}", **about)
    about |= {"low": interval[0], "high": interval[1]}
    if estimate.estimand == "population" and stats.too_few(estimate.clusters or 0):
        return Part(*where, "inconclusive", note=f"too few samples: {estimate.clusters} clusters", **about)
    if why := _one_training(rows):
        return Part(*where, "inconclusive", note=why, **about)
    low, _ = sorted(sign * v - claim.by for v in interval)
    _, high = sorted(sign * v - claim.by for v in wide)
    holds = low > 0 or (low >= 0 and claim.op in (">=", "<="))
    fails = high < 0 or (high <= 0 and claim.op in (">", "<"))
    notes = [f"{r.variant} was chosen on clean test data" for r in rows if r.group.selection == "test-clean"]
    return Part(*where, "supported" if holds else "contradicted" if fails else "inconclusive", note="; ".join(dict.fromkeys(notes)), **about)


def _one_training(rows: Sequence[Row]) -> str:
    """Say why nothing can be said about a method: fewer than three trainings of it, or of the prior it stands on."""
    for row in rows:
        if row.group.stochastic == "fit" and len(row.group.seeds) < stats.ENOUGH:
            n = len(row.group.seeds)
            return f"{n} training{'s' * (n > 1)} of {row.variant}; a word about the method needs three"
        table = [row.group.units[s, d] for s in row.group.seeds for d in row.group.draws]
        own = {r["seed"] for r in table}
        if any(r.get("stochastic") == "fit" for r in table) and len(own) < stats.ENOUGH:  # other trainings of a prior are not its own
            return f"{len(own)} seed{'s' * (len(own) > 1)} of {row.variant}'s own fit; a word about the method needs three"
        by_owner: dict[str, set[int]] = {}
        for owner, seed in trained_on(row):
            by_owner.setdefault(owner, set()).add(seed)
        few = [owner for owner, seeds in by_owner.items() if len(seeds) < stats.ENOUGH]
        if few:
            n = len(by_owner[few[0]])
            stands = f"{row.variant} stands on {n} training{'s' * (n > 1)} of {few[0]}"
            return f"{stands}; a word about it needs three (--prior-seed 0-2) or an exact prior"
    return ""


def _joined(claim: Claim, parts: list[Part]) -> dict[str, Any]:
    """Join the parts of a claim about several tasks or budgets: it must hold on each of them, or in the median."""
    ran = [p for p in parts if p.effect is not None]
    if not ran:
        settled = "inconclusive" if any(p.verdict == "inconclusive" for p in parts) else "not-run"
        return result(claim, settled, note=parts[0].note, parts=parts)
    if len(parts) == 1:
        return result(claim, parts[0].verdict, parts[0].effect, parts[0].low, parts[0].high, parts[0].note, parts)
    missing = len(parts) - len(ran)
    note = f"{missing} of {len(parts)} boards without records" if missing else ""
    if claim.over == "median":
        return _median(claim, parts, ran, note)
    weakest = min(ran, key=lambda p: p.lead if p.lead is not None else 0.0)
    counts = {v: sum(p.verdict == v for p in parts) for v in VERDICTS}
    if counts["supported"] == len(parts):
        verdict = "supported"
    else:
        verdict = "contradicted" if counts["contradicted"] else "inconclusive"
    said = f"on each of {len(parts)} boards: {', '.join(f'{n} {v}' for v, n in counts.items() if n)}; shown: the weakest, {weakest.task}"
    said += f" at {weakest.budget}" if weakest.budget != "default" else ""
    return result(claim, verdict, weakest.effect, weakest.low, weakest.high, "; ".join(x for x in (said, weakest.note) if x), parts)


def _median(claim: Claim, parts: list[Part], ran: list[Part], note: str) -> dict[str, Any]:
    """The median effect lies between the medians of the lower and of the upper limits, since all intervals hold their truths at once."""
    effects = sorted(p.effect for p in ran if p.effect is not None)
    lows, highs = sorted(p.low for p in ran if p.low is not None), sorted(p.high for p in ran if p.high is not None)

    def middle(values: list[float]) -> float:
        k = len(values) // 2
        return values[k] if len(values) % 2 else (values[k - 1] + values[k]) / 2

    effect = middle(effects)
    blocked = next((p.note for p in ran if p.verdict == "inconclusive" and p.note), "")
    if note or blocked or len(lows) < len(ran):
        said = "; ".join(x for x in (f"median of {len(ran)} boards", note, blocked) if x)
        return result(claim, "inconclusive", effect, None, None, said, parts)
    low, high = middle(lows), middle(highs)
    sign = 1 if claim.upward else -1
    worst, best = sorted(sign * v - claim.by for v in (low, high))
    verdict = "supported" if worst > 0 else "contradicted" if best < 0 else "inconclusive"
    return result(claim, verdict, effect, low, high, f"median of {len(ran)} boards", parts)


def result(
    claim: Claim, verdict: str, effect: float | None = None, low: float | None = None, high: float | None = None, note: str = "",
    parts: Sequence[Part] = (), records: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Return the verdict as plain data; what a toy run says against a claim is ``inconclusive``, "not seen at embedded scale"."""
    against = verdict == "contradicted"
    if against and not claim.may_contradict:
        verdict, note = "inconclusive", "; ".join(x for x in (NOT_SEEN, note) if x)
    sign = 1 if claim.upward else -1
    used = list(dict.fromkeys([*(u for p in parts for u in p.records), *records]))
    return {
        "method": claim.method, "claim": claim.id, "statement": claim.statement, "verdict": verdict,
        "scale": claim.scale, "parity": claim.parity, "effect": effect, "low": low, "high": high,
        "beyond": None if claim.op is None else sign * claim.by, "op": claim.op,
        "inequality": claim.inequality, "against": against, "note": note, "where": claim.where,
        "tasks": list(dict.fromkeys(p.task for p in parts)) or list(claim.tasks), "parts": [p.data() for p in parts], "records": used,
    }  # fmt: skip


def kept(task: str, budgets: Sequence[str], boards: Boards) -> list[Record]:
    """Return the records that the boards of a task rank, each once: of this version, on the same observations, of several versions of a row
    the one that the board shows; without partial runs and without what was chosen on clean test data."""
    rows = [row for budget in budgets for row in boards(task, budget).rows if not row.group.partial and row.group.selection != "test-clean"]
    return list({r["unit_id"]: r for row in rows for r in row.group.units.values()}.values())


def checked(claim: Claim, records: Sequence[Record]) -> dict[str, Any]:
    """Return what the claim's own function says of the records.

    ``function(records)`` is given the records that the boards of the claim's tasks (of all, where it names none) rank. It returns
    a mapping with ``verdict`` and, where it has them, ``effect``, ``low``, ``high``, ``note`` and ``records`` (unit ids). RequestError when
    it returns anything else or its module does not import; an error inside it makes the claim inconclusive.
    """
    assert claim.check is not None
    function = load_object(claim.check, claim.folder)
    try:
        out = function(records)
    except Exception as e:
        return result(claim, "inconclusive", note=f"the check failed: {type(e).__name__}: {' '.join(str(e).split())}")
    if not isinstance(out, Mapping) or out.get("verdict") not in VERDICTS:
        accepted = ", ".join(VERDICTS)
        raise RequestError(f"{claim.path}: check {claim.check!r} must return a mapping whose 'verdict' is one of {accepted}, not {out!r}.")
    effect, low, high = numbers = [out.get(k) for k in ("effect", "low", "high")]
    if any(v is not None and not isinstance(v, (int, float)) for v in numbers):
        raise RequestError(f"{claim.path}: check {claim.check!r} must return numbers (or None) as effect, low and high, not {numbers!r}.")
    return result(claim, str(out["verdict"]), effect, low, high, str(out.get("note", "")), records=[str(u) for u in out.get("records", ())])
