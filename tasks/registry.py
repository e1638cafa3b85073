"""The registry of tasks: declarations of `configs/tasks` (and of plug-in folders), and the family classes that run them.

`specs` and `get_spec` import neither torch nor numpy; `get` does.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..configs.errors import RequestError, unknown
from ..configs.loader import HERE, Index, load_object
from .spec import FAMILIES, TaskSpec, parse

if TYPE_CHECKING:
    from .base import Task

CLASSES = {
    "generation": ".tasks.generation:GenerationTask",
    "denoising": ".tasks.denoising:DenoisingTask",
    "denoising:low-dose-ct": ".tasks.lowdose:LowDoseTask",
    "denoising:eeg": ".tasks.eeg:EEGTask",
    "denoising:vit-features": ".tasks.vit_features:FeatureTask",
    "denoising:c-alpha": ".tasks.c_alpha:CAlphaTask",
    "denoising:raw": ".tasks.raw:RawTask",
    "restoration": ".tasks.restoration:RestorationTask",
    "restoration:mosaic": ".tasks.mosaic:MosaicTask",
    "restoration:mosaic-sensor": ".tasks.mosaic_sensor:SensorMosaicTask",
    "restoration:isp": ".tasks.mosaic:RGBToRawTask",
    "inverse": ".tasks.inverse:InverseTask",
    "inverse:cubes": ".tasks.completion:CompletionTask",
    "speech": ".tasks.speech:SpeechTask",
    "classification": ".tasks.classification:ClassificationTask",
}
"""The class that runs a family's tasks; ``family:signal`` where ``options.signal`` says that a task is not about what the family usually is."""

_EXTRA: list[Path] = []


def include(folder: Path) -> None:
    """Add the task files (``tasks/*.yaml``) of a plug-in folder."""
    if folder not in _EXTRA:
        _EXTRA.append(folder)
        specs.cache_clear()
        get.cache_clear()


@lru_cache(maxsize=1)
def specs() -> dict[str, TaskSpec]:
    """Return every declared task, by id, in the order of the file names."""
    paths = sorted((HERE / "tasks").glob("*.yaml"))
    for folder in _EXTRA:
        paths += sorted((folder / "tasks").glob("*.yaml"))
    out: dict[str, TaskSpec] = {}
    for doc in Index("tasks").documents(paths):
        # one file may declare several tasks that differ in a level: a list `tasks:` of overrides of the shared fields
        for spec in _expand(doc):
            if spec.id in out:
                raise doc.error(f"task id {spec.id!r} is already declared in {out[spec.id].path}; ids are unique.", ("id",))
            out[spec.id] = spec
    return out


def _expand(doc):  # type: ignore[no-untyped-def]
    from ..configs.loader import Document

    variants = doc.data.get("variants")
    if variants is None:
        return [parse(doc)]
    if not isinstance(variants, list) or not variants:
        raise doc.error("field 'variants' must be a list of mappings.", ("variants",))
    base = {k: v for k, v in doc.data.items() if k != "variants"}
    return [parse(Document(doc.path, _merge(base, v))) for v in variants]


def _merge(base: dict, over: dict) -> dict:
    out = dict(base)
    for k, v in over.items():
        out[k] = _merge(out[k], v) if isinstance(v, dict) and isinstance(out.get(k), dict) else v
    return out


def get_spec(task_id: str) -> TaskSpec:
    """Return one task's declaration; RequestError with the nearest names when unknown.

    ``TASK:PATH``, for a task on the data set ``folder``, is that task on the files of another folder.
    """
    known = specs()
    if task_id not in known:
        base, _, path = task_id.partition(":")
        if path and base in known and known[base].dataset == "folder":
            place = Path(path).expanduser().resolve()
            return replace(known[base], id=f"{base}:{place}", dataset=f"folder:{place}", title=f"{known[base].title}: {place}")
        raise unknown("task", task_id, known)
    return known[task_id]


def match(patterns: list[str] | tuple[str, ...]) -> list[str]:
    """Return the ids that ids, families or glob patterns name, in order; an unknown one is a RequestError."""
    from fnmatch import fnmatchcase

    known = list(specs())
    out: list[str] = []
    for pattern in patterns:
        hits = [i for i in known if fnmatchcase(i, pattern) or i.split("/")[0] == pattern] if pattern != "all" else known
        if not hits and ":" in pattern:
            hits = [get_spec(pattern).id]
        if not hits:
            raise unknown("task", pattern, known if "/" in pattern else [*known, *FAMILIES, "all"])
        out += [i for i in hits if i not in out]
    if not out:
        raise RequestError("No task was named; give one with -t TASK, `scorebench list tasks` shows all.")
    return out


@cache
def get(task_id: str) -> Task:
    """Return the task ``task_id``, ready to be run."""
    spec = get_spec(task_id)
    signal = spec.options.get("signal")
    name = f"{spec.family}:{signal}" if signal else spec.family
    if name not in CLASSES:
        accepted = ", ".join(n.split(":")[1] for n in CLASSES if n.startswith(f"{spec.family}:")) or "none"
        raise RequestError(f"task {task_id}: 'options.signal' is {signal!r}; accepted for {spec.family} tasks: {accepted}.")
    return load_object(CLASSES[name])(spec)
