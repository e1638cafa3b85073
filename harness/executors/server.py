"""The fork server: a process that has imported torch and Lightning and forks a worker in milliseconds whenever it is asked to.

``python -m scorebench.harness.executors.server FD``: FD is a socket to the controller. multiprocessing's own fork server is not used, because
it swallows a failed preload, runs the user's main script again in every child, and keeps the environment of its first start.

Messages are one JSON line each. To the server: ``{"fork": number, "log": path}`` with two file descriptors (the worker's connection, the
lifeline), ``{"kill": pid}``. From it: ``{"ready": true}`` or ``{"error": sentence}``, ``{"worker": number, "pid": pid}``,
``{"exit": pid, "status": code}`` (negative: minus the signal). When the controller is gone, all workers are killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any

PRELOAD = ("torch", "lightning", "scorebench.harness.runner")


SUBMITTED = "SUBMITIT_EXECUTOR"
"""Set inside a submitted Slurm job."""


def deaf() -> None:
    """Ignore what Slurm sends to every process of a job that is preempted or out of time: only the job's main process acts on it, and its
    workers die with it. Otherwise units in progress would be recorded as crashed before the job is put back into the queue."""
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def kill_group(pid: int) -> None:
    """Kill a worker and everything it started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # forked a moment ago and not yet a group of its own
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    except PermissionError:
        return  # only zombies are left of the group (macOS)


class Server:
    """Forks workers, reaps them, and kills them on request or when the controller is gone. Single-threaded: a fork copies no locks."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.workers: set[int] = set()
        self._buffer = b""
        self._fds: list[int] = []
        self._wake, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def say(self, message: dict[str, Any]) -> None:
        self.control.sendall(json.dumps(message).encode() + b"\n")

    def run(self) -> None:
        """Serve until the controller is gone."""
        self.say({"ready": True, "pid": os.getpid()})
        try:
            while True:
                ready, _, _ = select.select([self.control.fileno(), self._wake], [], [])
                if self._wake in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                    self._reap()
                if self.control.fileno() in ready:
                    data, fds, _, _ = socket.recv_fds(self.control, 65536, 16)
                    if not data:
                        return
                    self._fds += fds
                    self._buffer += data
                    while b"\n" in self._buffer:
                        line, _, self._buffer = self._buffer.partition(b"\n")
                        self._obey(json.loads(line))
        except OSError:
            return  # the controller is gone
        finally:
            for pid in self.workers:
                kill_group(pid)

    def _obey(self, message: dict[str, Any]) -> None:
        if "kill" in message:
            if message["kill"] in self.workers:  # not reaped yet, so the number cannot be somebody else's
                kill_group(message["kill"])
            return
        connection, lifeline = self._fds[:2]
        del self._fds[:2]
        pid = os.fork()
        if pid == 0:
            self._become_worker(connection, lifeline, message)
        os.close(connection)
        os.close(lifeline)
        self.workers.add(pid)
        self.say({"worker": message["fork"], "pid": pid})

    def _become_worker(self, connection: int, lifeline: int, message: dict[str, Any]) -> None:
        status = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.control.close()
            os.close(self._wake)
            os.close(self._wake_write)
            from .child import main

            main(connection, lifeline, message)
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.workers.discard(pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what the worker had started and left behind
            self.say({"exit": pid, "status": os.waitstatus_to_exitcode(status)})


def main() -> None:
    """Import what workers need, say so (or why not), and serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    from importlib import util

    try:
        for name in PRELOAD:
            if util.find_spec(name) is None:
                raise ModuleNotFoundError(f"No module named {name!r}")
        import lightning
        import torch

        from .. import build, runner
    except BaseException as e:
        reason = " ".join(str(e).split()) or "no message"
        control.sendall(json.dumps({"error": f"{type(e).__name__}: {reason}"}).encode() + b"\n")
        raise SystemExit(1) from None
    assert lightning and runner and build
    if torch.cuda.is_initialized():
        control.sendall(json.dumps({"error": "CUDA was initialised while importing, and cannot be forked"}).encode() + b"\n")
        raise SystemExit(1)
    Server(control).run()
    os._exit(0)  # unloading torch takes a second


if __name__ == "__main__":
    main()
