"""`scorebench new method`: a folder for every family that passes its own test as it is, and what wrong names get."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import data, good, wrong

from scorebench.configs.errors import RequestError
from scorebench.harness.cli import new
from scorebench.tasks.registry import get_spec
from scorebench.tasks.spec import FAMILIES


def test_every_family_passes_its_own_test_unedited(tmp_path: Path) -> None:
    for family in FAMILIES:
        text = good("new", "method", f"my-{family}", "--family", family, "--out", str(tmp_path / family))
        assert f"--include {tmp_path / family}" in text
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{3 * len(FAMILIES)} passed" in done.stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_the_card_is_read_and_the_task_answers_it(family: str, tmp_path: Path, forget: None) -> None:
    good("new", "method", "mine", "--family", family, "--out", str(tmp_path / "mine"))
    (row,) = [m for m in data("list", "methods", "--family", family, "--include", str(tmp_path / "mine")) if m["id"] == "mine"]
    assert row["families"] == [family] and row["presets"] == ["strong"]
    spec = get_spec(new.FACTS[family]["task"])
    assert spec.family == family and spec.ability == new.FACTS[family]["ability"]


@pytest.mark.parametrize("name", ["", "x", "Upper", "under_score", "-a", "a-", "a--b", "1a", "a b", "../up", "ä-b", "x" * 41])
def test_names_that_cannot_be_ids(name: str) -> None:
    with pytest.raises(RequestError, match="cannot be a method's name; accepted"):
        new.check_name(name)


def test_other_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "exists already" in wrong("new", "method", "majority-class", "--family", "classification")
    assert "hide the installed Python module" in wrong("new", "method", "numpy", "--family", "denoising")
    assert "--family" in wrong("new", "method", "mine")
    assert "'denoisin'" in wrong("new", "method", "mine", "--family", "denoisin")
    (tmp_path / "mine").mkdir()
    good("new", "method", "mine", "--family", "denoising")  # an empty folder is taken
    assert "not an empty folder" in wrong("new", "method", "mine", "--family", "denoising")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in wrong("new", "method", "mine", "--family", "denoising", "--out", "file/mine")
    assert "No such command" in wrong("new", "task", "x")


def test_a_broken_card_names_file_and_line(tmp_path: Path, forget: None) -> None:
    good("new", "method", "mine", "--family", "denoising", "--out", str(tmp_path / "mine"))
    card = tmp_path / "mine" / "mine.yaml"
    text = card.read_text()
    card.write_text(text.replace("abilities:", "abilitis:"))
    assert f"{card}:1: field 'abilities' is missing" in wrong("list", "methods", "--include", str(tmp_path / "mine"))
    card.write_text(text.replace("trains_on: none", "trains_on: everything"))
    message = wrong("list", "methods", "--include", str(tmp_path / "mine"))
    line = text.splitlines().index("trains_on: none") + 1
    assert f"{card}:{line}:" in message and "accepted: paired" in message


def test_a_module_that_does_not_import(tmp_path: Path, forget: None) -> None:
    good("new", "method", "mine", "--family", "denoising", "--out", str(tmp_path / "mine"))
    (tmp_path / "mine" / "mine.py").write_text("import no_such_module_anywhere\n")
    arguments = ("run", "-t", new.FACTS["denoising"]["task"], "-m", "mine", "--include", str(tmp_path / "mine"), "--store", str(tmp_path / "s"))
    assert "does not import" in (message := wrong(*arguments)) and "no_such_module_anywhere" in message
