"""Runs one unit: build, evaluate, score; the record and the arrays stored beside it come out."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch

from ..baselines import card as cards
from ..baselines import components
from ..baselines.registry import method_class
from ..configs.errors import RunError
from ..leaderboards import record as records
from ..leaderboards import tracks
from ..tasks import registry as tasks
from . import environment, scoring
from .build import Builder, budget_of, fingerprint
from .evaluator import evaluate
from .unit import RunContext, Unit

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it, of how much."""


def blank(unit: Unit, context: RunContext) -> records.Record:
    """Return the unit's record before it has run: everything but what came out. Failed units are recorded from it."""
    card = cards.get(unit.variant.method)
    env = environment.environment(unit.device, unit.precision)
    return records.blank(
        unit_id=unit.unit_id, spec_id=unit.spec_id, task=unit.task, task_version=tasks.get_spec(unit.task).version, split=unit.split,
        budget=unit.budget, method=unit.variant.method, variant=str(unit.variant), preset=unit.variant.preset, seed=unit.seed, draw=unit.draw,
        stochastic=card.stochastic, hparams=unit.hparams, facts=card.uses, track=tracks.track_of(card.uses), code=unit.code,
        environment=env, environment_key=environment.environment_key(env), partial=unit.limit is not None,
        data_fingerprint=str(unit.spec.get("data", "")),
    )  # fmt: skip


def run_unit(unit: Unit, context: RunContext, progress: Progress | None = None) -> tuple[records.Record, dict[str, np.ndarray]]:
    """Run ``unit`` and return its record with the arrays to store beside it.

    Raises RunError (with its failure kind) or whatever the method raised; the caller records the failure.
    """
    for folder in context.include:
        cards.include(folder)
        tasks.include(folder.resolve())
        components.include(folder)
    torch.set_num_threads(unit.threads)
    started = environment.now()
    task = tasks.get(unit.task)
    card = cards.get(unit.variant.method)
    cls = method_class(card)
    builder = Builder(context.pins, progress)
    method, roles = builder.method(unit, card, cls)
    before = {role: fingerprint(module) for role, module in roles.items()}
    ids = task.ids(unit.split)[: unit.limit]
    outcome = evaluate(
        method, task, split=unit.split, seed=unit.seed, draw=unit.draw, budget=budget_of(task, unit.budget),
        batch_size=unit.batch_size, device=unit.device, precision=unit.precision, ids=ids, keep=scoring.keeper(task, ids, context.keep_samples),
        progress=None if progress is None else (lambda k: progress(str(unit), k, len(ids))),
    )  # fmt: skip
    for role, module in roles.items():
        if fingerprint(module) != before[role]:
            raise RunError(f"{card.id} changed the weights of its role {role!r}; a method that changes a component takes clone() of it.")
    fit = unit.component("fit")
    trained = builder.used[fit.key].meta if fit is not None else {}
    cost = outcome.cost | {k: trained.get(k) for k in ("train_s", "train_samples", "train_gflops", "train_nfe")}
    cost |= {"threads": unit.threads, "workers": context.workers, "exclusive": context.exclusive or context.workers == 1}
    if fit is not None and not cost["params"]:
        cost["params"] = trained.get("params", 0)
    record = records.succeed(
        blank(unit, context),
        scoring.summarise(outcome, task, unit.split),
        cost,
        diagnostics=scoring.diagnostics(outcome),
        observation_hash=scoring.observation_hash(outcome),
        artifacts={a.role: builder.used[a.key].entry() for a in unit.artifacts if a.key in builder.used},
        provenance=environment.provenance(started) | {"pid": os.getpid()},
    )
    if oracles := scoring.oracles(outcome, task):
        record["oracles"] = oracles
    arrays = scoring.arrays(outcome, task, unit.split, unit.draw, context.keep_samples)
    bounds = {n: m.bounds for n, m in task.metrics.items()}
    records.validate(record, arrays, bounds=bounds, expected_ids=ids)
    return record, arrays


def describe(error: BaseException) -> tuple[str, str]:
    """Return (failure kind, one sentence) of an exception that ended a unit."""
    if isinstance(error, RunError):
        return error.kind, str(error)
    text = " ".join(str(error).split())[:400]
    says_so = isinstance(error, RuntimeError) and any(w in text for w in ("can't allocate memory", "DefaultCPUAllocator", "out of memory"))
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or says_so:
        return "out-of-memory", f"memory ran out ({text or type(error).__name__}); use a smaller --batch-size or a larger machine."
    return "error", f"{type(error).__name__}: {text or 'no message'}"
