"""What a night found: findings, failures, costs; which of them are alarms; and the same as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

ALARMS = ("worse", "protocol", "redrawn", "missing")
"""Verdicts that end a night with exit code 1; ``slower`` does so when asked."""

MEANING = {
    "worse": "worse than the reference, beyond its margin (confirmed by fresh seeds where methods were trained again)",
    "protocol": "changed protocol: no longer comparable with the reference",
    "redrawn": "changed protocol: same weights, other random numbers",
    "missing": "missing: in the reference, and not finished tonight",
    "slower": "slower or dearer",
    "suspect": "suspected: worse at first look, not yet looked at with fresh seeds",
    "better": "better than the reference, beyond its margin",
    "moved": "moved: same weights, other values, within the margin",
    "unclear": "unclear: trained again, beyond the margin and within the noise of seeds",
    "unconfirmed": "not confirmed: suspected, and fresh seeds disagree",
    "new": "new: not in the reference",
    "incomparable": "not comparable with the release, by an accepted change of protocol",
    "equal": "equal",
    "cached": "same code, weights and environment as the reference: nothing to compare",
}
"""What each verdict means, in the order of a report."""


@dataclass
class Finding:
    """One metric of one cell against one layer of the reference (or the whole cell, with metric None).

    ``gain`` is the change in margins, positive better. ``tier``: cached, frozen, redrawn, retrained; ``trained``: what was trained again (fit,
    prior). ``samples``: (id, value in the reference, value tonight) of those that moved most, ``moved`` of ``n`` in all. ``settings``: the
    hyper-parameters that differ. ``fresh``: what fresh seeds showed of a suspicion.
    """

    task: str
    budget: str
    variant: str
    verdict: str
    against: str = "last accepted"
    metric: str | None = None
    tier: str = ""
    trained: str = ""
    why: str = ""
    was: float | None = None
    now: float | None = None
    change: float | None = None
    gain: float | None = None
    margin: float | None = None
    unit: str = ""
    se: float | None = None
    p: float | None = None
    p_holm: float | None = None
    seeds: tuple[int, int] = (0, 0)
    units: int = 0
    moved: int = 0
    n: int = 0
    samples: list[tuple[str, float, float]] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    fresh: dict[str, Any] | None = None

    @property
    def alarm(self) -> bool:
        return self.verdict in ALARMS

    @property
    def cell(self) -> str:
        """Return what the finding is about, in words."""
        budget = "" if self.budget == "default" else f" {self.budget}"
        return f"{self.variant} on {self.task}{budget}"


@dataclass
class Cost:
    """A cost of one cell that rose (or fell) beyond its bar. ``ratio`` is tonight / reference; counted costs have no noise and no bar."""

    task: str
    budget: str
    variant: str
    what: str
    was: float
    now: float
    ratio: float
    bar: float
    counted: bool

    @property
    def slower(self) -> bool:
        return self.ratio > 1


@dataclass
class Night:
    """All that one night found. ``pace``: tonight's seconds over the reference's in the median cell, None where they cannot be compared.

    ``tests``: how many retrained cells were tested, over which the night's level is shared.
    """

    suite: str = ""
    findings: list[Finding] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    pace: float | None = None
    tests: int = 0
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def of(self, verdict: str) -> list[Finding]:
        """Return the findings of one verdict, the largest change first."""
        return sorted((f for f in self.findings if f.verdict == verdict), key=lambda f: -abs(f.gain or 0.0))

    @property
    def slower(self) -> list[Cost]:
        return [c for c in self.costs if c.slower]

    def alarms(self, also: Sequence[str] = ()) -> list[Finding]:
        """Return the findings that are alarms, the gravest kinds first; ``also``: further verdicts that count."""
        return [f for verdict in MEANING if verdict in (*ALARMS, *also) for f in self.of(verdict)]

    def counts(self) -> dict[str, int]:
        """Return how many findings each verdict has, in the order of `MEANING`; ``slower`` are costs."""
        found = Counter(f.verdict for f in self.findings) + Counter({"slower": len(self.slower)})
        return {v: found[v] for v in MEANING if found[v]}

    def failed(self, on: Sequence[str] = ()) -> bool:
        """Whether the night ends with exit code 1; ``on``: further kinds that count (slower, suspect, moved, better, ...)."""
        return bool(self.alarms(on)) or ("slower" in on and bool(self.slower))

    def headline(self) -> str:
        """Return one sentence: how many alarms of which kind, or that there is none."""
        names = {"protocol": "with a changed protocol", "redrawn": "with other random numbers"}
        counts = Counter(f.verdict for f in self.alarms())
        parts = [f"{n} {names.get(v, v)}" for v, n in counts.items()]
        if self.slower:
            parts.append(f"{len(self.slower)} slower or dearer")
        return f"{self.suite}: " + (", ".join(parts) if parts else "nothing got worse") + "."

    def data(self) -> dict[str, Any]:
        """Return the night as plain JSON values."""
        return {
            "suite": self.suite, "headline": self.headline(), "alarm": self.failed(), "counts": self.counts(),
            "pace": self.pace, "tests": self.tests,
            "findings": [{**asdict(f), "alarm": f.alarm} for f in self.findings], "costs": [asdict(c) for c in self.costs],
            "notes": self.notes, "facts": self.facts,
        }  # fmt: skip

    @staticmethod
    def read(data: Mapping[str, Any]) -> Night:
        """Return the night that `data` wrote."""
        findings = [Finding(**{k: v for k, v in f.items() if k != "alarm"}) for f in data["findings"]]
        costs, facts = [Cost(**c) for c in data["costs"]], dict(data.get("facts") or {})
        return Night(data["suite"], findings, costs, data["pace"], int(data["tests"]), list(data["notes"]), facts)
