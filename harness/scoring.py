"""From an evaluation's outcome to a record's metrics and the arrays stored beside it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..configs.errors import RunError
from ..tasks import registry as tasks
from ..tasks.base import Observation, Task
from .evaluator import Outcome

PREVIEWS = {"sample": 64, "logits": 8}
KEEP_ALL = 256
"""Up to this many samples every answer is held until the end, so that best, median and worst can be shown."""


def observation_hash(outcome: Outcome) -> str:
    """Return the hash over all observations, as `Task.observation_hash` defines it."""
    digest = hashlib.sha256()
    for sample_id in outcome.ids:
        digest.update(outcome.observation_hashes[sample_id].encode())
    return digest.hexdigest()


@lru_cache(maxsize=32)
def _reference(task_id: str, split: str, metric: str) -> tuple[Any, str]:
    """Return a set-level metric's digested reference set and its hash; embedded once per process."""
    task = tasks.get(task_id)
    m = task.metrics[metric]
    if not m.needs_reference:
        return None, ""
    real = task.spec.splits[split] if m.reference_kind == "split" else "training"
    key = f"{task.dataset.fingerprint()}|{real}|{type(task).__qualname__}|{sorted(task.spec.options.items())}"
    reference = m.cached_reference(key, lambda: task.reference_set(split) if m.reference_kind == "split" else _learned_from(task))
    return reference, reference.hash


def _learned_from(task: Task) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the clean training samples in batches, as answers: what memorisation is measured against."""
    items = task.training_set("clean", 0)
    for start in range(0, len(items), 512):  # type: ignore[arg-type]
        yield {"answer": torch.stack([items[i]["target"] for i in range(start, min(start + 512, len(items)))])}  # type: ignore[arg-type]


def summarise(outcome: Outcome, task: Task, split: str) -> dict[str, dict[str, Any]]:
    """Return the record's ``metrics``: every metric of the task has a value with its identity, or says why it has none."""
    from ..tasks.metrics.uncertainty import jackknife

    out: dict[str, dict[str, Any]] = {}
    for name, metric in task.metrics.items():
        if (why := metric.unavailable()) is not None:
            out[name] = {"unavailable": why.as_dict()}
            continue
        if metric.level == "sample":
            values = outcome.per_sample[name]
            if np.isnan(values).any():
                raise RunError(f"metric {name} is not a number on {int(np.isnan(values).sum())} of {len(values)} samples.", "not-finite")
            entry: dict[str, Any] = {"value": float(values.mean()), "n": len(values), "identity": metric.identity(), "level": "sample"}
        else:
            features = outcome.features[name].astype(np.float64)
            reference, reference_hash = _reference(task.id, split, name)
            value = float(metric.value(features, reference))
            entry = {
                "value": value,
                "n": len(features),
                "identity": metric.set_identity(len(features), reference_hash),
                "level": "set",
                "se": se if math.isfinite(se := jackknife(metric, features, reference)) else None,
            }
        low, high = metric.bounds
        if not math.isfinite(entry["value"]) or not low <= entry["value"] <= high:
            raise RunError(f"metric {name} came out as {entry['value']}, outside [{low}, {high}].", "not-finite")
        entry["higher_is_better"] = metric.higher_is_better
        entry["unit"] = metric.unit
        out[name] = entry
    return out


def keeper(task: Task, ids: Sequence[str], everything: bool = False) -> Callable[[str], bool]:
    """Return which answers to hold during an evaluation; none when the dataset's licence shows no pixels, unless ``everything`` is kept."""
    if everything:
        return lambda _: True
    if task.dataset.pixels == "never":
        return lambda _: False
    count = PREVIEWS.get(task.spec.ability)
    if count is None:
        held = set(ids) if len(ids) <= KEEP_ALL else set(_fixed(ids))
    else:
        held = set(ids[:count])
    return held.__contains__


def _fixed(ids: Sequence[str], count: int = 3) -> list[str]:
    return [ids[i] for i in sorted({round(k * (len(ids) - 1) / max(1, count - 1)) for k in range(count)})]


def shown(outcome: Outcome, task: Task) -> dict[str, str]:
    """Return the sample ids to show and why (fixed, best, median, worst by the primary metric)."""
    count = PREVIEWS.get(task.spec.ability)
    if count is not None:
        return {i: "fixed" for i in outcome.ids[:count]}
    out = {i: "fixed" for i in _fixed(outcome.ids)}
    values = outcome.per_sample.get(task.spec.primary)
    if values is not None and len(values) > 2:
        order = np.argsort(values, kind="stable")
        if not task.metrics[task.spec.primary].higher_is_better:
            order = order[::-1]
        for what, k in (("worst", order[0]), ("median", order[len(order) // 2]), ("best", order[-1])):
            out.setdefault(outcome.ids[int(k)], what)
    return out


def arrays(outcome: Outcome, task: Task, split: str, draw: int, everything: bool = False) -> dict[str, np.ndarray]:
    """Return what is stored beside the record: ids, clusters, per-sample values, float16 features, previews.

    ``everything`` (``--keep-samples``) adds every answer as ``sample/<id>``, for the user's own disk: licences that forbid showing pixels
    still have no previews.
    """
    out: dict[str, np.ndarray] = {"ids": np.array(outcome.ids), "clusters": np.array(outcome.clusters)}
    out |= {f"metric/{n}": v for n, v in outcome.per_sample.items()}
    out |= {f"features/{n}": v.astype(np.float16) for n, v in outcome.features.items()}
    out |= {f"diagnostic/{n}": v for n, v in outcome.diagnostics.items() if isinstance(v, np.ndarray)}
    out |= {f"offered/{n}": v for n, v in outcome.offered.items()}
    if everything:
        out |= {f"sample/{i}": a for i, a in outcome.answers.items()}
    visible = task.dataset.pixels != "never"
    why = {i: w for i, w in shown(outcome, task).items() if i in outcome.answers and visible}
    for sample_id in why:
        out[f"preview/{sample_id}/answer"] = outcome.answers[sample_id]
        if task.spec.ability != "sample":
            out |= preview_inputs(task.observe(split, sample_id, draw))
    out["previews"] = np.array(list(why))
    out["preview_reasons"] = np.array(list(why.values()))
    return out


def preview_inputs(observation: Observation) -> dict[str, np.ndarray]:
    """Return small arrays of what was given and of the clean target, for showing."""
    out = {}
    for kind, values in (("given", observation.given), ("clean", observation.target)):
        picked = next((v for v in values.values() if isinstance(v, torch.Tensor) and v.ndim >= 2), None)
        if kind == "clean" and isinstance(values.get("clean"), torch.Tensor):
            picked = values["clean"]
        if picked is None:
            continue
        if picked.ndim == 3 and picked.shape[0] in (1, 3):
            if kind == "given" and "y" in values:  # a measurement has no display range of its own
                low, high = picked.min(), picked.max()
                picked = (picked - low) / (high - low).clamp_min(1e-12)
            array = (picked.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        else:
            array = picked.numpy().astype(np.float16)
        out[f"preview/{observation.sample_id}/{kind}"] = array
    return out


def diagnostics(outcome: Outcome) -> dict[str, float]:
    """Return the mean of every diagnostic."""
    means = {n: float(np.mean(v)) for n, v in outcome.diagnostics.items()}
    return {n: v for n, v in means.items() if math.isfinite(v)}


def oracles(outcome: Outcome, task: Task) -> dict[str, Mapping[str, float]]:
    """Return, for every series of offered intermediates, the mean of each sample's best primary value (a stopping oracle, unranked)."""
    best = np.max if task.metrics[task.spec.primary].higher_is_better else np.min
    return {
        name: {"primary": float(best(v, axis=1).mean()), "last": float(v[:, -1].mean()), "steps": int(v.shape[1])}
        for name, v in outcome.offered.items()
    }
