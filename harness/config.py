"""A user's defaults: ``scorebench.toml`` in the working directory or above it, else in the user's configuration directory.

    store = "runs"              # relative to the folder of the file
    include = ["my_method"]     # plug-in folders, relative likewise
    profile = "gpu"             # one of the profiles below
    executor = "process"
    workers = 2

    [profiles.gpu]
    executor = "inline"
    device = "cuda"
    batch_size = 32

The command line's own options win over the profile, and the profile over the file's top level.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..configs.errors import RequestError, nearest

NAME = "scorebench.toml"
PROFILE_FIELDS: dict[str, type] = {
    "executor": str, "workers": int, "device": str, "precision": str, "batch_size": int, "time_limit": str, "memory_limit": str,
    "retries": int, "max_failures": int, "ray": dict, "slurm": dict,
}  # fmt: skip
"""What a profile (and the file's top level) may set: the options of ``scorebench run`` that say how, never what."""
EXECUTORS = ("inline", "process", "ray", "slurm")
TABLES: dict[str, dict[str, tuple[type, ...]]] = {
    "ray": {"address": (str,), "cpus": (int, float), "gpus": (int, float)},
    "slurm": {
        "partition": (str,), "account": (str,), "qos": (str,), "constraint": (str,), "time": (str, int), "cpus": (int,), "gpus": (int,),
        "mem": (str,), "setup": (list,), "units_per_job": (int,), "array": (int,), "requeues": (int,), "signal_s": (int,), "options": (dict,),
        "cluster": (str,),
    },
}  # fmt: skip
"""The tables of a profile for one executor; docs/cluster.md says what each field means."""
_TOP: dict[str, type] = {"store": str, "include": list, "profile": str, "profiles": dict, **PROFILE_FIELDS}


@dataclass(frozen=True)
class Config:
    """The defaults in force. ``path`` is the file they came from, None where there is none."""

    store: Path = Path("runs")
    include: tuple[Path, ...] = ()
    profile: str | None = None
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    how: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def execution(self, profile: str | None = None) -> dict[str, Any]:
        """Return the execution options: the file's own, then those of ``profile`` (or of the file's default profile)."""
        name = profile or self.profile
        if name is None:
            return dict(self.how)
        if Path(name).suffix in (".yaml", ".yml", ".toml"):
            return {**self.how, **profile_file(Path(name).expanduser())}
        if name not in self.profiles:
            close = nearest(name, self.profiles)
            known = ", ".join(self.profiles) or "none"
            hint = f"did you mean {close[0]}?" if close else f"declared: {known}."
            raise RequestError(f"Unknown profile {name!r}; {hint} Profiles are tables [profiles.NAME] of {self.path or NAME}")
        return {**self.how, **self.profiles[name]}


def user_file() -> Path:
    """Return where the user's own file would be: ``$XDG_CONFIG_HOME/scorebench/scorebench.toml``."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".config") / "scorebench" / NAME


def find(start: Path | None = None) -> Path | None:
    """Return the nearest ``scorebench.toml`` at or above ``start`` (default: the working directory), else the user's, else None."""
    start = (start or Path.cwd()).resolve()
    candidates = [folder / NAME for folder in (start, *start.parents)] + [user_file()]
    return next((c for c in candidates if c.is_file()), None)


def load(start: Path | None = None) -> Config:
    """Read the defaults in force; RequestError in one sentence when the file is wrong."""
    path = find(start)
    if path is None:
        return Config()
    import tomllib  # only where there is a file

    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise RequestError(f"{path} cannot be read ({e.strerror}); check its permissions.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise RequestError(f"{path}: not valid TOML: {e}") from None
    _check(path, data, _TOP, "")
    profiles = data.get("profiles", {})
    for name, values in profiles.items():
        if not isinstance(values, dict):
            raise RequestError(f"{path}: 'profiles.{name}' must be a table, [profiles.{name}].")
        _check(path, values, PROFILE_FIELDS, f"profiles.{name}.")
    include = data.get("include", [])
    if not all(isinstance(i, str) for i in include):
        raise RequestError(f"{path}: 'include' must be a list of folders.")
    config = Config(
        store=path.parent / Path(data["store"]).expanduser() if "store" in data else Path("runs"),
        include=tuple(path.parent / Path(i).expanduser() for i in include),
        profile=data.get("profile"),
        profiles=profiles,
        how={k: data[k] for k in PROFILE_FIELDS if k in data},
        path=path,
    )
    config.execution()
    return config


def profile_file(path: Path) -> dict[str, Any]:
    """Read a profile that stands in a file of its own, in YAML or TOML; RequestError in one sentence when it is wrong."""
    if path.suffix == ".toml":
        import tomllib

        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as e:
            raise RequestError(f"{path} cannot be read ({e.strerror}); check the path.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise RequestError(f"{path}: not valid TOML: {e}") from None
    else:
        from ..configs.loader import read

        data = read(path).data
    _check(path, data, PROFILE_FIELDS, "")
    return data


def _check_table(path: Path, name: str, table: Mapping[str, Any], prefix: str) -> None:
    fields = TABLES[name]
    for key, value in table.items():
        if key not in fields:
            close = nearest(key, fields)
            hint = f"did you mean '{close[0]}'?" if close else f"accepted: {', '.join(fields)}."
            raise RequestError(f"{path}: unknown field '{prefix}{name}.{key}'; {hint}")
        if not isinstance(value, fields[key]) or isinstance(value, bool):
            kinds = " or ".join(t.__name__ for t in fields[key])
            raise RequestError(f"{path}: field '{prefix}{name}.{key}' must be {kinds}, not {value!r}.")
        least = 0 if key in ("gpus", "requeues") else 1
        if isinstance(value, int) and value < least:
            raise RequestError(f"{path}: field '{prefix}{name}.{key}' is {value}; accepted: {least} or more.")


def _check(path: Path, data: dict[str, Any], fields: Mapping[str, type], prefix: str) -> None:
    for name, value in data.items():
        if name not in fields:
            close = nearest(name, fields)
            hint = f"did you mean '{close[0]}'?" if close else f"accepted: {', '.join(fields)}."
            raise RequestError(f"{path}: unknown field '{prefix}{name}'; {hint}")
        if not isinstance(value, fields[name]) or isinstance(value, bool):
            raise RequestError(f"{path}: field '{prefix}{name}' must be {fields[name].__name__}, not {value!r}.")
        if name == "executor" and value not in EXECUTORS:
            raise RequestError(f"{path}: field '{prefix}{name}' is {value!r}; accepted: {', '.join(EXECUTORS)}.")
        least = 0 if name == "retries" else 1
        if isinstance(value, int) and value < least:
            raise RequestError(f"{path}: field '{prefix}{name}' is {value}; accepted: {least} or more.")
        if name in TABLES:
            assert isinstance(value, dict)
            _check_table(path, name, value, prefix)
