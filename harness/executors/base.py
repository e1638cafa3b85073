"""What all executors share: jobs, results, the protocol, and how one job is done wherever it runs."""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ...configs.errors import RequestError, RunError, ScorebenchError
from ..unit import ArtifactRef, RunContext, Unit

if TYPE_CHECKING:
    from ...leaderboards.ledger import Store

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, of how much."""


@dataclass(frozen=True)
class Job:
    """One thing to do: train the artifact ``ref``, or run ``unit``. ``id`` is the artifact's key or the unit's id. ``fields`` are
    further fields of the unit's record that its run knows nothing of (how many configurations were tried)."""

    id: str
    context: RunContext
    unit: Unit | None = None
    ref: ArtifactRef | None = None
    fields: dict[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return str(self.unit if self.unit is not None else self.ref)


@dataclass(frozen=True)
class Result:
    """How a job ended. ``fatal``: the store could not take the record, so going on makes no sense. ``recorded``: a record stands in the
    ledger (ok or failed); where it is False for a failed unit the controller writes the failed record. ``transient``: the reason lies
    outside the unit (its process was killed, its node died, a share did not answer), so that another try may succeed."""

    job: str
    status: Literal["ok", "failed", "fatal"]
    seconds: float = 0.0
    kind: str = ""
    message: str = ""
    recorded: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    transient: bool = False


TRANSIENT = (
    errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNRESET,
    errno.ECONNABORTED, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.ESTALE, errno.ENOLCK,
)  # fmt: skip
"""What a share, a network or a device says when it may answer the next time. A full disk or a missing file will not."""


def passing(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, may be gone at the next try."""
    while error is not None:
        if isinstance(error, (ConnectionError, TimeoutError)) or (isinstance(error, OSError) and error.errno in TRANSIENT):
            return True
        error = error.__cause__
    return False


@dataclass(frozen=True)
class Report:
    """What a running job says about itself."""

    job: str
    what: str
    done: int
    total: int


EVERY = 0.2
"""Seconds between two reports of one job."""


def reporter(job: Job, send: Callable[[Report], None]) -> Progress:
    """Return a progress callback for `perform` that sends at most one report every `EVERY` seconds."""
    last = 0.0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY:
            last = now
            send(Report(job.id, what, done, total))

    return progress


class Executor(Protocol):
    """Runs jobs side by side. The controller submits at most ``slots`` at a time and collects what comes out."""

    name: str
    slots: int

    def submit(self, job: Job) -> None:
        """Start a job; a slot must be free."""

    def wait(self, timeout: float) -> list[Result | Report]:
        """Return what happened, waiting at most ``timeout`` seconds for something to happen."""

    def close(self) -> None:
        """Stop at once: kill what runs and free everything."""


@lru_cache(maxsize=4)
def store_at(path: Path) -> Store:
    """Return this process's writer of a store."""
    from ...leaderboards.ledger import Store

    return Store(path)


def perform(job: Job, progress: Progress | None = None, interrupted: Callable[[], bool] = lambda: False) -> Result:
    """Do one job in this process; a unit's record is in the store when this returns.

    ``interrupted`` says whether the user pressed Ctrl-C: then KeyboardInterrupt passes through. Otherwise it was the method that ended the
    process (sys.exit inside Lightning looks the same), which is a failure like any other.
    """
    from .. import build, runner

    start = time.monotonic()
    include(job.context)
    if job.ref is not None:
        try:
            artifact = build.Builder(job.context.pins, progress, watch=_watcher()).artifact(job.ref)
        except BaseException as e:
            if isinstance(e, KeyboardInterrupt) and interrupted():
                raise
            kind, message = _describe(e, job)
            return Result(job.id, "failed", time.monotonic() - start, kind, message, transient=passing(e))
        facts = {"fresh": artifact.fresh, "pinned": artifact.pinned, "train_gflops": artifact.meta.get("train_gflops")}
        return Result(job.id, "ok", time.monotonic() - start, facts=facts)
    assert job.unit is not None
    store = store_at(job.context.store)
    try:
        record, arrays = runner.run_unit(job.unit, job.context, progress)
        record |= job.fields
        store.append(record, arrays)
    except RequestError as e:
        if not _writable(store):
            return Result(job.id, "fatal", message=str(e))
        kind, message = "error", str(e)
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt) and interrupted():
            raise
        if isinstance(e, RunError) and e.kind == "error" and not _writable(store):
            return Result(job.id, "fatal", message=str(e))
        kind, message = _describe(e, job)
        if passing(e):  # the controller records it, unless another try succeeds
            return Result(job.id, "failed", time.monotonic() - start, kind, message, transient=True)
    else:
        return Result(job.id, "ok", time.monotonic() - start, recorded=True, facts=_facts(record, store))
    seconds = time.monotonic() - start
    try:
        record_failure(job, kind, message, seconds)
    except ScorebenchError as e:
        return Result(job.id, "fatal", seconds, message=str(e))
    return Result(job.id, "failed", seconds, kind, message, recorded=True, facts={"writer": store.writer})


def _watcher() -> Any:
    """Return what watches trainings (``run --live``), None when nobody asked; what it needs is only imported then."""
    if not os.environ.get("SCOREBENCH_LIVE"):
        return None
    from .. import live

    return live.watcher()


def _facts(record: dict[str, Any], store: Store) -> dict[str, Any]:
    return {"metrics": {n: m.get("value") for n, m in record["metrics"].items()}, "writer": store.writer}


def _writable(store: Store) -> bool:
    try:
        store.prepare()
    except ScorebenchError:
        return False
    return True


def _describe(error: BaseException, job: Job) -> tuple[str, str]:
    """Return (kind, one sentence); an unexpected exception's traceback goes to the store's logs."""
    from .. import runner

    if isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or SystemExit("KeyboardInterrupt")
    if isinstance(error, SystemExit):
        return "error", f"the method ended the process (SystemExit {error.code})."
    kind, message = runner.describe(error)
    if not isinstance(error, ScorebenchError):
        log = job.context.store / "logs" / f"{job.id}.txt"
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("".join(traceback.format_exception(error)))
        except OSError:
            return kind, message  # the failure itself is still recorded
    return kind, message


def record_failure(job: Job, kind: str, message: str, seconds: float) -> None:
    """Append the failed record of a job's unit (an artifact has none). RequestError or RunError when the store cannot take it."""
    if job.unit is None:
        return
    from ...leaderboards import record as records
    from .. import environment, runner

    blank = runner.blank(job.unit, job.context) | job.fields
    provenance = environment.provenance() | {"seconds": round(seconds, 3)}
    store_at(job.context.store).append(records.fail(blank, kind, message, provenance=provenance))


def include(context: RunContext) -> None:
    """Make the methods, tasks and priors of the run's plug-in folders known in this process."""
    from ...baselines import card, components
    from ...tasks import registry

    for folder in context.include:
        folder = folder.resolve()
        card.include(folder)
        registry.include(folder)
        components.include(folder)
