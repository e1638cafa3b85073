"""Priors and other shared components: `configs/priors/*.yaml` read and checked, and a card's ``needs`` resolved to their ids. No torch here.

A card says what a role needs, ``needs: {prior: {form: vp, cond: class, data: task}}``, or names a component, ``{prior: {id: digits}}``.
``data: task`` means the dataset of the task at hand. VP, VE, EDM and flow are forms of one network (`Prior.as_edm`, `Prior.as_flow`), so a
prior of any of them serves a need for any other; a conditional prior trained with label dropout serves an unconditional need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..configs.errors import RequestError, unknown
from ..configs.loader import HERE, Document, Field, Index, validate

if TYPE_CHECKING:
    from ..tasks.spec import TaskSpec

KINDS = ("exact", "trained", "external")
DIFFUSION_FORMS = ("vp", "ve", "edm", "flow")
FORMS = (*DIFFUSION_FORMS, "denoiser", "discrete", "latent", "classifier", "sensor")
CONDITIONS = ("none", "class", "caption")

FIELDS: dict[str, Field] = {
    "id": Field((str,), required=True),
    "title": Field((str,), required=True),
    "target": Field((str,), required=True, meaning="module:Class", check=lambda v: None if ":" in v else "must read 'module:Class'"),
    "kind": Field((str,), required=True, choices=KINDS),
    "form": Field((str,), required=True, choices=FORMS),
    "cond": Field((str,), default="none", choices=CONDITIONS),
    "data": Field((str,), required=True, meaning="the dataset it models"),
    "task": Field((str,), default=None, meaning="the task whose training set (clean) it is trained on; for trained ones"),
    "trains_on": Field((str,), default="clean"),
    "hparams": Field((dict,), default={}, meaning="arguments of the target"),
    "gflops": Field((int, float), default=0.0, meaning="training budget: samples x FLOPs"),
    "seed": Field((int,), default=0),
    "serves": Field((bool,), default=True, meaning="whether `needs` may resolve to it; otherwise only its id names it"),
    "notes": Field((str,), default=""),
}
NEED_KEYS = ("id", "form", "cond", "data", "kind")


@dataclass(frozen=True)
class PriorCard:
    """One component's declaration. See `FIELDS` for what each attribute means."""

    id: str
    title: str
    target: str
    kind: str
    form: str
    data: str
    cond: str = "none"
    task: str | None = None
    trains_on: str = "clean"
    hparams: Mapping[str, Any] = field(default_factory=dict)
    gflops: float = 0.0
    seed: int = 0
    serves: bool = True
    notes: str = ""
    path: Path = Path()
    folder: Path | None = None


def parse(doc: Document, folder: Path | None = None) -> PriorCard:
    """Check one declaration and freeze it; RequestError with file and line when a field is missing or wrong."""
    d = validate(doc, FIELDS)
    if d["kind"] == "trained":
        if not d["task"]:
            raise doc.error("field 'task' is missing (a trained component names the task whose training set it learns from).")
        if d["gflops"] <= 0:
            raise doc.error("field 'gflops' is missing (a trained component states its training budget).", ("gflops",))
    return PriorCard(**d, path=doc.path, folder=folder)


_FOLDERS: list[Path] = []


def include(folder: Path) -> None:
    """Add the declarations (``priors/*.yaml``) of a plug-in folder."""
    folder = folder.resolve()
    if folder not in _FOLDERS:
        _FOLDERS.append(folder)
        priors.cache_clear()


@lru_cache(maxsize=1)
def priors() -> dict[str, PriorCard]:
    """Return every declared prior and component by id."""
    found: list[tuple[Document, Path | None]] = [(doc, None) for doc in Index("priors").documents(sorted((HERE / "priors").glob("*.yaml")))]
    for plugin in _FOLDERS:
        found += [(doc, plugin) for doc in Index("plugins").documents(sorted((plugin / "priors").glob("*.yaml")))]
    out: dict[str, PriorCard] = {}
    for doc, folder in found:
        card = parse(doc, folder)
        if card.id in out:
            raise doc.error(f"prior id {card.id!r} is already declared in {out[card.id].path}; ids are unique.", ("id",))
        out[card.id] = card
    return out


def get(prior_id: str) -> PriorCard:
    """Return one declaration; RequestError with the nearest names when unknown."""
    known = priors()
    if prior_id not in known:
        raise unknown("prior", prior_id, known)
    return known[prior_id]


def resolve(role: str, need: Mapping[str, Any] | str, spec: TaskSpec, method: str = "?") -> str:
    """Return the id of the component that serves ``need`` (a mapping of id, form, cond, data, kind, or just an id) on a task.

    Among several the nearest wins: same form, then same conditioning, then the conditioning that the task asks by, then exact before trained
    before external, then the simpler conditioning; a tie is an error that names the candidates, since which prior is used must not depend on
    the order of files.
    """
    if isinstance(need, str):
        need = {"id": need}
    wrong = [k for k in need if k not in NEED_KEYS]
    if wrong:
        raise RequestError(f"Method {method!r}: needs.{role} has {wrong[0]!r}; accepted: {', '.join(NEED_KEYS)}.")
    if "id" in need:
        return get(need["id"]).id
    data = spec.dataset if need.get("data", "task") == "task" else need["data"]
    offered = [card for card in priors().values() if card.data == data and card.serves and _fits(card, need)]
    ranked = sorted((_distance(card, need, spec), card.id) for card in offered)
    if not ranked:
        asked = ", ".join(f"{k}: {v}" for k, v in need.items() if k != "data") or "anything"
        here = ", ".join(f"{c.id} (form {c.form}, cond {c.cond})" for c in priors().values() if c.data == data) or "none"
        raise RequestError(
            f"Method {method!r} needs a {role} on dataset {data!r} ({asked}) for task {spec.id}, and none is declared; there is: {here}. "
            "`scorebench list priors` shows all."
        )
    best = [i for distance, i in ranked if distance == ranked[0][0]]
    if len(best) > 1:
        raise RequestError(f"Method {method!r}: {' and '.join(best)} serve needs.{role} equally well on {spec.id}; name one with {{id: ...}}.")
    return best[0]


def _fits(card: PriorCard, need: Mapping[str, Any]) -> bool:
    form, cond = need.get("form"), need.get("cond", "none")
    if form is not None and form != card.form and not (form in DIFFUSION_FORMS and card.form in DIFFUSION_FORMS):
        return False
    return (cond == "none" or cond == card.cond) and need.get("kind") in (None, card.kind)


def _distance(card: PriorCard, need: Mapping[str, Any], spec: TaskSpec) -> tuple[int, ...]:
    cond = need.get("cond", "none")
    asked = "caption" if "caption" in spec.gives else "class" if "label" in spec.gives else "none"
    off = [int(need.get("form") not in (None, card.form)), int(card.cond != cond), int(card.cond != asked)]
    return (*off, KINDS.index(card.kind), CONDITIONS.index(card.cond))
