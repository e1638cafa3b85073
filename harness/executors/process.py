"""The process executor: a pool of worker processes on this machine, each unit isolated, with time and memory limits."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ...configs.errors import RequestError, RunError
from ..environment import cores, remember_command
from .base import Executor, Job, Report, Result
from .server import SUBMITTED, deaf, kill_group

START_LIMIT = 300.0
"""Seconds the fork server may take to import torch and Lightning (a cold network file system is slow)."""
JOBS_PER_WORKER = 200
"""Jobs after which a worker is replaced, so that a method that leaks memory does not leak it for ever."""


@dataclass
class _Worker:
    """One worker as the controller sees it."""

    number: int
    pipe: Connection
    log: Path
    pid: int | None = None
    job: Job | None = None
    started: float = 0.0
    log_start: int = 0
    gpu: str | None = None
    done: int = 0
    timed_out: bool = False
    closed: bool = False


def visible_gpus() -> list[str]:
    """Return the GPUs that units may use, as ``CUDA_VISIBLE_DEVICES`` names them, without importing torch or touching a GPU."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [g.strip() for g in named.split(",") if g.strip() and g.strip() != "-1"]
    return [str(k) for k in range(sum(p.name[6:].isdigit() for p in Path("/dev").glob("nvidia[0-9]*")))]


class ProcessExecutor(Executor):
    """Up to ``workers`` processes of ``threads`` threads each, and never more threads than cores.

    With several GPUs, a worker sees one of them: units of device ``cuda`` are spread over all, each GPU's workers as even in number as they
    can be. A unit of device ``cuda:N`` runs in a worker that sees all GPUs, on the one it names.

    ``note`` holds a sentence when fewer workers run than asked for. Raises RunError when workers cannot start (with the reason).
    """

    name = "process"

    def __init__(self, workers: int | None = None, threads: int = 1, logs: Path | None = None) -> None:
        if workers is not None and workers < 1:
            raise RequestError(f"--workers is {workers}; accepted: 1 or more.")
        if not hasattr(socket, "send_fds"):
            raise RequestError("The process executor needs Linux or macOS; use --executor inline here.")
        self.threads = threads
        fit = max(1, cores() // threads)
        self.slots = min(workers or fit, fit)
        self.note = ""
        if workers and workers > fit:
            self.note = f"{workers} workers of {threads} thread(s) would fight for this machine's {cores()} cores, so {fit} run."
        self._temporary = None if logs is not None else tempfile.TemporaryDirectory(prefix="scorebench-")
        self.logs = logs if logs is not None else Path(self._temporary.name)  # type: ignore[union-attr]
        self._workers: dict[int, _Worker] = {}
        self._gpus = gpus if len(gpus := visible_gpus()) > 1 else []
        self._number = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._buffer = b""
        self._lifeline: tuple[int, int] | None = None

    # ------------------------------------------------------------------ the server
    def _start_server(self) -> None:
        remember_command()
        self.logs.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        threads = str(self.threads)
        env = {
            **os.environ, "PYTHONSAFEPATH": "1", "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads, "NUMEXPR_NUM_THREADS": threads,
        }  # fmt: skip
        errors = (self.logs / "server.log").open("ab")
        try:
            self._server = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.server", str(theirs.fileno())],
                env=env, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True,
                preexec_fn=deaf if SUBMITTED in os.environ else None,
            )  # fmt: skip
        finally:
            theirs.close()
            errors.close()
        self._control, self._buffer = ours, b""
        ours.settimeout(START_LIMIT)
        message = self._first_message()
        if "error" in message:
            self._stop_server()
            raise RunError(f"Worker processes cannot start: {message['error']}; see {self.logs / 'server.log'}, or use --executor inline.")
        self._lifeline = self._lifeline or os.pipe()

    def _first_message(self) -> dict[str, Any]:
        assert self._control is not None
        while b"\n" not in self._buffer:
            try:
                data = self._control.recv(65536)
            except TimeoutError:
                return {"error": f"torch and Lightning were not imported within {START_LIMIT:.0f} s"}
            if not data:
                return {"error": "the fork server ended while importing torch and Lightning"}
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _stop_server(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            try:
                self._server.wait(5)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None

    def _say(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        assert self._control is not None
        data = json.dumps(message).encode() + b"\n"
        with contextlib.suppress(OSError):  # a dead server is noticed, and replaced, when its socket is read
            socket.send_fds(self._control, [data], fds or [])

    # ------------------------------------------------------------------ the executor protocol
    def submit(self, job: Job) -> None:
        if self._control is None:
            self._start_server()
        masked = bool(self._gpus) and not (job.unit is not None and ":" in job.unit.device)
        idle = (w for w in self._workers.values() if w.job is None and not w.closed and (w.gpu is not None) == masked)
        worker = next(idle, None) or self._new_worker(self._least_used() if masked else None)
        worker.job, worker.started, worker.timed_out = job, time.monotonic(), False
        worker.log_start = worker.log.stat().st_size if worker.log.exists() else 0
        with contextlib.suppress(OSError):  # it died while idle: its exit message is on its way and will name this job
            worker.pipe.send(job)

    def _least_used(self) -> str:
        """Return the GPU with the fewest workers, of equals the first."""
        used = [w.gpu for w in self._workers.values() if not w.closed]
        return min(self._gpus, key=used.count)

    def _new_worker(self, gpu: str | None) -> _Worker:
        assert self._lifeline is not None
        ours, theirs = socket.socketpair()
        self._number += 1
        worker = _Worker(self._number, Connection(ours.detach()), self.logs / f"worker-{os.getpid()}-{self._number}.log", gpu=gpu)
        self._say({"fork": worker.number, "log": str(worker.log), "threads": self.threads, "gpu": gpu}, [theirs.fileno(), self._lifeline[0]])
        theirs.close()
        self._workers[worker.number] = worker
        return worker

    def wait(self, timeout: float) -> list[Result | Report]:
        if self._control is None:
            return []
        out: list[Result | Report] = []
        limits = [left for w in self._workers.values() if (left := self._time_left(w)) is not None]
        pipes = {w.pipe: w for w in self._workers.values() if not w.closed}
        ready = wait([self._control, *pipes], max(0.0, min([timeout, *limits])))
        for pipe in ready:
            if pipe is not self._control:
                self._hear(pipes[pipe], out)  # type: ignore[index]
        if self._control in ready:
            self._hear_server(out)
        for worker in self._workers.values():
            left = self._time_left(worker)
            if left is not None and left <= 0 and worker.pid is not None:
                worker.timed_out = True
                self._say({"kill": worker.pid})
        return out

    def _time_left(self, worker: _Worker) -> float | None:
        if worker.job is None or worker.timed_out or worker.job.context.time_limit is None:
            return None
        return worker.started + worker.job.context.time_limit - time.monotonic()

    def _hear(self, worker: _Worker, out: list[Result | Report]) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            self._hang_up(worker)  # its exit message follows, and says why
            return
        out.append(message)
        if isinstance(message, Result):
            worker.job = None
            worker.done += 1
            if worker.done >= JOBS_PER_WORKER:
                self._hang_up(worker)  # it ends when it finds its connection closed

    def _hang_up(self, worker: _Worker) -> None:
        if not worker.closed:
            worker.closed = True
            worker.pipe.close()

    def _hear_server(self, out: list[Result | Report]) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._server_died(out)
            return
        self._buffer += data
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            message = json.loads(line)
            if "worker" in message:
                if message["worker"] in self._workers:
                    self._workers[message["worker"]].pid = message["pid"]
            elif "exit" in message:
                gone = next((w for w in self._workers.values() if w.pid == message["exit"]), None)
                if gone is not None:
                    self._bury(gone, message["status"], out)

    def _bury(self, worker: _Worker, status: int, out: list[Result | Report]) -> None:
        """Forget a worker that has ended; a job that it left behind has failed."""
        while not worker.closed and worker.pipe.poll():  # what it said before it ended
            self._hear(worker, out)
        self._hang_up(worker)
        del self._workers[worker.number]
        if worker.job is not None:
            out.append(self._obituary(worker, worker.job, status))
        elif worker.log.exists() and not worker.log.stat().st_size:
            worker.log.unlink()

    def _obituary(self, worker: _Worker, job: Job, status: int) -> Result:
        seconds = time.monotonic() - worker.started
        if worker.timed_out:
            return Result(job.id, "failed", seconds, "timeout", f"stopped after the time limit of {job.context.time_limit:g} s.")
        said = ""
        with contextlib.suppress(OSError), worker.log.open("rb") as f:
            f.seek(worker.log_start)
            said = f.read(1 << 20).decode(errors="replace")
        where = f"; its output is in {worker.log}" if said.strip() else ""
        if any(sign in said for sign in ("bad_alloc", "MemoryError", "Cannot allocate memory", "can't allocate memory")):
            return Result(job.id, "failed", seconds, "out-of-memory", f"memory ran out and its process ended{where}.")
        how = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with exit status {status}"
        perhaps = ", perhaps by the system for want of memory" if status == -signal.SIGKILL else ""
        outside = status in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)  # signals a program does not send itself
        return Result(job.id, "failed", seconds, "crashed", f"its process {how}{perhaps}{where}.", transient=outside)

    def _server_died(self, out: list[Result | Report]) -> None:
        """Kill the orphans of a fork server that is gone; the next job starts a new one."""
        for worker in list(self._workers.values()):
            if worker.pid is not None:
                kill_group(worker.pid)
            self._bury(worker, -signal.SIGKILL, out)
        self._stop_server()

    def close(self) -> None:
        if self._lifeline is not None:
            for fd in self._lifeline:
                os.close(fd)  # every worker dies of this, even if the server does not
            self._lifeline = None
        self._stop_server()
        for worker in self._workers.values():
            self._hang_up(worker)
            with contextlib.suppress(OSError):
                if not worker.log.stat().st_size:
                    worker.log.unlink()
        self._workers.clear()
        with contextlib.suppress(OSError):
            if not (self.logs / "server.log").stat().st_size:
                (self.logs / "server.log").unlink()
        if self._temporary is not None:
            self._temporary.cleanup()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
