"""Faults, for real: killed workers and controllers, torn ledgers, stores that cannot be written, two controllers, Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import execution
from execution import Heard, context, counts, units

from scorebench.configs.errors import RequestError, RunError
from scorebench.harness.claims import Claims
from scorebench.harness.controller import Interrupted, Status, default_executor, run_units
from scorebench.harness.executors.base import store_at
from scorebench.harness.executors.inline import InlineExecutor
from scorebench.harness.executors.process import ProcessExecutor
from scorebench.leaderboards.ledger import Store

N = 10
SECONDS = 0.3
KILLS, UNITS = int(os.environ.get("SCOREBENCH_KILLS", "100")), 300


@dataclass
class Run:
    """A controller in a process of its own, forked from this one (so that it need not import torch again)."""

    process: Any
    output: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self, limit: float = 120.0) -> tuple[int, str]:
        """Wait for the end; return (exit code, what it printed)."""
        self.process.join(limit)
        assert self.process.exitcode is not None, f"still running: {self.output.read_text()}"
        return self.process.exitcode, self.output.read_text()


def control(store: Path, output: Path, method: str, seeds: int, seconds: float, name: str) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    executor = default_executor(name, 2, 1, store)
    try:
        print(run_units(units(method, seeds=seeds, seconds=seconds), context(store), executor), flush=True)
    except Interrupted as e:
        print(e, flush=True)
        raise SystemExit(130) from None
    finally:
        executor.close()


def start(store: Path, method: str = "trouble", seeds: int = N, seconds: float = SECONDS, name: str = "process") -> Run:
    output = store.with_name(f"output-{time.monotonic_ns()}")
    output.touch()
    process = multiprocessing.get_context("fork").Process(target=control, args=(store, output, method, seeds, seconds, name))
    process.start()
    return Run(process, output)


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with execution.included():
        yield


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    monkeypatch.setenv("TROUBLE_MARKS", str(folder))
    return folder


def until(condition: Callable[[], object], limit: float = 90.0) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)


def recorded(store: Path) -> int:
    return sum(1 for (_, status) in counts(store) if status == "ok")


def alive(pids: set[int]) -> set[int]:
    out = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            out.add(pid)
    return out


def pids(marks: Path) -> set[int]:
    """Return the processes that ran units, this one aside."""
    return {int(text) for p in marks.glob("run-*") if (text := p.read_text())} - {os.getpid()}


def finish(store: Path, seeds: int = N, seconds: float = SECONDS) -> None:
    """Run the same again and check that every unit is in the ledger as ok exactly once."""
    planned = units(seeds=seeds, seconds=seconds)
    summary = run_units(planned, context(store), InlineExecutor())
    assert summary.ok + summary.cached == len(planned) and summary.failed == 0
    found = counts(store)
    assert {u.unit_id: found[u.unit_id, "ok"] for u in planned} == {u.unit_id: 1 for u in planned}
    assert not [p for p in Store(store).problems if "already recorded" in str(p)]


def test_a_killed_controller_takes_its_workers_along_and_loses_nothing(tmp_path: Path, marks: Path) -> None:
    store = tmp_path / "store"
    run = start(store)
    until(lambda: recorded(store) >= 3)
    os.kill(run.pid, signal.SIGKILL)
    run.end()
    before = recorded(store)
    workers = pids(marks)
    assert workers and run.pid not in workers
    until(lambda: not alive(workers), 10)
    assert recorded(store) <= before + 2, "workers went on without their controller"
    assert 3 <= recorded(store) < N
    finish(store)
    runs = len(list(marks.glob("run-nothing*")))
    assert N <= runs <= N + 2, "only what was in flight (two workers) may be run again"


def test_killed_workers_are_replaced_and_their_units_are_rerun_by_the_same_command(tmp_path: Path, marks: Path) -> None:
    store = tmp_path / "store"
    executor = ProcessExecutor(2, logs=tmp_path / "logs")
    chance = random.Random(1)
    killed: list[int] = []

    class Killer(Heard):
        def __call__(self, status: Status) -> None:
            super().__call__(status)
            done = sum(status.kind == "finished" for status in self)
            if self[-1].kind == "finished" and done >= 3 * (len(killed) + 1) and len(killed) < 3:
                victims = sorted(alive(pids(marks)))
                if victims:
                    killed.append(chance.choice(victims))
                    os.kill(killed[-1], signal.SIGKILL)

    try:
        summary = run_units(units(seeds=N, seconds=SECONDS), context(store), executor, Killer())
    finally:
        executor.close()
    assert killed
    assert summary.ok + summary.failed == N
    assert summary.failed <= len(killed)
    for record in execution.failed(store):
        assert record["error"]["kind"] == "crashed" and "SIGKILL" in record["error"]["message"]
    finish(store)


def test_a_killed_fork_server_is_replaced(tmp_path: Path, marks: Path) -> None:
    executor = ProcessExecutor(1, logs=tmp_path / "logs")

    class Killer(Heard):
        def __call__(self, status: Status) -> None:
            super().__call__(status)
            if self[-1].outcome == "ok" and self.outcomes()["ok"] == 1:
                assert executor._server is not None
                os.kill(executor._server.pid, signal.SIGKILL)

    try:
        summary = run_units(units(seeds=4, seconds=0.2), context(tmp_path / "store"), executor, Killer())
    finally:
        executor.close()
    assert summary.ok + summary.failed == 4 and summary.ok >= 3
    until(lambda: not alive(pids(marks)), 10)
    finish(tmp_path / "store", seeds=4, seconds=0.2)


@pytest.mark.parametrize("name", ["process", "inline"])
def test_ctrl_c_keeps_what_is_recorded_and_says_how_to_go_on(tmp_path: Path, marks: Path, name: str) -> None:
    store = tmp_path / "store"
    run = start(store, name=name)
    until(lambda: recorded(store) >= 2)
    os.kill(run.pid, signal.SIGINT)
    code, out = run.end(30)
    assert code == 130, out
    assert "the same command goes on where this one stopped" in out and "Traceback" not in out
    until(lambda: not alive(pids(marks)), 10)
    assert 2 <= recorded(store) < N
    assert not list((store / "claims").iterdir())
    finish(store)


def test_two_controllers_on_one_store_share_the_work_and_train_once(tmp_path: Path, marks: Path) -> None:
    store = tmp_path / "store"
    seconds = 1.0 + time.time() % 1 / 1000  # a fit no earlier run has made
    runs = [start(store, "learner", 12, seconds) for _ in range(2)]
    ends = [r.end() for r in runs]
    assert [code for code, _ in ends] == [0, 0], ends
    planned = units("learner", seeds=12, seconds=seconds)
    found = counts(store)
    assert {u.unit_id: found[u.unit_id, "ok"] for u in planned} == {u.unit_id: 1 for u in planned}
    assert len(list(marks.glob("fit*"))) == 1
    assert not list((store / "claims").iterdir())


def test_a_dead_controllers_claims_do_not_hold_anybody_up(tmp_path: Path) -> None:
    planned = units(seeds=2)
    code = (
        "import sys, os; from pathlib import Path; from scorebench.harness.claims import Claims\n"
        "c = Claims(Path(sys.argv[1])); print(all(c.take(n) for n in sys.argv[2:]), flush=True); os.kill(os.getpid(), 9)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "claims"), *(u.unit_id for u in planned)]
    assert "True" in subprocess.run(words, capture_output=True, text=True, check=False).stdout
    assert len(list((tmp_path / "claims").iterdir())) == 2
    began = time.monotonic()
    assert run_units(planned, context(tmp_path), InlineExecutor()).ok == 2
    assert time.monotonic() - began < 10
    assert not list((tmp_path / "claims").iterdir())


def test_a_live_claim_is_respected_until_its_owner_is_silent(tmp_path: Path) -> None:
    """The owner is on another machine: its process cannot be looked up, and only its heartbeat counts."""
    owner, observer = Claims(tmp_path, beat=0.05), Claims(tmp_path, stale=0.5)
    owner._me["place"] = "elsewhere"
    assert owner.take("unit") and not observer.take("unit")
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        assert not observer.take("unit")
        time.sleep(0.05)
    owner._stop.set()  # the machine has gone down
    assert owner._thread is not None
    owner._thread.join()
    until(lambda: observer.take("unit"), 5)
    assert not owner.take("unit")
    owner.drop("unit")
    assert (tmp_path / "unit").exists(), "the old owner must not remove the new owner's claim"
    observer.close()
    assert owner.take("unit")
    owner.close()


def test_a_torn_and_a_corrupt_line_lose_nothing_else(tmp_path: Path) -> None:
    planned = units(seeds=3)
    run_units(planned, context(tmp_path), InlineExecutor())
    (file,) = (tmp_path / "ledger").glob("*.jsonl")
    lines = file.read_bytes().split(b"\n")
    assert len(lines) == 4
    store_at.cache_clear()  # as a new process, which has its own file
    file.write_bytes(b"\n".join([lines[0], b"\x00garbage\x00", lines[2][: len(lines[2]) // 2]]))
    heard = Heard()
    summary = run_units(planned, context(tmp_path), InlineExecutor(), heard)
    assert (summary.cached, summary.ok) == (1, 2)
    store = Store(tmp_path)
    assert len(store.records()) == 3
    assert len(store.problems) == 2


def test_a_store_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RequestError, match="not writable"):
        run_units(units(), context(tmp_path / "file"), InlineExecutor())


def test_a_store_that_breaks_in_the_middle_ends_the_run(tmp_path: Path) -> None:
    store = tmp_path / "store"

    class Breaker(Heard):
        def __call__(self, status: Status) -> None:
            super().__call__(status)
            if self.outcomes()["ok"] == 1 and self[-1].kind == "finished":
                (store / "ledger").rename(store / "was-ledger")
                (store / "ledger").write_text("a file where the folder was")

    heard = Breaker()
    with pytest.raises((RunError, RequestError), match="not writable"):
        run_units(units(seeds=4), context(store), InlineExecutor(), heard)
    assert heard.outcomes() == {"ok": 1}


@pytest.mark.slow
def test_a_hundred_kills_at_random_moments(tmp_path: Path, marks: Path, faults: list[Any]) -> None:
    """Controllers and workers killed at random; the accepted records equal an undisturbed run's but for cost, times and provenance."""
    store, calm = tmp_path / "store", tmp_path / "calm"
    planned = units(seeds=UNITS, seconds=0.2)
    assert run_units(units(seeds=UNITS, seconds=0.2), context(calm), InlineExecutor()).ok == UNITS
    chance = random.Random(7)
    killed = {"worker": 0, "controller": 0}
    for number in range(KILLS):
        run = start(store, seeds=UNITS, seconds=0.2)
        if number % 4:  # while units run; a quarter hits the start, which is long on a busy machine
            until(lambda run=run: alive(pids(marks)) or not run.process.is_alive())
        time.sleep(chance.uniform(0.0, 1.5))
        workers = sorted(alive(pids(marks)))
        victim = chance.choice(workers) if workers and number % 2 else run.pid
        killed["controller" if victim == run.pid else "worker"] += 1
        os.kill(victim, signal.SIGKILL)
        time.sleep(0.3)
        run.process.kill()
        run.end()
        until(lambda: not alive(pids(marks)), 30)
    before = recorded(store)
    assert before and killed["worker"] >= KILLS // 4
    finish(store, seeds=UNITS, seconds=0.2)
    aside = ("cost", "provenance", "written", "samples")
    one, other = ({r["unit_id"]: {k: v for k, v in r.items() if k not in aside} for r in Store(s).records()} for s in (store, calm))
    assert one == other
    for who, count in killed.items():
        faults.append((f"SIGKILL of the {who} at a random moment", count, len(planned), 0, 0, f"{before} done by then; records equal"))
