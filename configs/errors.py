"""The tree of errors a user can meet. Every message is one sentence: what was wrong, what is accepted, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FAILURES = ("error", "timeout", "out-of-memory", "not-finite", "over-budget", "wrong-output", "crashed")
"""The kinds of failure a record can carry."""


class ScorebenchError(Exception):
    """Base of all errors that are shown without a traceback."""

    exit_code = 1


class RequestError(ScorebenchError):
    """The request was wrong (unknown id, bad value, missing field): exit code 2."""

    exit_code = 2


class DataMissing(RequestError):
    """Data (or weights) that the request needs are not on this machine; the message says where to get and put them."""


class RunError(ScorebenchError):
    """A unit ran and failed. ``kind`` is one of `FAILURES`."""

    def __init__(self, message: str, kind: str = "error") -> None:
        if kind not in FAILURES:
            raise ValueError(f"unknown failure kind {kind!r}; accepted: {', '.join(FAILURES)}")
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return (RunError, (str(self), self.kind))


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Return up to ``n`` of the ``known`` names nearest to ``name`` (shared substrings first, then by spelling)."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=n, cutoff=0.5)
    inside = [k for k in names if name and (name.lower() in k.lower() or k.lower() in name.lower())]
    tail = [k for k in names if k.split("/")[-1] in difflib.get_close_matches(name.split("/")[-1], [k.split("/")[-1]], 1, 0.6)]
    return list(dict.fromkeys([*close, *inside, *tail]))[:n]


def unknown(kind: str, name: str, known: Iterable[str], plural: str | None = None) -> RequestError:
    """Build the error for an unknown id, with the nearest known names and the command that lists all."""
    known = list(known)
    close = nearest(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known)[:12])}."
    listing = f" `scorebench list {plural or kind + 's'}` shows all." if kind in _LISTED else ""
    return RequestError(f"Unknown {kind} {name!r}; {hint}{listing}")


_LISTED = {"task", "method", "dataset", "prior", "metric", "sweep", "suite", "table"}
