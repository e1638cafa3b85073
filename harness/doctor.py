"""What `scorebench doctor` checks: is this machine able to run the benchmarks, and what is missing for the rest."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

from ..configs.errors import ScorebenchError
from ..configs.loader import home
from .config import Config

State = Literal["ok", "note", "problem"]

LIBRARIES = ("torch", "torchvision", "lightning", "torchmetrics", "deepinv", "numpy", "scipy", "scikit-image", "scikit-learn", "wandb")
EXTRAS = {
    "ray": ("ray", "for an executor that this version does not have yet"),
    "slurm": ("submitit", "for an executor that this version does not have yet"),
    "speech": ("pesq", "for the PESQ metric; needs a C compiler"),
    "diffusers": ("diffusers", "for priors from diffusers checkpoints"),
}
"""Extra of the package: the module it installs and what that is good for."""


@dataclass(frozen=True)
class Check:
    """One finding: ok, a note (something optional is absent), or a problem (something does not work)."""

    group: str
    name: str
    state: State
    message: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(config: Config, store: Path) -> Iterator[Check]:
    """Yield every check, cheap ones first; none of them changes anything but a probe file that is removed at once."""
    yield from _versions()
    yield from _machine()
    yield _writable("home", home(), "set SCOREBENCH_HOME to a folder you can write to")
    yield _writable("store", store, "give --store DIR, or set store in scorebench.toml")
    yield Check("folders", "defaults", "ok", str(config.path) if config.path else "no scorebench.toml here or above")
    yield from _data()
    yield from _weights()
    yield from _pins()
    for extra, (module, use) in EXTRAS.items():
        here = util.find_spec(module) is not None
        how = "installed" if here else f"not installed: `pip install 'scorebench[{extra}]'`"
        yield Check("extras", extra, "ok" if here else "note", f"{how}, {use}")


def _versions() -> Iterator[Check]:
    from .. import __version__

    python = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 12)
    yield Check("versions", "scorebench", "ok", f"{__version__} in {Path(__file__).resolve().parents[1]}")
    yield Check("versions", "python", "ok" if fits else "problem", python if fits else f"{python}; scorebench supports 3.11 and 3.12")
    for name in LIBRARIES:
        try:
            yield Check("versions", name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check("versions", name, "problem", "not installed; install scorebench again in this environment")


def _machine() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError) as e:
        yield Check("machine", "torch", "problem", f"does not import: {' '.join(str(e).split())}")
        return
    from .environment import cores

    total, free = _memory()
    yield Check("machine", "cores", "ok", f"{cores()} ({platform.machine()}, {platform.system()})")
    small = 0 < total < 3
    yield Check("machine", "memory", "note" if small else "ok", f"{total:.1f} GB, {free:.1f} GB free" if total else "unknown")
    set_by = f", OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}" if "OMP_NUM_THREADS" in os.environ else ""
    yield Check("machine", "torch threads", "ok", f"{torch.get_num_threads()}{set_by}")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield Check("machine", "GPU", "ok", f"{names} (CUDA {torch.version.cuda})")
    else:
        yield Check("machine", "GPU", "note", "none that torch can use; everything embedded runs on the CPU")


def _memory() -> tuple[float, float]:
    """Return total and available memory in GB; zeros where the system does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0.0, 0.0
    kb = {line.split(":")[0]: float(line.split()[1]) for line in text.splitlines() if len(line.split()) > 1}
    return kb.get("MemTotal", 0.0) / 2**20, kb.get("MemAvailable", 0.0) / 2**20


def _writable(name: str, folder: Path, remedy: str) -> Check:
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            return Check("folders", name, "ok", f"{folder.absolute()} ({'exists' if existing == folder.absolute() else 'will be made'})")
    except OSError as e:
        return Check("folders", name, "problem", f"{folder.absolute()} cannot be written ({e.strerror}); {remedy}")


def data_folders() -> list[Path]:
    """Return the folders that ``$SCOREBENCH_DATA`` names."""
    return [Path(p).expanduser() for p in os.environ.get("SCOREBENCH_DATA", "").split(os.pathsep) if p]


def _data() -> Iterator[Check]:
    from ..datasets import registry

    folders = data_folders()
    if not folders:
        yield Check("data", "SCOREBENCH_DATA", "note", "not set; the embedded datasets need nothing, the others are looked for there")
    for folder in folders:
        here = folder.is_dir()
        yield Check("data", "SCOREBENCH_DATA", "ok" if here else "problem", str(folder) if here else f"{folder} is not a folder")
    here_ids: list[str] = []
    missing: list[str] = []
    for dataset_id in registry.known():
        (here_ids if registry.get(dataset_id).missing() is None else missing).append(dataset_id)
    yield Check("data", "found", "ok", ", ".join(here_ids))
    if missing:
        yield Check("data", "missing", "note", f"{', '.join(missing)}; `scorebench data list` says where each belongs")


def _weights() -> Iterator[Check]:
    from ..tasks.metrics.weights import WEIGHTS

    for weight in WEIGHTS.values():
        why = weight.missing("it")
        if why is None:
            yield Check("weights", weight.id, "ok", str(weight.path))
        else:
            absent = not weight.path.is_file()
            text = f"not here: `scorebench data fetch weights:{weight.id}`" if absent else why.because
            yield Check("weights", weight.id, "note" if absent else "problem", text)


def _pins() -> Iterator[Check]:
    from . import artifacts, weights

    try:
        pins = artifacts.pins().values()
    except ScorebenchError as e:
        yield Check("weights", "pinned", "problem", str(e))
        return
    damaged = []
    for pin in pins:
        path = artifacts.PACKAGE / pin["file"]
        if not path.is_file() or weights.sha256(path) != pin["sha256"]:
            damaged.append(pin["name"])
    if damaged:
        message = f"{', '.join(damaged)}: missing or damaged; install scorebench again, or run with --no-pins"
        yield Check("weights", "pinned", "problem", message)
    else:
        yield Check("weights", "pinned", "ok", f"{len(pins)} shipped files, every sha256 as declared")

