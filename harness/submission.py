"""Plans handed to Slurm without waiting (``--submit``), and what has become of them (``--collect``). The store is the only state that matters:
a manifest beside it remembers which jobs hold which units, so that what is queued already is not submitted again."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..configs.loader import write_atomic
from ..leaderboards.ledger import Store
from .done import undone
from .executors.slurm import ENDED, SlurmExecutor, queue
from .prefetch import missing_components
from .progress import Policy
from .unit import ArtifactRef, RunContext, Unit


@dataclass
class Submitted:
    """What was handed over: jobs, the units in them, components trained first; and what was left out, since it is done or queued already."""

    jobs: list[str] = field(default_factory=list)
    units: int = 0
    components: int = 0
    done: int = 0
    queued: int = 0


def manifests(store: Path) -> list[dict[str, Any]]:
    """Return the submissions a store remembers, oldest first."""
    return [json.loads(p.read_text()) for p in sorted((store / "slurm").glob("submission-*.json"))]


def queued(store: Path) -> dict[str, str]:
    """Return the state (PENDING, RUNNING, ...) of every unit that a job still in Slurm's queue holds."""
    jobs = {job: units for m in manifests(store) for job, units in m["jobs"].items()}
    states = (queue(jobs) or {}) if jobs else {}
    return {unit: state for job, state in states.items() if state not in ENDED for unit in jobs[job]}


def submit(
    units: Sequence[Unit],
    context: RunContext,
    executor: SlurmExecutor,
    policy: Policy,
    fields: Callable[[Unit], dict[str, Any]],
) -> Submitted:
    """Submit what is due: an array that trains missing components, and arrays of units that wait for it.

    Jobs claim their units, so that nothing is done twice where another controller works on the same store. RunError when Slurm refuses.
    """
    context = context.with_(store=context.store.resolve())
    store = Store(context.store)
    store.prepare()
    todo, done = undone(units, store)
    waiting = queued(context.store)
    due = [u for u in todo if u.unit_id not in waiting]
    out = Submitted(done=len(done), queued=len(todo) - len(due))
    refs = missing_components(due, context.pins)
    jobs: dict[str, list[str]] = {}
    after: dict[str, Any] = {}
    if refs:
        sent = executor.send([executor.bundle(context, refs=chain, claim=True, policy=policy) for chain in chains(refs)])
        out.components = len(refs)
        jobs |= {job.job_id: [] for job in sent}
        if executor.cluster == "slurm":  # afterany, not afterok: a unit whose component failed is recorded as failed
            first = dict.fromkeys(job.job_id.split("_")[0] for job in sent)
            after = {"dependency": "afterany:" + ":".join(first)}
        else:
            for job in sent:
                job.wait()
    for alone in (False, True):
        chosen = [u for u in due if u.exclusive is alone]
        size = 1 if alone else executor.units_per_job
        groups = [chosen[i : i + size] for i in range(0, len(chosen), size)]
        bundles = [executor.bundle(context, g, claim=True, policy=policy, fields={u.unit_id: fields(u) for u in g}) for g in groups]
        if bundles:
            sent = executor.send(bundles, **after, **({"exclusive": True} if alone else {}))
            jobs |= {job.job_id: [u.unit_id for u in g] for job, g in zip(sent, groups, strict=True)}
    out.jobs, out.units = list(jobs), len(due)
    if jobs:
        number = len(list((context.store / "slurm").glob("submission-*.json")))
        name = f"submission-{number:04d}-{secrets.token_hex(3)}.json"
        write_atomic(context.store / "slurm" / name, json.dumps({"jobs": jobs}).encode())
    return out


def chains(refs: dict[str, ArtifactRef]) -> list[list[ArtifactRef]]:
    """Return the components in groups of which none needs another's: one that others need is trained in the first group that needs it."""
    groups: list[list[ArtifactRef]] = []
    of: dict[str, list[ArtifactRef]] = {}
    for key, ref in refs.items():  # dependencies first
        group = next((of[n.key] for n in ref.needs if n.key in of), None)
        if group is None:
            group = []
            groups.append(group)
        group.append(ref)
        of[key] = group
    return groups


__all__ = ["Submitted", "chains", "manifests", "queued", "submit"]
