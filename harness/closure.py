"""The code hash of a unit: the closure over static imports of the modules it declares, and whole plug-in folders.

A file counts by its text without comments, docstrings and blank lines, so that explaining code does not invalidate weeks of records.
(A statement that is only a string literal has no effect but ``__doc__``; a method must not compute with that.) What only *selects* what is
run does not count, because what it selects stands in the spec id: `configs`, the registries, cards, plan, executors, command line.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import sys
import tokenize
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..configs.errors import RequestError
from ..configs.loader import HERE, home, write_atomic

ROOT = HERE.parent
PACKAGE = __package__.partition(".")[0]

UNCOUNTED = (
    "configs", "leaderboards", "datasets.registry", "tasks.registry", "tasks.spec", "tasks.metrics.registry",
    "baselines.registry", "baselines.card", "baselines.components",
    "harness.artifacts", "harness.claims", "harness.cli", "harness.closure", "harness.config", "harness.controller", "harness.environment",
    "harness.executors", "harness.identity", "harness.plan", "harness.progress", "harness.suites", "harness.unit",
)  # fmt: skip
"""Modules (and what is below them) that decide which unit is run, keep books, or say why it failed; none computes a number.

They are also where the closure ends: a registry loads by name, and what it loads is a declared root of the unit."""

HARNESS = (".harness.runner", ".harness.evaluator", ".harness.training")
"""Roots of every unit."""


def stripped(source: str) -> str:
    """Return the source without comments, blank lines, trailing spaces and statements that are only a string literal."""
    lines = source.splitlines()
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    inside: set[int] = set()  # lines whose end lies in a string: their spaces and emptiness are content
    dead: set[int] = set()
    cut: dict[int, int] = {}
    statement: list[tokenize.TokenInfo] = []
    opened = 0
    fstring_start = getattr(tokenize, "FSTRING_START", -1)  # Python 3.12 splits f-strings into tokens
    fstring_end = getattr(tokenize, "FSTRING_END", -1)
    starts: list[int] = []
    for token in tokens:
        if token.type == tokenize.COMMENT:
            cut[token.start[0]] = token.start[1]
            continue
        if token.type == fstring_start:
            starts.append(token.start[0])
        elif token.type == fstring_end:
            inside.update(range(starts.pop(), token.end[0]))
        elif token.type == tokenize.STRING:
            inside.update(range(token.start[0], token.end[0]))
        if token.type == tokenize.NEWLINE:
            if statement and all(t.type == tokenize.STRING and "f" not in t.string.split(t.string[-1])[0].lower() for t in statement):
                first, last = statement[0].start[0], token.end[0]
                alone = not lines[first - 1][: statement[0].start[1]].strip() and opened != first
                if alone and last == token.start[0]:
                    dead.update(range(first, last + 1))
            statement = []
            opened = token.start[0] if token.string == ";" else 0
        elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            statement.append(token)
    out = []
    for number, line in enumerate(lines, 1):
        if number in dead:
            continue
        if number in inside:
            out.append(line)
            continue
        text = line[: cut.get(number, len(line))].rstrip()
        if text or number - 1 in inside:
            out.append(text)
    return "\n".join(out)


def _type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING")


def _statements(node: ast.AST) -> Iterable[ast.stmt]:
    """Yield every import below ``node``, in functions too, but not what only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and _type_checking(child.test):
            for other in child.orelse:
                yield from ([other] if isinstance(other, (ast.Import, ast.ImportFrom)) else _statements(other))
        else:
            yield from _statements(child)


def imports(source: str, module: str, is_package: bool) -> list[str]:
    """Return the absolute names that ``source`` imports statically: modules, and ``module.name`` for every ``from module import name``."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    out: list[str] = []
    for node in _statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            out += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *(node.module.split(".") if node.module else [])])
            out += [f"{stem}.{alias.name}" for alias in node.names]
            if stem != PACKAGE:  # `from scorebench import Method` reaches one lazy attribute, `import scorebench` all of them
                out.append(stem)
    return sorted(set(out))


class Closure:
    """Hashes and imports of files, remembered by (path, mtime, size) in the home folder's index."""

    def __init__(self) -> None:
        self.file = home() / "index" / "closure.json"
        try:
            known = json.loads(self.file.read_text())
        except (OSError, ValueError):
            known = {}
        self._known: dict[str, Any] = known.get("files", {}) if isinstance(known, dict) and known.get("format") == _own_format() else {}
        self._now: dict[Path, tuple[str, list[str]]] = {}
        self._new = False

    def look(self, path: Path, module: str) -> tuple[str, list[str]]:
        """Return the content hash of a Python file and what it imports."""
        if path in self._now:
            return self._now[path]
        stat = path.stat()
        mark = [stat.st_mtime_ns, stat.st_size, module]
        entry = self._known.get(str(path))
        if entry is None or entry[0] != mark:
            content = path.read_bytes()
            try:
                source = content.decode("utf-8")
                text, names = stripped(source), imports(source, module, path.name == "__init__.py")
            except (SyntaxError, tokenize.TokenError, UnicodeDecodeError):  # it will fail to import; until then it counts by its bytes
                text, names = content.hex(), []
            entry = [mark, hashlib.sha256(text.encode()).hexdigest(), names]
            self._known[str(path)] = entry
            self._new = True
        self._now[path] = (entry[1], entry[2])
        return self._now[path]

    def save(self) -> None:
        """Write the index; a home folder that is not writable costs speed only."""
        if not self._new:
            return
        try:
            write_atomic(self.file, json.dumps({"format": _own_format(), "files": self._known}).encode())
            self._new = False
        except OSError:
            return

    # ------------------------------------------------------------------ the closure
    def files(self, roots: Iterable[str]) -> dict[str, str]:
        """Return module name to content hash of all counted package modules that ``roots`` (absolute names) reach, themselves included."""
        out: dict[str, str] = {}
        todo = list(roots)
        seen: set[str] = set()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            if name == PACKAGE:
                todo += _lazy().values()
            elif (lazy := _lazy().get(name.removeprefix(PACKAGE + "."))) is not None:
                todo.append(lazy)
            path = _package_file(name)
            if path is None or not counted(name):
                continue
            digest, names = self.look(path, name)
            out[name] = digest
            todo += [n for n in names if n.partition(".")[0] == PACKAGE]
        return out

    def folder(self, folder: Path) -> tuple[dict[str, str], set[str]]:
        """Return (file name to content hash, modules imported) of a plug-in folder.

        Left out: hidden files, caches, cards and tasks (resolved into the spec), texts, tests, and folders that are stores of records.
        """
        out: dict[str, str] = {}
        names: set[str] = set()
        for path in _plugin_files(folder):
            key = path.relative_to(folder).as_posix()
            if path.suffix == ".py":
                out[key], found = self.look(path, ".".join(path.relative_to(folder).with_suffix("").parts))
                names.update(found)
            else:
                out[key] = _hashes().file_hash(path)
        return out, names


@cache
def _hashes() -> Any:
    from .identity import FileHashes

    return FileHashes()


def flush() -> None:
    """Keep the hashes of plug-in files for the next process."""
    _hashes().save()


@cache
def _own_format() -> str:
    """Return a mark of this module, so that an index written by another version of it is not used."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


@cache
def _lazy() -> dict[str, str]:
    """Return the lazy attributes of the package's root (PEP 562): attribute to absolute module."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "_LAZY" for t in node.targets):
            return {k: f"{PACKAGE}.{v[0]}" for k, v in ast.literal_eval(node.value).items()}
    return {}


@cache
def _package_file(name: str) -> Path | None:
    """Return the file of a module of this package; None for anything else (an attribute, another package, the root)."""
    parts = name.split(".")
    if parts[0] != PACKAGE or len(parts) == 1:
        return None
    for path in (ROOT.joinpath(*parts[1:-1], parts[-1] + ".py"), ROOT.joinpath(*parts[1:], "__init__.py")):
        if path.is_file():
            return path
    return None


@cache
def counted(name: str) -> bool:
    """Whether a module of the package counts (see `UNCOUNTED`)."""
    inner = name.removeprefix(PACKAGE + ".")
    return not any(inner == u or inner.startswith(u + ".") for u in UNCOUNTED)


MOST = 5000
"""Files a plug-in's folder may have."""
_ASIDE = ("tests", "build", "dist", "runs", "wandb", "pyproject.toml", "scorebench.toml", "conftest.py")
_SUFFIXES_ASIDE = (".pyc", ".md", ".rst", ".egg-info")


def _plugin_files(folder: Path) -> list[Path]:
    out: list[Path] = []
    todo = [folder]
    while todo:
        for path in sorted(todo.pop().iterdir()):
            if path.name.startswith((".", "__pycache__", "test_")) or path.name in _ASIDE or path.suffix in _SUFFIXES_ASIDE:
                continue
            if path.is_dir():
                if not (path / "ledger").is_dir():
                    todo.append(path)
            elif path.is_file() and not _declaration(path, folder):
                out.append(path)
        if len(out) > MOST:
            raise RequestError(f"{folder} holds more than {MOST} files, which all count as the method's code; give the method its own folder.")
    return sorted(out)


def _declaration(path: Path, folder: Path) -> bool:
    """Whether a file is a card or a task: what they say is resolved into the spec, field by field."""
    if path.suffix not in (".yaml", ".yml"):
        return False
    if path.parent == folder / "tasks":
        return True
    return path.parent == folder and any(line.startswith("target:") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())


@cache
def foreign(top: str) -> Path | str | None:
    """Return what an absolute import of another package counts as: its folder when the user is working on it (outside site-packages), its
    name and version when it is installed, None for the standard library and for what is not there."""
    if top in sys.stdlib_module_names or top == PACKAGE:
        return None
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = [Path(p) for p in spec.submodule_search_locations or ()]
    if not places and spec.origin:
        places = [Path(spec.origin)]
    if not places:
        return None
    if any(part in ("site-packages", "dist-packages") for part in places[0].parts):
        try:
            name = (packages_distributions().get(top) or [top])[0]
            return f"{name}=={version(name)}"
        except PackageNotFoundError:
            return f"{top}==unknown"
    return places[0].resolve()


def code_hash(
    roots: Iterable[str],
    folders: Iterable[Path] = (),
    *,
    declarations: Mapping[str, Any] | None = None,
    closure: Closure | None = None,
) -> str:
    """Return the code hash (32 hexadecimal digits) of ``roots`` (module names; ``.x`` is relative to the package) and plug-in ``folders``.

    ``declarations`` is content that counts as code (a task's protocol, the sha256 of shipped weights). ModuleNotFoundError for a root of this
    package that has no file.
    """
    from .identity import content_id

    mine = closure or Closure()
    inner: list[str] = []
    queue: list[str] = []
    outer: dict[str, Any] = {}
    for root in roots:
        name = PACKAGE + root if root.startswith(".") else root
        if name.startswith(PACKAGE + "."):
            if _package_file(name) is None:
                raise ModuleNotFoundError(f"{name} is declared as the root of a unit's code, but there is no such module")
            inner.append(name)
        else:
            queue.append(name.partition(".")[0])
    folder_queue = [f.resolve() for f in folders]
    done: set[Path] = set()
    while folder_queue or queue:
        while folder_queue:
            folder = folder_queue.pop()
            if folder in done:
                continue
            done.add(folder)
            files, names = mine.folder(folder) if folder.is_dir() else _single(mine, folder)
            outer[f"folder {folder.name}"] = files
            inner += [n for n in names if n.split(".")[0] == PACKAGE]
            local = {p.removesuffix(".py").partition("/")[0] for p in files}
            queue += [top for top in {n.partition(".")[0] for n in names} if top and top not in local]
        while queue:
            what = foreign(queue.pop())
            if isinstance(what, Path):
                folder_queue.append(what)
            elif what is not None:
                outer[what.partition("==")[0]] = what
    result = content_id(mine.files(inner), outer, declarations or {})
    if closure is None:
        mine.save()
        _hashes().save()
    return result


def _single(mine: Closure, path: Path) -> tuple[dict[str, str], set[str]]:
    digest, names = mine.look(path, path.stem)
    return {path.name: digest}, set(names)
