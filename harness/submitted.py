"""Outputs made elsewhere: write a task's observations as plain arrays, and score the answers that come back.

Folder that `write_inputs` makes; nothing in it is clean, and its names say nothing about the samples:

    manifest.json            the task, what each field means, and the shape each answer must have
    inputs/0000.noisy.npy    one float32 (or integer) array per sample and field
    inputs/operator.*.npy    the arrays of a measurement operator, where the task has one
    answers/0000.npy         to be written by the user, one array per sample
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..baselines.method import Method
from ..configs.errors import RequestError
from ..configs.loader import write_atomic
from ..leaderboards import record as records
from ..tasks import registry as tasks
from ..tasks.base import Observation, Task
from ..tasks.requests import Request
from . import environment, scoring
from .evaluator import evaluate
from .identity import content_id

MANIFEST = "manifest.json"
FORMAT = 1
FIELDS = {
    "noisy": "the degraded observation; values may leave the range of the clean signal",
    "degraded": "the degraded observation",
    "y": "the measurement, y = A(x) + noise",
    "physics": "the measurement operator A; its arrays are inputs/operator.*.npy",
    "noise_model": "the distribution of the noise",
    "noise_level": "the noise's standard deviation, for signals in [0, 1]",
    "scale": "how many times smaller the observation is than the answer",
    "kind": "what was done to the signal",
    "sample_rate": "samples per second",
    "image": "the image to be classified",
    "label": "the class asked for",
    "caption": "the caption asked for",
}
"""What the fields that tasks give mean, for the manifest's reader."""

Progress = Callable[[int, int], None]


class Submitted(Method):
    """Answers with arrays made elsewhere, in the order of the samples (so requests must hold one sample each)."""

    def __init__(self, answers: Iterator[np.ndarray]) -> None:
        super().__init__()
        self._answers = answers

    def _next(self, request: Request) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(next(self._answers), dtype=np.float32))[None]

    sample = denoise = restore = reconstruct = enhance = logits = _next


def names(count: int) -> list[str]:
    """Return the file names of ``count`` samples: 0000, 0001, ..."""
    width = max(4, len(str(count - 1)))
    return [f"{i:0{width}d}" for i in range(count)]


def expected_shape(task: Task, observation: Observation) -> tuple[int, ...]:
    """Return the shape of one answer, without batch."""
    shape = task.returns().shape or task.answer_shape(observation)
    if shape is None:
        raise RequestError(f"task {task.id} does not say which shape an answer has, so answers made elsewhere cannot be scored on it.")
    return tuple(shape)


# ------------------------------------------------------------------ inputs
def write_inputs(task_id: str, folder: Path, split: str = "test", draw: int = 0, progress: Progress | None = None) -> dict[str, Any]:
    """Write the observations of a task split below ``folder`` and return the manifest; an interrupted call is continued.

    RequestError when the folder holds something else.
    """
    task = tasks.get(task_id)
    ids = task.ids(split)
    same = {"format": FORMAT, "task": task.id, "version": task.version, "split": split, "draw": draw}
    _claim(folder, same)
    try:
        return _write(task, ids, folder, same, progress)
    except OSError as e:
        raise RequestError(f"{folder} cannot be written ({e.strerror}); give --out a folder you can write to.") from None


def _claim(folder: Path, same: Mapping[str, Any]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RequestError(f"{folder} is a file; give --out a folder.")
    if not any(folder.iterdir()):
        return
    if not (folder / MANIFEST).is_file():
        raise RequestError(f"{folder} is not empty and holds no {MANIFEST}; give --out a new folder.")
    found = read_manifest(folder)
    if any(found.get(k) != v for k, v in same.items()):
        what = f"{found.get('task')}@{found.get('version')}, split {found.get('split')}, draw {found.get('draw')}"
        raise RequestError(f"{folder} already holds the inputs of {what}; give --out another folder.")


def _write(task: Task, ids: Sequence[str], folder: Path, same: Mapping[str, Any], progress: Progress | None) -> dict[str, Any]:
    (folder / "inputs").mkdir(parents=True, exist_ok=True)
    (folder / "answers").mkdir(exist_ok=True)
    _put_manifest(folder, {**same, "complete": False})
    digest = hashlib.sha256()
    samples: list[dict[str, Any]] = []
    shared: dict[str, Any] = {}
    for k, (name, sample_id) in enumerate(zip(names(len(ids)), ids, strict=True)):
        observation = task.observe(same["split"], sample_id, same["draw"])
        digest.update(observation.hash().encode())
        if not shared:
            shared = _shared(folder, task, observation)
        entry: dict[str, Any] = {"name": name, "answer_shape": list(expected_shape(task, observation)), "given": {}}
        for field in task.spec.gives:
            if field in observation.given:
                entry["given"][field] = _field(folder, name, field, observation.given[field])
        samples.append(entry)
        if progress:
            progress(k + 1, len(ids))
    returns = task.spec.returns
    manifest = {
        **same,
        "complete": True,
        "title": task.spec.title,
        "observation_hash": digest.hexdigest(),
        "fields": {f: FIELDS.get(f, "see the task's declaration") for f in task.spec.gives},
        "shared": shared,
        "observed": dict(task.spec.observe),
        "returns": {"kind": returns["kind"], "range": returns.get("range"), "dtype": "float32",
                    "file": "answers/<name>.npy", "note": "one array per sample, of the sample's answer_shape, no batch dimension"},
        "primary": task.spec.primary,
        "samples": samples,
    }  # fmt: skip
    _put_manifest(folder, manifest)
    return manifest


def _put_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1, default=str).encode())


def _put_array(folder: Path, name: str, array: np.ndarray) -> str:
    path = folder / "inputs" / f"{name}.npy"
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, array, allow_pickle=False)
    temporary.replace(path)
    return f"inputs/{path.name}"


def _field(folder: Path, name: str, field: str, value: Any) -> Any:
    """Write one field of one sample; arrays become files, named in the manifest, plain values stand in it."""
    if isinstance(value, torch.Tensor):
        if value.ndim == 0:
            return value.item()
        array = value.numpy()
        return {"file": _put_array(folder, f"{name}.{field}", array), "shape": list(array.shape), "dtype": str(array.dtype)}
    return value


def _shared(folder: Path, task: Task, observation: Observation) -> dict[str, Any]:
    """Describe what is equal for all samples: an operator by its class, its text and its arrays."""
    out: dict[str, Any] = {}
    for field in task.spec.gives:
        value = observation.shared.get(field)
        if value is None:
            continue
        if isinstance(value, torch.nn.Module):
            arrays = {n: _put_array(folder, f"operator.{n}", t.detach().cpu().numpy()) for n, t in value.state_dict().items()}
            out[field] = {"class": f"{type(value).__module__}.{type(value).__name__}", "text": repr(value), "arrays": arrays}
        else:
            out[field] = value if isinstance(value, (str, int, float)) else repr(value)
    return out


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest; RequestError when there is none or it is damaged."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise RequestError(f"{path} cannot be read ({e.strerror}); `scorebench inputs TASK --out {folder}` makes such a folder.") from None
    except ValueError:
        raise RequestError(f"{path} is not valid JSON; write the inputs again with `scorebench inputs`.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RequestError(f"{path} is not a manifest of this version; write the inputs again with `scorebench inputs`.")
    return manifest


# ------------------------------------------------------------------ answers
def read_answers(folder: Path, manifest: Mapping[str, Any]) -> list[np.ndarray]:
    """Read every answer, in the manifest's order; RequestError names what is missing, extra, ill-shaped or not finite."""
    place = folder / "answers"
    expected = {s["name"]: tuple(s["answer_shape"]) for s in manifest["samples"]}
    found = {p.stem: p for p in sorted(place.glob("*.npy"))} if place.is_dir() else {}
    if missing := [n for n in expected if n not in found]:
        raise RequestError(f"{len(missing)} of {len(expected)} answers are missing in {place}: {_some(missing)}.")
    if extra := [n for n in found if n not in expected]:
        raise RequestError(f"{place} holds {len(extra)} files that no sample asks for: {_some(extra)}; remove them.")
    out = []
    for name, shape in expected.items():
        try:
            array = np.load(found[name], allow_pickle=False)
        except (OSError, ValueError, EOFError) as e:
            raise RequestError(f"{found[name]} is not a NumPy array file ({' '.join(str(e).split())}).") from None
        if array.dtype.kind not in "fiu":
            raise RequestError(f"{found[name]} holds {array.dtype}; expected float32.")
        if array.shape != shape:
            raise RequestError(f"{found[name]} has shape {array.shape}; expected {shape}.")
        if array.dtype.kind in "iu" and manifest["returns"]["kind"] == "image":
            raise RequestError(f"{found[name]} holds {array.dtype}; expected float32 in the range {manifest['returns']['range']}.")
        if not np.isfinite(array).all():
            raise RequestError(f"{found[name]} holds {int((~np.isfinite(array)).sum())} values that are NaN or infinite.")
        out.append(array)
    return out


def _some(items: Sequence[str], at_most: int = 5) -> str:
    shown = ", ".join(f"{i}.npy" for i in items[:at_most])
    return shown + (f" and {len(items) - at_most} more" if len(items) > at_most else "")


def check_name(name: str) -> None:
    """Raise RequestError unless ``name`` can stand for submitted outputs on a board."""
    from ..baselines.card import cards

    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,59}", name):
        raise RequestError(f"--name {name!r} is no name for a row; accepted: up to 60 lower-case letters, digits, '-', '.', '+'.")
    if name in cards():
        raise RequestError(f"--name {name!r} is the id of a registered method ({cards()[name].path}); choose another, e.g. {name}-submitted.")


def score(
    task_id: str, folder: Path, name: str, facts: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Score the answers in ``folder`` and return the record (marked ``submitted``, cost blank) with its arrays.

    RequestError when the folder belongs to another task or version, or the observations on this machine are not those it was made from.
    """
    check_name(name)
    manifest = read_manifest(folder)
    task = tasks.get(task_id)
    if (manifest["task"], manifest["version"]) != (task.id, task.version):
        raise RequestError(f"{folder} holds the inputs of {manifest['task']}@{manifest['version']}, not of {task.id}@{task.version}.")
    if not manifest.get("complete"):
        raise RequestError(f"The inputs in {folder} were not written to the end; run `scorebench inputs {task.id} --out {folder}` again.")
    split, draw = manifest["split"], manifest["draw"]
    answers = read_answers(folder, manifest)
    ids = task.ids(split)
    if len(ids) != len(answers):
        raise RequestError(f"{folder} holds {len(answers)} samples, task {task.id} has {len(ids)}; write the inputs again.")
    outcome = evaluate(
        Submitted(iter(answers)), task, split=split, draw=draw, batch_size=1, ids=ids, keep=scoring.keeper(task, ids),
        progress=None if progress is None else (lambda k: progress(k, len(ids))),
    )  # fmt: skip
    seen = scoring.observation_hash(outcome)
    if seen != manifest["observation_hash"]:
        raise RequestError(
            f"The observations of {task.id} on this machine differ from those in {folder} (another library version?); write the inputs again."
        )
    digest = hashlib.sha256()
    for array in answers:
        digest.update(np.ascontiguousarray(array, dtype=np.float32).tobytes())
    return _record(task, split, draw, name, dict(facts or {}), digest.hexdigest(), seen, outcome)


def _record(
    task: Task, split: str, draw: int, name: str, facts: dict[str, Any], answers_sha256: str, seen: str, outcome: Any
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from ..leaderboards import tracks

    spec_id = content_id("submitted", task.id, task.version, split, draw, name, facts, seen)
    env = environment.environment()
    blank = records.blank(
        unit_id=content_id(spec_id, answers_sha256), spec_id=spec_id, task=task.id, task_version=task.version, split=split, method=name,
        variant=name, seed=0, draw=draw, stochastic="none", facts=facts, track=tracks.track_of(facts), code=f"submitted:{answers_sha256}",
        environment=env, environment_key=environment.environment_key(env), data_fingerprint=task.dataset.fingerprint(),
    )  # fmt: skip
    record = records.succeed(
        blank,
        scoring.summarise(outcome, task, split),
        observation_hash=seen,
        diagnostics=scoring.diagnostics(outcome),
        provenance=environment.provenance() | {"submitted": True, "answers_sha256": answers_sha256},
    )
    arrays = scoring.arrays(outcome, task, split, draw)
    records.validate(record, arrays, bounds={n: m.bounds for n, m in task.metrics.items()}, expected_ids=list(outcome.ids))
    return record, arrays

