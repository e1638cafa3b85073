"""Content ids: canonical JSON, files by content, environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorebench.configs.errors import RequestError
from scorebench.harness.environment import LIBRARIES, cores, environment, environment_key, git_state, provenance
from scorebench.harness.identity import FileHashes, Series, canonical, content_id, given_file, resolve_files

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_canonical_text_says_the_same_and_is_stable(value: object) -> None:
    text = canonical(value)
    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text


def test_order_and_number_types_do_not_matter_but_values_do() -> None:
    assert content_id({"a": 1, "b": [2, 3]}) == content_id({"b": (2.0, 3), "a": np.float64(1)})
    different = [{"a": 1}, {"a": True}, {"a": "1"}, {"a": [1]}, {"a": None}, {"a": 1.5}, {"b": 1}, {"a": float("inf")}, {}]
    assert len({content_id(d) for d in different}) == len(different)
    assert content_id("ab", "c") != content_id("a", "bc")


def test_known_id_never_changes() -> None:
    """Ids stand in ledgers: another way of writing them would orphan every record."""
    assert canonical({"b": [1, 2.5, None, True], "a": "é"}) == '{"a":"é","b":[1,2.5,null,true]}'
    assert content_id("task@1", {"seed": 0}) == "d67b183fde1c55d2d555190e0e622eaa"


def test_what_cannot_be_hashed_is_refused() -> None:
    with pytest.raises(RequestError, match="cannot be a hyper-parameter"):
        content_id({"f": len})


@given(json_values, json_values, st.integers(0, 2**40))
def test_series_gives_the_same_ids(fixed: object, varied: object, seed: int) -> None:
    base = {"method": "m", "fixed": fixed}
    series = Series(base, ("artifacts", "seed"))
    assert series.id({"artifacts": varied, "seed": seed}) == content_id({**base, "artifacts": varied, "seed": seed})


def test_files_count_by_content_wherever_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    one, two = tmp_path / "a.pth", tmp_path / "other" / "b.pth"
    two.parent.mkdir()
    one.write_bytes(b"weights")
    two.write_bytes(b"weights")
    hashes = FileHashes()
    run, first = resolve_files({"checkpoint": str(one), "w": 3}, hashes)
    _, second = resolve_files({"checkpoint": str(two), "w": 3}, hashes)
    assert run == {"checkpoint": str(one), "w": 3} and first == second and str(tmp_path) not in canonical(first)
    two.write_bytes(b"WEIGHTS")
    os.utime(two, ns=(1, 1))
    assert resolve_files({"checkpoint": str(two), "w": 3}, hashes)[1] != first
    hashes.save()
    assert FileHashes().file_hash(one) == hashes.file_hash(one)
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x").write_bytes(b"1")
    before = hashes.path_hash(folder)
    (folder / "sub" / "x").rename(folder / "sub" / "y")
    assert hashes.path_hash(folder) != before


def test_a_word_is_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adam").write_text("a file that happens to be called like an optimiser")
    (tmp_path / "net.pth").write_text("x")
    assert given_file("adam") is None and given_file(3) is None and given_file("") is None and given_file("no/such.pth") is None
    assert given_file("net.pth") == tmp_path / "net.pth" and given_file("./adam") == tmp_path / "adam"


def test_environment_names_versions_without_importing_them() -> None:
    code = (
        "import sys, json; from scorebench.harness.environment import environment; e = environment(); "
        "print(json.dumps([e, [m for m in ('torch', 'lightning', 'scipy') if m in sys.modules]]))"
    )
    found, heavy = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert heavy == []
    import torch

    assert found["libraries"]["torch"] == torch.__version__ or found["libraries"]["torch"] == torch.__version__.split("+")[0]
    assert set(LIBRARIES) == set(found["libraries"]) and found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment_key(found) == environment_key(environment())


def test_environment_key_depends_on_device_and_precision_only_through_their_kind() -> None:
    key = environment_key(environment("cpu", "32"))
    assert key == environment_key(environment("cpu", "32-true"))
    assert len({key, environment_key(environment("cpu", "bf16-mixed")), environment_key(environment("mps", "32"))}) == 3
    changed = environment()
    changed["libraries"]["torch"] = "0.0"
    assert environment_key(changed) != key


def test_provenance_says_where_and_when(tmp_path: Path) -> None:
    told = provenance("2000-01-01T00:00:00Z")
    assert told["started"] == "2000-01-01T00:00:00Z" and told["finished"] > "2020" and told["cores"] == cores() >= 1
    assert told["host"] and told["cpu"] and told["command"] and told["pid"] == os.getpid()
    assert git_state(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    (tmp_path / "f").write_text("1")
    for words in (["init", "-q"], ["add", "f"], ["commit", "-qm", "m"]):
        subprocess.run([*git, *words], check=True)
    clean = git_state(tmp_path)
    assert clean is not None and len(clean["commit"]) == 40 and not clean["dirty"]
    (tmp_path / "f").write_text("2")
    dirty = git_state(tmp_path)
    assert dirty is not None and dirty["dirty"] and dirty["diff_sha256"] and dirty["commit"] == clean["commit"]
