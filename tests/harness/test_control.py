"""Progress and control: retries of what can pass, fail-fast, the plan without running it, and a run seen from another terminal."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import execution
from cli_tools import data, good, wrong
from execution import Heard, context, units

from scorebench.configs.errors import RunError
from scorebench.harness import monitor, prefetch
from scorebench.harness.controller import run_units
from scorebench.harness.executors.base import Job, Report, Result, passing, perform
from scorebench.harness.executors.inline import InlineExecutor
from scorebench.harness.progress import Policy
from scorebench.leaderboards.ledger import Store

QUICK = Policy(retries=2, backoff=0.05)


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with execution.included():
        yield


class Flaky(InlineExecutor):
    """Loses the first ``losses`` jobs, as a node that dies does."""

    def __init__(self, losses: int, transient: bool = True) -> None:
        super().__init__()
        self.losses, self.transient, self.started = losses, transient, 0

    def wait(self, timeout: float) -> list[Result | Report]:
        self.started += 1
        if self.losses:
            self.losses -= 1
            job = self._jobs.popleft()
            return [Result(job.id, "failed", 0.1, "crashed", "its node died.", transient=self.transient)]
        return super().wait(timeout)


def test_what_may_pass_is_tried_again(tmp_path: Path) -> None:
    heard, executor = Heard(), Flaky(2)
    summary = run_units(units(seeds=2), context(tmp_path), executor, heard, QUICK)
    assert (summary.ok, summary.failed, summary.retried, executor.started) == (2, 0, 2, 4)
    retries = [s for s in heard if s.kind == "retry"]
    assert len(retries) == 2 and "its node died. It is tried again in 0.05 s (1 of 2)." in retries[0].message
    assert all(r["status"] == "ok" for r in Store(tmp_path).records())
    assert not list((tmp_path / "claims").iterdir())


def test_after_the_last_try_it_has_failed(tmp_path: Path) -> None:
    executor = Flaky(99)
    summary = run_units(units(), context(tmp_path), executor, Heard(), QUICK)
    assert (summary.ok, summary.failed, summary.retried, executor.started) == (0, 1, 2, 3)
    (record,) = Store(tmp_path).records()
    assert record["error"]["kind"] == "crashed"
    assert QUICK.delay(2) == pytest.approx(0.2) and Policy(backoff=30).delay(5) == 60


@pytest.mark.parametrize("does", ["raise", "nan", "shape", "exit"])
def test_what_cannot_pass_is_tried_once(tmp_path: Path, does: str) -> None:
    summary = run_units(units(does=does), context(tmp_path), InlineExecutor(), Heard(), QUICK)
    assert (summary.failed, summary.retried) == (1, 0)
    executor = Flaky(1, transient=False)
    assert run_units(units(), context(tmp_path / "other"), executor, Heard(), QUICK).retried == 0 and executor.started == 1


def test_a_component_is_tried_again_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0.01 + time.time() % 1 / 1e6  # a key no earlier run has
    summary = run_units(units("learner", seeds=2, seconds=seconds), context(tmp_path), Flaky(1), Heard(), QUICK)
    assert (summary.ok, summary.trained, summary.retried) == (2, 1, 1)


def test_which_errors_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert passing(OSError(errno.ESTALE, "stale")) and passing(TimeoutError()) and passing(ConnectionResetError())
    assert not passing(OSError(errno.ENOSPC, "full")) and not passing(FileNotFoundError(2, "gone")) and not passing(ValueError())
    wrapped = RunError("weights cannot be read")
    wrapped.__cause__ = OSError(errno.EIO, "input/output error")
    assert passing(wrapped)

    def stale(*args: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("scorebench.harness.runner.run_unit", stale)
    (unit,) = units()
    result = perform(Job(unit.unit_id, context(tmp_path), unit=unit))
    assert (result.status, result.transient, result.recorded) == ("failed", True, False)


@pytest.mark.parametrize(("policy", "failures"), [(Policy(max_failures=1), 1), (Policy(max_failures=2), 2), (Policy(), 3)])
def test_too_many_failures_end_the_run(tmp_path: Path, policy: Policy, failures: int) -> None:
    planned = units(does="raise", seeds=3) + units(seeds=2)
    summary = run_units(planned, context(tmp_path), InlineExecutor(), Heard(), policy)
    assert summary.failed == failures and summary.exit_code == 1
    assert summary.unstarted == (0 if failures == 3 else 5 - failures)
    assert not list((tmp_path / "claims").iterdir())
    assert run_units(planned, context(tmp_path), InlineExecutor()).ok == (0 if failures == 3 else 2), "the same command goes on"


def test_fail_fast_on_the_command_line(tmp_path: Path) -> None:
    words = ("run", "-t", execution.TASK, "-m", "trouble", "-s", "0-2", "--set", "does=raise", "--include", str(execution.TROUBLE))
    words = (*words, "--executor", "inline", "--store", str(tmp_path))
    from cli_tools import call

    result = call(*words, "--fail-fast")
    assert result.exit_code == 1
    assert "2 units were not started, since 1 had failed" in result.output
    assert call(*words, "--max-failures", "2").output.count("failed    trouble") == 2


def test_dry_run_prints_the_plan_and_its_cost(tmp_path: Path) -> None:
    words = ("run", "-t", "denoising/photos-gaussian25", "-m", "tv", "-m", "nlm", "--store", str(tmp_path), "--executor", "inline")
    plan = data(*words, "--dry-run")
    assert (plan["due"], plan["done"], plan["unknown"]) == (2, 0, 0) and plan["seconds"] > 0
    assert {r["basis"] for r in plan["rows"]} == {"this variant and budget"}, "the accepted records say what these take"
    assert not (tmp_path / "ledger").exists()
    assert "Nothing was run." in good(*words, "--dry-run", "--no-pins")


def test_a_run_is_seen_from_another_terminal(tmp_path: Path) -> None:
    heard = Heard()
    with monitor.Monitor(tmp_path, "scorebench run ...") as seen:
        run_units(units(seeds=3), context(tmp_path), InlineExecutor(), lambda s: (heard.append(s), seen(s)))  # type: ignore[func-returns-value]
        seen._write()
        (found,) = monitor.runs(tmp_path)
        assert found["alive"] and (found["done"], found["total"], found["counts"]) == (3, 3, {"ok": 3})
        assert found["rate"] > 0 and found["command"] == "scorebench run ..."
        (best,) = found["best"]
        values = [r["metrics"]["accuracy"]["value"] for r in Store(tmp_path).records()]
        assert best["variant"] == "trouble" and best["value"] == pytest.approx(sum(values) / 3)
        assert "3 of 3 done" in good("status", str(tmp_path)) and "best so far" in good("status", str(tmp_path))
    assert monitor.runs(tmp_path) == [] and data("status", str(tmp_path))["runs"] == []


def test_a_killed_run_is_said_to_be_silent_and_cleared_by_the_next(tmp_path: Path) -> None:
    code = (
        "import sys, os, time; from pathlib import Path; from scorebench.harness.monitor import Monitor\n"
        "with Monitor(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (found,) = monitor.runs(tmp_path)
    assert found["alive"] is False
    assert "has fallen silent" in good("status", str(tmp_path))
    with monitor.Monitor(tmp_path):
        assert [r["pid"] for r in monitor.runs(tmp_path)] == [os.getpid()]


def test_a_run_on_another_machine_is_known_by_its_beat(tmp_path: Path) -> None:
    with monitor.Monitor(tmp_path) as seen:
        seen._me["place"] = "another machine"
        seen._write()
        assert monitor.runs(tmp_path)[0]["alive"] is True
    seen.path.write_text(json.dumps({**seen._me, "beat": 7, "done": 1, "total": 2, "elapsed": 1.0}))
    assert monitor.runs(tmp_path, wait=0.05)[0]["alive"] is False


def test_fetch_trains_what_a_sweep_needs_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROUBLE_MARKS", str(tmp_path))
    seconds = 0.01 + time.time() % 1 / 1e6
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        f"method: grid\nparameters:\n  task: {{value: {execution.TASK}}}\n  method: {{value: learner}}\n  seed: {{values: [0, 1, 2]}}\n"
        f"  seconds: {{value: {seconds!r}}}\n"
    )
    words = ("fetch", str(sweep), "--include", str(execution.TROUBLE), "--executor", "inline", "--store", str(tmp_path / "store"))
    assert "trained   fit learner" in good(*words) and "everything is ready" in good(*words)
    assert len(list(tmp_path.glob("fit*"))) == 1 and not list(tmp_path.glob("run-learner*"))
    planned = units("learner", seeds=3, seconds=seconds)
    assert not prefetch.missing_components(planned)
    assert "Unknown suite or sweep" in wrong("fetch", "quickstar")
