"""A worker process: forked by the server, does one job after another, and dies with the controller."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .base import Job, Report, Result, perform, reporter
from .server import SUBMITTED


def data_size() -> int:
    """Return this process's data segment in bytes, as RLIMIT_DATA counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def _limit_memory(megabytes: float | None) -> None:
    """Allow ``megabytes`` beyond what the process holds now (None: no bound). Only Linux counts anonymous memory in RLIMIT_DATA."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = hard if megabytes is None else data_size() + int(megabytes * 2**20)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _die_with(lifeline: int) -> None:
    """Block until the controller, who alone holds the other end, is gone; then kill this worker and all it started."""
    while True:
        try:
            if not os.read(lifeline, 1):
                break
        except InterruptedError:
            continue
        except OSError:
            break
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main(connection: int, lifeline: int, message: dict[str, Any]) -> None:
    """Serve jobs until the controller closes the connection. ``message``: ``log`` (path), ``threads``, ``gpu`` (the only one
    that this worker is to see; None: as the controller). The server called setsid."""
    if message.get("gpu") is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = message["gpu"]  # before CUDA is initialised; the server has not
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if SUBMITTED not in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with, args=(lifeline,), name="scorebench-lifeline", daemon=True).start()
    log = os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    faulthandler.enable()
    import torch

    torch.set_num_threads(int(message["threads"]))
    pipe = Connection(connection)
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return

        def send(report: Report) -> None:
            with contextlib.suppress(OSError):  # the controller is gone, and this process will be in a moment
                pipe.send(report)

        _limit_memory(job.context.memory_limit)
        try:
            result = perform(job, reporter(job, send))
        except MemoryError:  # so little was left that even the failure could not be recorded: the controller does it
            result = Result(job.id, "failed", kind="out-of-memory", message="memory ran out.")
        _limit_memory(None)
        sys.stdout.flush()
        sys.stderr.flush()
        pipe.send(result)
