"""Faults from outside the harness, for real: a full disk, a clock that jumps, another number of workers, code that changes."""

from __future__ import annotations

import datetime as clock
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import execution
from execution import Heard, context, counts, failed, units

from scorebench.configs.errors import RequestError, RunError
from scorebench.harness import environment
from scorebench.harness.claims import Claims
from scorebench.harness.controller import Policy, Status, run_units
from scorebench.harness.executors.base import store_at
from scorebench.harness.executors.inline import InlineExecutor
from scorebench.harness.executors.process import ProcessExecutor
from scorebench.leaderboards import ledger
from scorebench.leaderboards.ledger import Store


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with execution.included():
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    store_at.cache_clear()
    subprocess.run(["umount", str(disk)], check=True)


def samples(store: Path) -> dict[str, dict[str, np.ndarray]]:
    opened = Store(store)
    return {r["unit_id"]: opened.samples(r) for r in opened.records() if r["status"] == "ok"}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[u][n], other[u][n]) for u in other for n in other[u])


def test_a_full_disk_ends_the_run_in_one_sentence_and_loses_nothing(small_disk: Path, tmp_path: Path, faults: list[Any]) -> None:
    planned = units(seeds=4)
    run_units(planned[:1], context(small_disk / "store"), InlineExecutor())
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as f:
        while f.write(b"x" * 4096):
            pass
    before = counts(small_disk / "store")
    with pytest.raises((RunError, RequestError), match=r"no space left on device|not writable"):
        run_units(planned, context(small_disk / "store"), InlineExecutor())
    assert counts(small_disk / "store") == before, "what was recorded is untouched"
    ballast.unlink()
    summary = run_units(planned, context(small_disk / "store"), InlineExecutor())
    assert (summary.cached, summary.ok) == (1, 3)
    run_units(planned, context(tmp_path / "calm"), InlineExecutor())
    assert equal(samples(small_disk / "store"), samples(tmp_path / "calm"))
    assert not Store(small_disk / "store").problems
    faults.append(("disk full in mid-run (a 512 KB file system)", 1, 4, 0, 0, "samples equal"))


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: list[Any]) -> None:
    jumps = iter([0, 3600, -86400, 10 * 365 * 86400, -5 * 365 * 86400, 0])
    offset = clock.timedelta()

    class Jumping(clock.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return clock.datetime.now(tz) + offset

    monkeypatch.setattr(ledger, "datetime", Jumping)
    monkeypatch.setattr(environment, "datetime", Jumping)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset.total_seconds())

    class Jump(Heard):
        def __call__(self, status: Status) -> None:
            nonlocal offset
            super().__call__(status)
            if status.kind == "finished":
                offset = clock.timedelta(seconds=next(jumps))

    heard = Jump()
    planned = units(seeds=5)
    summary = run_units(planned, context(tmp_path / "store"), InlineExecutor(), heard)
    assert summary.ok == 5 and 0 <= summary.elapsed < 60
    assert all(s.elapsed >= 0 and (s.left is None or s.left < 60) for s in heard)
    monkeypatch.undo()
    assert run_units(planned, context(tmp_path / "store"), InlineExecutor()).cached == 5
    assert counts(tmp_path / "store") == {(u.unit_id, "ok"): 1 for u in planned}
    run_units(planned, context(tmp_path / "calm"), InlineExecutor())
    assert equal(samples(tmp_path / "store"), samples(tmp_path / "calm"))
    faults.append(("clock jumps (1 h, -1 d, +10 y, -5 y) between records", 4, 5, 0, 0, "samples equal"))


def test_a_clock_that_jumps_takes_no_claim_away(tmp_path: Path) -> None:
    """The owner is on another machine, whose clock is years off in either direction: only its heartbeat counts."""
    owner, observer = Claims(tmp_path, beat=0.05), Claims(tmp_path, stale=0.4)
    owner._me["place"] = "elsewhere"
    assert owner.take("unit")
    for years in (-20, 20, 0):
        os.utime(tmp_path / "unit", (time.time() + years * 3e7,) * 2)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert not observer.take("unit")
            time.sleep(0.05)
    owner.close()
    observer.close()


@pytest.mark.slow
def test_another_number_of_workers_gives_identical_values(tmp_path: Path, faults: list[Any]) -> None:
    planned = units(seeds=8, seconds=0.1)
    store = tmp_path / "store"
    for slots, part in ((1, planned[:3]), (2, planned)):
        executor = ProcessExecutor(slots, logs=tmp_path / "logs")
        try:
            summary = run_units(part, context(store), executor)
        finally:
            executor.close()
    assert (summary.cached, summary.ok) == (3, 5)
    run_units(planned, context(tmp_path / "calm"), InlineExecutor())
    assert equal(samples(store), samples(tmp_path / "calm"))
    assert {r["cost"]["workers"] for r in Store(store).records()} <= {1, 2}
    faults.append(("resumed with 2 workers after 1, against inline", 1, 8, 0, 0, "samples equal"))


CODE = """from scorebench import Method


class Simple(Method):
    def logits(self, request):
        return request.image.new_zeros((request.n, 10)) + 0.1
"""


@pytest.mark.slow
def test_code_that_changes_is_run_again_and_comments_are_not(tmp_path: Path, faults: list[Any]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "simple.yaml").write_text("id: simple\\ntitle: simple\\ntarget: simple:Simple\\nabilities: [logits]\\n".replace("\\n", "\n"))
    file = folder / "simple.py"
    words = [sys.executable, "-m", "scorebench", "run", "-t", execution.TASK, "-m", "simple", "--include", str(folder)]
    words += ["--store", str(tmp_path / "store"), "--executor", "inline", "--json"]

    def run(code: str) -> tuple[bool, str]:
        import json

        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        file.write_text(code)
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=240)
        (record,) = json.loads(done.stdout)
        return record["cached"], record["unit_id"]

    assert run(CODE)[0] is False
    again, first = run(CODE)
    assert again is True
    comment = CODE.replace("class Simple", "# a comment, and\\n\\n\\nclass Simple").replace("\\n", "\n")
    assert run(comment) == (True, first), "comments and blank lines change no number"
    fresh, other = run(CODE.replace("+ 0.1", "+ 0.2"))
    assert fresh is False and other != first, "changed code must be run again"
    assert run(CODE) == (True, first), "and what was recorded of the old code is still there"
    faults.append(("code changed: must run again / comment: must not", 2, 2, 0, 0, "as they must"))


@pytest.mark.slow
def test_what_a_unit_does_is_recorded_under_its_kind(tmp_path: Path, faults: list[Any]) -> None:
    does = {"hang": "timeout", "eat": "out-of-memory", "nan": "not-finite", "segfault": "crashed", "end": "crashed", "exit": "error"}
    does["raise"] = "error"
    planned = [u for d in does for u in units(does=d)] + units(seeds=3)
    executor = ProcessExecutor(2, logs=tmp_path / "logs")
    limits: dict[str, Any] = {"time_limit": 4.0, "memory_limit": 900.0}
    try:
        summary = run_units(planned, context(tmp_path / "store", **limits), executor, Heard(), Policy(retries=1, backoff=0.1))
    finally:
        executor.close()
    assert (summary.ok, summary.failed) == (3, len(does))
    found = {r["hparams"]["does"]: r["error"]["kind"] for r in failed(tmp_path / "store")}
    assert found == does
    faults.append((f"units that misbehave: {', '.join(does)}", len(does), len(planned), 0, 0, "each failed under its kind; the others done"))
