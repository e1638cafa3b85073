"""The code hash: what changes it and what must not, on small trees, on a copy of the package, and on plug-ins."""

from __future__ import annotations

import ast
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import scorebench
from scorebench.configs.errors import RequestError
from scorebench.harness import closure
from scorebench.harness.closure import HARNESS, Closure, code_hash, counted, imports, stripped

ROOT = Path(scorebench.__file__).resolve().parent


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))


# ------------------------------------------------------------------ what counts of one file
SOURCE = '''"""Module docstring."""

import os  # why


class A:
    """Class docstring."""

    x = 1
    """Says what x is."""

    def f(self, y):
        """Docstring

        over several lines.
        """
        text = """kept

          # kept too
        """
        s = f"a#{y}"  # not kept
        return text, "#kept", s
'''


def test_comments_docstrings_and_blank_lines_do_not_count() -> None:
    other = SOURCE.replace("# why", "# because\n# of this").replace("Docstring\n", "Other words\n\n\n").replace("Says what x is.", "Changed.")
    other = other.replace("import os", "\n\n\nimport os").replace("Module docstring", "Other")
    assert other != SOURCE and stripped(other) == stripped(SOURCE)
    assert '"#kept"' in stripped(SOURCE) and "# kept too" in stripped(SOURCE) and "not kept" not in stripped(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x = 1", "x = 2"), ('"#kept"', '"#Kept"'), ("# kept too", "# kept two"), ("a#{y}", "a#{y!r}"), ("kept\n\n", "kept\n"),
        ("import os", "import re"),
    ],
)  # fmt: skip
def test_code_and_strings_that_are_values_count(old: str, new: str) -> None:
    assert old in SOURCE and stripped(SOURCE.replace(old, new)) != stripped(SOURCE)


def test_stripping_keeps_the_meaning_of_every_file_of_the_package() -> None:
    """What is left, with docstrings put aside, parses to the same tree: nothing that runs was cut."""

    def says(node: ast.stmt) -> bool:
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

    def bare(tree: ast.AST) -> str:
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                kept = [n for n in body if not says(n)]
                node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
        return ast.dump(tree)

    seen = 0
    for path in sorted(ROOT.glob("*/**/*.py")):
        if "scaffold" in path.parts or "tests" in path.parts or any(p.startswith(".") or p == "build" for p in path.relative_to(ROOT).parts):
            continue
        source = path.read_text(encoding="utf-8")
        # a body that was a docstring alone is empty now, which only a parser minds
        lines = stripped(source).splitlines()
        try:
            left = ast.parse("\n".join(lines))
        except SyntaxError:
            continue
        seen += 1
        assert bare(left) == bare(ast.parse(source)), path
    assert seen > 40


def test_imports_in_functions_count_and_those_for_type_checkers_do_not() -> None:
    source = (
        "from __future__ import annotations\nimport numpy.linalg as la\nfrom . import near\nfrom ..tasks.base import Task\n"
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .types import T\nelse:\n    from .real import T\n"
        "def f():\n    from .late import thing\n    try:\n        import fast\n    except ImportError:\n        import slow\n"
    )
    found = imports(source, "scorebench.baselines.here", False)
    assert {"scorebench.baselines.near", "scorebench.tasks.base", "scorebench.baselines.late", "scorebench.baselines.real"} <= set(found)
    assert {"fast", "slow", "numpy.linalg"} <= set(found)
    assert not [n for n in found if "types" in n]
    assert "scorebench.baselines.here.x" in imports("from . import x", "scorebench.baselines.here", True)


# ------------------------------------------------------------------ the package itself
def test_registries_do_not_drag_in_every_method() -> None:
    modules = set(Closure().files(f"scorebench{root}" for root in HARNESS))
    inner = {m.removeprefix("scorebench.") for m in modules}
    assert {"harness.runner", "harness.evaluator", "harness.training", "harness.cost", "harness.weights"} <= inner
    assert {"tasks.base", "baselines.method"} <= inner
    families = ("generation", "denoising", "restoration", "inverse", "speech", "classification")
    assert not [m for m in inner if m.startswith(tuple(f"baselines.{f}" for f in families)) or m in {f"tasks.{f}" for f in families}]
    assert not [m for m in inner if m.startswith(("configs", "leaderboards", "harness.cli", "harness.executors", "harness.plan"))]


def test_uncounted_modules_exist() -> None:
    for name in closure.UNCOUNTED:
        path = ROOT.joinpath(*name.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), name
        assert not counted(f"scorebench.{name}")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the package that may be edited, importable as scorebench in a child process."""
    base = tmp_path_factory.mktemp("copy")
    target = base / "scorebench"
    aside = shutil.ignore_patterns(".*", "__pycache__", "tests", "build", "runs", "*.egg-info", "*.safetensors", "benchmarks", "docs")
    shutil.copytree(ROOT, target, ignore=aside)
    yield target


HASHES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import scorebench
assert Path(scorebench.__file__).resolve().is_relative_to(Path(sys.argv[1]).resolve()), scorebench.__file__
from scorebench.harness.closure import HARNESS, code_hash
for name in sys.argv[2:]:
    print(code_hash([*HARNESS, ".tasks.classification", ".baselines.classification." + name]))
"""
METHODS = ("plain_cnn", "logistic_regression", "majority_class")


def hashes(copy: Path) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", HASHES, str(copy.parent), *METHODS], capture_output=True, text=True, check=False, cwd=copy.parent
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(METHODS, done.stdout.split(), strict=True))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, path
    path.write_text(text.replace(old, new, 1))
    stamp = path.stat().st_mtime_ns + random.randrange(1, 10**9)
    os.utime(path, ns=(stamp, stamp))


def test_an_edit_changes_the_hashes_that_depend_on_it_and_no_others(copy: Path) -> None:
    first = hashes(copy)
    assert len(set(first.values())) == 3 and hashes(copy) == first
    baselines = copy / "baselines" / "classification"

    edit(baselines / "plain_cnn.py", "from __future__ import annotations\n", "from __future__ import annotations\n\n# a comment\n")
    assert hashes(copy) == first, "a comment changed the hash"

    edit(baselines / "plain_cnn.py", "# a comment\n", "ADDED = 1\n")
    second = hashes(copy)
    assert second["plain_cnn"] != first["plain_cnn"]
    assert all(second[m] == first[m] for m in METHODS if m != "plain_cnn"), "an unrelated method's hash changed"

    selecting = ("tasks/registry", "datasets/registry", "baselines/registry", "baselines/card", "configs/errors", "harness/plan")
    for name in selecting:
        edit(copy / f"{name}.py", "from __future__ import annotations\n", "from __future__ import annotations\nADDED = 1\n")
    assert hashes(copy) == second, "what only selects what is run changed the hash"

    edit(copy / "tasks" / "classification.py", "from __future__ import annotations\n", "from __future__ import annotations\nADDED = 1\n")
    third = hashes(copy)
    assert all(third[m] != second[m] for m in METHODS), "the task's code must count for every method"

    edit(copy / "tasks" / "randomness.py", "from __future__ import annotations\n", "from __future__ import annotations\nADDED = 1\n")
    assert all(v != third[k] for k, v in hashes(copy).items()), "an import of an import must count"


def test_a_root_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        code_hash([".baselines.no_such"])


# ------------------------------------------------------------------ plug-ins
def plugin(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text("from scorebench import Method\nimport helper\n\nclass Mine(Method):\n    pass\n")
    (folder / "helper.py").write_text("VALUE = 1\n")
    (folder / "mine.yaml").write_text("id: mine\ntitle: mine\ntarget: mine:Mine\nabilities: [denoise]\n")
    (folder / "table.npy").write_bytes(b"numbers")
    return folder


def test_a_plugin_counts_as_a_whole_folder(tmp_path: Path) -> None:
    folder = plugin(tmp_path / "mine")
    first = code_hash([], [folder])
    (folder / "runs" / "ledger").mkdir(parents=True)
    (folder / "runs" / "ledger" / "x.jsonl").write_text("{}")
    (folder / "results" / "ledger").mkdir(parents=True)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "mine.pyc").write_bytes(b"x")
    (folder / "README.md").write_text("text")
    (folder / "test_mine.py").write_text("assert True")
    edit(folder / "mine.yaml", "title: mine", "title: My method")
    assert code_hash([], [folder]) == first, "stores, caches, texts, tests and cards are no code"
    for name, old, new in (("helper.py", "1", "2"), ("mine.py", "pass", "x = 1")):
        edit(folder / name, old, new)
        second = code_hash([], [folder])
        assert second != first
        first = second
    (folder / "table.npy").write_bytes(b"Numbers!")
    assert code_hash([], [folder]) != first
    assert code_hash([], [plugin(tmp_path / "elsewhere" / "mine")]) == code_hash([], [plugin(tmp_path / "third" / "mine")])


def test_what_a_plugin_imports_of_the_package_counts(tmp_path: Path) -> None:
    folder = plugin(tmp_path / "mine")
    files, names = Closure().folder(folder)
    assert set(files) == {"mine.py", "helper.py", "table.npy"} and "scorebench.Method" in names and "scorebench" not in names
    reached = Closure().files(["scorebench.Method"])
    assert "scorebench.baselines.method" in reached and "scorebench.tasks.requests" in reached
    assert set(reached) < set(Closure().files(["scorebench"])), "`import scorebench` alone may use every lazy attribute"


def test_a_users_package_outside_site_packages_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "work" / "labcode"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text("WIDTH = 64\n")
    monkeypatch.syspath_prepend(str(package.parent))
    closure.foreign.cache_clear()
    folder = plugin(tmp_path / "mine")
    edit(folder / "mine.py", "import helper", "import helper, labcode.net, json, numpy")
    first = code_hash([], [folder])
    assert closure.foreign("json") is None and str(closure.foreign("numpy")).startswith("numpy==") and closure.foreign("labcode") == package
    edit(package / "net.py", "64", "32")
    assert code_hash([], [folder]) != first
    assert code_hash(["labcode.net"]) != code_hash([])
    closure.foreign.cache_clear()


def test_a_folder_with_everything_in_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closure, "MOST", 3)
    folder = plugin(tmp_path / "mine")
    for i in range(5):
        (folder / f"{i}.png").write_bytes(b"x")
    with pytest.raises(RequestError, match="its own folder"):
        code_hash([], [folder])


def test_the_index_is_used_and_not_trusted_blindly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = code_hash([".tasks.base"])
    monkeypatch.setattr(closure, "stripped", lambda source: pytest.fail("a file was read again"))
    assert code_hash([".tasks.base"]) == first
    monkeypatch.undo()
    index = tmp_path / "home" / "index" / "closure.json"
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    assert index.is_file()
    index.write_text("not json")
    assert code_hash([".tasks.base"]) == first
