"""The ledger keeps every record exactly once, whatever was cut off, mangled or written by whom."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorebench.configs.errors import RequestError, RunError
from scorebench.leaderboards import record as R
from scorebench.leaderboards.ledger import Store


def make(unit="u0", seed=0, value=30.0, n=3, **over):
    fields = dict(
        unit_id=unit, spec_id=f"s-{unit}", task="denoising/x", task_version=1, method="m", variant="m", seed=seed, draw=0,
        environment_key="env", observation_hash="oh",
    )  # fmt: skip
    status = over.pop("status", "ok")
    blank = R.blank(**{**fields, **over})
    if status == "failed":
        return R.fail(blank, "timeout", "took too long"), None
    values = np.full(n, value) + np.arange(n)
    samples = {"ids": np.array([f"i{k}" for k in range(n)]), "clusters": np.array(["a"] * n), "metric/psnr": values}
    metric = R.metric(float(values.mean()), n, "psnr|x", "sample", higher_is_better=True)
    return R.succeed(blank, {"psnr": metric}), samples


def fill(store, *units, **over):
    return [store.append(*make(u, **over)) for u in units]


def test_round_trip_and_samples(tmp_path):
    store = Store(tmp_path / "runs")
    written = fill(store, "a", "b")
    again = Store(tmp_path / "runs")
    assert again.records() == written
    assert again.done() == {("a", "env"), ("b", "env")}
    assert again.find("a", "env") == written[0] and again.find("a", "other") is None
    np.testing.assert_array_equal(again.samples(written[0])["metric/psnr"], [30.0, 31.0, 32.0])
    assert not again.problems


def test_changed_samples_are_refused(tmp_path):
    store = Store(tmp_path)
    (r,) = fill(store, "a")
    (tmp_path / r["samples"]["file"]).write_bytes(b"something else")
    with pytest.raises(RunError, match="another sha256"):
        store.samples(r)
    (tmp_path / r["samples"]["file"]).unlink()
    with pytest.raises(RunError, match="cannot be read"):
        store.samples(r)


def test_first_wins_duplicates_and_environments(tmp_path):
    one, two = Store(tmp_path), Store(tmp_path)
    first = one.append(*make("a", value=30.0))
    two.append(*make("a", value=40.0))
    other = two.append(*make("a", value=41.0, environment_key="env2"))
    reader = Store(tmp_path)
    got = reader.records()
    assert len(got) == 2 and {r["environment_key"] for r in got} == {"env", "env2"}
    assert [str(p) for p in reader.problems if "already recorded" in p.reason]
    # same second, two files: which one is first may be either, but never both, and samples belong to their own record
    for r in got:
        assert reader.samples(r)["metric/psnr"].mean() == r["metrics"]["psnr"]["value"]
    assert first["samples"]["file"] != other["samples"]["file"]


def test_failed_never_counts_as_done(tmp_path):
    store = Store(tmp_path)
    store.append(*make("a", status="failed"))
    store.append(*make("b", status="failed"))
    assert store.done() == set()
    assert [r["error"]["kind"] for r in store.records()] == ["timeout", "timeout"]
    store.append(*make("a"))
    assert store.done() == {("a", "env")}
    assert {(r["unit_id"], r["status"]) for r in store.records()} == {("a", "ok"), ("b", "failed")}
    assert [r["unit_id"] for r in store.records(failed=False)] == ["a"]


def test_partial_is_not_done_and_does_not_hide_the_full_run(tmp_path):
    store = Store(tmp_path)
    store.append(*make("a", partial=True, observation_hash="two only"))
    assert store.done() == set()
    store.append(*make("a"))
    assert store.done() == {("a", "env")} and len(store.records()) == 2


def test_corrupt_middle_line_is_reported_with_file_and_line(tmp_path):
    store = Store(tmp_path)
    fill(store, "a", "b", "c")
    (file,) = (tmp_path / "ledger").glob("*.jsonl")
    lines = file.read_bytes().split(b"\n")
    lines[1] = lines[1][: len(lines[1]) // 2]
    lines.insert(2, b'{"unit_id": "x"}')
    lines.insert(3, b"[1, 2]")
    file.write_bytes(b"\n".join(lines))
    reader = Store(tmp_path)
    assert [r["unit_id"] for r in reader.records()] == ["a", "c"]
    where = [p.where for p in reader.problems]
    assert where == [f"{file.name}:2", f"{file.name}:3", f"{file.name}:4"]


def test_newer_schema_is_skipped_and_said(tmp_path):
    store = Store(tmp_path)
    r, s = make("a")
    store.append({**r, "schema": R.RECORD_VERSION + 1}, s)
    assert store.records() == [] and "newer" in str(store.problems[0])


@settings(max_examples=40, deadline=None)
@given(units=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True), cut=st.integers(1, 3000), data=st.data())
def test_truncation_loses_at_most_the_last_line(units, cut, data, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    store = Store(root)
    fill(store, *units)
    (file,) = (root / "ledger").glob("*.jsonl")
    content = file.read_bytes()
    last = len(content) - (content[:-1].rfind(b"\n") + 1)
    cut = min(cut, last)
    if data.draw(st.booleans()):
        store.records()  # an index of the whole file exists before the cut
    file.write_bytes(content[: len(content) - cut])
    reader = Store(root)
    assert [r["unit_id"] for r in reader.records()] == units[:-1]
    assert bool(reader.problems) == (cut < last)
    fresh = Store(root)
    fill(fresh, units[-1])  # the same unit again, by another writer
    assert sorted(r["unit_id"] for r in Store(root).records()) == sorted(units)
    shutil.rmtree(root)


def test_incremental_reading_sees_appends_and_edits(tmp_path):
    writer, reader = Store(tmp_path), Store(tmp_path)
    for k in range(5):
        fill(writer, f"u{k}")
        assert len(reader.records()) == k + 1
        assert len(Store(tmp_path).records()) == k + 1
    (file,) = (tmp_path / "ledger").glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[1:]))  # edited by hand: the cached offsets are worth nothing now
    assert [r["unit_id"] for r in reader.records()] == ["u1", "u2", "u3", "u4"]
    assert [r["unit_id"] for r in Store(tmp_path).records()] == ["u1", "u2", "u3", "u4"]


def test_broken_cache_is_read_around(tmp_path):
    fill(Store(tmp_path), "a")
    Store(tmp_path).records()
    for junk in (b"", b"{}", b"[]", b'{"format": 3, "files": {"x": 1}}', b"\xff"):
        (tmp_path / "index" / "ledger.json").write_bytes(junk)
        assert len(Store(tmp_path).records()) == 1


def _write_many(path, start):
    store = Store(path)
    for k in range(start, start + 20):
        store.append(*make(f"u{k}"))


def test_several_writers_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_many, args=(tmp_path, 10 * i)) for i in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    reader = Store(tmp_path)
    assert sorted(r["unit_id"] for r in reader.records()) == sorted(f"u{k}" for k in range(50))
    assert len(list((tmp_path / "ledger").glob("*.jsonl"))) == 4
    assert len(reader.problems) == 30 and all("already recorded" in p.reason for p in reader.problems)


def test_a_forked_child_takes_its_own_file(tmp_path):
    store = Store(tmp_path)
    fill(store, "a")
    pid = os.fork()
    if pid == 0:
        try:
            fill(store, "b")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert len(list((tmp_path / "ledger").glob("*.jsonl"))) == 2 and len(store.records()) == 2


def test_unwritable_store_is_one_sentence(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    for action in (lambda s: s.prepare(), lambda s: s.append(*make("a"))):
        with pytest.raises(RequestError, match=r"not writable .*--store DIR"):
            action(Store(blocked / "runs"))
    assert Store(tmp_path / "nothing here").records() == []


def test_full_disk_keeps_what_is_there(tmp_path, monkeypatch):
    store = Store(tmp_path)
    fill(store, "a")
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(RunError, match="no space left"):
        store.append(*make("b"))
    monkeypatch.undo()
    assert [r["unit_id"] for r in Store(tmp_path).records()] == ["a"]
    fill(store, "c")
    reader = Store(tmp_path)
    assert [r["unit_id"] for r in reader.records()] == ["a", "c"] and not reader.problems


def test_a_samples_file_without_its_line_harms_nothing(tmp_path, monkeypatch):
    store = Store(tmp_path)
    monkeypatch.setattr(Store, "_append_line", lambda self, line: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fill(store, "a")
    monkeypatch.undo()
    assert list((tmp_path / "samples").glob("*.npz")) and store.done() == set()
    fill(store, "a")
    assert store.done() == {("a", "env")}


def test_numpy_values_are_written_plain_and_nan_is_refused(tmp_path):
    store = Store(tmp_path)
    r, s = make("a")
    back = store.append({**r, "hparams": {"sigma": np.float32(0.5), "steps": np.int64(3), "levels": np.arange(2)}}, s)
    line = json.loads(next((tmp_path / "ledger").glob("*.jsonl")).read_text())
    assert line["hparams"] == {"sigma": 0.5, "steps": 3, "levels": [0, 1]} and back["unit_id"] == "a"
    with pytest.raises(RunError, match="JSON"):
        store.append({**r, "diagnostics": {"x": float("nan")}}, s)
    with pytest.raises(RunError, match="Python objects"):
        store.append(r, {**s, "metric/x": np.array([object()] * 3)})
