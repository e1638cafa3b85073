"""The one loader for YAML declarations: safe, fast, and able to say in which file and line a field is wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import RequestError, nearest

HERE = Path(__file__).resolve().parent

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """One YAML mapping read from ``path``; ``line`` finds a key's line again for error messages."""

    path: Path
    data: dict[str, Any]

    def line(self, key: Key = ()) -> int:
        """Return the 1-based line of ``key`` (a path of mapping keys and list indices), or of its nearest parent."""
        import yaml

        node = yaml.compose(self.path.read_text(encoding="utf-8"), Loader=_yaml_loader())
        line = 1
        for part in key:
            found = None
            if isinstance(node, yaml.MappingNode):
                for k, v in node.value:
                    if str(k.value) == str(part):
                        found, line = v, k.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                found = node.value[part]
                line = found.start_mark.line + 1
            if found is None:
                break
            node = found
        return line

    def error(self, message: str, key: Key = ()) -> RequestError:
        """Build the error ``file:line: message``."""
        return RequestError(f"{self.path}:{self.line(key)}: {message}")


def _yaml_loader() -> Any:
    """Return the safe loader, in C where PyYAML has it. Imported here, since a warm index needs no YAML at all."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path | str) -> Document:
    """Read one YAML mapping safely; a syntax error or a non-mapping becomes one sentence with file and line."""
    import yaml

    path = Path(path)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_yaml_loader())
    except OSError as e:
        raise RequestError(f"{path} cannot be read ({e.strerror}); check the path.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        mark = getattr(e, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = getattr(e, "problem", None) or "it is not UTF-8 text"
        raise RequestError(f"{path}{where}: not valid YAML: {problem}.") from None
    if not isinstance(data, dict):
        raise RequestError(f"{path}:1: expected a mapping of fields, found {type(data).__name__}.")
    return Document(path, data)


@dataclass(frozen=True)
class Field:
    """What one field of a declaration accepts."""

    types: tuple[type, ...]
    required: bool = False
    choices: tuple[Any, ...] = ()
    check: Callable[[Any], str | None] | None = None
    default: Any = None
    meaning: str = ""


def validate(doc: Document, fields: Mapping[str, Field], at: Key = (), closed: bool = True) -> dict[str, Any]:
    """Check the mapping at ``at`` against ``fields`` and return it with defaults filled in.

    Raises RequestError with file and line for a missing, unknown, ill-typed or out-of-range field.
    """
    data: Any = doc.data
    for part in at:
        data = data[part]
    if not isinstance(data, dict):
        raise doc.error(f"field '{_dotted(at)}' must be a mapping, not {type(data).__name__}.", at)
    for name, spec in fields.items():
        if spec.required and name not in data:
            meaning = f" ({spec.meaning})" if spec.meaning else ""
            raise doc.error(f"field '{_dotted((*at, name))}' is missing{meaning}.", at)
    out = {name: spec.default for name, spec in fields.items()}
    for name, value in data.items():
        key = (*at, name)
        if name not in fields:
            if not closed:
                out[name] = value
                continue
            close = nearest(str(name), fields)
            hint = f"did you mean '{close[0]}'?" if close else f"accepted: {', '.join(fields)}."
            raise doc.error(f"unknown field '{_dotted(key)}'; {hint}", key)
        spec = fields[name]
        if value is None and not spec.required:
            continue
        ok = isinstance(value, spec.types) and not (isinstance(value, bool) and bool not in spec.types)
        if not ok:
            names = " or ".join(t.__name__ for t in spec.types)
            raise doc.error(f"field '{_dotted(key)}' must be {names}, not {type(value).__name__} ({value!r}).", key)
        if spec.choices and value not in spec.choices:
            raise doc.error(f"field '{_dotted(key)}' is {value!r}; accepted: {', '.join(map(str, spec.choices))}.", key)
        if spec.check and (problem := spec.check(value)):
            raise doc.error(f"field '{_dotted(key)}' {problem}.", key)
        out[name] = value
    return out


def _dotted(key: Key) -> str:
    return ".".join(str(k) for k in key) or "(whole file)"


def load_object(target: str, folder: Path | None = None) -> Any:
    """Return the object that ``"module:Name"`` names.

    The module is ``scorebench``-relative when it starts with a dot (``.baselines.denoising.nlm:NLM``); otherwise absolute, or, for a
    plug-in, a ``.py`` file in ``folder``. This is the only place where scorebench imports by name, because the content hash of a unit
    follows static imports. Raises RequestError in one sentence when the module does not import or lacks the name.
    """
    from importlib import import_module, util

    module_name, _, name = target.partition(":")
    if not name:
        raise RequestError(f"target {target!r} must read 'module:Name'.")
    try:
        if module_name.startswith("."):
            module = import_module(module_name, __package__.rpartition(".")[0])
        elif folder is not None and (folder / f"{module_name}.py").is_file():
            file = (folder / f"{module_name}.py").resolve()
            full = f"scorebench_plugin_{abs(hash(str(file.parent)))}_{module_name}"
            if full in sys.modules:
                module = sys.modules[full]
            else:
                spec = util.spec_from_file_location(full, file)
                assert spec is not None and spec.loader is not None
                module = util.module_from_spec(spec)
                sys.modules[full] = module
                try:
                    spec.loader.exec_module(module)
                except BaseException:
                    del sys.modules[full]
                    raise
        else:
            module = import_module(module_name)
    except Exception as e:
        reason = " ".join(str(e).split()) or "no message"
        raise RequestError(f"module {module_name!r} of target {target!r} does not import: {type(e).__name__}: {reason}.") from e
    if not hasattr(module, name):
        raise RequestError(f"module {module_name!r} has no {name!r}; the target {target!r} must name something defined in it.")
    return getattr(module, name)


def home() -> Path:
    """Return ``$SCOREBENCH_HOME`` (default: scorebench in the user's cache directory)."""
    if given := os.environ.get("SCOREBENCH_HOME"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "scorebench"


@dataclass
class Index:
    """Parsed YAML files kept as one JSON file, each keyed by (path, mtime, size), so that a list of cards need not parse them again."""

    name: str
    _entries: dict[str, Any] = field(default_factory=dict)
    _dirty: bool = False

    def __post_init__(self) -> None:
        self.file = home() / "index" / f"{self.name}.json"
        try:
            self._entries = json.loads(self.file.read_text())
        except (OSError, ValueError):
            self._entries = {}
        if not isinstance(self._entries, dict):
            self._entries = {}

    def documents(self, paths: Iterable[Path]) -> list[Document]:
        """Return the parsed documents of ``paths``, reading only those that changed since they were indexed."""
        out = []
        for path in paths:
            stat = path.stat()
            key, mark = str(path), [stat.st_mtime_ns, stat.st_size]
            entry = self._entries.get(key)
            if entry is None or entry[0] != mark:
                data = read(path).data
                try:
                    plain = json.loads(json.dumps(data)) == data
                except (TypeError, ValueError):
                    plain = False
                if plain:  # only what JSON gives back unchanged is indexed (no dates, no integer keys)
                    self._entries[key] = [mark, data]
                    self._dirty = True
                out.append(Document(path, data))
            else:
                out.append(Document(path, entry[1]))
        if self._dirty:
            self._save()
        return out

    def _save(self) -> None:
        try:
            write_atomic(self.file, json.dumps(self._entries).encode())
            self._dirty = False
        except OSError:
            pass  # a read-only home costs speed only


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` so that a reader sees the old file or the new one, and a crash leaves no half of either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
