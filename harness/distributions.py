"""Parameters of a sweep: the distributions of the W&B sweep schema, checked, listed (grid) and drawn from (random).

Definitions follow the published schema and its documentation: https://docs.wandb.ai/models/sweeps/sweep-config-keys. No torch or numpy.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from ..configs.errors import nearest
from ..configs.loader import Document, Key

_RANGE, _STEP = ("min", "max"), {"q": 1.0}
_NORMAL, _BETA = {"mu": 0.0, "sigma": 1.0}, {"a": 1.0, "b": 1.0}
DISTRIBUTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "constant": (("value",), {}),
    "categorical": (("values",), {}),
    "categorical_w_probabilities": (("values", "probabilities"), {}),
    "int_uniform": (_RANGE, {}),
    "uniform": (_RANGE, {}),
    "q_uniform": (_RANGE, _STEP),
    "log_uniform": (_RANGE, {}),
    "log_uniform_values": (_RANGE, {}),
    "inv_log_uniform": (_RANGE, {}),
    "inv_log_uniform_values": (_RANGE, {}),
    "q_log_uniform": (_RANGE, _STEP),
    "q_log_uniform_values": (_RANGE, _STEP),
    "normal": ((), _NORMAL),
    "log_normal": ((), _NORMAL),
    "q_normal": ((), {**_NORMAL, **_STEP}),
    "q_log_normal": ((), {**_NORMAL, **_STEP}),
    "beta": ((), _BETA),
    "q_beta": ((), {**_BETA, **_STEP}),
}
"""Name: the keys it must have, and those it may have with their defaults."""
KEYS = ("value", "values", "probabilities", "min", "max", "q", "mu", "sigma", "a", "b", "distribution", "parameters")
DIGITS = 6
"""Significant digits of a number that is drawn: what a board shows of a variant is what was run."""


@dataclass(frozen=True)
class Parameter:
    """One parameter: its distribution and options, or, nested, the parameters inside it (its value is then a mapping)."""

    name: str
    distribution: str
    options: Mapping[str, Any] = field(default_factory=dict)
    inside: tuple[Parameter, ...] = ()

    def grid(self) -> list[Any] | None:
        """Return every value, None for a distribution that has no list of them."""
        o = self.options
        if self.distribution == "nested":
            out: list[dict[str, Any]] = [{}]
            for p in self.inside:
                values = p.grid()
                if values is None:
                    return None
                out = [{**d, p.name: v} for d in out for v in values]
            return out
        if self.distribution == "constant":
            return [o["value"]]
        if self.distribution == "categorical":
            return list(o["values"])
        if self.distribution == "int_uniform":
            return list(range(o["min"], o["max"] + 1))
        if self.distribution == "q_uniform":  # as W&B: min, min + q, ... below max
            count = max(0, math.ceil((o["max"] - o["min"]) / o["q"] - 1e-9))
            return [_step(o["min"] + k * o["q"], o["q"], keep=True) for k in range(count)]
        return None

    def draw(self, key: str) -> Any:
        """Return the value that ``key`` and the parameter's name stand for: the same on every machine, for every order of parameters."""
        if self.distribution == "nested":
            return {p.name: p.draw(f"{key}/{self.name}") for p in self.inside}
        chance = random.Random(f"{key}/{self.name}")
        o, kind = self.options, self.distribution
        if kind == "constant":
            return o["value"]
        if kind == "categorical":
            return o["values"][chance.randrange(len(o["values"]))]
        if kind == "categorical_w_probabilities":
            return chance.choices(o["values"], o["probabilities"])[0]
        if kind == "int_uniform":
            return chance.randint(o["min"], o["max"])
        return _draw_number(kind, o, chance)


def _draw_number(kind: str, o: Mapping[str, Any], chance: random.Random) -> float | int:
    base = kind.removeprefix("q_")
    if base == "uniform":
        x = chance.uniform(o["min"], o["max"])
    elif base == "log_uniform":  # bounds are exponents
        x = math.exp(chance.uniform(o["min"], o["max"]))
    elif base == "inv_log_uniform":  # log(1/x) is uniform between the bounds
        x = math.exp(-chance.uniform(o["min"], o["max"]))
    elif base in ("log_uniform_values", "inv_log_uniform_values"):  # x and 1/x have uniform logarithms together
        x = math.exp(chance.uniform(math.log(o["min"]), math.log(o["max"])))
    elif base == "beta":
        x = chance.betavariate(o["a"], o["b"])
    else:
        x = NormalDist().inv_cdf(min(max(chance.random(), 1e-12), 1 - 1e-12)) * o["sigma"] + o["mu"]
        x = math.exp(x) if base == "log_normal" else x
    return _step(x, o["q"]) if "q" in o else float(f"{x:.{DIGITS}g}")


def _step(x: float, q: float, keep: bool = False) -> float | int:
    """Round to a multiple of ``q`` (``keep``: only away from binary fractions); an integer step gives integers."""
    y = x if keep else round(x / q) * q
    return round(y) if isinstance(q, int) and float(y).is_integer() else float(f"{y:.10g}")


# ------------------------------------------------------------------ reading a declaration
def parse(doc: Document, name: str, data: Any, at: Key, depth: int = 0) -> Parameter:
    """Read one entry of ``parameters``; RequestError with file and line when it is wrong."""
    where = ".".join(str(k) for k in at)
    if not isinstance(data, dict):
        raise doc.error(f"'{where}' must be a mapping with value, values, min and max, or distribution, not {data!r}.", at)
    for key in data:
        if key not in KEYS:
            close = nearest(str(key), KEYS)
            hint = f"did you mean '{close[0]}'?" if close else f"accepted: {', '.join(KEYS)}."
            raise doc.error(f"unknown field '{where}.{key}'; {hint}", (*at, key))
    if "parameters" in data:
        if len(data) > 1 or not isinstance(data["parameters"], dict) or not data["parameters"]:
            raise doc.error(f"'{where}' is nested, so it holds 'parameters' (a mapping of at least one) and nothing else.", at)
        inner = (*at, "parameters")
        inside = tuple(parse(doc, str(k), v, (*inner, k), depth + 1) for k, v in data["parameters"].items())
        return Parameter(name, "nested", inside=inside)
    kind = data.get("distribution") or _guess(doc, data, at, where)
    if kind not in DISTRIBUTIONS:
        close = nearest(str(kind), DISTRIBUTIONS)
        hint = f"did you mean {close[0]}?" if close else f"accepted: {', '.join(DISTRIBUTIONS)}."
        raise doc.error(f"'{where}' has an unknown distribution {kind!r}; {hint}", (*at, "distribution"))
    required, defaults = DISTRIBUTIONS[kind]
    for key in required:
        if key not in data:
            raise doc.error(f"'{where}' ({kind}) lacks {key!r}; it needs {' and '.join(required)}.", at)
    for key in data:
        if key not in (*required, *defaults, "distribution"):
            raise doc.error(f"'{where}' ({kind}) does not take {key!r}; it takes {', '.join([*required, *defaults])}.", (*at, key))
    options = {**defaults, **{k: v for k, v in data.items() if k != "distribution"}}
    _check(doc, kind, options, at, where)
    return Parameter(name, kind, options)


def _guess(doc: Document, data: Mapping[str, Any], at: Key, where: str) -> str:
    """Return the distribution W&B takes where none is named."""
    if "value" in data:
        return "constant"
    if "values" in data:
        return "categorical_w_probabilities" if "probabilities" in data else "categorical"
    if "min" in data and "max" in data:
        return "int_uniform" if all(_is_int(data[k]) for k in _RANGE) else "uniform"
    if set(data) & {"min", "max"}:
        raise doc.error(f"'{where}' has only one of min and max; a range needs both.", at)
    raise doc.error(f"'{where}' says no values; give value, values, min and max, or a distribution with its own fields.", at)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(doc: Document, kind: str, o: Mapping[str, Any], at: Key, where: str) -> None:
    for key in ("values", "probabilities"):
        if key in o and (not isinstance(o[key], list) or not o[key]):
            raise doc.error(f"'{where}.{key}' must be a list of at least one, not {o[key]!r}.", (*at, key))
    for key in ("min", "max", "q", "mu", "sigma", "a", "b"):
        if key not in o:
            continue
        value = o[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            as_text = "; YAML takes 1e-3 for text, write 1.0e-3" if isinstance(value, str) else ""
            raise doc.error(f"'{where}.{key}' must be a number, not {value!r}{as_text}.", (*at, key))
        if kind == "int_uniform" and not _is_int(value):
            raise doc.error(f"'{where}.{key}' must be an integer for int_uniform, not {value!r}; use uniform.", (*at, key))
        if value <= 0 and (key in ("q", "a", "b") or (kind.endswith("_values") and key in _RANGE)):
            raise doc.error(f"'{where}.{key}' is {value}; {kind} needs more than 0.", (*at, key))
        if key == "sigma" and value < 0:
            raise doc.error(f"'{where}.sigma' is {value}; a standard deviation is at least 0.", (*at, key))
    if "min" in o and o["min"] >= o["max"] and not (kind == "int_uniform" and o["min"] == o["max"]):
        raise doc.error(f"'{where}' is an inverted or empty range: min {o['min']} is not less than max {o['max']}.", (*at, "min"))
    if "probabilities" in o:
        chances = o["probabilities"]
        if len(chances) != len(o["values"]):
            counts = f"{len(o['values'])} values and {len(chances)} probabilities"
            raise doc.error(f"'{where}' has {counts}; give one for each.", (*at, "probabilities"))
        wrong = any(isinstance(p, bool) or not isinstance(p, (int, float)) or p < 0 for p in chances)
        if wrong or not math.isclose(sum(chances), 1, abs_tol=1e-6):
            raise doc.error(f"'{where}.probabilities' must be at least 0 and sum to 1, not {chances!r}.", (*at, "probabilities"))


__all__ = ["DISTRIBUTIONS", "Parameter", "parse"]
