"""`scorebench.toml`: found above the working directory, checked, overridden by the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import wrong

from scorebench.configs.errors import RequestError
from scorebench.harness import config


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / config.NAME).write_text(text)
    return folder


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    found = config.load(tmp_path)
    assert (found.store, found.include, found.execution(), found.path) == (Path("runs"), (), {}, None)


def test_the_nearest_file_wins_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    write(tmp_path, 'store = "outer"')
    write(tmp_path / "a", 'store = "inner"\ninclude = ["mine", "/abs"]\nworkers = 2')
    (tmp_path / "a" / "b").mkdir()
    found = config.load(tmp_path / "a" / "b")
    assert found.store == tmp_path / "a" / "inner"
    assert found.include == (tmp_path / "a" / "mine", Path("/abs"))
    assert found.execution() == {"workers": 2}
    assert config.load(tmp_path).store == tmp_path / "outer"


def test_the_users_own_file_is_the_last_resort(tmp_path: Path) -> None:
    write(tmp_path / "xdg" / "scorebench", 'executor = "inline"')
    (tmp_path / "project").mkdir()
    assert config.load(tmp_path / "project").execution() == {"executor": "inline"}


def test_profiles(tmp_path: Path) -> None:
    text = 'workers = 1\nprofile = "big"\n[profiles.big]\nworkers = 8\nexecutor = "process"\n[profiles.small]\nexecutor = "inline"\n'
    found = config.load(write(tmp_path, text))
    assert found.execution() == {"workers": 8, "executor": "process"}
    assert found.execution("small") == {"workers": 1, "executor": "inline"}
    with pytest.raises(RequestError, match=r"Unknown profile 'bug'; did you mean big\?"):
        found.execution("bug")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("store = ", "not valid TOML"),
        ("stor = 'x'", "did you mean 'store'"),
        ("store = 3", "'store' must be str"),
        ("include = [1]", "list of folders"),
        ("workers = 0", "1 or more"),
        ("workers = true", "'workers' must be int"),
        ("executor = 'tractor'", "accepted: inline, process"),
        ("profile = 'gone'", "Unknown profile"),
        ("[profiles]\nbig = 3", "must be a table"),
        ("[profiles.big]\nstore = 'x'", "profiles.big.store"),
    ],
)
def test_mistakes_are_one_sentence_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    write(tmp_path, text)
    with pytest.raises(RequestError, match=message):
        config.load(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert config.NAME in wrong("list", "tasks")
