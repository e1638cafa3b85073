"""What ``run``, ``suite`` and ``quickstart`` are asked: values, seeds, durations, and how units are to be executed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from ...configs.errors import RequestError
from ..config import EXECUTORS
from ..progress import Policy
from ..values import parse_value
from .common import F, defaults, hint, include_option, parse_duration, store_option

PRECISIONS = ("32", "bf16-mixed", "16-mixed")


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read ``key=value``; RequestError when there is no '=' or the key is no name."""
    key, equals, value = text.partition("=")
    if not equals:
        raise RequestError(f"{text!r} is not an option's value; settings are written key=value, and -t, -m, -s are repeated for more of them.")
    if not re.fullmatch(r"[A-Za-z_][\w.-]*", key):
        raise RequestError(f"{text!r}: {key!r} is not the name of a setting; write key=value.")
    return key, parse_value(value)


class Integers(click.ParamType):
    """``3``, ``0,2,5`` or ``0-4``."""

    name = "n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        out: list[int] = []
        for part in str(value).split(","):
            if not (m := re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)):
                self.fail(f"{value!r} is not accepted; write an integer of at least 0, a list 0,2,5 or a range 0-4", param, ctx)
            first, last = int(m[1]), int(m[2] or m[1])
            if last < first or last - first > 9999:
                self.fail(f"the range {part.strip()} is not accepted; write the smaller number first, and at most 10000 numbers", param, ctx)
            out += range(first, last + 1)
        return tuple(out)


def flat(groups: Iterable[Sequence[int]]) -> list[int]:
    """Return the numbers of several options, each once, in order."""
    return list(dict.fromkeys(i for group in groups for i in group))


class Duration(click.ParamType):
    """``90``, ``90s``, ``10m`` or ``2h``, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else parse_duration(str(value))
        except RequestError as e:
            self.fail(str(e).rstrip("."), param, ctx)


@dataclass(frozen=True)
class How:
    """How units are executed: the options that change no number, resolved from command line, profile and defaults."""

    executor: str = "process"
    workers: int | None = None
    device: str = "cpu"
    precision: str = "32"
    batch_size: int | None = None
    time_limit: float | None = None
    memory_limit: float | None = None
    retries: int = 2
    max_failures: int | None = None
    fail_fast: bool = False
    dry_run: bool = False
    submit: bool = False
    collect: bool = False
    ray: dict[str, Any] = field(default_factory=dict)
    slurm: dict[str, Any] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        """What is done about failures."""
        return Policy(retries=self.retries, max_failures=1 if self.fail_fast else self.max_failures)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--executor", type=click.Choice(EXECUTORS), help="process (a crash hits one unit only), inline, ray or slurm."),
    click.option("--profile", metavar="NAME", help="A profile of scorebench.toml, or a .yaml or .toml file that holds one."),
    click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Units side by side (cost is only ranked with one)."),
    click.option("--device", metavar="D", help="cpu, cuda or cuda:N."),
    click.option("--precision", type=click.Choice(PRECISIONS), help="Lightning's precision; 32 unless told."),
    click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Samples per request (default: the task's)."),
    click.option("--time-limit", type=Duration(), metavar="T", help="For each unit: seconds, or 90s, 10m, 2h."),
    click.option("--memory-limit", metavar="M", help="For each unit: 800M or 2G."),
    click.option("--retries", type=click.IntRange(min=0), metavar="N", help="Tries after one that failed for a passing reason (default: 2)."),
    click.option("--fail-fast", is_flag=True, default=None, help="Start nothing more after the first failed unit."),
    click.option("--max-failures", type=click.IntRange(min=1), metavar="N", help="Start nothing more after N failed units."),
    click.option("--dry-run", is_flag=True, default=None, help="Print the plan with its estimated cost, and run nothing."),
    click.option("--submit", is_flag=True, default=None, help="With --executor slurm: submit the jobs and return."),
    click.option("--collect", is_flag=True, default=None, help="With --executor slurm: say what submitted jobs have done, and run nothing."),
    store_option,
    include_option,
)


def how_options(command: F) -> F:
    """Add the options of `How`, ``--store`` and ``--include`` to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def how(profile: str | None, **given: Any) -> How:
    """Resolve `How`: what was given on the command line, else the profile, else the defaults of scorebench.toml, else its own defaults."""
    values = defaults().execution(profile)
    if "time_limit" in values:
        values["time_limit"] = parse_duration(values["time_limit"])
    values |= {k: v for k, v in given.items() if v is not None}
    if values.get("memory_limit") is not None:
        values["memory_limit"] = parse_memory(values["memory_limit"])
    there = values.get("executor", "process") in ("inline", "process")  # a cluster's login node need not have the GPU
    values["device"] = check_device(str(values.get("device", "cpu")), there)
    precision = str(values.get("precision", "32"))
    if precision not in PRECISIONS:
        raise RequestError(f"Precision {precision!r} is not accepted; accepted: {', '.join(PRECISIONS)}.")
    return How(**{**values, "precision": precision})


def parse_memory(text: str) -> float:
    """Return megabytes: ``800``, ``800M`` or ``2G``."""
    m = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG]?)B?", text.strip(), re.IGNORECASE)
    if not m or float(m[1]) <= 0:
        raise RequestError(f"Memory limit {text!r} is not accepted; write megabytes, or 800M, 2G.")
    return float(m[1]) * (1024 if m[2].upper() == "G" else 1)


def check_device(device: str, here: bool = True) -> str:
    """Return ``device`` when it exists, and ``here`` on this machine; RequestError otherwise. Torch is only imported for a GPU."""
    if device == "cpu":
        return device
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise RequestError(f"Device {device!r} is not accepted; accepted: cpu, cuda, cuda:N.")
    if not here:
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) >= count:
        raise RequestError(f"Device {device!r} is not here: torch sees {count} GPUs; use --device cpu.")
    return device


RESERVED = ("task", "method", "seed", "draw", "prior_seed", "budget", "split", "limit")
"""Bare ``key=value`` words with these keys are the options of that name, so that a sweep can vary them; others are settings of the method."""


@dataclass(frozen=True)
class Asked:
    """What is to be run."""

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    draws: tuple[int, ...]
    budgets: tuple[str, ...]
    split: str
    limit: int | None
    overrides: dict[str, Any]
    prior_seeds: tuple[int, ...] = ()


def asked(
    words: Sequence[str],
    *,
    tasks: Sequence[str],
    methods: Sequence[str],
    seeds: Iterable[Sequence[int]],
    draws: Iterable[Sequence[int]],
    budgets: Sequence[str],
    split: str | None,
    limit: int | None,
    settings: Sequence[str],
    prior_seeds: Iterable[Sequence[int]] = (),
) -> Asked:
    """Merge options with bare ``key=value`` words; RequestError for a word that is neither, and for a setting given twice."""
    overrides: dict[str, Any] = {}
    more: dict[str, list[Any]] = {key: [] for key in RESERVED}
    for is_word, text in [*((True, w) for w in words), *((False, s) for s in settings)]:
        key, value = parse_assignment(text)
        if is_word and key in RESERVED:
            more[key] += value if isinstance(value, list) else [value]
        elif overrides.setdefault(key, value) != value:
            raise RequestError(f"Setting {key!r} is given twice, as {overrides[key]!r} and {value!r}; each can have one value.")
    numbers = {key: flat(Integers().convert(str(v), None, None) for v in more[key]) for key in ("seed", "draw", "prior_seed", "limit")}
    # an agent of a W&B sweep reads dev, as `scorebench sweep` does: nothing is chosen on test
    usual = "dev" if os.environ.get("WANDB_SWEEP_ID") else "test"
    splits = list(dict.fromkeys([*([split] if split else []), *map(str, more["split"])])) or [usual]
    limits = ([limit] if limit else []) + numbers["limit"]
    if len(splits) > 1 or len(limits) > 1:
        raise RequestError("--split and --limit take one value.")
    if splits[0] not in ("test", "dev"):
        raise RequestError(f"Split {splits[0]!r} is unknown; {hint(splits[0], ('test', 'dev'))}")
    if limits and limits[0] < 1:
        raise RequestError(f"--limit is {limits[0]}; accepted: 1 or more.")
    out = Asked(
        tasks=(*tasks, *map(str, more["task"])), methods=(*methods, *map(str, more["method"])),
        seeds=tuple(flat([*seeds, numbers["seed"]])) or (0,), draws=tuple(flat([*draws, numbers["draw"]])) or (0,),
        budgets=(*budgets, *map(str, more["budget"])), split=splits[0], limit=limits[0] if limits else None, overrides=overrides,
        prior_seeds=tuple(flat([*prior_seeds, numbers["prior_seed"]])),
    )  # fmt: skip
    for what, option, values in (("task", "-t", out.tasks), ("method", "-m", out.methods)):
        if not values:
            raise RequestError(f"No {what} was named; give one with {option} {what.upper()}, `scorebench list {what}s` shows all.")
    return out


def plugin_folders(include: Iterable[Path]) -> tuple[Path, ...]:
    """Include plug-in folders and return them, the defaults' too, for workers to include as well."""
    from .common import include_folders

    return tuple(include_folders(include))
