"""The slurm executor: units as arrays of Slurm jobs through submitit (extra ``slurm``).

A job holds a *bundle* of units and works through it as a small controller of its own with worker processes, so that every unit has its own
time and memory limit, and a failure is one unit's. A job that is preempted or runs out of time is put back into the queue by submitit; started
again, it skips what is recorded and goes on with a half-trained network from its last Lightning checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...configs.errors import RequestError, RunError
from ..environment import remember_command
from ..progress import Policy, Status
from ..unit import ArtifactRef, RunContext, Unit
from .base import Executor, Job, Report, Result, include
from .process import ProcessExecutor

if TYPE_CHECKING:
    import submitit

POLL = 5.0
"""Seconds between two questions to Slurm's controller, which serves the whole cluster."""
GRACE = 3
"""Questions after which a job that has left the queue without a result is given up: a network file system shows files late."""
ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")


class Unclaimed:
    """What stands for claims where the submitting controller holds them already."""

    def take(self, name: str) -> bool:
        return True

    def free(self, name: str) -> bool:
        return True

    def drop(self, name: str) -> None:
        """Nothing is held."""

    sweep = close = lambda self: None


@dataclass
class Bundle:
    """What one Slurm job does: train components, then run units. ``claim``: hold claims, since nobody else does (``--submit``)."""

    context: RunContext
    refs: tuple[ArtifactRef, ...] = ()
    units: tuple[Unit, ...] = ()
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    workers: int = 1
    threads: int = 1
    claim: bool = False

    def __call__(self) -> list[Result]:
        """Do everything, and return how each component and unit ended."""
        from .. import prefetch
        from ..controller import Controller

        include(self.context)
        out: list[Result] = []
        executor = ProcessExecutor(self.workers, self.threads, self.context.store / "logs")
        try:
            prefetch.train({r.key: r for r in self.refs}, self.context, executor, lambda ref, result: out.append(result))
            controller = Controller(
                self.units, self.context, executor, lambda s: self._hear(s, out), self.policy, lambda u: self.fields.get(u.unit_id, {})
            )
            if not self.claim:
                controller.claims = Unclaimed()  # type: ignore[assignment]
            if self.units:
                controller.run()
        finally:
            executor.close()
        return out

    @staticmethod
    def _hear(status: Status, out: list[Result]) -> None:
        if status.kind != "finished" or status.unit is None:
            return
        kind, _, message = status.message.partition(": ")
        failed = status.outcome == "failed"
        out.append(
            Result(
                status.unit.unit_id, "failed" if failed else "ok", status.seconds, kind if failed else "", message if failed else "", True,
                {k: v for k, v in status.facts.items() if k == "metrics"},
            )
        )  # fmt: skip

    def checkpoint(self, *args: Any) -> submitit.helpers.DelayedSubmission:
        """Return what is to be run after a preemption or time-out: the same, since the store and the checkpoints know how far it came."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def minutes(limit: str | int) -> int:
    """Return the minutes that ``30`` (minutes), ``90m``, ``12h``, ``2d``, ``HH:MM:SS`` or ``D-HH:MM:SS`` name; RequestError otherwise."""
    text = str(limit).strip()
    if m := re.fullmatch(r"(\d+)\s*([mhd]?)", text):
        return int(m[1]) * {"": 1, "m": 1, "h": 60, "d": 1440}[m[2]]
    if m := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text):
        return max(1, int(m[1] or 0) * 1440 + int(m[2]) * 60 + int(m[3]) + (int(m[4]) > 0))
    raise RequestError(f"Slurm time {text!r} is not accepted; write minutes, 90m, 12h, 2d or D-HH:MM:SS.")


class SlurmExecutor(Executor):
    """Runs jobs on a Slurm cluster. Arguments are the fields of a profile's table ``slurm`` (docs/cluster.md)."""

    name = "slurm"

    def __init__(
        self,
        store: Path,
        threads: int = 1,
        workers: int | None = None,
        *,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        time: str | int = "4h",
        cpus: int = 1,
        gpus: int = 0,
        mem: str | None = None,
        setup: Sequence[str] = (),
        units_per_job: int = 8,
        array: int = 256,
        requeues: int = 3,
        signal_s: int = 90,
        options: dict[str, Any] | None = None,
        cluster: str = "slurm",
    ) -> None:
        if cluster not in ("slurm", "local"):
            raise RequestError(f"Cluster {cluster!r} is not accepted; accepted: slurm, or local (submitit's processes here, for trials).")
        self.store, self.threads, self.array, self.units_per_job = store.resolve(), threads, array, units_per_job
        self.cluster, self.cpus, self.requeues = cluster, max(cpus, threads), requeues
        self.slots = array * units_per_job  # what is handed to Slurm at a time; ``workers`` bounds how many of its jobs run side by side
        self.note = ""
        self.policy = Policy()
        self.folder = self.store / "slurm"
        named = {"partition": partition, "account": account, "qos": qos, "constraint": constraint, "mem": mem}
        self._parameters = {k: v for k, v in named.items() if v is not None} | {
            "time": minutes(time), "cpus_per_task": self.cpus, "job_name": "scorebench", "signal_delay_s": signal_s,
            "array_parallelism": min(workers, array) if workers else array,
        }  # fmt: skip
        if gpus:
            self._parameters["gpus_per_node"] = gpus
        if setup:
            self._parameters["setup"] = list(setup)
        more = {"requeue": True, **(options or {})}
        self._parameters["additional_parameters"] = more
        self._buffer: list[Job] = []
        self._running: dict[str, tuple[Any, list[Job]]] = {}
        self._gone: dict[str, int] = {}
        self._asked = 0.0
        remember_command()

    # ------------------------------------------------------------------ submitting
    def _executor(self, **changes: Any) -> Any:
        import submitit

        made: Any
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.cluster == "local":
                made = submitit.LocalExecutor(self.folder)
                made.update_parameters(timeout_min=self._parameters["time"], signal_delay_s=self._parameters["signal_delay_s"])
                return made
            made = submitit.SlurmExecutor(self.folder, max_num_timeout=self.requeues)
            made.update_parameters(**{**self._parameters, **changes})
            return made
        except RuntimeError as e:
            raise RequestError(f"There is no Slurm here ({e}); run this on a login node, or leave --executor slurm out.") from None
        except OSError as e:
            raise RequestError(f"{self.folder} cannot be written ({e.strerror}); choose another store with --store DIR.") from None
        except (ValueError, TypeError) as e:
            raise RequestError(f"Slurm options were refused: {' '.join(str(e).split())[:300]}") from None

    def send(self, bundles: Sequence[Bundle], **changes: Any) -> list[Any]:
        """Submit bundles, in arrays of at most ``array`` jobs; return submitit's jobs. RunError when Slurm refuses."""
        jobs: list[Any] = []
        for i in range(0, len(bundles), self.array):
            executor = self._executor(**changes)
            try:
                with executor.batch():
                    jobs += [executor.submit(b) for b in bundles[i : i + self.array]]
            except Exception as e:
                if type(e).__name__ not in ("FailedJobError", "FailedSubmissionError", "CalledProcessError"):
                    raise
                raise RunError(f"Slurm did not take the jobs: {' '.join(str(e).split())[:400]}") from None
        return jobs

    def bundle(self, context: RunContext, units: Iterable[Unit] = (), refs: Iterable[ArtifactRef] = (), **more: Any) -> Bundle:
        """Return a bundle with this executor's workers and threads."""
        workers = max(1, self.cpus // self.threads)
        return Bundle(context.with_(workers=workers), tuple(refs), tuple(units), workers=workers, threads=self.threads, **more)

    # ------------------------------------------------------------------ the executor protocol
    def submit(self, job: Job) -> None:
        self._buffer.append(job)

    def _flush(self) -> None:
        """Send what was handed in since the last look: components one a job, units in bundles, those that are timed alone by themselves."""
        groups: list[list[Job]] = [[j] for j in self._buffer if j.ref is not None or (j.unit is not None and j.unit.exclusive)]
        shared = [j for j in self._buffer if j.unit is not None and not j.unit.exclusive]
        groups += [shared[i : i + self.units_per_job] for i in range(0, len(shared), self.units_per_job)]
        self._buffer = []
        for alone in (False, True):
            chosen = [g for g in groups if (g[0].unit is not None and g[0].unit.exclusive) is alone]
            bundles = [
                self.bundle(
                    g[0].context, [j.unit for j in g if j.unit], [j.ref for j in g if j.ref], policy=self.policy,
                    fields={j.id: j.fields for j in g if j.fields},
                )
                for g in chosen
            ]  # fmt: skip
            jobs = self.send(bundles, **({"exclusive": True} if alone else {})) if bundles else []
            self._running |= {job.job_id: (job, g) for job, g in zip(jobs, chosen, strict=True)}

    def wait(self, timeout: float) -> list[Result | Report]:
        if self._buffer:
            self._flush()
        out: list[Result | Report] = []
        ended = self._ended()
        for job_id, (job, group) in list(self._running.items()):
            if job.paths.result_pickle.exists():
                del self._running[job_id]
                out += self._results(job, group)
            elif job_id in ended:
                self._gone[job_id] = self._gone.get(job_id, 0) + 1
                if self._gone[job_id] >= GRACE:
                    del self._running[job_id]
                    out += [self._lost(job_id, j, ended[job_id]) for j in group]
        if not out:
            time.sleep(timeout)
        return out

    def _ended(self) -> dict[str, str]:
        """Return the jobs that are in the queue no more, with their state where Slurm still knows it; asked every `POLL` seconds."""
        if time.monotonic() - self._asked < POLL or not self._running:
            return {}
        self._asked = time.monotonic()
        if self.cluster == "local":
            return {i: "COMPLETED" for i, (job, _) in self._running.items() if job.done(force_check=True)}
        found = queue(self._running)
        if found is None:
            return {}
        return {i: found.get(i) or "" for i in self._running if i not in found or found[i] in ENDED}

    @staticmethod
    def _results(job: Any, group: list[Job]) -> list[Result]:
        """Return what a job that has ended says of each of its units."""
        from submitit.core.utils import pickle_load

        outcome, value = None, None
        with contextlib.suppress(Exception):
            outcome, value = pickle_load(job.paths.result_pickle)
        if outcome == "success" and isinstance(value, list):
            by_id = {r.job: r for r in value}
            lost = "its Slurm job ended without a word about it."
            return [by_id.get(j.id) or Result(j.id, "failed", kind="crashed", message=lost, transient=True) for j in group]
        said = " ".join(str(value or "no message").split())[-300:]
        timed_out = "timed-out" in said
        kind, message = ("timeout", "its Slurm job ran out of time too often.") if timed_out else ("crashed", f"its Slurm job failed: {said}")
        # units record their own failures; what ends a whole bundle comes from its node, or from being cancelled
        return [Result(j.id, "failed", kind=kind, message=message, transient=not timed_out) for j in group]

    @staticmethod
    def _lost(job_id: str, job: Job, state: str) -> Result:
        if state == "OUT_OF_MEMORY":
            return Result(job.id, "failed", kind="out-of-memory", message=f"Slurm ended its job {job_id} for want of memory.")
        how = f"state {state}" if state else "Slurm does not say why"
        return Result(job.id, "failed", kind="crashed", message=f"its Slurm job {job_id} ended without a result ({how}).", transient=True)

    def close(self) -> None:
        """Cancel what is queued or runs: the controller that would have heard of it is gone."""
        for job, _ in self._running.values():
            with contextlib.suppress(Exception):
                job.cancel(check=False)
        self._running, self._buffer = {}, []


def queue(jobs: Iterable[str]) -> dict[str, str] | None:
    """Return the state of each job that Slurm's queue still lists, None when its controller does not answer."""
    wanted = set(jobs)
    try:
        done = subprocess.run(
            ["squeue", "-h", "-r", "-t", "all", "-o", "%i|%T", "-u", str(os.getuid())], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    rows = [line.split("|") for line in done.stdout.splitlines() if "|" in line]
    return {i: state for i, state in rows if i in wanted}


__all__ = ["Bundle", "SlurmExecutor", "minutes", "queue"]
