"""Planning: from ids, variants, seeds and draws to units with everything resolved and hashed; what is done already is dropped."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..baselines import card as cards
from ..baselines import components
from ..baselines.card import Card, Variant
from ..baselines.registry import hyper_parameters, method_class
from ..configs.errors import DataMissing, RequestError, nearest
from ..datasets import registry as datasets
from ..tasks import registry as tasks
from ..tasks.metrics import registry as metrics
from . import artifacts as stored
from .closure import HARNESS, Closure, code_hash, flush
from .done import undone as undone
from .identity import FileHashes, Series, content_id, resolve_files
from .unit import ArtifactRef, Unit

if TYPE_CHECKING:
    from ..tasks.base import Task


@dataclass(frozen=True)
class Skipped:
    """A cell of the plan that cannot be run, and why."""

    task: str
    variant: str
    reason: str


def plan(
    tasks_: Sequence[str],
    variants: Sequence[Variant | str],
    *,
    seeds: Sequence[int] = (0,),
    draws: Sequence[int] = (0,),
    budgets: Sequence[str] | None = None,
    split: str = "test",
    overrides: Mapping[str, Any] | None = None,
    limit: int | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    precision: str = "32",
    threads: int = 1,
    pins: bool = True,
    prior_seeds: Sequence[int] = (),
    skipped: list[Skipped] | None = None,
) -> list[Unit]:
    """Expand tasks x budgets x variants x seeds x draws into units, in that order, each once.

    ``tasks_`` are ids, families or globs; ``overrides`` (``--set``) are added to every variant. ``budgets`` None (or ``default`` where a task
    has no track of that name) means: every track of the task for methods that use one, the smallest for the others, whose record enters
    every larger track. A variant whose card says ``stochastic: none`` is run with seed 0 alone, whichever seeds are asked for.
    ``prior_seeds``: other trainings of the trained components a method is handed, besides its own seeds (none: as declared). An override with
    the name of a role names the component that fills it (``--set prior=ID``).

    RequestError for an unknown name, a bad value, or a method that cannot answer a task; with a list ``skipped`` such cells, and those whose
    data are missing, are put there instead.
    """
    _check(seeds=seeds, draws=draws, limit=limit, batch_size=batch_size, threads=threads)
    if prior_seeds:
        _check(seeds=prior_seeds, draws=(0,), limit=None, batch_size=None, threads=1)
    for folder in cards.included():
        components.include(folder)
    planner = Planner(split, limit, batch_size, device, precision, threads, pins)
    chosen = [v if isinstance(v, Variant) else cards.parse_variant(v) for v in variants]
    if not chosen:
        raise RequestError("No method was named; give one with -m METHOD, `scorebench list methods` shows all.")
    if overrides:
        chosen = [Variant(v.method, v.preset, tuple(sorted({**dict(v.overrides), **overrides}.items()))) for v in chosen]
    units: dict[str, Unit] = {}
    try:
        for task_id in tasks.match(list(tasks_)):
            for variant in chosen:
                try:
                    for unit in planner.cell(task_id, variant, budgets, seeds, draws, prior_seeds):
                        units.setdefault(unit.unit_id, unit)
                except (CannotAnswer, DataMissing) as e:
                    if skipped is None:
                        raise
                    skipped.append(Skipped(task_id, str(variant), str(e)))
    finally:
        planner.save()
    return list(units.values())


class CannotAnswer(RequestError):
    """A method cannot enter a task."""


def _check(*, seeds: Sequence[int], draws: Sequence[int], limit: int | None, batch_size: int | None, threads: int) -> None:
    for name, values in (("seed", seeds), ("draw", draws)):
        bad = [v for v in values if isinstance(v, bool) or not isinstance(v, int) or not 0 <= v < 2**31]
        if bad or not values:
            raise RequestError(f"{name} {bad[0] if bad else 'list'!r} is not accepted; give integers from 0 to {2**31 - 1}.")
    for name, value in (("--limit", limit), ("--batch-size", batch_size), ("threads", threads)):
        if value is not None and value < 1:
            raise RequestError(f"{name} is {value}; accepted: 1 or more.")


@dataclass
class _Cell:
    """What all seeds and draws of one (task, variant, budget) share."""

    fixed: dict[str, Any]
    code: str
    hparams: dict[str, Any]
    roles: tuple[ArtifactRef, ...]
    ids: Series
    exclusive: bool


@dataclass(frozen=True)
class _Used:
    """The components of some units, with what of them stands in the ids."""

    refs: tuple[ArtifactRef, ...]
    recipes: dict[str, str]
    weights: tuple[str, ...]


class Planner:
    """Resolves cells; remembers what several of them share (data fingerprints, code hashes, training keys)."""

    def __init__(
        self, split: str, limit: int | None, batch_size: int | None, device: str, precision: str, threads: int, pins: bool
    ) -> None:
        self.split, self.limit, self.batch_size = split, limit, batch_size
        self.device, self.precision, self.threads, self.pins = device, precision, threads, pins
        self._closure, self._files = Closure(), FileHashes()
        self._codes: dict[Any, str] = {}
        self._fingerprints: dict[str, str] = {}
        self._training: dict[tuple[str, str], dict[str, Any]] = {}
        self._priors: dict[tuple[str, int | None], ArtifactRef] = {}
        self._protocols: dict[str, str] = {}

    def save(self) -> None:
        """Keep file hashes for the next planning."""
        self._closure.save()
        self._files.save()
        flush()

    # ------------------------------------------------------------------ one cell
    def cell(
        self,
        task_id: str,
        variant: Variant,
        budgets: Sequence[str] | None,
        seeds: Sequence[int],
        draws: Sequence[int],
        prior_seeds: Sequence[int] = (),
    ) -> Iterable[Unit]:
        """Yield the units of one task and variant."""
        task = tasks.get(task_id)
        card = cards.get(variant.method)
        if self.split not in task.spec.splits:
            raise RequestError(f"task {task_id} has no split {self.split!r}; accepted: {', '.join(task.spec.splits)}.")
        if not card.answers(task_id, task.spec.ability):
            why = (
                f"the task asks for '{task.spec.ability}' and the method offers {', '.join(card.abilities)}"
                if task.spec.ability not in card.abilities
                else f"its card leaves out {', '.join(out)}"
                if (out := card.excludes(task_id))
                else f"its card is for {', '.join(card.tasks)}"
            )
            raise CannotAnswer(f"Method {card.id!r} cannot answer task {task_id}: {why}.")
        cls = method_class(card)
        named = {k: v for k, v in variant.overrides if k in card.needs}
        settings = {k: v for k, v in variant.overrides if k not in named}
        hparams, ids = resolve_files(hyper_parameters(card, cls, variant.preset, task_id, settings), self._files)
        needs = {role: _named(role, named[role]) if role in named else need for role, need in card.needs.items()}
        fits = card.fit_per != "sample" and (card.trains_on != "none" or card.fit_per is not None)
        if card.trains_on != "none" and fits and task.spec.train is None:
            raise CannotAnswer(f"Method {card.id!r} learns from training data, and task {task_id} offers none.")
        declared = tuple(self._role(role, need, task, card, None) for role, need in needs.items())
        trainings: Sequence[int | None] = tuple(dict.fromkeys(prior_seeds)) if any(r.trained for r in declared) else ()
        # weights differ between seeds, and the seeds of one row share its code: so weights are in the unit's id alone
        code = content_id(self._unit_code(task, card, cls, declared), {})
        for budget, training in product(self._budgets(task, card, cls, budgets), trainings or (None,)):
            roles = declared if training is None else tuple(
                self._role(r, need, task, card, at) for (r, need), at in zip(needs.items(), _trainings(declared, training), strict=True)
            )  # fmt: skip
            fixed = {
                "task": f"{task_id}@{task.version}", "data": self._fingerprint(task.spec.dataset), "split": self.split,
                "budget": {"name": budget, **task.spec.budgets[budget]}, "method": card.id, "target": card.target, "uses": dict(card.uses),
                "variant": str(variant), "hparams": ids, "limit": self.limit,
            }  # fmt: skip
            cell = _Cell(fixed, code, hparams, roles, Series(fixed, ("artifacts", "seed", "draw")), cls.exclusive)
            used = self._used(roles)
            for seed in (0,) if card.stochastic == "none" else dict.fromkeys(seeds):
                if fits and (card.stochastic == "fit" or used.refs == roles):
                    fit = self._fit(task, card, cls, cell, seed if card.stochastic == "fit" else 0, variant, budget)
                    used = self._used((*roles, fit))
                yield from self._units(task_id, variant, budget, seed, draws, cell, used)

    def _units(
        self, task_id: str, variant: Variant, budget: str, seed: int, draws: Sequence[int], cell: _Cell, used: _Used
    ) -> Iterable[Unit]:
        for draw in dict.fromkeys(draws):
            spec = {**cell.fixed, "artifacts": used.recipes, "seed": seed, "draw": draw}
            spec_id = cell.ids.id(spec)
            yield Unit(
                task=task_id, split=self.split, budget=budget, variant=variant, seed=seed, draw=draw, hparams=cell.hparams, spec=spec,
                spec_id=spec_id, code=cell.code, unit_id=content_id(spec_id, cell.code, *used.weights), artifacts=used.refs, limit=self.limit,
                batch_size=self.batch_size, device=self.device, precision=self.precision, threads=self.threads,
                exclusive=cell.exclusive,
            )  # fmt: skip

    def _used(self, refs: tuple[ArtifactRef, ...]) -> _Used:
        by_role = sorted(refs, key=lambda a: a.role)
        return _Used(refs, {a.role: a.recipe for a in refs}, tuple(self.weights_id(a) for a in by_role))

    def _budgets(self, task: Task, card: Card, cls: type, asked: Sequence[str] | None) -> list[str]:
        known = task.spec.budgets or {"default": {}}
        if asked and not set(asked) <= {"all", "default"} | set(known):
            wrong = next(b for b in asked if b not in known and b not in ("all", "default"))
            close = nearest(wrong, known)
            hint = f"did you mean {close[0]}?" if close else f"accepted: {', '.join([*known, 'all'])}."
            raise RequestError(f"Task {task.id} has no budget {wrong!r}; {hint}")
        if asked and "all" in asked:
            return list(known)
        named = [b for b in asked or () if b in known]
        if named:
            return named
        if "default" in known or takes_budget(card, cls):
            return ["default"] if "default" in known and not takes_budget(card, cls) else list(known)
        return [min(known, key=lambda b: known[b].get("nfe") or float("inf"))]

    # ------------------------------------------------------------------ components
    def _role(self, role: str, need: Mapping[str, Any] | str, task: Task, card: Card, seed: int | None) -> ArtifactRef:
        prior = components.resolve(role, need, task.spec, card.id)
        if (prior, seed) not in self._priors:
            self._priors[prior, seed] = self._prior(prior, seed)
        ref = self._priors[prior, seed]
        return ArtifactRef(**{**{f: getattr(ref, f) for f in ref.__dataclass_fields__}, "role": role})

    def _prior(self, prior_id: str, seed: int | None) -> ArtifactRef:
        p = components.get(prior_id)
        seed = p.seed if seed is None or p.kind != "trained" else seed
        run, ids = resolve_files(dict(p.hparams), self._files)
        recipe: dict[str, Any] = {"kind": p.kind, "target": p.target, "hparams": ids, "form": p.form, "cond": p.cond}
        roots = [_module(p.target, p.folder), *HARNESS]
        if p.kind == "trained":
            assert p.task is not None
            trained_on = tasks.get(p.task)
            recipe |= {"training": self._training_key(trained_on, p.trains_on), "gflops": p.gflops, "seed": seed}
            roots += [type(trained_on).__module__, type(datasets.get(p.data)).__module__]
        elif p.kind == "exact":
            recipe["data"] = self._fingerprint(p.data)
            roots.append(type(datasets.get(p.data)).__module__)
        recipe_id = content_id("prior", recipe)
        key = content_id(recipe_id, self._code(tuple(roots), (p.folder,) if p.folder else (), None))
        kind: Any = "prior" if p.kind == "trained" else p.kind
        return ArtifactRef(
            role="prior", kind=kind, owner=p.id, key=key, recipe=recipe_id, task=p.task, trains_on=p.trains_on, hparams=run, seed=seed,
            gflops=float(p.gflops),
        )  # fmt: skip

    def _fit(self, task: Task, card: Card, cls: type, cell: _Cell, seed: int, variant: Variant, budget: str) -> ArtifactRef:
        gflops = float((task.spec.train or {}).get("gflops", 0.0))
        recipe: dict[str, Any] = {
            "target": card.target, "hparams": {k: v for k, v in cell.fixed["hparams"].items() if k not in card.at_inference},
            "needs": {a.role: a.recipe for a in cell.roles}, "training": self._training_key(task, card.trains_on), "gflops": gflops,
            "seed": seed,
        }  # fmt: skip
        if card.folder is not None:
            recipe["plugin"] = card.folder.name
        if card.fit_per in ("task", "budget"):
            recipe["task"] = f"{task.id}@{task.version}"
        if card.fit_per == "budget":
            recipe["budget"] = cell.fixed["budget"]
        recipe_id = content_id("fit", recipe)
        roots = (cls.__module__, *HARNESS, type(task).__module__, *self._training_data_modules(task))
        code = self._code(roots, (card.folder,) if card.folder else (), None)
        key = content_id(recipe_id, code, {a.role: self.weights_id(a) for a in cell.roles})
        return ArtifactRef(
            role="fit", kind="fit", owner=card.id, key=key, recipe=recipe_id, task=task.id, trains_on=card.trains_on, hparams=cell.hparams,
            seed=seed, gflops=gflops, preset=variant.preset, budget=budget if card.fit_per == "budget" else None, needs=cell.roles,
        )  # fmt: skip

    def weights_id(self, ref: ArtifactRef) -> str:
        """Return what stands for a component's weights in a code hash: the sha256 of a shipped file, else the full key."""
        pin = stored.pin_of(ref) if self.pins else None
        return f"pinned {pin['sha256']}" if pin else ref.key

    # ------------------------------------------------------------------ what several cells share
    def _fingerprint(self, dataset_id: str) -> str:
        if dataset_id not in self._fingerprints:
            self._fingerprints[dataset_id] = datasets.get(dataset_id).fingerprint()
        return self._fingerprints[dataset_id]

    def _training_key(self, task: Task, trains_on: str) -> dict[str, Any]:
        """Return the task's part of a fit's key: its training data, and what a network is built to answer."""
        where = (task.id, trains_on)
        if where not in self._training:
            returns, options = task.spec.returns, task.spec.options
            shape = {"kind": returns["kind"], "shape": returns.get("shape"), "ability": task.spec.ability, "family": task.family}
            shape |= {k: options[k] for k in ("channels", "classes", "sample_rate", "size", "crop", "entry") if k in options}
            self._training[where] = {"data": task.training_key(trains_on), "builds": shape}
        return self._training[where]

    def _training_data_modules(self, task: Task) -> list[str]:
        name = (task.spec.train or {}).get("dataset", task.spec.dataset)
        return [type(datasets.get(name)).__module__]

    def _unit_code(self, task: Task, card: Card, cls: type, roles: tuple[ArtifactRef, ...]) -> str:
        roots = [cls.__module__, *HARNESS, type(task).__module__, type(task.dataset).__module__, *self._training_data_modules(task)]
        roots += [_module(metrics.info(name).target) for name in task.spec.metrics]
        folders = [card.folder] if card.folder else []
        for ref in roles:
            prior = components.get(ref.owner)
            roots.append(_module(prior.target, prior.folder))
            folders += [prior.folder] if prior.folder else []
        return self._code(tuple(roots), tuple(folders), task.id)

    def _code(self, roots: tuple[str, ...], folders: tuple[Path, ...], task_id: str | None) -> str:
        named = tuple(sorted({r for r in roots if not r.startswith("scorebench_plugin_") and r != "builtins"}))
        where = (named, tuple(sorted(set(folders))), task_id and self._protocol(task_id))
        if where not in self._codes:
            declared = {"task": where[2]} if where[2] else {}
            self._codes[where] = code_hash(named, where[1], declarations=declared, closure=self._closure)
        return self._codes[where]

    def _protocol(self, task_id: str) -> str:
        """Return the hash of what a task's declaration says about its numbers: an edit that forgot to raise the version is noticed."""
        if task_id not in self._protocols:
            spec = tasks.get_spec(task_id)
            measured = {n: {k: v for k, v in o.items() if k != "margin"} for n, o in spec.metrics.items()}
            # weights of a metric that arrive, or change, must run a unit again: its record would lack the value, or hold an old one
            made = tasks.get(task_id).metrics
            now = {n: m.identity() if m.unavailable() is None else "unavailable" for n, m in made.items()}
            self._protocols[task_id] = content_id(
                spec.dataset, spec.options, spec.splits, spec.observe, spec.ability, spec.gives, spec.returns, spec.train,
                {n: [o, now[n]] for n, o in measured.items()},
            )
        return self._protocols[task_id]


def _named(role: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, str):
        raise RequestError(f"--set {role}={value!r}: {role} is a component; give the id of one (`scorebench list priors`).")
    return {"id": value}


def _trainings(declared: Sequence[ArtifactRef], training: int) -> list[int]:
    """Return the seed of each component in training number ``training``: that number, or, where a method is handed components that differ by
    their declared seeds (an ensemble), those seeds moved on together, so that no two of them become one. Number 0 is then as declared."""
    seeds = {r.seed for r in declared if r.trained}
    width = max(seeds) - min(seeds) + 1
    return [training if width == 1 else r.seed + training * width for r in declared]


def _module(target: str, folder: Path | None = None) -> str:
    """Return the module of a target as a root; a file of a plug-in folder is covered by its folder."""
    module = target.partition(":")[0]
    return "builtins" if folder is not None and (folder / f"{module}.py").is_file() else module


def takes_budget(card: Card, cls: type) -> bool:
    """Whether a method spends a budget of network evaluations: it is handed a component, or its module reads ``budget``."""
    if card.needs or card.fit_per == "budget":
        return True
    module = sys.modules.get(cls.__module__)
    try:
        return module is not None and "budget" in inspect.getsource(module)
    except (OSError, TypeError):
        return False
