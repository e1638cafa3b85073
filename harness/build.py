"""Builds what a unit runs: its roles (priors, denoisers, teachers), its fit, and the method itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..baselines import card as cards
from ..baselines import components
from ..baselines.card import Card
from ..baselines.method import DataSpec, Method
from ..baselines.registry import method_class
from ..configs.errors import RunError
from ..configs.loader import load_object
from ..tasks import registry as tasks
from ..tasks.base import Task
from ..tasks.requests import Budget
from . import artifacts, environment, training, weights
from .artifacts import Artifact
from .unit import ArtifactRef, Unit

Progress = Callable[[str, int, int], None]
Watch = Callable[[ArtifactRef, Task], Mapping[str, Any]]
"""What watches the training of a component: the ``logger`` and ``callbacks`` that `training.fit` hands to Lightning."""


def data_spec(task: Task) -> DataSpec:
    """Return what a network must know of a task's data, read off the task's declaration and one dev observation."""
    spec = task.spec
    shape = tuple(spec.returns["shape"]) if spec.returns.get("shape") else None
    classes = int(spec.options.get("classes", 0))
    kind = spec.returns["kind"]
    rate = int(spec.options.get("sample_rate", 0))
    if spec.ability == "logits":
        assert shape is not None
        split = "dev" if "dev" in spec.splits else next(iter(spec.splits))
        image = task.observe(split, task.ids(split)[0]).given["image"]
        return DataSpec("image", image.shape[0], tuple(image.shape), shape[0])
    channels = shape[0] if shape else int(spec.options.get("channels", 1))
    return DataSpec(kind, channels, shape, classes, rate)


def load_into(module: nn.Module, artifact: Artifact) -> None:
    """Load stored weights; RunError in one sentence when they do not fit the module."""
    try:
        module.load_state_dict(artifact.state(), strict=True)
    except RuntimeError as e:
        reason = " ".join(str(e).split())[:300]
        raise RunError(f"the stored weights of {artifact.ref} do not fit its network ({reason}); run with --no-pins to train them.") from e


def freeze(module: nn.Module) -> nn.Module:
    """Return the component in eval mode without gradients: a method that changes one takes `clone` first."""
    return module.eval().requires_grad_(False)


def fingerprint(module: nn.Module) -> int:
    """Return a number that changes when any weight of a component does (bitwise sums, quick)."""
    total = 0
    for tensor in module.state_dict().values():
        if isinstance(tensor, torch.Tensor) and tensor.numel():
            total = hash((total, float(tensor.double().sum()), float(tensor.double().abs().max())))
    return total


class Builder:
    """Builds components and methods for units, training what is missing; remembers the last ones, since units share them."""

    def __init__(
        self, pins: bool = True, progress: Progress | None = None, say: Callable[[str], None] | None = None, watch: Watch | None = None
    ) -> None:
        self.pins, self.progress, self.say, self.watch = pins, progress, say, watch
        self.used: dict[str, Artifact] = {}

    # ------------------------------------------------------------------ artifacts
    def artifact(self, ref: ArtifactRef) -> Artifact:
        """Return the trained artifact of ``ref``, training it (and what it needs) if it is not stored."""
        found = artifacts.ensure(ref, lambda folder: self._train(ref, folder), pins=self.pins, say=self.say)
        self.used[ref.key] = found
        return found

    def _train(self, ref: ArtifactRef, folder: Path) -> Mapping[str, Any]:
        assert ref.task is not None
        task = tasks.get(ref.task)
        roles = self.roles(ref.needs)
        if ref.kind == "prior":
            component = components.get(ref.owner)
            make = lambda: construct(load_object(component.target, component.folder), ref.hparams, roles, data_spec(task))  # noqa: E731
        else:
            card = cards.get(ref.owner)
            budget = budget_of(task, ref.budget)
            make = lambda: construct(method_class(card), ref.hparams, roles, data_spec(task), budget)  # noqa: E731
        tell = self.progress
        told = None if tell is None else (lambda k, n: tell(str(ref), k, n))
        watched = {} if self.watch is None else self.watch(ref, task)
        saved = folder.parent / f".{ref.key}.ckpt"  # the key is complete, so what is taken up there is this very training
        module, report = training.fit(
            make, task, ref.trains_on, gflops=ref.gflops, seed=ref.seed, progress=told, checkpoint=saved, **watched
        )
        weights.save(trained_state(module, roles), folder / "weights.safetensors")
        saved.unlink(missing_ok=True)
        return vars(report) | {"threads": torch.get_num_threads(), "environment": environment.environment()}

    # ------------------------------------------------------------------ components and methods
    def component(self, ref: ArtifactRef) -> nn.Module:
        """Build one role, with its weights, frozen."""
        declared = components.get(ref.owner)
        task = tasks.get(ref.task) if ref.task else None
        roles = self.roles(ref.needs)
        module = construct(load_object(declared.target, declared.folder), ref.hparams, roles, data_spec(task) if task else None)
        if ref.trained:
            load_into(module, self.artifact(ref))
        return freeze(module)

    def roles(self, refs: tuple[ArtifactRef, ...]) -> dict[str, nn.Module]:
        """Build every role among ``refs``."""
        return {r.role: self.component(r) for r in refs if r.role != "fit"}

    def method(self, unit: Unit, card: Card, cls: type[Method]) -> tuple[Method, dict[str, nn.Module]]:
        """Build the unit's method with its roles and its fit; also return the roles, whose weights must not change."""
        task = tasks.get(unit.task)
        fit = unit.component("fit")
        roles = self.roles(unit.artifacts)
        torch.manual_seed(unit.seed)
        module = construct(cls, unit.hparams, roles, data_spec(task), budget_of(task, unit.budget))
        if fit is not None:
            state = self.artifact(fit).state()
            own = trained_state(module, roles)
            if set(state) != set(own):
                raise RunError(f"the stored weights of {fit} do not fit {cls.__name__}; run with --no-pins to train them.")
            try:
                module.load_state_dict(state, strict=False)
            except RuntimeError as e:
                raise RunError(f"the stored weights of {fit} do not fit {cls.__name__}: {' '.join(str(e).split())[:300]}.") from e
        return module.eval(), roles


def trained_state(module: nn.Module, roles: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
    """Return the state a fit stores: the module's own weights without those of the roles it was handed."""
    state = module.state_dict()
    prefixes = tuple(f"{name}." for name, child in module.named_children() if any(child is r for r in roles.values()))
    return {k: v for k, v in state.items() if not k.startswith(prefixes)} if prefixes else dict(state)


def budget_of(task: Task, name: str | None) -> Budget:
    """Return the task's budget of that name (None: what a fit shared by all budgets is handed, no bound)."""
    return Budget() if name is None else Budget(name, task.spec.budgets.get(name, {}).get("nfe"))


def construct(
    cls: type[Any], hparams: Mapping[str, Any], roles: Mapping[str, nn.Module], data: DataSpec | None, budget: Budget | None = None
) -> Any:
    """Call a constructor with its hyper-parameters, its roles, and ``data`` and ``budget`` if it has such parameters."""
    extra: dict[str, Any] = dict(roles)
    parameters = inspect.signature(cls.__init__).parameters
    if "data" in parameters:
        extra["data"] = data if data is not None else DataSpec()
    if "budget" in parameters:
        extra["budget"] = budget if budget is not None else Budget()
    return cls(**hparams, **extra)
