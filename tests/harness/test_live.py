"""Live logging of trainings: it changes no weight, says what it should, and never stops a training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy import ToyNet, ToyTask

from scorebench.harness import live, training
from scorebench.harness.unit import ArtifactRef
from scorebench.leaderboards.wandb_client import Target

REF = ArtifactRef("fit", "fit", "toy-net", "a" * 32, "r" * 32, task="denoising/toy", trains_on="paired")


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    return Target("toy", None, False, tmp_path / "runs", "https://api.wandb.invalid")


def fitted(**watched: Any) -> dict[str, torch.Tensor]:
    module, report = training.fit(ToyNet, ToyTask(), "paired", gflops=0.02, seed=3, **watched)
    assert report.steps > 8
    return module.state_dict()


def test_watching_changes_no_weight_and_is_read_back(target: Target) -> None:
    target.store.mkdir()
    alone = fitted()
    watched = fitted(**live.watch(target, REF, ToyTask()))
    assert all(torch.equal(alone[k], watched[k]) for k in alone)
    (folder,) = (target.store / "wandb").glob("offline-run-*")
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(folder)]
    lines = [json.loads(x) for x in subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()]
    run = next(x["run"] for x in lines if x["type"] == "run")
    assert (run["run_id"], run["job_type"], run["run_group"]) == (f"train-{'a' * 16}", "train", "denoising/toy")
    items = [x["history"]["item"] for x in lines if x["type"] == "history"]
    losses = [i for i in items if "loss" in i]
    assert len(losses) > 8 and {i["lr"] for i in losses} == {1e-3} and losses[0]["step"] == 1
    shown = [i for i in items if "samples._type" in i]
    assert 8 <= len(shown) <= 10 and shown[0]["samples.width"] == 3 * 16 + 2, "given, answer and clean side by side"
    assert next(x["exit"]["exit_code"] for x in lines if x["type"] == "exit") == 0
    assert (target.store / "publish" / "live.txt").read_text().split() == [f"train-{'a' * 16}"]


def test_pictures_obey_the_licence(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    task = ToyTask()
    monkeypatch.setattr(type(task.dataset), "pixels", "never")
    assert not live.LiveLog(None, REF, task).shows


def test_a_training_that_cannot_be_watched_goes_on(target: Target, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*args: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(live, "start", refused)
    assert live.watch(target, REF, ToyTask()) == {}
    assert "live logging of fit toy-net on denoising/toy, seed 0 is off: no space left" in capsys.readouterr().err


def test_nobody_is_watched_unless_asked(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(live.VARIABLE, raising=False)
    assert live.watcher() is None
    monkeypatch.setenv(live.VARIABLE, "")
    live.enable(target)
    assert live.watcher() is not None
    asked = json.loads(os.environ[live.VARIABLE])
    assert Target(**{**asked, "store": Path(asked["store"])}) == target
