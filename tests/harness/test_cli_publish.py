"""`scorebench publish` as a command: refusals, offline twice, and a service on the loopback interface that answers, refuses and dies."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import data, good, wrong

from scorebench.harness.cli.board import locked
from scorebench.leaderboards.ledger import Store
from scorebench.tasks.registry import get_spec

TASK = "denoising/photos-gaussian25"
BESIDE = Path(__file__).parents[1] / "leaderboards"


def beside(name: str) -> Any:
    """Load a helper of the leaderboards' tests."""
    spec = importlib.util.spec_from_file_location(f"beside_{name}", BESIDE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make, service = beside("make"), beside("wandb_service")


def fill(store: Path) -> Path:
    """Put two rows on an embedded task, without running anything."""
    spec = get_spec(TASK)
    meta = {**make.META, "id": TASK, "version": spec.version}
    seen = {"observation_hash": locked(spec, "test")[0], "data_fingerprint": "f" * 64}
    fit = {"fit": {"key": "k" * 32, "sha256": "ab" * 32, "seed": 0, "owner": "dncnn", "pinned": False}}
    target = Store(store)
    target.append(*make.unit("dncnn", 0, 0, 29.2, meta=meta, stochastic="fit", artifacts=fit, **seen))
    target.append(*make.unit("noisy-input", 0, 0, 20.2, meta=meta, **seen))
    return store


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return fill(tmp_path / "runs")


# ------------------------------------------------------------------ refusals
def test_refusals_are_one_sentence(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = ("--store", str(store))
    assert "is no store" in wrong("publish", "--store", str(tmp_path / "none"))
    assert "is no name W&B takes" in wrong("publish", *where, "--project", "a/b")
    assert "is no name W&B takes" in wrong("publish", *where, "--entity", "?")
    assert "did you mean" in wrong("publish", "denoising/photos-gausian25", *where)
    assert "nothing to publish" in wrong("publish", "speech", *where)
    assert "is not a duration" in wrong("publish", *where, "--timeout", "soon")
    assert "no W&B account" in wrong("publish", *where, "--online")
    assert "--link needs the W&B service" in wrong("publish", *where, "--link", "a/b")
    assert "Unknown suite" in wrong("publish", *where, "--report", "none")
    (store / "empty" / "ledger").mkdir(parents=True)
    assert "nothing to publish" in wrong("publish", "--store", str(store / "empty"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert "WANDB_MODE is disabled" in wrong("publish", *where)


def test_no_network_is_said_in_one_sentence(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", service.KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "cannot be reached" in wrong("publish", "--store", str(store), code=1)


# ------------------------------------------------------------------ offline
def test_offline_twice(store: Path) -> None:
    told = data("publish", "--store", str(store), "--dry-run")
    assert not told["online"] and [r["job_type"] for r in told["runs"]] == ["dataset", "train", "row", "row"]
    first = good("publish", "--store", str(store), "--project", "mine")
    assert "Published 5 runs" in first and f"wandb sync {store.resolve() / 'wandb'}/offline-run-*" in first
    again = good("publish", "--store", str(store), "--project", "mine")
    assert "Nothing is new: all 5 runs were published before." in again and "wandb sync" in again
    for folder in (store / "wandb").glob("offline-run-*"):  # what `wandb sync` leaves behind
        (folder / f"run-{folder.name.split('-', 4)[-1]}.wandb.synced").touch()
    assert "wandb sync" not in good("publish", "--store", str(store), "--project", "mine")
    spec = get_spec(TASK)
    more = make.unit("nlm", 0, 0, 27.0, meta={**make.META, "id": TASK}, observation_hash=locked(spec, "test")[0], data_fingerprint="f" * 64)
    Store(store).append(*more)
    third = data("publish", "--store", str(store), "--project", "mine")
    assert sorted(r.partition("-")[0] for r in third["sent"]) == ["leaderboard", "row", "row"], "the new row, the one it outranks, the board"


# ------------------------------------------------------------------ a service on the loopback interface
def publish(url: str, store: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WANDB_BASE_URL": url, "WANDB_API_KEY": service.KEY}
    command = [sys.executable, "-m", "scorebench", "publish", "--store", str(store), "--entity", "lab", "--timeout", "8s", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180)


def test_lineage_and_links_at_the_service(store: Path) -> None:
    with service.Service() as s:
        done = publish(s.url, store, "--link", "wandb-registry-model/boards")
        assert done.returncode == 0, done.stderr
        asked = len(s.asked)
        again = publish(s.url, store, "--link", "wandb-registry-model/boards")
        assert again.returncode == 0 and "Nothing is new" in again.stdout
        assert len(s.asked) == asked, "a second publish asks the service for nothing"
    rows = {r["displayName"].split()[0]: n for n, r in s.runs.items() if r.get("jobType") == "row"}
    assert s.runs[rows["dncnn"]]["exit"] == 0 and s.runs[rows["dncnn"]]["groupName"] == TASK
    assert s.runs[rows["dncnn"]]["summary"]["psnr"] == pytest.approx(29.2, abs=1.5)
    assert s.inputs(rows["dncnn"]) == ["dataset-photos-grey", "fit-dncnn"] and s.inputs(rows["noisy-input"]) == ["dataset-photos-grey"]
    assert any(o.startswith("results-") and o.endswith(":results") for o in s.outputs(rows["dncnn"]))
    assert s.inputs(f"train-{'k' * 16}") == ["dataset-photos-grey"] and s.outputs(f"train-{'k' * 16}") == ["fit-dncnn:model"]
    assert len(s.inputs("leaderboard")) == 2 and "board-denoising-photos-gaussian25-v1:board" in s.outputs("leaderboard")
    assert [(i["artifactPortfolioName"], i["projectName"]) for i in s.linked] == [("boards", "wandb-registry-model")]
    records = next(v for n, v in s.files.items() if n.endswith("records.jsonl"))
    assert json.loads(records.splitlines()[0])["task"] == TASK


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "kind", "after"),
    [
        ("UpsertBucket", "error", 2), ("CommitArtifact", "error", 3), ("UseArtifact", "error", 1), ("storage", "error", 6),
        ("CommitArtifact", "gone", 2), ("UpsertBucket", "slow", 2), ("storage", "slow", 5),
    ],
)  # fmt: skip
def test_what_fails_half_way_is_said_and_taken_up_again(operation: str, kind: str, after: int, store: Path) -> None:
    with service.Service() as s:
        s.trouble[operation], s.after[operation] = kind, after
        broken = publish(s.url, store)
        assert broken.returncode == 1 and "Traceback" not in broken.stderr
        assert "the same command goes on from there" in broken.stderr and len(broken.stderr.strip().splitlines()) == 1, broken.stderr
        if kind == "slow":
            assert "did not answer in time" in broken.stderr
        sent = broken.stdout.count("sent ")
        s.trouble.clear()
        whole = publish(s.url, store)
        assert whole.returncode == 0 and whole.stdout.count("sent ") == 5 - sent, whole.stderr
        assert s.runs["leaderboard"]["exit"] == 0 and len(s.inputs("leaderboard")) == 2


@pytest.mark.slow
def test_wandb_sync_sends_what_was_written_offline(store: Path) -> None:
    good("publish", "--store", str(store))
    with service.Service() as s:
        environment = {**os.environ, "WANDB_BASE_URL": s.url, "WANDB_API_KEY": service.KEY}
        folders = sorted(str(f) for f in (store / "wandb").glob("offline-run-*"))
        command = [str(Path(sys.executable).with_name("wandb")), "sync", *folders]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180)
        assert done.returncode == 0, done.stderr
        after = publish(s.url, store, "--entity", "lab")
    assert len(s.runs) == 5 and all(a["state"] == "COMMITTED" for a in s.artifacts.values())
    results = [o for run in s.runs for o in s.outputs(run) if o.endswith(":results")]
    assert len(results) == 2 and any(n.endswith(("weights.safetensors", "training.json")) for n in s.files)
    assert after.returncode == 0 and s.runs["leaderboard"]["summary"]["boards"] == 1
    assert "wandb sync" not in good("publish", "--store", str(store)), "the marks that sync leaves are seen"
