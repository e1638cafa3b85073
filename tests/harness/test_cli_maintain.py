"""`scorebench pin`, `accept` and `lock`, on copies of what they write; and `cite`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import data, good, wrong

from scorebench.harness import artifacts, lock
from scorebench.leaderboards import reference, sources
from scorebench.tasks import registry

TASK = "classification/digits"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the commands write to a folder that stands for the package."""
    root = tmp_path / "package"
    for module in (reference, sources):
        monkeypatch.setattr(module, "HERE", root / "reference")
    monkeypatch.setattr(artifacts, "PACKAGE", root)
    monkeypatch.setattr(artifacts, "SHIPPED", root / "baselines" / "weights")
    monkeypatch.setattr(artifacts, "PINS", root / "configs" / "pins.yaml")
    monkeypatch.setattr(lock, "LOCK", root / "observations.lock")
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    return root


def run(store: Path, *methods: str) -> list[dict]:
    return data("run", "-t", TASK, *(f"method={m}" for m in methods), "--store", str(store), "--executor", "inline")


def test_pinned_weights_are_used_until_told_otherwise(package: Path, tmp_path: Path) -> None:
    text = good("pin", "-t", TASK, "-m", "majority-class")
    assert "baselines/weights/majority-class-classification-digits-s0.safetensors" in text
    (entry,) = yaml.safe_load((package / "configs" / "pins.yaml").read_text())["pins"]
    assert entry["owner"] == "majority-class" and entry["command"] == f"scorebench pin --again -t {TASK} -m majority-class"
    assert "pinned already" in good("pin", "-t", TASK, "-m", "majority-class")
    (pinned,) = run(tmp_path / "a", "majority-class")
    ledger = next((tmp_path / "a" / "ledger").glob("*.jsonl"))
    assert json.loads(ledger.read_text())["artifacts"]["fit"]["pinned"] is True
    arguments = ("run", "-t", TASK, "-m", "majority-class", "--no-pins", "--store", str(tmp_path / "b"), "--executor", "inline")
    (trained,) = data(*arguments)
    assert trained["metrics"]["accuracy"]["value"] == pinned["metrics"]["accuracy"]["value"]
    (package / entry["file"]).write_bytes(b"torn")
    other = ("--store", str(tmp_path / "c"), "--executor", "inline")
    assert "missing or damaged" in wrong("run", "-t", TASK, "-m", "majority-class", *other, code=1)


def test_pin_refuses(package: Path) -> None:
    assert "either --suite NAME" in wrong("pin")
    assert "either --suite NAME" in wrong("pin", "--suite", "quickstart", "-t", TASK)
    assert "Unknown suite" in wrong("pin", "--suite", "quickstar")
    assert "nothing to ship" in wrong("pin", "-t", "denoising/photos-gaussian25", "-m", "noisy-input")


def test_accepted_records_make_a_board_without_a_store(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "runs"
    first = run(store, "majority-class")
    assert "1 records of this store are accepted" in good("accept", TASK, "--reason", "first", "--store", str(store))
    run(store, "logistic-regression")
    assert "now in the reference: 2 classification" in good("accept", TASK, "--reason", "second", "--store", str(store))
    board = data("board", TASK, "--accepted")
    assert {r["variant"] for r in board["rows"]} == {"majority-class", "logistic-regression"}
    assert {r["source"] for r in board["rows"]} == {"reference"}
    row = next(r for r in board["rows"] if r["variant"] == "majority-class")
    assert row["metrics"]["accuracy"]["mean"] == first[0]["metrics"]["accuracy"]["value"]
    lines = [json.loads(line) for line in (package / "reference" / "classification.jsonl").read_text().splitlines()]
    assert [r["variant"] for r in lines] == ["logistic-regression", "majority-class"]
    assert all(r["provenance"]["accepted"]["reason"] for r in lines)
    assert "accepted, difference" not in good("board", TASK, "--store", str(store))  # they are the same records
    file = package / "reference" / "classification.jsonl"
    elsewhere = [{**r, "environment_key": "another-machine"} for r in lines]
    elsewhere[1]["metrics"]["accuracy"]["value"] -= 0.01
    file.write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in elsewhere))
    text = good("board", TASK, "--store", str(store))
    assert "majority-class: accuracy" in text and "accepted, difference +0.0100" in text
    assert "logistic-regression: accuracy" in text and "accepted, difference +0.0000" in text


def test_accepting_one_task_keeps_the_accepted_records_of_others_that_the_store_still_has(package: Path, tmp_path: Path) -> None:
    store, other = tmp_path / "runs", "classification/digits-noisy-labels40"
    run(store, "majority-class")
    good("run", "-t", other, "-m", "majority-class", "--store", str(store), "--executor", "inline")
    assert "now in the reference: 1 classification" in good("accept", TASK, "--reason", "first", "--store", str(store))
    assert "now in the reference: 2 classification" in good("accept", other, "--reason", "second", "--store", str(store))
    lines = [json.loads(line) for line in (package / "reference" / "classification.jsonl").read_text().splitlines()]
    assert {r["task"]: r["provenance"]["accepted"]["reason"] for r in lines} == {TASK: "first", other: "second"}
    assert data("board", TASK, "--accepted")["rows"][0]["source"] == "reference"


def test_accept_refuses(package: Path, tmp_path: Path) -> None:
    assert "holds no records" in wrong("accept", TASK, "--reason", "x", "--store", str(tmp_path / "empty"))
    assert "--reason is empty" in wrong("accept", TASK, "--reason", " ", "--store", str(tmp_path / "empty"))
    assert "--reason" in wrong("accept", TASK)


def test_lock_holds_the_hashes_of_observations(package: Path) -> None:
    good("lock", TASK)
    task = registry.get(TASK)
    entry = yaml.safe_load(lock.LOCK.read_text())["tasks"][f"{TASK}@{task.version}"]
    assert entry["test"] == task.observation_hash("test") and entry["dev"] == task.observation_hash("dev")
    assert "Unknown task" in wrong("lock", "classification/digi")


def test_a_board_refuses_records_of_other_observations_than_the_locked_ones(package: Path, tmp_path: Path) -> None:
    run(tmp_path / "runs", "majority-class")
    good("lock", TASK)
    assert len(data("board", TASK, "--store", str(tmp_path / "runs"))["rows"]) == 1
    lock.LOCK.write_text(lock.LOCK.read_text().replace(registry.get(TASK).observation_hash("test"), "f" * 64))
    board = data("board", TASK, "--store", str(tmp_path / "runs"))
    assert board["rows"] == [] and "other observations" in board["refused"][0]["reason"]


def test_cite() -> None:
    text = good("cite", "dncnn")
    assert "author = {Kai Zhang and Wangmeng Zuo and " in text and "@article{dncnn2017" in text
    assert "@inproceedings{nlm2005" in good("cite", "nlm") and "booktitle = {CVPR}" in good("cite", "nlm")
    assert text.startswith("@article{dncnn2017,") and "arXiv" in text and "{Beyond a Gaussian Denoiser" in text
    assert "@misc{psnr," in good("cite", "psnr", "speech") and "espeakng" in good("cite", "speech")
    assert good("cite").count("@") > 10
    assert "names no paper" in wrong("cite", "photos")
    assert "Unknown id" in wrong("cite", "no-such-thing-at-all")
