"""What is passed between plan, controller, executors and runner: plain frozen data that pickles in microseconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..baselines.card import Variant

Kind = Literal["fit", "prior", "exact", "external"]


@dataclass(frozen=True)
class ArtifactRef:
    """One component of a unit: a role's prior, or the fit of the method itself (role ``fit``).

    ``kind``: ``fit`` and ``prior`` are trained once and stored under ``key``; ``exact`` and ``external`` priors are only built.
    ``owner`` is the method's or the prior's id, ``task`` the task whose training set is learned from, ``needs`` the components that
    training itself is handed. ``recipe`` is the key without the code: what pinned weights are matched by.
    """

    role: str
    kind: Kind
    owner: str
    key: str
    recipe: str
    task: str | None = None
    trains_on: str = "none"
    hparams: dict[str, Any] = field(default_factory=dict, compare=False)
    seed: int = 0
    gflops: float = 0.0
    preset: str = "default"
    budget: str | None = None
    needs: tuple[ArtifactRef, ...] = ()

    @property
    def trained(self) -> bool:
        """Whether there is something to train and store."""
        return self.kind in ("fit", "prior")

    def walk(self) -> Iterator[ArtifactRef]:
        """Yield what must be trained for this component, dependencies first, itself last."""
        for need in self.needs:
            yield from need.walk()
        if self.trained:
            yield self

    def __str__(self) -> str:
        what = "prior" if self.kind == "prior" else "fit"
        on = f" on {self.task}" if self.task else ""
        return f"{what} {self.owner}{on}, seed {self.seed}"


@dataclass(frozen=True)
class Unit:
    """The smallest thing that is run: (task, split, budget, variant, seed, draw), with everything it depends on resolved.

    ``hparams`` are the resolved hyper-parameters of the constructor (files as absolute paths); ``spec`` is everything that ``spec_id``
    hashes; ``code`` the hash of the code it runs; ``unit_id`` = hash(spec_id, code, weights of the fit). ``batch_size`` (None: the
    task's), ``device``, ``precision`` and ``threads`` are not in the ids: they belong to environment and provenance. ``limit`` bounds the
    number of samples and makes the record partial.
    """

    task: str
    split: str
    budget: str
    variant: Variant
    seed: int
    draw: int
    hparams: dict[str, Any] = field(compare=False)
    spec: dict[str, Any] = field(repr=False, compare=False)
    spec_id: str
    code: str
    unit_id: str
    artifacts: tuple[ArtifactRef, ...] = ()
    limit: int | None = None
    batch_size: int | None = None
    device: str = "cpu"
    precision: str = "32"
    threads: int = 1
    exclusive: bool = False

    def __str__(self) -> str:
        budget = "" if self.budget == "default" else f" {self.budget}"
        draw = f" draw {self.draw}" if self.draw else ""
        return f"{self.variant} on {self.task}{budget} seed {self.seed}{draw}"

    def component(self, role: str) -> ArtifactRef | None:
        """Return the component of ``role`` (``fit`` for the method's own fit), None when there is none."""
        return next((a for a in self.artifacts if a.role == role), None)


@dataclass(frozen=True)
class RunContext:
    """What a whole run has in common. ``time_limit`` in seconds and ``memory_limit`` in MB bound each unit (None: no bound).

    ``workers`` is how many units run side by side; ``exclusive`` says that nothing else runs beside a unit, so that its cost may be ranked.
    ``pins``: use the weights that ship with the package where their recipe matches.
    """

    store: Path
    include: tuple[Path, ...] = ()
    keep_samples: bool = False
    pins: bool = True
    time_limit: float | None = None
    memory_limit: float | None = None
    workers: int = 1
    exclusive: bool = False

    def with_(self, **changes: Any) -> RunContext:
        """Return a copy with ``changes``."""
        return replace(self, **changes)
