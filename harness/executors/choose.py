"""Which executor is meant by a name; what a cluster needs is only imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...configs.errors import RequestError, nearest
from .base import Executor
from .inline import InlineExecutor
from .process import ProcessExecutor

NAMES = ("inline", "process", "ray", "slurm")
EXTRAS = {"ray": "ray", "slurm": "submitit"}
"""Executor: the library that the extra of its name installs."""


def require(name: str) -> None:
    """Refuse, in one sentence, an executor whose library is not installed."""
    library = EXTRAS.get(name)
    if library is not None and find_spec(library) is None:
        raise RequestError(
            f"--executor {name} needs the library {library}, which is not installed; install it with pip install 'scorebench[{name}]', "
            "or leave --executor out to run on this machine."
        )


def default_executor(
    name: str,
    workers: int | None = None,
    threads: int = 1,
    store: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Executor:
    """Make the executor ``name``; RequestError when it is unknown or its extra is missing. ``options``: the profile's table of that name."""
    if name == "inline":
        return InlineExecutor(threads)
    if name == "process":
        return ProcessExecutor(workers, threads, None if store is None else store / "logs")
    if name not in NAMES:
        close = nearest(name, NAMES)
        raise RequestError(f"Unknown executor {name!r}; {'did you mean ' + close[0] + '?' if close else 'accepted: ' + ', '.join(NAMES) + '.'}")
    require(name)
    if name == "ray":
        from .ray import RayExecutor

        return RayExecutor(workers, threads, **(options or {}))
    from .slurm import SlurmExecutor

    assert store is not None
    return SlurmExecutor(store, threads, workers, **(options or {}))
