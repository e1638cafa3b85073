"""The ray executor: units as tasks of a Ray cluster, one that runs already or one started on this machine (extra ``ray``).

A task asks for the unit's threads as CPUs and, on a GPU, for a share of one. Tasks tell what they do through a small actor on the controller's
node; a task whose node or process dies is a failure that may pass, and the controller tries it again elsewhere. Every node must see the
store and the home folder under the same paths; a node that does not is found out by the first task there.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import time
from pathlib import Path
from typing import Any

from ...configs.errors import RequestError, RunError
from ...configs.loader import home
from ..environment import remember_command
from .base import Executor, Job, Report, Result, perform, reporter

PASSED_ON = ("SCOREBENCH_DATA", "SCOREBENCH_COMMAND", "SCOREBENCH_LIVE", "TROUBLE_MARKS", "WANDB_MODE")
"""Variables of the controller's environment that tasks are given too, besides the home folder and the number of threads."""


class _Board:
    """What tasks say while they run (an actor): which job started where, and how far it is."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    def say(self, kind: str, what: Any) -> None:
        self.said.append((kind, what))

    def take(self) -> list[tuple[str, Any]]:
        said, self.said = self.said, []
        return said


def _run(job: Job, board: Any, marks: tuple[str, ...]) -> Result:
    """Do one job inside a Ray worker process, which keeps torch imported for the next one."""
    lost = [m for m in marks if not Path(m).exists()]
    if lost:
        folder = Path(lost[0]).parent
        return Result(job.id, "fatal", message=f"node {socket.gethostname()} does not see {folder}; every node needs it under that path.")
    import torch

    from .. import runner  # the first task of a process pays for these imports; they are not the unit's time
    from .child import _limit_memory

    assert runner
    board.say.remote("start", job.id)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    _limit_memory(job.context.memory_limit)
    try:
        return perform(job, reporter(job, lambda report: board.say.remote("report", report)))
    except MemoryError:
        return Result(job.id, "failed", kind="out-of-memory", message="memory ran out.")
    finally:
        _limit_memory(None)


class RayExecutor(Executor):
    """Runs jobs on a Ray cluster.

    ``address``: of the cluster (None: the one RAY_ADDRESS names or that runs on this machine, else a new one here). ``cpus`` and ``gpus``: what
    one job takes (default: its threads, and one GPU for a job on a GPU); ``workers`` bounds how many run side by side (None: what fits).
    """

    name = "ray"

    def __init__(
        self, workers: int | None = None, threads: int = 1, address: str | None = None, cpus: float | None = None, gpus: float | None = None
    ) -> None:
        import ray

        self._ray = ray
        self.threads, self.cpus, self.gpus = threads, float(cpus or threads), gpus
        self._workers = workers
        self._started = not ray.is_initialized()
        remember_command()
        if self._started:
            self._connect(address)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _connect(self, address: str | None) -> None:
        import logging

        quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        given = address or os.environ.get("RAY_ADDRESS", "")
        if m := re.fullmatch(r"(?:ray://)?([\w.-]+):(\d+)", given):  # Ray itself would knock for minutes
            try:
                socket.create_connection((m[1], int(m[2])), timeout=10).close()
            except OSError as e:
                why = e.strerror or str(e)
                raise RequestError(f"The Ray cluster {given} cannot be reached ({why}); start it, or leave the address out.") from None
        try:
            if given:
                self._ray.init(address=given, **quiet)
                return
            try:
                self._ray.init(address="auto", **quiet)
            except ConnectionError:  # none runs here
                self._ray.init(address="local", include_dashboard=False, **quiet)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as e:
            reason = " ".join(str(e).split())[:300]
            raise RequestError(f"The Ray cluster {given} cannot be reached ({reason}).") from None

    def _prepare(self) -> None:
        ray = self._ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        threads = str(self.threads)
        env = {"SCOREBENCH_HOME": str(home().resolve()), "PYTHONSAFEPATH": "1", "OMP_WAIT_POLICY": "PASSIVE", "RAY_SCHEDULER_EVENTS": "0"}
        env |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), threads)
        env |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self._board = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()
        # Ray would retry by itself without saying so; the controller does that, and counts it
        self._task, self._options = ray.remote(_run), {"max_retries": 0, "runtime_env": {"env_vars": env}}
        self._jobs: dict[Any, Job] = {}
        self._began: dict[str, float] = {}
        self._sent: dict[str, float] = {}
        self._late: set[str] = set()
        self._marks: dict[Path, tuple[str, ...]] = {}
        total = ray.cluster_resources()
        fit = int(total.get("CPU", 0) // self.cpus)
        if fit < 1:
            has = f"The Ray cluster has {total.get('CPU', 0):g} CPUs and a job takes {self.cpus:g}"
            raise RequestError(f"{has}; give it more nodes, or fewer cpus.")
        self.slots = min(self._workers or fit, fit)
        self.note = ""
        if self._workers and self._workers > fit:
            self.note = f"{self._workers} workers of {self.cpus:g} CPU(s) do not fit into the cluster's {total['CPU']:g}, so {fit} run."

    # ------------------------------------------------------------------ the executor protocol
    def submit(self, job: Job) -> None:
        on_gpu = job.unit is not None and job.unit.device.startswith("cuda")
        gpus = (1.0 if self.gpus is None else self.gpus) if on_gpu else 0.0
        task = self._task.options(**self._options, num_cpus=self.cpus, num_gpus=gpus, name=str(job)[:100])
        self._jobs[task.remote(job, self._board, self._marks_of(job.context.store))] = job
        self._sent[job.id] = time.monotonic()

    def _marks_of(self, store: Path) -> tuple[str, ...]:
        """Leave a file in the store and in the home folder: a node that does not find them has other folders under these paths."""
        if store not in self._marks:
            marks = []
            for folder in (store / "claims", home().resolve() / "artifacts"):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    mark = folder / f".seen-by-all-{secrets.token_hex(4)}"
                    mark.touch()
                except OSError as e:
                    raise RunError(f"{folder} is not writable ({e.strerror}); choose another with --store, or set SCOREBENCH_HOME.") from None
                marks.append(str(mark))
            self._marks[store] = tuple(marks)
        return self._marks[store]

    def wait(self, timeout: float) -> list[Result | Report]:
        if not self._jobs:
            return []
        ray = self._ray
        ready, _ = ray.wait(list(self._jobs), num_returns=1, timeout=self._until_a_limit(timeout))
        out: list[Result | Report] = []
        out += self._hear()
        if ready:
            ready, _ = ray.wait(list(self._jobs), num_returns=len(self._jobs), timeout=0)
        for ref in ready:
            out.append(self._end(ref, self._jobs.pop(ref)))
        for ref, job in self._jobs.items():
            limit = job.context.time_limit
            if limit is not None and job.id in self._began and time.monotonic() - self._began[job.id] > limit and job.id not in self._late:
                self._late.add(job.id)
                ray.cancel(ref, force=True)
        return out

    def _until_a_limit(self, timeout: float) -> float:
        limits = [
            self._began[j.id] + j.context.time_limit - time.monotonic()
            for j in self._jobs.values() if j.context.time_limit is not None and j.id in self._began and j.id not in self._late
        ]  # fmt: skip
        return max(0.0, min([timeout, *limits]))

    def _hear(self) -> list[Report]:
        from ray.exceptions import RayError

        try:
            said = self._ray.get(self._board.take.remote(), timeout=5)
        except (RayError, TimeoutError):
            return []
        for kind, what in said:
            if kind == "start":
                self._began.setdefault(what, time.monotonic())
        return [what for kind, what in said if kind == "report" and isinstance(what, Report)]

    def _end(self, ref: Any, job: Job) -> Result:
        from ray import exceptions as lost

        began = self._began.pop(job.id, None)
        seconds = time.monotonic() - (began or self._sent.pop(job.id))
        self._sent.pop(job.id, None)
        late = job.id in self._late
        self._late.discard(job.id)
        try:
            return self._ray.get(ref)
        except lost.OutOfMemoryError:
            return Result(job.id, "failed", seconds, "out-of-memory", "its node ran out of memory and Ray ended it.")
        except (lost.TaskCancelledError, lost.WorkerCrashedError, lost.NodeDiedError, lost.ObjectLostError, lost.RaySystemError) as e:
            if late:
                return Result(job.id, "failed", seconds, "timeout", f"stopped after the time limit of {job.context.time_limit:g} s.")
            what = "its node died" if isinstance(e, (lost.NodeDiedError, lost.ObjectLostError)) else "its process, or its node, died"
            return Result(job.id, "failed", seconds, "crashed", f"{what} ({type(e).__name__}).", transient=True)
        except lost.RayTaskError as e:  # outside of what `perform` guards: this package does not import there
            cause = " ".join(str(e.cause if getattr(e, "cause", None) else e).split())[-300:]
            return Result(job.id, "failed", seconds, "error", f"the task could not be done on its node: {cause}")
        except lost.RayError as e:
            reason = " ".join(str(e).split())[:300]
            return Result(job.id, "failed", seconds, "crashed", f"Ray lost the task ({type(e).__name__}: {reason}).", transient=True)

    def close(self) -> None:
        for ref in list(getattr(self, "_jobs", ())):
            with contextlib.suppress(Exception):
                self._ray.cancel(ref, force=True)
        for marks in getattr(self, "_marks", {}).values():
            for mark in marks:
                with contextlib.suppress(OSError):
                    Path(mark).unlink(missing_ok=True)
        self._jobs, self._marks = {}, {}
        if self._started and self._ray.is_initialized():
            self._ray.shutdown()  # a cluster that was there before goes on; one started here ends
