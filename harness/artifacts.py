"""Stored fits and priors: each trained once under its complete content key, by whoever comes first, and verified whenever it is used."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..configs.errors import RequestError, RunError
from ..configs.loader import HERE, home, read, write_atomic
from . import weights
from .claims import hold
from .environment import environment_key
from .unit import ArtifactRef

if TYPE_CHECKING:
    import torch

PACKAGE = HERE.parent
PINS = HERE / "pins.yaml"
SHIPPED = PACKAGE / "baselines" / "weights"
LARGEST = 4 * 1024 * 1024
"""Bytes a pinned file may have."""


@dataclass(frozen=True)
class Artifact:
    """Trained weights on disk and what is known about them. ``fresh``: they were trained by this call."""

    ref: ArtifactRef
    path: Path
    meta: dict[str, Any]
    pinned: bool = False
    fresh: bool = False

    @property
    def sha256(self) -> str:
        return self.meta["sha256"]

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights (float16 widened to float32), ready for ``load_state_dict``."""
        return weights.load(self.path)

    def entry(self) -> dict[str, Any]:
        """Return what a record says about the component."""
        entry = {"key": self.ref.key, "sha256": self.sha256, "pinned": self.pinned, "seed": self.ref.seed, "owner": self.ref.owner}
        if self.meta.get("environment"):
            entry["trained_in"] = environment_key(self.meta["environment"])
        if self.stale:
            entry["stale"] = True
        return entry

    @property
    def stale(self) -> bool:
        """Whether shipped weights were trained by other code than would train them now: they are still what the record's sha256 says."""
        return self.pinned and self.meta.get("code") not in ("", None, self.ref.key)


def folder_of(ref: ArtifactRef) -> Path:
    """Return where the artifact is stored, whether or not it is there yet."""
    return home() / "artifacts" / ref.key


def find(ref: ArtifactRef, pins: bool = True, say: Callable[[str], None] | None = None) -> Artifact | None:
    """Return the stored (or, with ``pins``, the shipped) artifact, verified against its sha256; None when it must be trained.

    RunError when a shipped file is not what the package says it is.
    """
    if pins and (pin := pin_of(ref)) is not None:
        path = PACKAGE / pin["file"]
        if not path.is_file() or weights.sha256(path) != pin["sha256"]:
            raise RunError(f"the shipped weights {path} are missing or damaged; install scorebench again, or run with --no-pins to train them.")
        return Artifact(ref, path, {k: v for k, v in pin.items() if k not in ("file", "name")}, pinned=True)
    folder = folder_of(ref)
    path = folder / "weights.safetensors"
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if weights.sha256(path) == meta["sha256"]:
            return Artifact(ref, path, meta)
        problem = "the sha256 of its weights is wrong"
    except FileNotFoundError:
        if not folder.exists():
            return None
        problem = "a file is missing"
    except (OSError, ValueError, KeyError, TypeError) as e:
        problem = str(e)
    (say or _to_stderr)(f"stored {ref} ({folder}) is damaged: {problem}; it is trained again.")
    return None


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


def ensure(
    ref: ArtifactRef,
    make: Callable[[Path], Mapping[str, Any] | None],
    *,
    pins: bool = True,
    say: Callable[[str], None] | None = None,
) -> Artifact:
    """Return the artifact, training it if nobody has: whoever comes first trains, others wait and use the result.

    ``make(folder)`` writes ``folder/weights.safetensors`` (with `weights.save`, which rounds) and returns what is worth knowing
    (train_s, train_samples, train_gflops, losses, ...) for ``meta.json``. The claim of a dead trainer is taken over.
    """
    if (found := find(ref, pins, say)) is not None:
        return found
    final = folder_of(ref)
    tell = say or _to_stderr
    with _storing(ref):
        (final.parent / ".claims").mkdir(parents=True, exist_ok=True)
        _probe(final.parent)
    with hold(final.parent / ".claims", ref.key, lambda: tell(f"waiting for another process to train {ref}.")):
        if (found := find(ref, pins, lambda _: None)) is not None:
            return found
        for left_behind in final.parent.glob(f".{ref.key}.*.tmp"):  # by a trainer that was killed: the claim says nobody else is here
            shutil.rmtree(left_behind, ignore_errors=True)
        temporary = final.parent / f".{ref.key}.{os.getpid()}.tmp"
        try:
            with _storing(ref):
                temporary.mkdir(parents=True)
            report = make(temporary)
            path = temporary / "weights.safetensors"
            if not path.is_file():
                raise RunError(f"training {ref} wrote no weights.")
            meta = {
                "kind": ref.kind, "owner": ref.owner, "task": ref.task, "trains_on": ref.trains_on, "hparams": ref.hparams, "seed": ref.seed,
                "gflops": ref.gflops, "key": ref.key, "recipe": ref.recipe, "needs": {n.role: n.key for n in ref.needs},
                **(report or {}), "sha256": weights.sha256(path),
            }  # fmt: skip
            with _storing(ref):
                write_atomic(temporary / "meta.json", json.dumps(meta, indent=1, default=str).encode())
                _sync(path)
                if final.exists():
                    shutil.rmtree(final)  # damaged; whoever has it open keeps his copy
                temporary.rename(final)
                _sync(final.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Artifact(ref, final / "weights.safetensors", meta, fresh=True)


@contextmanager
def _storing(ref: ArtifactRef) -> Iterator[None]:
    """Turn what the home folder cannot take into one sentence."""
    try:
        yield
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        raise RunError(f"{ref} cannot be stored in {home() / 'artifacts'} ({reason}); free some space, or set SCOREBENCH_HOME.") from e


def _probe(folder: Path) -> None:
    probe = folder / f".probe.{os.getpid()}"
    probe.touch()
    probe.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ------------------------------------------------------------------ pinned weights
@lru_cache(maxsize=8)
def _pins(path: Path, mtime: int) -> dict[str, dict[str, Any]]:
    entries = read(path).data.get("pins") or []
    for number, entry in enumerate(entries):
        for name in ("name", "recipe", "file", "sha256"):
            if not isinstance(entry, dict) or not isinstance(entry.get(name), str):
                raise RequestError(f"{path}: entry {number + 1} of 'pins' lacks {name!r}.")
    return {e["recipe"]: e for e in entries}


def pins() -> dict[str, dict[str, Any]]:
    """Return the weights that ship with the package, by recipe."""
    try:
        return _pins(PINS, PINS.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}


def pin_of(ref: ArtifactRef) -> dict[str, Any] | None:
    """Return the pin whose recipe is the component's, None when there is none."""
    return pins().get(ref.recipe) if ref.trained else None


def _curve(losses: Sequence[Sequence[float]], points: int = 20) -> dict[str, Any]:
    """Return the loss curve thinned to about so many points, each the mean of the batches since the last: ``losses``, [step, loss] pairs."""
    size = max(1, len(losses) // points)
    parts = [losses[k : k + size] for k in range(0, len(losses), size)]
    return {"losses": [[int(p[-1][0]), float(f"{sum(v for _, v in p) / len(p):.3g}")] for p in parts]} if losses else {}


def pin(artifact: Artifact, name: str, command: str = "", code: str = "") -> dict[str, Any]:
    """Ship an artifact: copy its weights to ``baselines/weights/<name>.safetensors`` and write its entry to ``configs/pins.yaml``.

    ``command`` is what reproduces it, ``code`` the hash of the code that trained it. An entry of the same name or recipe is replaced.
    """
    size = artifact.path.stat().st_size
    if size > LARGEST:
        raise RequestError(f"{artifact.ref} has {size / 1e6:.1f} MB of weights; a pinned file has at most {LARGEST / 1e6:.1f} MB.")
    ref = artifact.ref
    keep = ("train_s", "train_samples", "train_gflops", "steps", "params")
    entry = {
        "name": name, "recipe": ref.recipe, "file": f"baselines/weights/{name}.safetensors", "sha256": artifact.sha256, "owner": ref.owner,
        "kind": ref.kind, "task": ref.task, "seed": ref.seed, "command": command, "code": code,
        **{k: artifact.meta[k] for k in keep if k in artifact.meta}, **_curve(artifact.meta.get("losses") or []),
    }  # fmt: skip
    write_atomic(SHIPPED / f"{name}.safetensors", artifact.path.read_bytes())
    entries = [e for e in pins().values() if e["name"] != name and e["recipe"] != ref.recipe]
    entries = sorted([*entries, entry], key=lambda e: e["name"])
    head = "# Weights that ship with the package, by recipe (a fit's or prior's key without its code); written by harness.artifacts.pin.\n"
    write_atomic(PINS, (head + yaml.safe_dump({"pins": entries}, sort_keys=False, width=140)).encode())
    return entry
