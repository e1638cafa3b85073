"""Stored fits and priors: trained once, whoever comes; rounded, verified, pinned."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parent))
import execution
from execution import TASK, context

from scorebench.configs.errors import RequestError, RunError
from scorebench.harness import artifacts, weights
from scorebench.harness.artifacts import ensure, find, pin, pin_of
from scorebench.harness.controller import run_units
from scorebench.harness.executors.inline import InlineExecutor
from scorebench.harness.plan import plan
from scorebench.harness.unit import ArtifactRef
from scorebench.leaderboards.ledger import Store

REF = ArtifactRef("fit", "fit", "toy", key="0" * 32, recipe="r" * 32, task=TASK, hparams={"width": 8}, seed=3, gflops=5.0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder of our own to ship weights in."""
    monkeypatch.setattr(artifacts, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(artifacts, "SHIPPED", tmp_path / "package" / "baselines" / "weights")
    monkeypatch.setattr(artifacts, "PINS", tmp_path / "package" / "configs" / "pins.yaml")
    return tmp_path / "package"


def make(folder: Path, value: float = 1 / 3) -> Mapping[str, Any]:
    state = {"matrix": torch.full((2, 3), value), "bias": torch.full((3,), value), "count": torch.tensor(7)}
    weights.save(state, folder / "weights.safetensors")
    return {"train_s": 1.5, "train_samples": 10, "losses": [[1, 0.5]]}


def test_weights_are_rounded_as_they_are_stored(tmp_path: Path) -> None:
    make(tmp_path)
    state = weights.load(tmp_path / "weights.safetensors")
    assert state["matrix"].dtype == state["bias"].dtype == torch.float32 and state["count"] == 7
    assert torch.equal(state["matrix"], torch.full((2, 3), 1 / 3).half().float()) and state["matrix"][0, 0] != torch.tensor(1 / 3)
    assert torch.equal(state["bias"], torch.full((3,), 1 / 3))
    tied = torch.ones(2, 2)
    weights.save({"a": tied, "b": tied}, tmp_path / "tied.safetensors")
    assert weights.load(tmp_path / "tied.safetensors").keys() == {"a", "b"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_cannot_be_stored_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(RunError, match="'matrix' are not finite") as e:
        make(tmp_path, value)
    assert e.value.kind == "not-finite"


def test_trained_once_then_found(home: Path) -> None:
    calls = []

    def count(folder: Path) -> Mapping[str, Any]:
        calls.append(1)
        return make(folder)

    first = ensure(REF, count)
    second = ensure(REF, count)
    assert len(calls) == 1 and first.fresh and not second.fresh and first.sha256 == second.sha256 == weights.sha256(first.path)
    assert second.meta["train_s"] == 1.5 and second.meta["hparams"] == {"width": 8} and second.meta["recipe"] == REF.recipe
    assert second.entry() == {"key": REF.key, "sha256": first.sha256, "pinned": False, "seed": 3, "owner": "toy"}
    assert {p.name for p in (home / "artifacts" / REF.key).iterdir()} == {"weights.safetensors", "meta.json"}
    assert {p.name for p in (home / "artifacts").iterdir()} == {".claims", REF.key}
    assert not list((home / "artifacts" / ".claims").iterdir())


@pytest.mark.parametrize("damage", ["flip", "cut", "no weights", "no meta", "bad meta"])
def test_damage_is_noticed_said_and_repaired(damage: str) -> None:
    good = ensure(REF, make)
    meta = good.path.with_name("meta.json")
    if damage == "flip":
        content = bytearray(good.path.read_bytes())
        content[-1] ^= 1
        good.path.write_bytes(content)
    elif damage == "cut":
        good.path.write_bytes(good.path.read_bytes()[:-5])
    elif damage == "no weights":
        good.path.unlink()
    elif damage == "no meta":
        meta.unlink()
    else:
        meta.write_text("{")
    said: list[str] = []
    again = ensure(REF, make, say=said.append)
    assert again.fresh and again.sha256 == good.sha256 and len(said) == 1 and "damaged" in said[0] and "trained again" in said[0]
    assert find(REF, say=pytest.fail) is not None


def test_a_failed_training_leaves_nothing(home: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "weights.safetensors").write_bytes(b"half")
        raise RunError("training diverged", "not-finite")

    with pytest.raises(RunError, match="diverged"):
        ensure(REF, fail)
    with pytest.raises(FileNotFoundError):  # the method's own trouble with a file is not the home folder's
        ensure(REF, lambda folder: Path("/no/such/file").read_text())  # type: ignore[arg-type,return-value]
    with pytest.raises(RunError, match="wrote no weights"):
        ensure(REF, lambda folder: None)
    assert find(REF) is None and [p.name for p in (home / "artifacts").iterdir()] == [".claims"]
    assert ensure(REF, make).fresh


def slowly(marks: str, seconds: float) -> None:
    def train(folder: Path) -> Mapping[str, Any]:
        Path(marks, str(os.getpid())).touch()
        time.sleep(seconds)
        return make(folder)

    ensure(REF, train, say=lambda text: None)


def test_many_processes_train_once(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=slowly, args=(str(marks), 0.5)) for _ in range(5)]
    for p in processes:
        p.start()
    for p in processes:
        p.join(60)
    assert [p.exitcode for p in processes] == [0] * 5 and len(list(marks.iterdir())) == 1


def test_a_killed_trainer_is_taken_over(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    fork = multiprocessing.get_context("fork")
    first = fork.Process(target=slowly, args=(str(marks), 600.0))
    first.start()
    while not list(marks.iterdir()):
        time.sleep(0.01)
    second = fork.Process(target=slowly, args=(str(marks), 0.0))
    second.start()
    time.sleep(0.5)
    assert second.is_alive() and len(list(marks.iterdir())) == 1, "it waits for the living"
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join()
    second.join(15)
    assert second.exitcode == 0 and find(REF) is not None
    assert {p.name for p in artifacts.folder_of(REF).parent.iterdir()} == {".claims", REF.key}, "the dead trainer's half is cleared away"


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"cannot be stored in .*; free some space, or set SCOREBENCH_HOME"):
        ensure(REF, make)


# ------------------------------------------------------------------ pins
def test_a_pin_is_used_by_its_recipe_whatever_the_code(shipped: Path) -> None:
    artifact = ensure(REF, make)
    entry = pin(artifact, "toy-digits-s3", command="scorebench pin", code="abc")
    assert (shipped / entry["file"]).is_file() and entry["sha256"] == artifact.sha256 and entry["train_s"] == 1.5
    newer = ArtifactRef("fit", "fit", "toy", key="9" * 32, recipe=REF.recipe, task=TASK, seed=3)
    found = ensure(newer, pytest.fail)
    assert found.pinned and found.entry()["pinned"] and torch.equal(found.state()["matrix"], artifact.state()["matrix"])
    assert ensure(newer, make, pins=False).fresh
    other = ArtifactRef("fit", "fit", "toy", key="8" * 32, recipe="s" * 32)
    assert pin_of(other) is None and find(other) is None


def test_pins_are_sorted_replaced_and_limited(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = [ArtifactRef("fit", "fit", "toy", key=c * 32, recipe=c * 32) for c in "cab"]
    for ref in refs:
        pin(ensure(ref, make), f"pin-{ref.key[0]}")
        os.utime(artifacts.PINS, ns=(time.time_ns(), time.time_ns()))
    pin(ensure(refs[0], make), "pin-renamed")
    listed = yaml.safe_load(artifacts.PINS.read_text())["pins"]
    assert [p["name"] for p in listed] == ["pin-a", "pin-b", "pin-renamed"]
    monkeypatch.setattr(artifacts, "LARGEST", 10)
    with pytest.raises(RequestError, match="at most"):
        pin(ensure(refs[1], make), "large")


def test_damaged_shipped_weights_are_not_used(shipped: Path) -> None:
    entry = pin(ensure(REF, make), "toy")
    (shipped / entry["file"]).write_bytes(b"damaged")
    with pytest.raises(RunError, match="install scorebench again, or run with --no-pins"):
        find(REF)


def test_every_shipped_file_is_pinned_intact_small_and_no_other_lies_there() -> None:
    listed = {p["file"]: p for p in artifacts.pins().values()}
    there = {p.relative_to(artifacts.PACKAGE).as_posix() for p in artifacts.SHIPPED.glob("*.safetensors")}
    assert there == set(listed)
    for file, entry in listed.items():
        path = artifacts.PACKAGE / file
        assert weights.sha256(path) == entry["sha256"] and path.stat().st_size <= artifacts.LARGEST
        assert entry["command"] and entry["owner"]


# ------------------------------------------------------------------ in a run
@pytest.fixture
def plugin() -> Iterator[Path]:
    with execution.included() as folder:
        yield folder


PRIOR = """id: toy-prior
title: toy
target: trouble:Learner
kind: trained
form: classifier
data: digits
task: classification/digits
trains_on: paired
gflops: 1
seed: 5
hparams: {seconds: 0.0}
"""


def test_a_prior_is_trained_before_the_fit_that_needs_it_and_both_once(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain: the method's own fit is handed a trained component; three seeds share the prior."""
    folder, marks = tmp_path / "chain", tmp_path / "marks"
    (folder / "priors").mkdir(parents=True)
    marks.mkdir()
    monkeypatch.setenv("TROUBLE_MARKS", str(marks))
    (folder / "trouble.py").write_text((plugin / "trouble.py").read_text())
    (folder / "priors" / "toy.yaml").write_text(PRIOR)
    (folder / "chain.py").write_text(
        "import torch\nfrom scorebench import Method\n\n\nclass Chain(Method):\n    def __init__(self, teacher, scale: float = 1.0):\n"
        "        super().__init__()\n        self.teacher = teacher\n        self.register_buffer('own', torch.zeros(10))\n\n"
        "    def learn(self, data):\n        self.own.copy_(self.teacher.share * 2)\n\n"
        "    def logits(self, request):\n        return self.own.expand(request.n, -1).clone()\n"
    )
    (folder / "chain.yaml").write_text(
        "id: chain\ntitle: chain\ntarget: chain:Chain\nabilities: [logits]\ntrains_on: paired\nstochastic: fit\n"
        "needs: {teacher: {id: toy-prior}}\n"
    )
    with execution.included(folder):
        planned = plan([TASK], ["chain"], seeds=[0, 1, 2])
        assert [(a.role, a.kind) for a in planned[0].artifacts] == [("teacher", "prior"), ("fit", "fit")]
        assert len({u.component("teacher").key for u in planned}) == 1 and len({u.component("fit").key for u in planned}) == 3
        heard = execution.Heard()
        summary = run_units(planned, context(tmp_path / "store", include=(folder,)), InlineExecutor(), heard)
        assert (summary.ok, summary.trained) == (3, 4), summary
    assert len(list(marks.glob("fit*"))) == 1
    assert "prior toy-prior" in next(s.what for s in heard if s.kind == "finished")
    for record in Store(tmp_path / "store").records():
        assert set(record["artifacts"]) == {"teacher", "fit"} and record["artifacts"]["teacher"]["seed"] == 5


def test_at_inference_hyper_parameters_do_not_retrain(plugin: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "trouble.py").write_text((plugin / "trouble.py").read_text())
    card = (plugin / "learner.yaml").read_text().replace("at_inference: []", "at_inference: [fails]").replace("id: learner", "id: learner-two")
    (folder / "learner.yaml").write_text(card)
    with execution.included(folder):
        chosen: list[dict[str, Any]] = [{}, {"fails": True}, {"seconds": 1.0}]
        fits = [plan([TASK], ["learner-two"], overrides=values)[0].component("fit") for values in chosen]
    one, other, third = (fit.key for fit in fits if fit is not None)
    assert one == other != third


def test_a_damaged_fit_is_trained_again_in_the_next_run(plugin: Path, tmp_path: Path, home: Path) -> None:
    first, second = plan([TASK], ["learner"], draws=[0, 1])
    assert run_units([first], context(tmp_path), InlineExecutor()).trained == 1
    (file,) = (home / "artifacts").glob("*/weights.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    heard = execution.Heard()
    summary = run_units([first, second], context(tmp_path), InlineExecutor(), heard)
    assert (summary.ok, summary.cached, summary.trained) == (1, 1, 1)
    assert [s.message for s in heard if s.kind == "note" and "damaged" in s.message]
