"""What `wandb agent` makes of a shipped sweep, with wandb's own launcher code: a command line that runs, reads dev and reports its metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scorebench.harness import sweeps
from scorebench.harness.cli.agent import values


def command_of(sweep: sweeps.Sweep, point: dict[str, Any]) -> list[str]:
    """Fill the sweep's command as wandb's agent does."""
    from wandb.sdk.launch.sweeps import utils

    macros = utils.create_sweep_command_args({"args": {k: {"value": v} for k, v in point.items()}})
    out: list[str] = []
    for word in utils.create_sweep_command(list(sweep.command)):
        out += macros[word[2:-1]] if word.startswith("${") else [word]
    return out


@pytest.mark.parametrize("name", sorted(sweeps.known()))
def test_an_agent_plans_the_units_that_the_sweep_plans(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from scorebench.harness.cli import request, run
    from scorebench.harness.sweep_plan import plan_sweep

    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    s = sweeps.get(name)
    points = s.configurations()[:3]
    ids = set()
    for point in points:
        program, verb, *words = command_of(s, point)
        assert (program, verb) == ("scorebench", "run")
        asked = request.asked(words, tasks=[], methods=[], seeds=[], draws=[], budgets=[], split=None, limit=None, settings=[])
        assert asked.split == s.split
        ids |= {u.unit_id for u in run.planned(asked)[0]}
    assert ids == {u.unit_id for u in plan_sweep(s, points)}


def test_an_agents_command_line_runs_and_reports(tmp_path: Path) -> None:
    s = sweeps.get("tv-strength")
    _, *words = command_of(s, {**s.configurations()[0], "iterations": 2})
    env = {
        **os.environ, "WANDB_SWEEP_ID": "abc", "WANDB_RUN_ID": "run1", "WANDB_MODE": "offline", "WANDB_PROJECT": "p",
        "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true",
    }  # fmt: skip
    words = [sys.executable, "-m", "scorebench", *words, "--store", str(tmp_path / "store"), "--executor", "inline", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (record,) = json.loads(done.stdout)
    assert record["split"] == "dev" and record["hparams"]["strength"] == 0.5
    (summary,) = tmp_path.glob("wandb/offline-run-*-run1")
    assert list(summary.glob("run-run1.wandb"))


def test_the_mean_is_reported_only_when_every_unit_is_done() -> None:
    good = {"status": "ok", "metrics": {"psnr": {"value": 30.0}, "lpips": {"unavailable": {}}}}
    other = {"status": "ok", "metrics": {"psnr": {"value": 32.0}, "lpips": {"unavailable": {}}}}
    assert values([good, other]) == {"psnr": 31.0}
    assert values([good, {"status": "failed", "metrics": {}}]) == {}
