"""The loader says in which file and line a declaration is wrong, and never leaves half a file behind."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorebench.configs.errors import RequestError, RunError, nearest, unknown
from scorebench.configs.loader import Document, Field, Index, load_object, read, validate, write_atomic

FIELDS = {
    "id": Field((str,), required=True, meaning="a name"),
    "version": Field((int,), required=True),
    "kind": Field((str,), choices=("a", "b"), default="a"),
    "rate": Field((int, float), check=lambda v: None if v > 0 else "must be above 0"),
}


def write(path, text):
    path.write_text(text)
    return read(path)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("version: 1\n", 1, "field 'id' is missing (a name)"),
        ("id: x\nversion: one\n", 2, "field 'version' must be int, not str"),
        ("id: x\nversion: true\n", 2, "must be int, not bool"),
        ("id: x\nversion: 1\n\nkind: c\n", 4, "accepted: a, b"),
        ("id: x\nversion: 1\nrate: -1\n", 3, "must be above 0"),
        ("id: x\nversion: 1\nknid: a\n", 3, "did you mean 'kind'?"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, line, words):
    path = tmp_path / "x.yaml"
    with pytest.raises(RequestError) as e:
        validate(write(path, text), FIELDS)
    assert str(e.value).startswith(f"{path}:{line}: ") and words in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1\n", "not valid YAML"),
        (b"- 1\n", "expected a mapping"),
        (b"a: \xff\xfe\n", "not UTF-8"),
        (b"a: !!python/object:os.system {}\n", "not valid YAML"),
    ],
)
def test_unreadable_files_are_one_sentence(tmp_path, content, words):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=words):
        read(path)
    with pytest.raises(RequestError, match="cannot be read"):
        read(tmp_path / "none.yaml")


def test_defaults_are_filled_in(tmp_path):
    assert validate(write(tmp_path / "x.yaml", "id: x\nversion: 2\n"), FIELDS) == {"id": "x", "version": 2, "kind": "a", "rate": None}


def test_lines_of_nested_keys(tmp_path):
    doc = write(tmp_path / "x.yaml", "a:\n  b:\n    - c: 1\n    - c: 2\n")
    assert [doc.line(k) for k in (("a",), ("a", "b"), ("a", "b", 1), ("a", "b", 1, "c"), ("a", "none"))] == [1, 2, 4, 4, 1]


def test_index_sees_every_change(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    path = tmp_path / "x.yaml"
    path.write_text("id: one\n")
    assert [d.data for d in Index("test").documents([path])] == [{"id": "one"}]
    path.write_text("id: two\n")
    os.utime(path, ns=(1, 1))
    assert [d.data for d in Index("test").documents([path])] == [{"id": "two"}]
    (tmp_path / "home" / "index" / "test.json").write_text("{torn")
    assert [d.data for d in Index("test").documents([path])] == [{"id": "two"}]


def test_what_json_cannot_hold_is_read_afresh(tmp_path, monkeypatch):
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    path = tmp_path / "x.yaml"
    path.write_text("1: one\nday: 2020-01-01\n")
    first, second = (Index("test").documents([path])[0].data for _ in range(2))
    assert first == second and 1 in first


def test_write_atomic_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no_colon", "must read"),
        (".baselines.none:X", "does not import"),
        (".configs.errors:Nothing", "has no 'Nothing'"),
        ("os:getcwd", None),
    ],
)
def test_load_object(target, words):
    if words is None:
        assert load_object(target) is os.getcwd
        return
    with pytest.raises(RequestError, match=words):
        load_object(target)


def test_a_plugin_that_does_not_import_is_one_sentence(tmp_path):
    (tmp_path / "broken.py").write_text("import json\nraise ValueError('two\\nlines')\n")
    with pytest.raises(RequestError, match="does not import: ValueError: two lines") as e:
        load_object("broken:X", tmp_path)
    assert "\n" not in str(e.value)


@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=12), max_size=8))
@settings(deadline=None)
def test_nearest_names_only_known_ones(name, known):
    assert set(nearest(name, known)) <= set(known)
    assert "Unknown thing" in str(unknown("thing", name, known))


def test_failure_kinds_are_closed():
    with pytest.raises(ValueError, match="accepted"):
        RunError("x", "odd")
    assert Document.__doc__
