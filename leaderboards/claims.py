"""Claims: what a paper says, as an inequality that records can support or contradict. Here: how a card writes them, checked.

    claims:
      - id: deblur-over-tv
        statement: "On blurred photographs DPIR beats TV by over 0.5 dB."   # the paper's, in words
        where: "Table 2"                    # where it stands
        task: inverse/photos-deblur         # an id, a glob, or a list of them
        over: each                          # of several tasks or budgets: must hold on `each` (default), or in the `median`
        budget: nfe10                       # of the task; a list, or `all`; default: the task's first
        metric: psnr                        # of the task, a cost (nfe, ...), or ID/diagnostic (method/...: its own); default: the primary
        left: dpir                          # a variant, or a slope: {slope: [v1, v2, v3], x: [1, 2, 3], log: true}
        op: ">"                             # > >= < <=
        right: tv-fista                     # a variant, a number, or a slope
        by: 0.5                             # how far left must lie beyond right, in the metric's unit; negative: may fall behind
        ratio: 2                            # left op 2 x right
        scale: embedded                     # embedded (default) | protocol: the paper's data, sizes and training
        parity: none                        # none (default) | official weights | official code
        notes: text                         # free words for the reader

Where that grammar fails, ``check: module:function`` names a function of the records (see `evidence.checked`), and ``unchecked: reason`` says
why a statement has no check. `evidence.evaluate` finds the verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..configs.errors import nearest
from ..configs.loader import Document, Field, validate
from .record import COST

OPERATORS = (">", ">=", "<", "<=")
SCALES = ("embedded", "protocol")
PARITIES = ("none", "official weights", "official code")
VERDICTS = ("supported", "contradicted", "inconclusive", "not-run")

NUMBER = (int, float)
FIELDS: dict[str, Field] = {
    "id": Field((str,), required=True, meaning="short, unique within the card"),
    "statement": Field((str,), required=True, meaning="the claim in words"),
    "where": Field((str,), default="", meaning="where in the paper"),
    "task": Field((str, list), meaning="task id, glob, or a list of them"),
    "over": Field((str,), default="each", choices=("each", "median")),
    "budget": Field((str, list), meaning="budget of the task, a list, or all"),
    "metric": Field((str,), meaning="a metric of the task, a cost, or method/diagnostic"),
    "left": Field((str, dict), meaning="variant, or {slope, x}"),
    "op": Field((str,), choices=OPERATORS),
    "right": Field((str, dict, *NUMBER), meaning="variant, number, or {slope, x}"),
    "by": Field(NUMBER, default=0.0),
    "ratio": Field(NUMBER, default=1.0),
    "scale": Field((str,), default="embedded", choices=SCALES),
    "parity": Field((str,), default="none", choices=PARITIES),
    "check": Field((str,), meaning="module:function", check=lambda v: None if ":" in v else "must read 'module:function'"),
    "unchecked": Field((str,), meaning="why there is no check"),
    "notes": Field((str,), default=""),
}
SLOPE: dict[str, Field] = {
    "slope": Field((list,), required=True, meaning="variants, or budgets where `of` names the variant"),
    "x": Field((list,), required=True, meaning="one number per entry of slope"),
    "of": Field((str,), meaning="the variant whose budgets `slope` lists"),
    "log": Field((bool,), default=False, meaning="both axes as natural logarithms: the slope is an order"),
}


@dataclass(frozen=True)
class Slope:
    """The least-squares slope of a metric over ``x``; ``points`` are (variant, budget), budget None for the claim's own."""

    points: tuple[tuple[str, str | None], ...]
    x: tuple[float, ...]
    log: bool

    def __str__(self) -> str:
        variants = list(dict.fromkeys(v for v, _ in self.points))
        over = [b for _, b in self.points if b] or variants
        return f"{'log-log ' if self.log else ''}slope of {variants[0] + ' ' if len(variants) == 1 else ''}over {', '.join(map(str, over))}"


Side = str | float | Slope


@dataclass(frozen=True)
class Claim:
    """One claim of one method's card; the fields are those of `FIELDS`."""

    method: str
    id: str
    statement: str
    tasks: tuple[str, ...] = ()
    over: str = "each"
    budgets: tuple[str, ...] = ()
    metric: str | None = None
    left: Side | None = None
    op: str | None = None
    right: Side | None = None
    by: float = 0.0
    ratio: float = 1.0
    where: str = ""
    scale: str = "embedded"
    parity: str = "none"
    check: str | None = None
    unchecked: str = ""
    notes: str = ""
    path: Path = Path()
    folder: Path | None = None
    number: int = 0

    @property
    def upward(self) -> bool:
        """Whether the claim is that left lies above right."""
        return self.op in (">", ">=")

    @property
    def may_contradict(self) -> bool:
        """Whether evidence against it contradicts it: at the protocol's scale, or with the official weights or code."""
        return self.scale == "protocol" or self.parity != "none"

    @property
    def inequality(self) -> str:
        """The claim as it is tested, e.g. ``dpir > tv-fista + 0.5 (psnr)``; empty where it is not an inequality."""
        if self.op is None:
            return ""
        right = f"{self.right:g}" if isinstance(self.right, NUMBER) else str(self.right)
        right = f"{self.ratio:g} x {right}" if self.ratio != 1 else right
        offset = self.by if self.upward else -self.by
        right += f" {'+' if offset > 0 else '-'} {abs(offset):g}" if offset else ""
        return f"{self.left} {self.op} {right} ({self.metric or 'primary metric'})"

    def variants(self) -> list[str]:
        """Return the variants it names."""
        out: list[str] = []
        for side in (self.left, self.right):
            out += [side] if isinstance(side, str) else [v for v, _ in side.points] if isinstance(side, Slope) else []
        return list(dict.fromkeys(out))


def parse(raw: Sequence[Any], path: Path, method: str, folder: Path | None = None) -> tuple[Claim, ...]:
    """Check the ``claims`` of the card of ``method`` at ``path``; RequestError with file, line and reason when one is wrong."""
    doc = Document(path, {"claims": list(raw)})
    out: list[Claim] = []
    for k, entry in enumerate(raw):
        if not isinstance(entry, Mapping):
            raise doc.error(f"claim {k + 1} must be a mapping with id and statement, not {entry!r}.", ("claims", k))
        claim = _one(doc, k, method, folder)
        if claim.id in {c.id for c in out}:
            raise doc.error(f"claim id {claim.id!r} is used twice; ids are unique within a card.", ("claims", k, "id"))
        out.append(claim)
    return tuple(out)


def _one(doc: Document, k: int, method: str, folder: Path | None) -> Claim:
    at = ("claims", k)
    d = validate(doc, FIELDS, at)
    raw = doc.data["claims"][k]
    if (d["metric"] or "").startswith("method/"):  # the card's own method
        d["metric"] = method + d["metric"].removeprefix("method")
    there = {"left op right": "op" in raw or "left" in raw, "check": d["check"], "unchecked": d["unchecked"]}
    kinds = [name for name, given in there.items() if given]
    if len(kinds) != 1:
        found = f"has {' and '.join(kinds)}" if kinds else "says neither"
        raise doc.error(f"claim {d['id']!r} {found}; accepted: one of left/op/right, check: module:function, unchecked: reason.", at)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", d["id"]):
        raise doc.error(f"claim id {d['id']!r} is not accepted; accepted: lower-case letters, digits, '-', '.', '+'.", (*at, "id"))
    lists: dict[str, tuple[str, ...]] = {}
    for name in ("task", "budget"):
        values = [] if d[name] is None else [d[name]] if isinstance(d[name], str) else d[name]
        if any(not isinstance(v, str) for v in values) or (d[name] is not None and not values):
            raise doc.error(f"field '{name}' of claim {d['id']!r} must be an id or a list of ids, not {d[name]!r}.", (*at, name))
        lists[name] = tuple(values)
    left: Side | None = None
    right: Side | None = None
    if kinds == ["left op right"]:
        for name in ("task", "left", "op", "right"):
            if d[name] is None:
                raise doc.error(f"claim {d['id']!r} has no {name!r}; an inequality needs task, left, op and right.", at)
        left, right = (_side(doc, (*at, name), raw[name]) for name in ("left", "right"))
        if left == right and d["by"] == 0 and d["ratio"] == 1:
            raise doc.error(f"claim {d['id']!r} compares {left} with itself.", (*at, "right"))
        _diagnostic(doc, at, d, method, left, right)
    return Claim(
        method, d["id"], " ".join(d["statement"].split()), lists["task"], d["over"], lists["budget"], d["metric"], left, d["op"], right,
        float(d["by"]), float(d["ratio"]), d["where"], d["scale"], d["parity"], d["check"], d["unchecked"] or "", d["notes"],
        doc.path, folder, k,
    )  # fmt: skip


def _side(doc: Document, key: tuple[str | int, ...], value: Any) -> Side:
    if isinstance(value, str):
        return value.removesuffix("[default]")
    if isinstance(value, NUMBER):
        return float(value)
    d = validate(doc, SLOPE, key)
    numbers = [v for v in d["x"] if isinstance(v, NUMBER) and not isinstance(v, bool)]
    if len(numbers) != len(d["x"]) or len(d["x"]) != len(d["slope"]) or len(set(numbers)) < 2:
        raise doc.error(f"field 'x' must hold one number per entry of slope ({len(d['slope'])}), at least two of them different.", (*key, "x"))
    if d["log"] and min(numbers) <= 0:
        raise doc.error("field 'x' must be above 0 for a slope of logarithms.", (*key, "x"))
    names = [str(v) for v in d["slope"]]
    points = tuple((d["of"], n) for n in names) if d["of"] else tuple((n.removesuffix("[default]"), None) for n in names)
    return Slope(points, tuple(float(v) for v in numbers), d["log"])


def _diagnostic(doc: Document, at: tuple[str | int, ...], d: Mapping[str, Any], method: str, left: Side, right: Side) -> None:
    """A diagnostic belongs to one method, so only that method's variants (and numbers) can be compared by it."""
    owner, slash, _ = (d["metric"] or "").partition("/")
    if not slash:
        return
    claim = Claim(method, "", "", left=left, right=right)
    for variant in claim.variants():
        if variant.partition("[")[0] != owner:
            raise doc.error(f"{d['metric']!r} is a diagnostic of {owner}; {variant} has none of that name to compare.", (*at, "metric"))


def resolve(claim: Claim, tasks: Mapping[str, Mapping[str, Any]], variant_problem: Callable[[str], str | None]) -> tuple[str, ...]:
    """Return the ids of the tasks a claim is about; RequestError with file and line for a task, budget, metric or variant that does not exist.

    ``tasks``: every task's declaration by id. ``variant_problem`` says what is wrong with a variant's name, None when nothing is.
    """
    doc = Document(claim.path, {})
    at = ("claims", claim.number)
    found: list[str] = []
    for k, pattern in enumerate(claim.tasks):
        hits = [t for t in tasks if fnmatchcase(t, pattern) or t.split("/")[0] == pattern]
        if not hits:
            close = nearest(pattern, tasks)
            hint = f"did you mean {' or '.join(close)}?" if close else "`scorebench list tasks` shows all."
            raise doc.error(f"claim {claim.id!r} names the unknown task {pattern!r}; {hint}", (*at, "task", k))
        found += [t for t in hits if t not in found]
    for task in found:
        meta = tasks[task]
        named = [*claim.budgets, *(b for s in (claim.left, claim.right) if isinstance(s, Slope) for _, b in s.points if b)]
        for budget in named:
            if budget != "all" and budget not in meta["budgets"]:
                accepted = ", ".join([*meta["budgets"], "all"])
                raise doc.error(f"claim {claim.id!r}: {task} has no budget {budget!r}; accepted: {accepted}.", (*at, "budget"))
        metric = claim.metric
        if metric is not None and "/" not in metric and metric not in meta["metrics"] and metric not in COST:
            accepted = f"{', '.join(meta['metrics'])}, a cost ({', '.join(COST[:7])}, ...) or method/diagnostic"
            raise doc.error(f"claim {claim.id!r}: {task} has no metric {metric!r}; accepted: {accepted}.", (*at, "metric"))
    for side in ("left", "right"):
        value = getattr(claim, side)
        for variant in Claim(claim.method, "", "", left=value).variants():
            if (problem := variant_problem(variant)) is not None:
                raise doc.error(f"claim {claim.id!r}: {problem}", (*at, side))
    return tuple(found)
