"""The house rules that can be read off the source: one-way imports, a complete package list, one place that imports by name, light starts."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scorebench

ROOT = Path(scorebench.__file__).resolve().parent
PACKAGES = ("configs", "datasets", "tasks", "baselines", "leaderboards", "harness")
MAY_IMPORT = {
    "configs": set(),
    "datasets": {"configs"},
    "tasks": {"configs", "datasets"},
    "baselines": {"configs", "datasets", "tasks"},
    "leaderboards": {"configs"},
    "harness": {"configs", "datasets", "tasks", "baselines", "leaderboards"},
}


def sources() -> list[Path]:
    found = [p for name in PACKAGES for p in (ROOT / name).rglob("*.py")]
    return [p for p in found if "scaffold" not in p.parts and not any(part.startswith(".") for part in p.relative_to(ROOT).parts)]


def arrows(path: Path) -> list[tuple[int, str]]:
    """Return (line, package of ours) of every import in a file, those inside functions and for type checkers too."""
    package = ["scorebench", *path.relative_to(ROOT).parts[:-1]]
    out = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = [*base, *(node.module.split(".") if node.module else [])]
            names = [".".join([*stem, alias.name]) for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "scorebench" and len(parts) > 1 and parts[1] in PACKAGES:
                out.append((node.lineno, parts[1]))
    return out


def test_imports_point_one_way() -> None:
    seen = 0
    wrong = []
    for path in sources():
        home = path.relative_to(ROOT).parts[0]
        for line, package in arrows(path):
            seen += 1
            if package != home and package not in MAY_IMPORT[home]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {home} imports {package}")
    assert seen > 100, "the reader of imports finds no imports"
    assert not wrong, "\n".join(wrong)


def test_imports_inside_the_package_are_relative() -> None:
    wrong = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if any(n == "scorebench" or n.startswith("scorebench.") for n in names):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong, f"absolute imports of scorebench: {', '.join(wrong)}"


def test_every_package_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {"scorebench"} | {
        ".".join(("scorebench", *p.parent.relative_to(ROOT).parts)) for name in PACKAGES for p in (ROOT / name).rglob("__init__.py")
    }
    assert there == listed
    for folder in {p.parent for p in sources()}:
        assert (folder / "__init__.py").is_file(), f"{folder} holds modules and is no package"


def test_init_files_hold_a_docstring_only() -> None:
    for name in PACKAGES:
        for path in (ROOT / name).rglob("__init__.py"):
            body = ast.parse(path.read_text(encoding="utf-8")).body
            code = [n for n in body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
            assert not code, f"{path.relative_to(ROOT)} holds code"


def test_one_place_imports_by_name() -> None:
    """A unit's code hash follows static imports, so importing by name anywhere else would hide code from it."""
    allowed = {"configs/loader.py", "__init__.py"}
    found = set()
    for path in [*sources(), ROOT / "__init__.py", ROOT / "__main__.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            if name in ("import_module", "__import__", "exec_module", "load_module"):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == allowed


@pytest.mark.parametrize(
    "statement",
    [
        "import scorebench",
        "import scorebench.harness.cli.main",
        "import scorebench.harness.executors.process",
        "from scorebench.tasks.registry import specs; assert specs()",
        "from scorebench.baselines.card import cards; assert cards()",
        "from scorebench.baselines.components import priors; assert priors()",
        "import pkgutil, importlib, scorebench.leaderboards as p; [importlib.import_module(f'{p.__name__}.{m.name}') "
        "for m in pkgutil.iter_modules(p.__path__)]",
    ],
)
def test_lists_and_boards_start_without_torch(statement: str) -> None:
    code = f"{statement}\nimport sys; heavy = [m for m in ('torch', 'lightning', 'pandas', 'scipy.stats') if m in sys.modules]; print(heavy)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch" not in done.stdout and "lightning" not in done.stdout, done.stdout
