"""What a run tells while it goes on, and what came of it: statuses, the estimate of the time left, the summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .unit import ArtifactRef, Unit

GUESS = 2.0
"""Seconds a unit is taken to need while components are being trained and none has run yet."""


@dataclass(frozen=True)
class Policy:
    """What a run does about failures.

    ``retries``: how often a job is tried again whose failure may be transient (`executors.base.Result`), after ``backoff`` seconds, four times
    as many before each further try. ``max_failures``: how many failed units end the run (None: none does); what runs is finished.
    """

    retries: int = 2
    backoff: float = 1.0
    max_failures: int | None = None

    def delay(self, tries: int) -> float:
        """Return the seconds to wait after the ``tries``-th try failed."""
        return min(60.0, self.backoff * 4 ** (tries - 1))


@dataclass(frozen=True)
class Status:
    """One line about a run.

    ``kind``: ``started`` (the plan is known), ``step`` (a job began or went on: ``what``, ``part`` of it is done), ``finished`` (a job ended
    with ``outcome``: ok, failed, cached, elsewhere; ``message`` says why), ``retry`` (a job is tried again), ``waiting`` (for another
    controller), ``note``. ``done`` of
    ``total`` count units and the components trained for them; ``left`` is the estimated time in seconds, None while nothing is known.
    """

    kind: Literal["started", "step", "finished", "retry", "waiting", "note"]
    what: str = ""
    outcome: str = ""
    message: str = ""
    part: float = 0.0
    done: int = 0
    total: int = 0
    running: tuple[str, ...] = ()
    elapsed: float = 0.0
    left: float | None = None
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    unit: Unit | None = None


@dataclass
class Summary:
    """What came of a run. ``failures`` holds (unit or artifact, failure kind, one sentence); ``retried`` counts tries after the first;
    ``unstarted`` the units left when too many had failed."""

    ok: int = 0
    failed: int = 0
    cached: int = 0
    trained: int = 0
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    elapsed: float = 0.0
    notes: list[str] = field(default_factory=list)
    retried: int = 0
    unstarted: int = 0

    @property
    def exit_code(self) -> int:
        """0 when everything is done, 1 when something failed."""
        return 1 if self.failed else 0


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended a run; what was recorded is kept. ``summary`` says how far it came."""

    def __init__(self, summary: Summary, left: int) -> None:
        self.summary, self.left = summary, left
        done = summary.ok + summary.cached
        super().__init__(f"Stopped: {done} units are recorded and kept, {left} are left; the same command goes on where this one stopped.")


class Left:
    """Estimates the time left: components by their training budget, units by the mean of their task (else of all)."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._counts: dict[str, int] = {}
        self._gflops: dict[str, float] = {}
        self._times: dict[str, tuple[int, float]] = {}
        self._trained = (0.0, 0.0)

    def add(self, what: Unit | ArtifactRef) -> None:
        """Count something that is to be done."""
        if isinstance(what, ArtifactRef):
            self._gflops[what.key] = what.gflops
        else:
            self._counts[what.task] = self._counts.get(what.task, 0) + 1

    def drop(self, what: Unit | ArtifactRef, seconds: float | None = None) -> None:
        """Count it as done; ``seconds`` when it was run and says something about the rest."""
        if isinstance(what, ArtifactRef):
            gflops = self._gflops.pop(what.key)
            if seconds and gflops:
                self._trained = (self._trained[0] + gflops, self._trained[1] + seconds)
            return
        self._counts[what.task] -= 1
        if seconds is not None:
            n, total = self._times.get(what.task, (0, 0.0))
            self._times[what.task] = (n + 1, total + seconds)

    def seconds(self, parts: Mapping[str, float]) -> float | None:
        """Return the estimate, None while nothing is known; ``parts`` says how much of a component is trained."""
        n, total = (sum(c) for c in zip(*self._times.values(), strict=True)) if self._times else (0, 0.0)
        if not n and not self._gflops and any(self._counts.values()):
            return None
        mean = {task: t / k for task, (k, t) in self._times.items()}
        other = total / n if n else GUESS
        units = sum(count * mean.get(task, other) for task, count in self._counts.items())
        per_gflop = self._trained[1] / self._trained[0] if self._trained[0] else 1 / 20  # a core trains some 20 GFLOP/s
        training = sum(g * per_gflop * (1 - parts.get(key, 0.0)) for key, g in self._gflops.items())
        return (units + training) / self.slots
