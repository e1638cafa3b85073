"""Runs a plan: first the components that units share, each trained once, then the units; records what fails, and survives being stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..configs.errors import RequestError, RunError
from ..leaderboards.ledger import Store
from . import artifacts
from .claims import Claims
from .done import Others, undone
from .environment import environment, environment_key, remember_command
from .executors.base import Executor, Job, Report, Result, include, record_failure
from .executors.choose import default_executor
from .executors.inline import InlineExecutor
from .progress import Interrupted, Left, Policy, Status, Summary
from .unit import ArtifactRef, RunContext, Unit

POLL = 0.25
"""Seconds between two looks at the clock, the keyboard and other controllers."""


def run_units(
    units: Sequence[Unit],
    context: RunContext,
    executor: Executor,
    progress: Callable[[Status], None] = lambda status: None,
    policy: Policy | None = None,
    fields: Callable[[Unit], dict[str, Any]] = lambda unit: {},
) -> Summary:
    """Run ``units`` (of `plan.plan`), skipping those the store has, and return the summary.

    Components are trained first, each once; a failed unit is recorded with its kind and the others go on. When this raises, the executor is
    closed. Raises RequestError or RunError when the store cannot take records, Interrupted after Ctrl-C (a second Ctrl-C ends the process
    at once). ``policy``: what is tried again, and when failures end the run; ``fields``: further fields of a unit's record.
    """
    return Controller(units, context, executor, progress, policy, fields).run()


def records_of(units: Sequence[Unit], store: Store) -> list[dict[str, Any] | None]:
    """Return the record of each unit: the accepted one, else its last failure, else None."""
    keys: dict[tuple[str, str], str] = {}
    for u in units:
        if (u.device, u.precision) not in keys:
            keys[u.device, u.precision] = environment_key(environment(u.device, u.precision))
    wanted = {u.unit_id for u in units}
    found = {(r["unit_id"], r["environment_key"]): r for r in store.records() if r["unit_id"] in wanted}
    return [found.get((u.unit_id, keys[u.device, u.precision])) for u in units]


class Controller:
    """One run of a plan. Holds the claims of what it runs, and no other state that matters: the store is the state."""

    def __init__(
        self,
        units: Sequence[Unit],
        context: RunContext,
        executor: Executor,
        progress: Callable[[Status], None],
        policy: Policy | None = None,
        fields: Callable[[Unit], dict[str, Any]] = lambda unit: {},
    ) -> None:
        self.units, self.executor, self.tell = units, executor, progress
        self.policy, self.fields = policy or Policy(), fields
        self.context = context.with_(store=context.store.resolve(), workers=executor.slots)
        self.store = Store(self.context.store)
        self.claims = Claims(self.context.store / "claims")
        self.summary = Summary()
        self.running: dict[str, Job] = {}
        self.parts: dict[str, tuple[str, float]] = {}
        self.refs: dict[str, ArtifactRef] = {}
        self.broken: dict[str, tuple[str, str]] = {}
        self.ready: deque[Unit] = deque()
        self.blocked: list[Unit] = []
        self.elsewhere: list[Unit] = []
        self.again: list[tuple[float, Job]] = []
        self.tries: dict[str, int] = {}
        self.stopping = False
        self.started = time.monotonic()
        self.left = Left(executor.slots)
        self.total = self.done = 0
        self._writers: set[str] = set()
        self._others: Others | None = None
        self._looked = 0.0
        self._keys: dict[tuple[str, str], str] = {}

    # ------------------------------------------------------------------ the run
    def run(self) -> Summary:
        """Do everything; see `run_units`."""
        self.store.prepare()
        include(self.context)
        remember_command()
        try:
            self._others = Others(self.store.ledger)  # first: what is written while the ledger is read is not missed
        except OSError as e:
            raise self._unwritable(e) from None
        todo, cached = undone(self.units, self.store)
        self.claims.sweep()
        self.refs = self._missing(todo)
        for unit in todo:
            (self.blocked if self._waits_for(unit) else self.ready).append(unit)
            self.left.add(unit)
        for ref in self.refs.values():
            self.left.add(ref)
        self.total = len(self.units) + len(self.refs)
        self._say("started", message=f"{len(cached)} of {len(self.units)} units are done already." if cached else "")
        for unit in cached:
            self._end(str(unit), "cached", unit=unit)
        if isinstance(self.executor, InlineExecutor):
            self.executor.listen, self.executor.interrupted = self._report, lambda: self.stopping
        try:
            with self._signals():
                self._loop()
        except BaseException:
            self.executor.close()
            raise
        finally:
            self.summary.elapsed = time.monotonic() - self.started
            self.claims.close()
        return self.summary

    def _missing(self, units: Sequence[Unit]) -> dict[str, ArtifactRef]:
        """Return the components to train, by key, dependencies first."""
        out: dict[str, ArtifactRef] = {}
        there: set[str] = set()
        for unit in units:
            for ref in (r for component in unit.artifacts for r in component.walk()):
                if ref.key in out or ref.key in there:
                    continue
                if artifacts.find(ref, self.context.pins, lambda m: self._say("note", message=m)) is None:
                    out[ref.key] = ref
                else:
                    there.add(ref.key)
        return out

    def _waits_for(self, unit: Unit) -> bool:
        return any(ref.key in self.refs for component in unit.artifacts for ref in component.walk())

    def _unfinished(self) -> int:
        jobs = [*self.running.values(), *(job for _, job in self.again)]
        return len(self.ready) + len(self.blocked) + len(self.elsewhere) + sum(j.unit is not None for j in jobs)

    def _loop(self) -> None:
        while self.refs or self.ready or self.blocked or self.elsewhere or self.running or self.again:
            if self.stopping:
                raise Interrupted(self.summary, self._unfinished())
            if self._too_many():
                self._give_up()
            else:
                self._dispatch()
            events = self.executor.wait(POLL) if self.running else []
            for event in events:
                if isinstance(event, Report):
                    self._report(event)
                else:
                    self._finish(event)
            if not self.running and (self.elsewhere or self.again) and not self.ready:
                time.sleep(POLL)

    def _too_many(self) -> bool:
        return self.policy.max_failures is not None and self.summary.failed >= self.policy.max_failures

    def _give_up(self) -> None:
        """Start nothing more: too many units have failed. What runs is finished; the rest is left to the next start of the same command."""
        self.summary.unstarted += self._unfinished() - sum(j.unit is not None for j in self.running.values())
        for _, job in self.again:
            self.claims.drop(job.id)
        self.again = []
        self.ready.clear()
        self.blocked, self.elsewhere = [], []
        self.refs = {key: ref for key, ref in self.refs.items() if key in self.running}

    def _dispatch(self) -> None:
        """Start what can start: components whose own components are there, then units whose components are there."""
        self._look_elsewhere()
        while len(self.running) < self.executor.slots and not any(j.unit is not None and j.unit.exclusive for j in self.running.values()):
            job = self._next_try() or self._next_component() or self._next_unit()
            if job is None:
                return
            self.running[job.id] = job
            self._say("step", what=str(job), unit=job.unit)
            self.executor.submit(job)

    def _next_try(self) -> Job | None:
        """Return a job whose time to be tried again has come."""
        for entry in self.again:
            exclusive = entry[1].unit is not None and entry[1].unit.exclusive
            if entry[0] <= time.monotonic() and not (exclusive and self.running):
                self.again.remove(entry)
                return entry[1]
        return None

    def _next_component(self) -> Job | None:
        waiting = {job.id for _, job in self.again}
        for ref in list(self.refs.values()):
            if ref.key in self.running or ref.key in waiting or any(n.key in self.refs for n in ref.needs):
                continue
            bad = next((self.broken[n.key] for n in ref.needs if n.key in self.broken), None)
            if bad is None:
                return Job(ref.key, self.context, ref=ref)
            self._component_done(ref, bad)
        return None

    def _next_unit(self) -> Job | None:
        while self.ready:
            if self.ready[0].exclusive and self.running:
                return None  # it waits until nothing runs beside it
            unit = self.ready.popleft()
            if not self._claim(unit):
                continue
            context = self.context.with_(workers=1, exclusive=True) if unit.exclusive else self.context
            job = Job(unit.unit_id, context, unit=unit, fields=self.fields(unit))
            keys = [ref.key for component in unit.artifacts for ref in component.walk()]
            bad = next((self.broken[k] for k in keys if k in self.broken), None)
            if bad is None:
                return job
            record_failure(job, *bad, 0.0)
            self._unit_failed(job, *bad)
            self.claims.drop(unit.unit_id)
        return None

    # ------------------------------------------------------------------ other controllers on this store
    def _unwritable(self, e: OSError) -> RequestError:
        return RequestError(f"The store {self.context.store} is not writable ({e.strerror}); choose another with --store DIR.")

    def _id(self, unit: Unit) -> tuple[str, str]:
        where = (unit.device, unit.precision)
        if where not in self._keys:
            self._keys[where] = environment_key(environment(*where))
        return unit.unit_id, self._keys[where]

    def _recorded(self, unit: Unit) -> bool:
        return unit.limit is None and self.store.find(*self._id(unit)) is not None

    def _claim(self, unit: Unit) -> bool:
        """Claim a unit; another controller may be running it, or may have finished it since the plan was made."""
        try:
            taken = self.claims.take(unit.unit_id)
        except OSError as e:
            raise self._unwritable(e) from None
        if not taken:
            self.elsewhere.append(unit)
            self._say("waiting", what=str(unit), message="another process runs it.", unit=unit)
            return False
        try:
            done = self._others.look(self._writers) if self._others is not None else set()
        except OSError as e:
            raise self._unwritable(e) from None
        if self._id(unit) in done:
            self.claims.drop(unit.unit_id)
            self._done_elsewhere(unit)
            return False
        return True

    def _look_elsewhere(self) -> None:
        """Count what other controllers finished, and take back units whose owner died or failed."""
        if not self.elsewhere or time.monotonic() - self._looked < POLL:
            return
        self._looked = time.monotonic()
        for unit in list(self.elsewhere):
            free = self.claims.free(unit.unit_id)  # asked first: who drops his claim has written his record before
            if self._recorded(unit):
                self.elsewhere.remove(unit)
                self._done_elsewhere(unit)
            elif free:
                self.elsewhere.remove(unit)
                self.ready.append(unit)

    def _done_elsewhere(self, unit: Unit) -> None:
        self.left.drop(unit)
        self._end(str(unit), "elsewhere", message="another process ran it.", unit=unit)

    # ------------------------------------------------------------------ what comes back
    def _report(self, report: Report) -> None:
        if report.job in self.running:
            part = report.done / max(1, report.total)
            self.parts[report.job] = (report.what, part)
            self._say("step", what=report.what, part=part, unit=self.running[report.job].unit)

    def _finish(self, result: Result) -> None:
        job = self.running.pop(result.job)
        self.parts.pop(result.job, None)
        self._writers |= {result.facts["writer"]} if result.facts.get("writer") else set()
        if result.status == "fatal":
            raise RunError(result.message)
        if result.status == "failed" and result.transient and not result.recorded and self._try_again(job, result):
            return
        if job.ref is not None:
            bad = None if result.status == "ok" else (result.kind, result.message)
            self._component_done(job.ref, bad, result.seconds, bool(result.facts.get("fresh")), bool(result.facts.get("train_gflops")))
            return
        assert job.unit is not None
        if result.status == "ok" or (not result.recorded and self._recorded(job.unit)):
            # the second: its process died after the record was written and before it could say so
            self.summary.ok += 1
            self.left.drop(job.unit, result.seconds)
            self._end(str(job), "ok", seconds=result.seconds, facts=result.facts, unit=job.unit)
        else:
            if not result.recorded:
                record_failure(job, result.kind, result.message, result.seconds)
            self._unit_failed(job, result.kind, result.message, result.seconds)
        self.claims.drop(job.id)

    def _try_again(self, job: Job, result: Result) -> bool:
        """Queue a job for another try, if one is left. Its claim is kept."""
        tries = self.tries[job.id] = self.tries.get(job.id, 0) + 1
        if tries > self.policy.retries or (job.unit is not None and self._recorded(job.unit)):
            return False
        delay = self.policy.delay(tries)
        self.again.append((time.monotonic() + delay, job))
        self.summary.retried += 1
        again = f"{result.kind}: {result.message} It is tried again in {delay:g} s ({tries} of {self.policy.retries})."
        self._say("retry", what=str(job), message=again, unit=job.unit, seconds=result.seconds)
        return True

    def _component_done(
        self, ref: ArtifactRef, bad: tuple[str, str] | None, seconds: float = 0.0, fresh: bool = False, spent: bool = False
    ) -> None:
        del self.refs[ref.key]
        self.left.drop(ref, seconds if fresh and spent else None)  # a fit in closed form says nothing about the others' time
        if bad is None:
            self.summary.trained += fresh
            self._end(str(ref), "ok", seconds=seconds, facts={"fresh": fresh})
        else:
            self.broken[ref.key] = (bad[0], bad[1] if "could not be trained" in bad[1] else f"{ref} could not be trained: {bad[1]}")
            self._end(str(ref), "failed", message=f"{bad[0]}: {bad[1]}", seconds=seconds)
        waiting, self.blocked = self.blocked, []
        for unit in waiting:
            (self.blocked if self._waits_for(unit) else self.ready).append(unit)

    def _unit_failed(self, job: Job, kind: str, message: str, seconds: float = 0.0) -> None:
        assert job.unit is not None
        self.left.drop(job.unit)
        self.summary.failures.append((str(job), kind, message))
        self._end(str(job), "failed", message=f"{kind}: {message}", seconds=seconds, unit=job.unit)

    # ------------------------------------------------------------------ telling
    def _end(self, what: str, outcome: str, **fields: Any) -> None:
        self.done += 1
        if fields.get("unit") is not None:
            self.summary.cached += outcome in ("cached", "elsewhere")
            self.summary.failed += outcome == "failed"
        self._say("finished", what=what, outcome=outcome, **fields)

    def _say(self, kind: Any, **fields: Any) -> None:
        running = tuple(self.parts.get(key, (str(job), 0.0))[0] for key, job in self.running.items())
        left = self.left.seconds({k: p for k, (_, p) in self.parts.items()})
        elapsed = time.monotonic() - self.started
        self.tell(Status(kind, done=self.done, total=self.total, running=running, elapsed=elapsed, left=left, **fields))

    # ------------------------------------------------------------------ Ctrl-C
    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """First Ctrl-C: start nothing new, stop what runs, say how to go on. Second: end at once (children die with this process)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_interrupt(number: int, frame: Any) -> None:
            if self.stopping:
                os._exit(130)
            self.stopping = True
            if isinstance(self.executor, InlineExecutor):
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, on_interrupt)
        try:
            yield
        except Interrupted:
            raise
        except (KeyboardInterrupt, SystemExit) as e:
            # Lightning turns the interrupt into SystemExit, and from then on ignores Ctrl-C
            if not self.stopping and isinstance(e, SystemExit):
                raise
            raise Interrupted(self.summary, self._unfinished()) from None
        finally:
            signal.signal(signal.SIGINT, before)


__all__ = ["Controller", "Interrupted", "Left", "Policy", "Status", "Summary", "default_executor", "records_of", "run_units"]
