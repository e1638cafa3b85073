"""The record: what one finished unit leaves behind, and the invariants checked before it is written.

A record is a plain JSON object (`Record`), so that it can be read in ten years without this package. `blank` makes one with every field;
`succeed` and `fail` fill in what came out; `validate` refuses a record that could not be trusted. Per-sample values do not stand in the
record but in its samples file, a mapping of names to arrays:

    ids, clusters            (N,) strings: sample ids, and the source (photograph, speaker, scene) each belongs to
    metric/<name>            (N,) float64: one value per sample, for metrics of level "sample"
    features/<metric>        (N, d) float16: one row per sample, for metrics of level "set"
    diagnostic/<name>        (N,) float64
    preview/<id>/<role>      an image (C, H, W) or (1, T) audio of one sample; role: given, answer or clean; uint8 or float16
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..configs.errors import FAILURES, RunError

RECORD_VERSION = 1
"""Version of the schema below. Readers skip records of a newer version and say so."""

Record = dict[str, Any]

LEVELS = ("sample", "set")
SELECTIONS = ("last", "dev-noisy", "dev-clean", "test-clean")
STOCHASTIC = ("none", "inference", "fit")
COST = (
    "nfe", "backward", "params", "flops_per_sample", "train_s", "train_samples", "train_gflops", "train_nfe", "sample_s_median", "sample_s_p95",
    "peak_mb", "threads", "workers", "exclusive",
)  # fmt: skip
"""Names of the cost fields: rows through the network and backward rows per sample, parameters, FLOPs, seconds, MB."""

_TEXT: dict[str, tuple[type, ...]] = {
    "unit_id": (str,), "spec_id": (str,), "task": (str,), "task_version": (int,), "split": (str,), "budget": (str,), "method": (str,),
    "variant": (str,), "preset": (str,), "seed": (int,), "draw": (int,), "environment_key": (str,), "observation_hash": (str,), "code": (str,),
    "partial": (bool,), "hparams": (dict,), "metrics": (dict,), "diagnostics": (dict,), "cost": (dict,), "facts": (dict,), "artifacts": (dict,),
    "environment": (dict,), "provenance": (dict,),
}  # fmt: skip


def blank(
    *,
    unit_id: str,
    spec_id: str,
    task: str,
    task_version: int,
    method: str,
    variant: str,
    seed: int,
    draw: int,
    environment_key: str,
    split: str = "test",
    budget: str = "default",
    preset: str = "default",
    stochastic: str = "fit",
    facts: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Record:
    """Return a record with every field of the schema, not yet finished (``status`` is None until `succeed` or `fail`).

    ``stochastic`` (none, inference, fit) is the card's: what another seed would change. ``facts`` are the card's ``uses``. ``fields``
    are further fields of the schema, by name; an unknown name is a TypeError.
    """
    out: Record = {
        "schema": RECORD_VERSION, "unit_id": unit_id, "spec_id": spec_id, "task": task, "task_version": task_version, "split": split,
        "budget": budget, "method": method, "variant": variant, "preset": preset, "seed": seed, "draw": draw, "stochastic": stochastic,
        "hparams": {}, "status": None, "error": None, "partial": False, "metrics": {}, "diagnostics": {}, "cost": dict.fromkeys(COST),
        "observation_hash": "", "data_fingerprint": "", "selection": "last", "configurations_tried": 1, "facts": dict(facts or {}),
        "track": "", "artifacts": {}, "environment": {}, "environment_key": environment_key, "code": "", "provenance": {}, "samples": None,
    }  # fmt: skip
    if unknown := set(fields) - set(out):
        raise TypeError(f"not fields of a record: {', '.join(sorted(unknown))}")
    out |= fields
    return out


def metric(
    value: float,
    n: int,
    identity: str,
    level: str,
    *,
    higher_is_better: bool,
    unit: str = "",
    se: float | None = None,
) -> dict[str, Any]:
    """Return the entry of one computed metric. ``se``: standard error by block jackknife, for set-level values of one set."""
    return {
        "value": float(value), "n": int(n), "identity": identity, "level": level, "higher_is_better": bool(higher_is_better), "unit": unit,
        "se": None if se is None else float(se),
    }  # fmt: skip


def unavailable(because: str, remedy: str) -> dict[str, Any]:
    """Return the entry of a metric that could not be computed on this machine: never zero, never a stand-in."""
    return {"unavailable": {"because": because, "remedy": remedy}}


def succeed(record: Record, metrics: Mapping[str, Any], cost: Mapping[str, Any] | None = None, **fields: Any) -> Record:
    """Return the record, finished: status ok, with its metrics, cost and other ``fields``."""
    return {**record, **fields, "status": "ok", "error": None, "metrics": dict(metrics), "cost": {**record["cost"], **(cost or {})}}


def fail(record: Record, kind: str, message: str, **fields: Any) -> Record:
    """Return the record, finished: status failed, with the kind (one of `configs.errors.FAILURES`) and one sentence."""
    return {**record, **fields, "status": "failed", "error": {"kind": kind, "message": " ".join(message.split())}, "metrics": {}}


def key(record: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what may be accepted once: (unit, environment, and for a partial run the hash of the observations it saw)."""
    return record["unit_id"], record["environment_key"], str(record.get("observation_hash", "")) if record.get("partial") else ""


def validate(
    record: Mapping[str, Any],
    samples: Mapping[str, np.ndarray] | None = None,
    *,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    expected_ids: Sequence[str] | None = None,
) -> None:
    """Check what must hold of a record before it is written; RunError (with its failure kind) says what does not.

    ``bounds`` gives the range of each metric (0 <= SSIM <= 1); ``expected_ids`` the sample ids that must be there, each once, in order.
    """
    _check_fields(record)
    for name, entry in record["metrics"].items():
        if "unavailable" not in entry:
            _check_metric(name, entry, (bounds or {}).get(name))
    for group in ("diagnostics", "cost"):
        for name, value in record[group].items():
            if isinstance(value, float) and not math.isfinite(value):
                raise RunError(f"{group} value {name!r} is {value}; a record holds finite values only.", "not-finite")
    if samples is not None:
        _check_samples(record, samples, bounds or {}, expected_ids)
    elif expected_ids is not None and record["status"] == "ok":
        raise RunError("The record has no per-sample values, so the set of samples cannot be checked.", "wrong-output")


def _check_fields(record: Mapping[str, Any]) -> None:
    for name, types in _TEXT.items():
        value = record.get(name)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise RunError(f"Field {name!r} of a record must be {types[0].__name__}, not {value!r}.")
    if not re.fullmatch(r"[\w.+-]{1,100}", record["unit_id"]):
        raise RunError(f"unit_id {record['unit_id']!r} cannot be a file name; accepted: letters, digits, '_', '.', '+', '-'.")
    for name, accepted in (("status", ("ok", "failed")), ("selection", SELECTIONS), ("stochastic", STOCHASTIC)):
        if record.get(name) not in accepted:
            raise RunError(f"Field {name!r} of a record is {record.get(name)!r}; accepted: {', '.join(accepted)}.")
    error = record.get("error")
    if record["status"] == "ok":
        if error is not None:
            raise RunError("A record with status ok carries an error.")
        if not record["metrics"]:
            raise RunError("A record with status ok has no metrics; an unavailable metric says because and remedy.")
    else:
        if not isinstance(error, Mapping) or error.get("kind") not in FAILURES or not error.get("message"):
            raise RunError(f"A failed record must say its kind ({', '.join(FAILURES)}) and a message, not {error!r}.")
        if any("value" in m for m in record["metrics"].values()):
            raise RunError("A failed record carries metric values.")


def _check_metric(name: str, entry: Mapping[str, Any], bounds: tuple[float, float] | None) -> None:
    missing = [f for f in ("value", "n", "identity", "level", "higher_is_better") if f not in entry]
    if missing:
        raise RunError(f"Metric {name!r} lacks {', '.join(missing)}.")
    if entry["level"] not in LEVELS:
        raise RunError(f"Metric {name!r} has level {entry['level']!r}; accepted: {', '.join(LEVELS)}.")
    value = entry["value"]
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RunError(f"Metric {name!r} is {value}; a record holds finite values only.", "not-finite")
    if bounds and not _inside(value, bounds):
        raise RunError(f"Metric {name!r} is {value}, outside its range [{bounds[0]}, {bounds[1]}].", "wrong-output")


def _inside(value: float, bounds: tuple[float, float]) -> bool:
    slack = 1e-6 * max(1.0, *(abs(b) for b in bounds if math.isfinite(b)), 0.0)  # sums of float32 may pass a bound by a rounding
    return bounds[0] - slack <= value <= bounds[1] + slack


def _check_samples(
    record: Mapping[str, Any], samples: Mapping[str, np.ndarray], bounds: Mapping[str, tuple[float, float]], expected: Sequence[str] | None
) -> None:
    for need in ("ids", "clusters"):
        if need not in samples:
            raise RunError(f"The samples of a record lack {need!r}.", "wrong-output")
    ids = [str(i) for i in samples["ids"]]
    n = len(ids)
    if len(set(ids)) != n:
        twice = next(i for i in ids if ids.count(i) > 1)
        raise RunError(f"Sample {twice!r} was answered more than once.", "wrong-output")
    if expected is not None and ids != list(expected):
        lost, extra = sorted(set(expected) - set(ids)), sorted(set(ids) - set(expected))
        what = f"{lost[0]!r} is missing" if lost else f"{extra[0]!r} was not asked for" if extra else "they are in another order"
        raise RunError(f"The samples answered are not those of the task: {what} ({n} answered, {len(expected)} asked).", "wrong-output")
    for name, array in samples.items():
        group, _, rest = name.partition("/")
        if group in ("clusters", "metric", "features", "diagnostic") and len(array) != n:
            raise RunError(f"The samples' {name!r} has {len(array)} entries for {n} samples.", "wrong-output")
        if group in ("metric", "features", "diagnostic", "preview") and array.dtype.kind == "f" and not np.isfinite(array).all():
            where = ids[int(np.argmax(~np.isfinite(array.reshape(n, -1)).all(1)))] if group != "preview" else rest
            raise RunError(f"The samples' {name!r} is not finite at sample {where!r}.", "not-finite")
        if group == "metric" and rest in bounds and n and not (_inside(array.min(), bounds[rest]) and _inside(array.max(), bounds[rest])):
            raise RunError(f"Metric {rest!r} of a sample is outside its range [{bounds[rest][0]}, {bounds[rest][1]}].", "wrong-output")
    for name, entry in record["metrics"].items():
        if entry.get("level") != "sample":
            continue
        values = samples.get(f"metric/{name}")
        if values is None:
            raise RunError(f"Metric {name!r} has level sample, and the samples lack 'metric/{name}'.", "wrong-output")
        if entry["n"] != n or not math.isclose(entry["value"], float(np.mean(values)), rel_tol=1e-9, abs_tol=1e-12):
            raise RunError(f"Metric {name!r} ({entry['value']}, n={entry['n']}) is not the mean of its {n} samples.", "wrong-output")
