"""Makes ready what a plan needs before it runs: components trained and stored, published weights fetched. For nodes without network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from ..configs.errors import ScorebenchError
from . import artifacts
from .executors.base import Executor, Job, Result
from .unit import ArtifactRef, RunContext, Unit


def missing_components(units: Sequence[Unit], pins: bool = True) -> dict[str, ArtifactRef]:
    """Return the components that are neither stored nor shipped, by key, dependencies first."""
    out: dict[str, ArtifactRef] = {}
    there: set[str] = set()
    for unit in units:
        for ref in (r for component in unit.artifacts for r in component.walk()):
            if ref.key in out or ref.key in there:
                continue
            if artifacts.find(ref, pins, lambda _: None) is None:
                out[ref.key] = ref
            else:
                there.add(ref.key)
    return out


def train(
    refs: dict[str, ArtifactRef],
    context: RunContext,
    executor: Executor,
    tell: Callable[[ArtifactRef, Result], None] = lambda ref, result: None,
) -> list[tuple[ArtifactRef, Result]]:
    """Train components side by side, each once and after those it needs; return the failed ones, with those that wait for them."""
    waiting = dict(refs)
    running: dict[str, ArtifactRef] = {}
    failed: dict[str, tuple[ArtifactRef, Result]] = {}
    while waiting or running:
        for key, ref in list(waiting.items()):
            needs = [n.key for n in ref.needs]
            if any(n in failed for n in needs):
                failed[key] = ref, Result(key, "failed", kind="error", message=f"what {ref} needs could not be trained.")
                tell(*failed[key])
                del waiting[key]
            elif len(running) < executor.slots and not any(n in waiting or n in running for n in needs):
                del waiting[key]
                running[key] = ref
                executor.submit(Job(key, context, ref=ref))
        for event in executor.wait(0.25) if running else []:
            if isinstance(event, Result):
                ref = running.pop(event.job)
                if event.status != "ok":
                    failed[event.job] = ref, event
                tell(ref, event)
    return list(failed.values())


def weights_needed(tasks: Iterable[str]) -> list[str]:
    """Return the ids (``weights:ID``) of published weights that the tasks' metrics lack here and that can be fetched."""
    from ..tasks import registry

    found: dict[str, None] = {}
    for task_id in tasks:
        try:
            metrics = registry.get(task_id).metrics
        except ScorebenchError:
            continue  # its data are missing, which is said elsewhere
        for metric in metrics.values():
            why = metric.unavailable()
            if why is not None:
                found.update(dict.fromkeys(re.findall(r"weights:[\w.-]*\w", f"{why.because} {why.remedy}")))
    return list(found)
