"""From a card to a class: the one place where method, prior and component targets are loaded."""

from __future__ import annotations

import inspect
import math
from typing import Any

from ..configs.errors import RequestError
from ..configs.loader import load_object
from .card import Card
from .method import Method, abilities_of


def method_class(card: Card) -> type[Method]:
    """Return the class a card's target names; RequestError when it is not a Method or lacks a declared ability."""
    cls = load_object(card.target, card.folder)
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise RequestError(f"{card.path}: target {card.target!r} is not a subclass of scorebench.Method.")
    missing = set(card.abilities) - abilities_of(cls)
    if missing:
        raise RequestError(f"{card.path}: the card declares {', '.join(sorted(missing))}, but {cls.__name__} does not implement it.")
    return cls


def hyper_parameters(card: Card, cls: type[Method], preset: str, task_id: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Resolve every hyper-parameter: the constructor's defaults, the preset's, then ``overrides``; unknown names are refused."""
    signature = inspect.signature(cls.__init__)
    roles = {*card.needs, "data", "budget", "self"}
    accepted = {
        n: p.default for n, p in signature.parameters.items()
        if n not in roles and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }  # fmt: skip
    out = {n: d for n, d in accepted.items() if d is not inspect.Parameter.empty}
    for source, values in (("preset", card.preset(preset, task_id)), ("--set", overrides)):
        for name, value in values.items():
            if name not in accepted:
                raise RequestError(
                    f"Method {card.id!r} has no hyper-parameter {name!r} (from {source}); accepted: {', '.join(accepted) or 'none'}."
                )
            out[name] = value
    if endless := [n for n, v in out.items() if isinstance(v, float) and not math.isfinite(v)]:
        raise RequestError(
            f"Method {card.id!r}: hyper-parameter {endless[0]!r} is {out[endless[0]]}, which a record cannot hold; accepted: finite numbers "
            "(a method may take null for an infinite one)."
        )
    missing = [n for n in accepted if n not in out]
    if missing:
        raise RequestError(f"Method {card.id!r} needs a value for {', '.join(missing)}; give it with --set {missing[0]}=VALUE.")
    return out
