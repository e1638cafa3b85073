"""The executors: equal numbers inline and in processes, isolation, limits, failures of every kind recorded while other units go on."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import execution
from execution import Heard, context, counts, failed, units

from scorebench.configs.errors import RequestError, RunError
from scorebench.harness.controller import default_executor, run_units
from scorebench.harness.executors import process
from scorebench.harness.executors.base import Job
from scorebench.harness.executors.inline import InlineExecutor
from scorebench.harness.executors.process import ProcessExecutor
from scorebench.leaderboards.ledger import Store


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with execution.included():
        yield


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessExecutor]:
    """One pool for all tests: its server takes seconds to import torch, its workers milliseconds to fork."""
    os.environ["TROUBLE_MARKS"] = str(tmp_path_factory.mktemp("marks"))
    executor = ProcessExecutor(2, logs=tmp_path_factory.mktemp("logs"))
    yield executor
    executor.close()
    del os.environ["TROUBLE_MARKS"]


def values(store: Path, unit_id: str) -> dict[str, np.ndarray]:
    opened = Store(store)
    (record,) = [r for r in opened.records() if r["unit_id"] == unit_id]
    return opened.samples(record)


def test_inline_and_process_give_exactly_equal_samples(pool: ProcessExecutor, tmp_path: Path) -> None:
    planned = units(seeds=2) + units("logistic-regression")
    for name, executor in (("inline", InlineExecutor()), ("process", pool)):
        summary = run_units(planned, context(tmp_path / name), executor)
        assert (summary.ok, summary.failed) == (3, 0), summary
    for unit in planned:
        one, other = (values(tmp_path / name, unit.unit_id) for name in ("inline", "process"))
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_workers_run_side_by_side_and_many_units_each(pool: ProcessExecutor, tmp_path: Path) -> None:
    if pool.slots < 2:
        pytest.skip("this machine has one core")
    planned = units(seeds=6, seconds=0.4)
    run_units(planned[:2], context(tmp_path / "warm"), pool)
    start = time.monotonic()
    summary = run_units(planned, context(tmp_path / "store"), pool)
    assert summary.ok == 6
    assert time.monotonic() - start < 6 * 0.4, "six units of 0.4 s in two processes took as long as in one"
    pids = {r["provenance"]["pid"] for r in Store(tmp_path / "store").records()}
    assert len(pids) == 2 and os.getpid() not in pids


def test_workers_are_replaced_after_a_number_of_jobs(pool: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "JOBS_PER_WORKER", 2)
    assert run_units(units(seeds=8), context(tmp_path), pool).ok == 8
    pids = [r["provenance"]["pid"] for r in Store(tmp_path).records()]
    assert max(pids.count(p) for p in pids) <= 2 and len(set(pids)) >= 4


@pytest.mark.parametrize(
    ("does", "limits", "kind", "says"),
    [
        ("hang", {"time_limit": 3.0}, "timeout", "time limit of 3 s"),
        ("hang-holding-the-lock", {"time_limit": 3.0}, "timeout", "time limit"),
        ("eat", {"memory_limit": 800.0}, "out-of-memory", "memory ran out"),
        ("segfault", {}, "crashed", "SIGSEGV"),
        ("leave-a-child", {}, "crashed", "SIGKILL"),
        ("end", {}, "crashed", "exit status 7"),
        ("exit", {}, "error", "SystemExit 3"),
        ("raise", {}, "error", "ValueError: the method is wrong"),
        ("nan", {}, "not-finite", ""),
        ("shape", {}, "wrong-output", ""),
    ],
)
def test_a_failing_unit_is_recorded_and_the_others_go_on(
    pool: ProcessExecutor, tmp_path: Path, does: str, limits: dict[str, float], kind: str, says: str
) -> None:
    planned = units(does=does) + units(seeds=2)
    heard = Heard()
    summary = run_units(planned, context(tmp_path, **limits), pool, heard)
    assert (summary.ok, summary.failed, summary.exit_code) == (2, 1, 1)
    (record,) = failed(tmp_path)
    assert record["unit_id"] == planned[0].unit_id
    assert record["error"]["kind"] == kind
    assert says in record["error"]["message"], record["error"]
    assert "\n" not in record["error"]["message"] and not record["metrics"]
    again = run_units(planned, context(tmp_path, **limits), pool)
    assert (again.cached, again.failed) == (2, 1), "a failure must not count as done"


def test_what_a_worker_started_dies_with_it(pool: ProcessExecutor, tmp_path: Path) -> None:
    def sleepers() -> list[int]:
        groups = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z" and int(fields[2]) in seen:
                groups.append(int(fields[2]))
        return groups

    marks = Path(os.environ["TROUBLE_MARKS"])
    run_units(units(does="leave-a-child"), context(tmp_path), pool)
    seen = {int(p.read_text()) for p in marks.glob("run-leave-a-child.*")}
    assert seen
    deadline = time.monotonic() + 5
    while sleepers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not sleepers()


def test_each_worker_sees_one_of_several_gpus_and_explicit_devices_see_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is touched: what is tested is what CUDA would see, the variable, in the workers (units run on the CPU)."""
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("TROUBLE_MARKS", str(marks))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    executor = ProcessExecutor(2, logs=tmp_path / "logs")
    try:
        assert run_units(units(seeds=6, seconds=0.3, does="tell-the-gpu"), context(tmp_path / "store"), executor).ok == 6
        told = [p.name.partition("gpu-")[2].rpartition(".")[0] for p in marks.glob("gpu-*")]
        assert sorted(set(told)) == (["3", "5"] if executor.slots == 2 else ["3"])
        explicit = Job("x", context(tmp_path / "store"), unit=dataclasses.replace(units()[0], device="cuda:1"))
        executor.submit(explicit)
        assert [w.gpu for w in executor._workers.values() if w.job is explicit] == [None]
    finally:
        executor.close()


@pytest.mark.parametrize(("value", "gpus"), [("", []), ("-1", []), ("0", ["0"]), ("2, 3", ["2", "3"]), ("GPU-ab,GPU-cd", ["GPU-ab", "GPU-cd"])])
def test_visible_gpus_are_read_off_the_environment(monkeypatch: pytest.MonkeyPatch, value: str, gpus: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert process.visible_gpus() == gpus


def test_a_plugin_that_does_not_import_is_a_failed_unit(pool: ProcessExecutor, tmp_path: Path) -> None:
    """It imported when it was planned, and no longer when it is run: a file was deleted, a library is missing on the worker."""
    folder = tmp_path / "gone"
    folder.mkdir()
    (folder / "gone.py").write_text("from scorebench import Method\n\nclass Gone(Method):\n    def logits(self, request):\n        return 0\n")
    (folder / "gone.yaml").write_text("id: gone\ntitle: gone\ntarget: gone:Gone\nabilities: [logits]\n")
    with execution.included(folder):
        planned = units("gone") + units()
        (folder / "gone.py").write_text("import no_such_library\n")
        summary = run_units(planned, context(tmp_path / "store", include=(folder, execution.TROUBLE)), pool)
        assert (summary.ok, summary.failed) == (1, 1)
        (record,) = failed(tmp_path / "store")
    assert "no_such_library" in record["error"]["message"]


def test_a_fit_is_trained_once_and_its_failure_fails_its_units(pool: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = Path(os.environ["TROUBLE_MARKS"])
    seconds = 0.3 + time.time() % 1 / 1000  # a key no earlier run has
    heard = Heard()
    summary = run_units(units("learner", seeds=4, seconds=seconds), context(tmp_path), pool, heard)
    assert (summary.ok, summary.trained) == (4, 1)
    assert len(list(marks.glob("fit.*"))) == 1
    assert next(s.what.split()[0] for s in heard if s.kind == "finished") == "fit"
    broken = run_units(units("learner", seeds=3, seconds=seconds, fails=True), context(tmp_path), pool)
    assert (broken.ok, broken.failed) == (0, 3)
    assert len(list(marks.glob("fit.*"))) == 2, "a fit that fails is tried once, not once a unit"
    assert all("could not be trained: ValueError: it cannot be learned" in r["error"]["message"] for r in failed(tmp_path))


def test_a_method_that_exits_inline_is_a_failure_and_not_an_interruption(tmp_path: Path) -> None:
    summary = run_units(units(does="exit") + units(), context(tmp_path), InlineExecutor())
    assert (summary.ok, summary.failed) == (1, 1)
    assert "SystemExit 3" in failed(tmp_path)[0]["error"]["message"]


def test_progress_counts_and_estimates(tmp_path: Path) -> None:
    heard = Heard()
    planned = units(seeds=3)
    run_units(planned, context(tmp_path), InlineExecutor(), heard)
    assert heard[0].kind == "started" and heard[0].total == 3
    assert [s.done for s in heard if s.kind == "finished"] == [1, 2, 3]
    assert heard[0].left is None and heard[-1].left == 0.0
    assert all(a.elapsed <= b.elapsed for a, b in itertools.pairwise(heard))
    cached = Heard()
    assert run_units(planned, context(tmp_path), InlineExecutor(), cached).cached == 3
    assert cached.outcomes() == {"cached": 3}
    assert all(n == 1 for n in counts(tmp_path).values())


def test_requests_that_are_wrong() -> None:
    with pytest.raises(RequestError, match="did you mean process"):
        default_executor("proces")
    with pytest.raises(RequestError, match="--workers is 0"):
        ProcessExecutor(0)
    many = ProcessExecutor(10_000)
    assert many.slots < 10_000 and "cores" in many.note


def test_a_failed_preload_is_an_error_not_a_slow_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """multiprocessing's fork server would swallow this ImportError, and every worker would fail on its own."""
    broken = tmp_path / "path"
    broken.mkdir()
    (broken / "lightning.py").write_text("raise ImportError('this lightning is broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    executor = ProcessExecutor(1, logs=tmp_path / "logs")
    with pytest.raises(RunError, match="this lightning is broken"):
        run_units(units(), context(tmp_path / "store"), executor)
    executor.close()
