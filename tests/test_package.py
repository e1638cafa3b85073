"""What a user installs: a wheel with every package and every declaration in it, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = (".*", "build", "dist", "runs", "wandb", "*.egg-info", "__pycache__", "*.pyc")

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="the tests run outside a source tree")


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources() -> dict[str, Path]:
    """Return the files of the source tree that belong into the package, by their path in the wheel."""
    out = {}
    for package in project()["tool"]["setuptools"]["packages"]:
        folder = ROOT.joinpath(*package.split(".")[1:])
        for file in folder.glob("*.py"):
            out[f"{package.replace('.', '/')}/{file.name}"] = file
    patterns = ("configs/**/*.yaml", "configs/**/*.lock", "baselines/weights/*.safetensors", "tasks/metrics/weights/*.safetensors",
                "leaderboards/reference/**/*", "leaderboards/site/site.*", "harness/scaffold/*.tmpl")  # fmt: skip
    for pattern in patterns:
        for file in ROOT.glob(pattern):
            if file.is_file() and not file.name.startswith("."):
                out[f"scorebench/{file.relative_to(ROOT).as_posix()}"] = file
    return out


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the source tree, without network."""
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip(f"building a wheel takes setuptools 77 or newer, here is {setuptools.__version__}")
    copy = tmp_path_factory.mktemp("wheel") / "tree"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*SKIPPED))
    program = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_declaration(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = sorted(set(sources()) - names)
    assert not missing, missing[:10]


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    extra = sorted(names - set(sources()))
    assert not extra, extra[:10]
    assert {n.split("/")[0] for n in names} == {"scorebench"}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    import scorebench

    archive = zipfile.ZipFile(wheel)
    (metadata,) = [archive.read(n).decode() for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
    assert f"Version: {scorebench.__version__}" in metadata and "License-Expression: Apache-2.0" in metadata
    assert any(n.endswith("licenses/LICENSE") for n in archive.namelist())
    (points,) = [archive.read(n).decode() for n in archive.namelist() if n.endswith("entry_points.txt")]
    assert "scorebench = scorebench.harness.cli.main:main" in points


def test_an_installed_wheel_lists_what_the_source_tree_declares(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    program = "import scorebench, sys; print(scorebench.__file__); from scorebench.harness.cli.main import cli; cli.main(['list', 'tasks'])"
    environment = {**os.environ, "PYTHONPATH": str(site), "SCOREBENCH_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    from scorebench.tasks.registry import specs

    assert done.stdout.startswith(str(site))
    assert all(task in done.stdout for task in specs())


def test_constraints_meet_the_declared_ranges() -> None:
    from packaging.requirements import Requirement

    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    tested = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    declared = [Requirement(r) for r in project()["project"]["dependencies"]]
    for extra in ("test", "dev"):
        declared += [Requirement(r) for r in project()["project"]["optional-dependencies"][extra]]
    for requirement in declared:
        if requirement.name != "scorebench":
            version = tested.get(requirement.name.lower().replace("_", "-"))
            assert version is not None, f"{requirement.name} is not in constraints.txt"
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: constraints.txt has {version}"


def test_the_version_is_written_once_and_in_the_changelog() -> None:
    import scorebench

    assert project()["project"]["version"] == scorebench.__version__
    assert f"## {scorebench.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))])
def test_documents_name_only_what_exists(name: str) -> None:
    """Links lead somewhere, and commands, tasks, methods and options that are named exist."""
    from scorebench.baselines.card import cards
    from scorebench.harness.cli.main import COMMANDS
    from scorebench.tasks.registry import match, specs

    file = ROOT / name
    text = file.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (file.parent / link).exists(), f"{name}: {link}"
    for command in re.findall(r"(?:^ {4}|`|&& )scorebench ([a-z]+)", text, re.MULTILINE):
        assert command in COMMANDS, f"{name}: scorebench {command}"
    for task in re.findall(r"-t '?([a-z]+/[a-z0-9*-]+)", text):
        assert match([task]), f"{name}: {task}"
    for method in re.findall(r"(?<!python)(?<!pytest) -m ([a-z0-9-]+)", text):
        assert method in cards() or method.startswith("my-"), f"{name}: {method}"
    assert specs()
