"""Where a unit ran: the environment (what could change its numbers, hashed) and the provenance (what could not, told)."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..configs.loader import HERE
from .identity import content_id

LIBRARIES = (
    "torch", "torchvision", "numpy", "scipy", "lightning", "deepinv", "diffusers",
    "scikit-image", "scikit-learn", "torchmetrics", "pyroomacoustics", "pystoi", "pesq", "lpips", "clean-fid", "pillow",
)  # fmt: skip
"""Libraries that compute numbers: those of the design, and those that methods, metrics and embedded data call directly."""


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def environment(device: str = "cpu", precision: str = "32") -> dict[str, Any]:
    """Return what besides code and data could change a number; nothing is imported but, on a GPU, torch for its TF32 flags."""
    kind = device.partition(":")[0]
    return {
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "machine": platform.machine(),
        "device": kind,
        "dtype": _dtype(precision),
        "tf32": _tf32() if kind == "cuda" else False,
    }


def _dtype(precision: str) -> str:
    return {"32": "float32", "32-true": "float32", "64": "float64", "64-true": "float64"}.get(str(precision), str(precision))


def _tf32() -> bool:
    import torch

    return bool(torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32)


def environment_key(environment: dict[str, Any]) -> str:
    """Return the id of an environment: a unit is done when its unit_id and its environment_key are recorded."""
    return content_id(environment)[:16]


# ------------------------------------------------------------------ provenance
def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit, whether tracked files differ from it, and a hash of the difference; None outside a repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "diff", "HEAD") or ""
    return {
        "commit": commit,
        "dirty": bool(changes),
        "diff_sha256": hashlib.sha256(changes.encode()).hexdigest()[:16] if changes else None,
    }


def _package_git() -> dict[str, Any] | None:
    """Return the git state of the package's own repository; None when it is installed inside somebody else's (a venv in a project)."""
    top = _git(HERE.parent, "rev-parse", "--show-toplevel")
    return git_state(HERE.parent) if top and Path(top).resolve() == HERE.parent else None


@cache
def cpu_model() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: the platform module's answer is next
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores this process may use (affinity and container quota considered)."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:
        allowed = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            allowed = min(allowed, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no quota
    return allowed


_COMMAND = "SCOREBENCH_COMMAND"


@cache
def machine() -> dict[str, Any]:
    """Return what does not change while a process runs: git, host, processor, the user's command line."""
    from .. import __version__

    # a worker's own sys.argv is multiprocessing's; the controller hands down the user's
    command = os.environ.get(_COMMAND) or " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {
        "scorebench": __version__,
        "git": _package_git(),
        "working_directory_git": git_state(Path.cwd()),
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": cpu_model(),
        "cores": cores(),
        "command": command,
    }


def remember_command() -> None:
    """Let child processes know the command line that the user typed."""
    os.environ.setdefault(_COMMAND, " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]))


def now() -> str:
    """Return the time in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def provenance(started: str | None = None) -> dict[str, Any]:
    """Return where and when something ran; ``started`` is an earlier `now`."""
    finished = now()
    return {**machine(), "pid": os.getpid(), "started": started or finished, "finished": finished}
