"""Sweeps: files in the W&B sweep schema (``configs/sweeps/*.yaml``, or anywhere), checked in full and planned up front.

    method: grid                                   # grid | random (needs run_cap) | bayes (for `wandb sweep` only)
    metric: {name: psnr, goal: maximize}           # what is chosen by; without it nothing is chosen
    parameters:
      task: {value: denoising/photos-gaussian25}   # task, method, seed, draw, prior_seed, budget, split, limit: what `scorebench run` calls so
      method: {values: [tv, nlm]}
      seed: {values: [0, 1, 2]}
      weight: {distribution: log_uniform_values, min: 0.01, max: 1.0}   # every other name: a hyper-parameter of the method
    run_cap: 20
    command: [scorebench, run, "${args_no_hyphens}"]

A sweep reads the dev split. A grid without ``metric``, of which nothing is chosen, may say ``split: {value: test}``: it is a benchmark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

from ..configs.errors import RequestError, unknown
from ..configs.loader import HERE, Document, Field, read, validate
from .distributions import Parameter
from .distributions import parse as parse_parameter
from .values import parse_value, same

FOLDER = HERE / "sweeps"
RESERVED = ("task", "method", "seed", "draw", "prior_seed", "budget", "split", "limit")
"""Parameters that say what is run; the others are hyper-parameters of the method."""
LARGEST = 1_000_000
"""Configurations a grid may have."""
_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*"

FIELDS: dict[str, Field] = {
    "method": Field((str,), required=True, choices=("grid", "random", "bayes"), meaning="the search: grid, random or bayes"),
    "parameters": Field((dict,), required=True, check=lambda v: None if v else "must hold at least task and method"),
    "metric": Field((dict,), meaning="name and goal (minimize or maximize) of what is chosen by"),
    "run_cap": Field((int,), check=lambda v: None if v > 0 else f"is {v}; accepted: 1 or more"),
    "early_terminate": Field((dict,)),
    "command": Field((list,), meaning='[scorebench, run, "${args_no_hyphens}"]'),
    "name": Field((str,), default=""),
    "description": Field((str,), default=""),
    "program": Field((str,)),
    "project": Field((str,)),
    "entity": Field((str,)),
    "apiVersion": Field((str,)),
    "kind": Field((str,), choices=("sweep",)),
    "controller": Field((dict,)),
}
METRIC: dict[str, Field] = {
    "name": Field((str,), required=True),
    "goal": Field((str,), choices=("minimize", "maximize")),
    "target": Field((int, float)),
    "impute": Field((str,), choices=("latest", "best", "worst")),
    "impute_while_running": Field((str,), choices=("latest", "best", "worst", "false")),
}
STOPPING: dict[str, Field] = {
    "type": Field((str,), required=True, choices=("hyperband",)),
    "min_iter": Field((int,), check=lambda v: None if v > 0 else f"is {v}; accepted: 1 or more"),
    "max_iter": Field((int,), check=lambda v: None if v > 0 else f"is {v}; accepted: 1 or more"),
    "s": Field((int, float)),
    "eta": Field((int, float), check=lambda v: None if v > 1 else f"is {v}; accepted: more than 1"),
    "strict": Field((bool,)),
}

Configuration = dict[str, Any]
"""One point of the search: a value for every parameter."""


@dataclass(frozen=True)
class Sweep:
    """A sweep's declaration, checked. ``metric`` None: nothing is chosen. ``tasks`` and ``methods`` are what its points can name."""

    doc: Document
    search: str
    parameters: tuple[Parameter, ...]
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    split: str = "dev"
    metric: str | None = None
    maximize: bool = False
    run_cap: int | None = None
    early: Mapping[str, Any] | None = None
    command: tuple[str, ...] = ()
    title: str = ""
    notes: str = field(default="", repr=False)

    @property
    def id(self) -> str:
        return self.doc.path.stem

    def size(self) -> int:
        """Return how many configurations are planned."""
        if self.search != "grid":
            return self.run_cap or 0
        full = math.prod(len(p.grid() or ()) for p in self.parameters)
        return min(full, self.run_cap or full)

    def configurations(self, seed: int = 0) -> list[Configuration]:
        """Return the points of the search, all known up front: a grid's in the order of its parameters, else ``run_cap`` seeded draws.

        A larger ``run_cap`` only adds points. RequestError for what needs W&B's server.
        """
        if self.search == "bayes":
            raise self.doc.error(
                "a bayes search is led by W&B, which sees each result before it names the next point; start it with "
                f"`wandb sweep {self.doc.path}` and `wandb agent`, or choose method: random here.", ("method",),
            )  # fmt: skip
        if self.early is not None:
            raise self.doc.error(
                f"early_terminate is decided by W&B; start it with `wandb sweep {self.doc.path}`, or leave early_terminate out to run it here.",
                ("early_terminate",),
            )
        names = [p.name for p in self.parameters]
        if self.search == "grid":
            points = product(*(p.grid() or () for p in self.parameters))
            return [dict(zip(names, point, strict=True)) for point in islice(points, self.run_cap)]
        return [{p.name: p.draw(f"{seed}/{number}") for p in self.parameters} for number in range(self.run_cap or 0)]


# ------------------------------------------------------------------ reading
def known() -> dict[str, Path]:
    """Return the shipped sweeps by id (the file's name without .yaml)."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def get(name: str) -> Sweep:
    """Return a sweep by file or by the id of a shipped one; RequestError when it is unknown or wrong."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return parse(read(path))
    shipped = known()
    if name not in shipped:
        raise unknown("sweep", name, shipped)
    return parse(read(shipped[name]))


def parse(doc: Document) -> Sweep:
    """Check a sweep in full but for the names of hyper-parameters (`check_settings` does that, which must import the methods)."""
    d = validate(doc, FIELDS)
    parameters = []
    for name, data in d["parameters"].items():
        at = ("parameters", str(name))
        if not re.fullmatch(_NAME, str(name)):
            raise doc.error(f"parameter {name!r} is no name; accepted: letters, digits, '_', '.', '-', starting with a letter.", at)
        parameters.append(parse_parameter(doc, str(name), data, at))
    _check_search(doc, d, parameters)
    by_name = {p.name: p for p in parameters}
    tasks = _tasks(doc, by_name)
    methods = _methods(doc, by_name, tasks)
    _check_budgets(doc, by_name, tasks)
    for name in ("seed", "draw", "prior_seed", "limit"):
        _check_integers(doc, by_name.get(name))
    for p in parameters:
        _check_rereads(doc, p, ("parameters", p.name))
    metric, maximize = _metric(doc, d["metric"], tasks)
    split = _split(doc, by_name.get("split"), d, tasks)
    if d["early_terminate"] is not None:
        early = validate(doc, STOPPING, ("early_terminate",))
        if early["min_iter"] is None and (early["max_iter"] is None or early["s"] is None):
            raise doc.error("'early_terminate' needs min_iter, or max_iter and s.", ("early_terminate",))
        if metric is None:
            raise doc.error("'early_terminate' needs a metric to stop by.", ("early_terminate",))
    _check_command(doc, d["command"])
    return Sweep(
        doc, d["method"], tuple(parameters), tasks, methods, split, metric, maximize, d["run_cap"], d["early_terminate"],
        tuple(map(str, d["command"] or ())), d["name"] or doc.path.stem, d["description"],
    )  # fmt: skip


def _check_search(doc: Document, d: Mapping[str, Any], parameters: list[Parameter]) -> None:
    for p in parameters:
        at = ("parameters", p.name)
        if p.name in RESERVED and p.distribution not in ("constant", "categorical", "categorical_w_probabilities", "int_uniform"):
            raise doc.error(f"parameter '{p.name}' is {p.distribution}; accepted: value, values, or a range of integers.", at)
        if d["method"] == "grid" and p.grid() is None:
            raise doc.error(f"a grid needs a list, and '{p.name}' is {p.distribution}; give values, or choose method: random.", at)
        if d["method"] == "grid" and not p.grid():
            raise doc.error(f"parameter '{p.name}' has no value between its bounds.", at)
    size = math.prod(len(p.grid() or ()) for p in parameters) if d["method"] == "grid" else 0
    if size > LARGEST and not d["run_cap"]:
        raise doc.error(f"the grid has {size:,} points; at most {LARGEST:,} are planned, so give run_cap or fewer values.", ("parameters",))
    if d["method"] == "random" and d["run_cap"] is None:
        raise doc.error("a random search never ends by itself; say how many points with run_cap.", ("method",))
    if d["method"] == "bayes" and d["metric"] is None:
        raise doc.error("a bayes search needs a metric.", ("method",))


def _values(p: Parameter | None) -> list[Any]:
    return [] if p is None else p.grid() or list(p.options.get("values", ()))


def _tasks(doc: Document, by_name: Mapping[str, Parameter]) -> tuple[str, ...]:
    from ..tasks import registry

    if "task" not in by_name:
        raise doc.error("parameter 'task' is missing; say what is asked, e.g. task: {value: denoising/photos-gaussian25}.", ("parameters",))
    try:
        return tuple(registry.match([str(v) for v in _values(by_name["task"])]))
    except RequestError as e:
        raise doc.error(str(e), ("parameters", "task")) from None


def _methods(doc: Document, by_name: Mapping[str, Parameter], tasks: tuple[str, ...]) -> tuple[str, ...]:
    from ..baselines import card

    if "method" not in by_name:
        raise doc.error("parameter 'method' is missing; a sweep says who answers, e.g. method: {values: [tv, nlm]}.", ("parameters",))
    from ..tasks.registry import get_spec

    names = tuple(str(v) for v in _values(by_name["method"]))
    for text in names:
        try:
            variant = card.parse_variant(text)
            found = card.get(variant.method)
            found.preset(variant.preset, tasks[0])
        except RequestError as e:
            raise doc.error(str(e), ("parameters", "method")) from None
        if not any(found.answers(t, get_spec(t).ability) for t in tasks):
            raise doc.error(f"method {text!r} can answer none of the sweep's tasks ({', '.join(tasks)}).", ("parameters", "method"))
    return names


def _check_budgets(doc: Document, by_name: Mapping[str, Parameter], tasks: tuple[str, ...]) -> None:
    from ..tasks.registry import get_spec

    for value in _values(by_name.get("budget")):
        for task in tasks:
            budgets = get_spec(task).budgets
            if value not in (*budgets, "all", "default"):
                raise doc.error(f"task {task} has no budget {value!r}; accepted: {', '.join([*budgets, 'all'])}.", ("parameters", "budget"))


def _check_integers(doc: Document, p: Parameter | None) -> None:
    least = 1 if p is not None and p.name == "limit" else 0
    for value in _values(p):
        ok = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not ok and not (p is not None and p.name != "limit" and isinstance(value, str) and re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", value)):
            assert p is not None
            raise doc.error(f"{p.name} {value!r} is not accepted; accepted: integers of at least {least}.", ("parameters", p.name))


def _check_rereads(doc: Document, p: Parameter, at: tuple[str, ...]) -> None:
    """A W&B agent hands over str(value): what `scorebench run` reads must be the value written here."""
    for inner in p.inside:
        _check_rereads(doc, inner, (*at, "parameters", inner.name))
    for value in _values(p) if not p.inside else ():
        try:
            ok = same(parse_value(str(value)), value) or p.name in ("seed", "draw", "prior_seed")
        except RequestError:
            ok = False
        if not ok:
            raise doc.error(f"the value {value!r} of '{p.name}' would be read as another on a W&B agent's command line ({value}).", at)


def _metric(doc: Document, data: Any, tasks: tuple[str, ...]) -> tuple[str | None, bool]:
    from ..tasks.metrics import registry as metrics
    from ..tasks.registry import get_spec

    if data is None:
        return None, False
    d = validate(doc, METRIC, ("metric",))
    for task in tasks:
        has = get_spec(task).metrics
        if d["name"] not in has:
            raise doc.error(f"task {task} does not have the metric {d['name']!r}; it has {', '.join(has)}.", ("metric", "name"))
    higher = metrics.info(d["name"]).higher_is_better
    right = "maximize" if higher else "minimize"
    if (d["goal"] or "minimize") != right:
        said = f"goal {d['goal']}" if d["goal"] else "no goal, and W&B minimizes then"
        better = f"{d['name']} is better when {'higher' if higher else 'lower'}"
        raise doc.error(f"{better}, and the file says {said}; write goal: {right}.", ("metric",))
    return d["name"], higher


def _split(doc: Document, p: Parameter | None, d: Mapping[str, Any], tasks: tuple[str, ...]) -> str:
    from ..tasks.registry import get_spec

    at = ("parameters", "split")
    values = _values(p) if p is not None else ["dev"]
    if len(values) != 1 or values[0] not in ("dev", "test"):
        raise doc.error(f"split is {values!r}; accepted: one value, dev or test.", at)
    split = str(values[0])
    if split == "test" and (d["method"] != "grid" or d["metric"] is not None or d["early_terminate"] is not None):
        raise doc.error(
            "a sweep that chooses reads the dev split, since nothing is chosen on test data; leave split out. "
            "Only a grid without metric, of which nothing is chosen, may be run on test.", at,
        )  # fmt: skip
    for task in tasks:
        if split not in get_spec(task).splits:
            has = ", ".join(get_spec(task).splits)
            raise doc.error(f"task {task} has no split {split!r}; it has {has}.", at if p else ("parameters", "task"))
    return split


WHAT = ("-t", "--task", "-m", "--method", "-s", "--seed", "--draw", "--prior-seed", "--budget", "--set", "--split", "--limit")


def _check_command(doc: Document, command: list[Any] | None) -> None:
    """An agent must run what `scorebench sweep` runs: `scorebench run` with the parameters as bare words."""
    if command is None:
        return
    words = [str(w) for w in command]
    text = " ".join(words)
    if "${args_no_hyphens}" not in words or not re.search(r"\bscorebench run\b", text):
        raise doc.error('\'command\' must run the same as `scorebench sweep`: [scorebench, run, "${args_no_hyphens}"].', ("command",))
    for word in words:
        if word.split("=")[0] in WHAT:
            raise doc.error(f"'command' says what is run ({word}); that belongs to the parameters, for `scorebench sweep` too.", ("command",))


# ------------------------------------------------------------------ hyper-parameters
def check_settings(sweep: Sweep) -> None:
    """Check that every hyper-parameter belongs to every method of the sweep (this imports them); RequestError with file and line."""
    from ..baselines import card as cards
    from ..baselines.registry import hyper_parameters, method_class
    from ..tasks.registry import get_spec

    for text in dict.fromkeys(sweep.methods):
        variant = cards.parse_variant(text)
        card = cards.get(variant.method)
        task = next(t for t in sweep.tasks if card.answers(t, get_spec(t).ability))
        cls = method_class(card)
        for p in sweep.parameters:
            if p.name in RESERVED or p.name in card.needs:
                continue
            try:
                hyper_parameters(card, cls, variant.preset, task, {p.name: None})
            except RequestError as e:
                if "has no hyper-parameter" in str(e):
                    reason = str(e).replace(" (from --set)", "")
                    raise sweep.doc.error(reason, ("parameters", p.name)) from None


__all__ = ["FOLDER", "RESERVED", "Configuration", "Sweep", "check_settings", "get", "known", "parse"]
