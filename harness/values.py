"""Values of settings written as text: on the command line, and by a W&B agent, which writes ``key=str(value)``."""

from __future__ import annotations

import ast
import re
from typing import Any

from ..configs.errors import RequestError


def parse_value(text: str) -> Any:
    """Return the value that ``text`` means in YAML or as Python writes it: 3 is a number, true and True truth values, None is null, [1, 2] a
    list, {'a': 1e-05} a mapping, everything else text."""
    import yaml

    if re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", text):
        return float(text)  # YAML 1.1 takes 1e-3 for text
    if text == "None":
        return None
    if text[:1] in ("[", "{", "("):
        try:
            return ast.literal_eval(text)  # what str() made of a list or a mapping, 1e-05 in it included
        except (ValueError, SyntaxError):
            pass  # YAML's own way of writing them is read below
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise RequestError(f"{text!r} is not a value in YAML; quote it, or write a number, true, false, text, or [a, b].") from None


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal in value and type, inside lists and mappings too (1 and True, or 1 and 1.0, are not)."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b
