"""The slurm executor: submitit's own processes here, and a real Slurm where one answers (slow). Skipped where submitit is not installed."""

from __future__ import annotations

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
from execution import Heard, context, counts, units

submitit = pytest.importorskip("submitit", reason="submitit is not installed (extra slurm)")
from scorebench.configs.errors import RequestError  # noqa: E402
from scorebench.harness import submission  # noqa: E402
from scorebench.harness.controller import Policy, run_units  # noqa: E402
from scorebench.harness.executors import slurm  # noqa: E402
from scorebench.harness.executors.inline import InlineExecutor  # noqa: E402
from scorebench.leaderboards.ledger import Store  # noqa: E402


def answers() -> bool:
    """Whether a Slurm controller answers here."""
    if shutil.which("sinfo") is None:
        return False
    return subprocess.run(["sinfo", "-h"], capture_output=True, timeout=30, check=False).returncode == 0


real = pytest.mark.skipif(not answers(), reason="no Slurm answers on this machine")


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with execution.included():
        yield


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "POLL", 0.5)


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TROUBLE_MARKS", str(tmp_path))
    return tmp_path


def samples(store: Path) -> dict[str, dict[str, np.ndarray]]:
    opened = Store(store)
    return {r["unit_id"]: opened.samples(r) for r in opened.records() if r["status"] == "ok"}


def until(condition: Any, limit: float = 400.0) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("text", "value"), [("30", 30), (30, 30), ("90m", 90), ("12h", 720), ("2d", 2880), ("01:30:00", 90), ("1-00:00:30", 1441)]
)
def test_times(text: str | int, value: int) -> None:
    assert slurm.minutes(text) == value
    with pytest.raises(RequestError, match="is not accepted"):
        slurm.minutes("soon")


def test_components_that_need_each_other_share_a_job() -> None:
    planned = units("learner", seeds=2, seconds=0.011)
    refs = {r.key: r for u in planned for a in u.artifacts for r in a.walk()}
    assert submission.chains(refs) == [[r] for r in refs.values()]


@pytest.mark.slow
def test_bundles_in_submitits_own_processes(tmp_path: Path, marks: Path) -> None:
    executor = slurm.SlurmExecutor(tmp_path / "store", cluster="local", units_per_job=3, array=4)
    planned = [*units(seeds=5), *units(does="raise"), *units(does="segfault"), *units("learner", seeds=2, seconds=0.1 + time.time() % 1 / 1e3)]
    try:
        summary = run_units(planned, context(tmp_path / "store"), executor, Heard(), Policy(retries=1, backoff=0.1))
    finally:
        executor.close()
    assert (summary.ok, summary.failed, summary.trained) == (7, 2, 1), summary
    kinds = {r["variant"]: r["error"]["kind"] for r in Store(tmp_path / "store").records() if r["status"] == "failed"}
    assert kinds == {"trouble[does=raise]": "error", "trouble[does=segfault]": "crashed"}
    assert len(list(marks.glob("fit.*"))) == 1
    run_units(planned[:5], context(tmp_path / "calm"), InlineExecutor())
    one, other = samples(tmp_path / "store"), samples(tmp_path / "calm")
    for unit_id in other:
        for name in other[unit_id]:
            np.testing.assert_array_equal(one[unit_id][name], other[unit_id][name])


@real
@pytest.mark.slow
def test_a_real_slurm_runs_arrays_and_requeues_what_is_preempted(tmp_path: Path, marks: Path) -> None:
    executor = slurm.SlurmExecutor(tmp_path / "store", units_per_job=4, array=8, time="20m", workers=2)
    planned = units(seeds=12, seconds=1.0) + units("learner", seeds=2, seconds=0.5 + time.time() % 1 / 1e3)
    hit: list[str] = []
    wait = executor.wait

    def preempting(timeout: float) -> Any:
        out = wait(timeout)
        done = {unit for (unit, status) in counts(tmp_path / "store") if status == "ok"}
        running = [job for job, group in executor._running.values() if 0 < sum(j.id in done for j in group) < len(group) - 1]
        if not hit and running:
            hit.append(running[0].job_id)
            running[0]._interrupt()  # SIGTERM and SIGUSR2, as a preemption sends them
        return out

    executor.wait = preempting  # type: ignore[method-assign]
    try:
        summary = run_units(planned, context(tmp_path / "store"), executor, Heard())
    finally:
        executor.close()
    assert hit
    assert (summary.ok, summary.failed) == (14, 0), summary
    logs = "".join(p.read_text() for p in (tmp_path / "store" / "slurm").glob("*_log.*"))
    assert "this job is preempted" in logs and "DUE TO JOB REQUEUE" in logs
    assert counts(tmp_path / "store") == {(u.unit_id, "ok"): 1 for u in planned}
    assert len(list(marks.glob("fit.*"))) == 1
    print(f"\nslurm requeue: {len(planned)} units in arrays, job {hit[0]} preempted and requeued, 0 lost, 0 twice")


@real
@pytest.mark.slow
def test_a_cancelled_job_is_tried_again(tmp_path: Path, marks: Path) -> None:
    executor = slurm.SlurmExecutor(tmp_path / "store", units_per_job=2, array=4)
    planned = units(seeds=4, seconds=2.0)
    hit: list[Any] = []
    wait = executor.wait

    def cancelling(timeout: float) -> Any:
        out = wait(timeout)
        if not hit and len(list(marks.glob("run-*"))) >= 1:
            hit.append(next(iter(executor._running.values()))[0])
            hit[0].cancel(check=False)
        return out

    executor.wait = cancelling  # type: ignore[method-assign]
    try:
        summary = run_units(planned, context(tmp_path / "store"), executor, Heard(), Policy(retries=2, backoff=0.1))
    finally:
        executor.close()
    assert hit and summary.retried >= 1
    assert (summary.ok, summary.failed) == (4, 0), summary
    assert counts(tmp_path / "store") == {(u.unit_id, "ok"): 1 for u in planned}


@real
@pytest.mark.slow
def test_submit_leaves_and_collect_comes_back(tmp_path: Path, marks: Path) -> None:
    from cli_tools import call

    words = ("run", "-t", execution.TASK, "-m", "learner", "-s", "0-5", "--set", f"seconds={0.5 + time.time() % 1 / 1e3}")
    profile = tmp_path / "profile.yaml"
    profile.write_text("executor: slurm\nslurm: {units_per_job: 2, time: 10m, setup: ['export SETUP_LINE=1']}\n")
    words = (*words, "--include", str(execution.TROUBLE), "--store", str(tmp_path / "store"), "--profile", str(profile))
    out = call(*words, "--submit")
    assert out.exit_code == 0 and "Submitted 6 of 6 units in 4 jobs, after 1 components are trained" in out.output, out.output
    again = call(*words, "--submit")
    assert "6 are in the queue already" in again.output, "what is queued must not be submitted twice"
    until(lambda: call(*words, "--collect").exit_code == 0)
    assert "6 units: 6 done." in call(*words, "--collect").output
    assert "Nothing to submit" in call(*words, "--submit").output
    assert len(list(marks.glob("fit.*"))) == 1 and set(counts(tmp_path / "store").values()) == {1}
    text = "".join(p.read_text() for p in (tmp_path / "store" / "slurm").glob("*_submission.sh"))
    assert "export SETUP_LINE=1" in text and "afterany" in text and "#SBATCH --time=10" in text
