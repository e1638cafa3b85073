"""Publishing to W&B: the plans as plain data, then the real client offline, read back with its own inspector, and the journal."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorebench.configs.errors import RequestError
from scorebench.leaderboards import wandb_client, wandb_publish, wandb_report
from scorebench.leaderboards.arrays import unpack
from scorebench.leaderboards.board import build
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.sources import gather
from scorebench.leaderboards.wandb_client import PublishError, Target
from scorebench.leaderboards.wandb_lineage import board_table, leaderboard_plan
from scorebench.leaderboards.wandb_plan import Input, Picture, RunPlan, Sound, scalars, slug, tags, without_dots
from scorebench.leaderboards.wandb_rows import Component, impersonal, own, public, row_plan, unit_plans
from scorebench.leaderboards.wandb_samples import portable

WEIGHTS = b"weights of seed 0"
SHA = "ab" * 32
FACTS = {"toy": {"title": "Toy", "kind": "image", "licence": "CC0", "pixels": "redistribute", "source": "made here", "version": 1}}


@pytest.fixture(scope="module")
def filled(make: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("wandb") / "runs"
    store = Store(where)
    fit = {"fit": {"key": "k" * 32, "sha256": SHA, "seed": 0, "owner": "dncnn", "pinned": False}}
    for draw in (0, 1):
        store.append(*make.unit("dncnn", 0, draw, 29.2, stochastic="fit", artifacts=fit, data_fingerprint="f" * 64))
        store.append(*make.unit("noisy-input", 0, draw, 20.2, data_fingerprint="f" * 64))
    return where


def boards(make: Any, store: Path, **meta: Any) -> list[Any]:
    return [build({**make.META, "dataset": "toy", **meta}, gather([store], reference=False))]


def components(folder: Path) -> dict[str, Component]:
    path = folder / "weights.safetensors"
    path.write_bytes(WEIGHTS)
    meta = {"task": "denoising/toy", "trains_on": "paired", "hparams": {"lr": 0.1}, "train_s": 12.0, "key": "k" * 32}
    meta |= {"losses": [[1, 0.5], [2, 0.25]]}
    c = Component(SHA, "k" * 32, "dncnn", "fit", 0, meta, path, "toy", "redistribute")
    return {c.version: c}


def plan_of(all_plans: list[RunPlan], job: str, name: str = "") -> RunPlan:
    return next(p for p in all_plans if p.job_type == job and name in p.name)


@pytest.fixture
def plans(make: Any, filled: Path, tmp_path: Path) -> list[RunPlan]:
    return wandb_publish.plans(boards(make, filled), components(tmp_path), FACTS)


# ------------------------------------------------------------------ plain data
def test_inputs_come_before_what_used_them_and_ids_stay(make: Any, filled: Path, tmp_path: Path, plans: list[RunPlan]) -> None:
    assert [p.job_type for p in plans] == ["dataset", "train", "row", "row"]
    again = wandb_publish.plans(boards(make, filled), components(tmp_path), FACTS)
    assert [(p.id, p.digest) for p in plans] == [(p.id, p.digest) for p in again]
    assert len({p.id for p in plans}) == len(plans)


def test_a_row_says_what_it_is(plans: list[RunPlan]) -> None:
    row = plan_of(plans, "row", "dncnn")
    assert row.group == "denoising/toy" and row.config["seeds"] == [0] and row.config["draws"] == [0, 1]
    assert {"denoising", "supervised", "dncnn", f"parent:train-{'k' * 16}"} <= set(row.tags) and row.config["parent"] == [f"train-{'k' * 16}"]
    assert row.config["inputs"] == {"dataset": f"dataset-toy:sha-{'f' * 12}", "fit seed 0": f"fit-dncnn:sha-{SHA[:12]}"}
    assert row.config["metrics"]["psnr"]["identity"].startswith("psnr|grey") and "unavailable" in row.config["metrics"]["lpips"]
    assert row.summary["psnr"] == pytest.approx(29.2, abs=1.5) and "lpips" not in row.summary
    assert all(isinstance(v, (int, float, str, bool)) for v in row.summary.values())


def test_a_new_seed_or_number_changes_the_digest_and_not_the_id(make: Any, filled: Path, tmp_path: Path, plans: list[RunPlan]) -> None:
    store = tmp_path / "more"
    for draw in (0, 1):
        Store(store).append(*make.unit("dncnn", 1, draw, 29.3, stochastic="fit", data_fingerprint="f" * 64))
    both = [build({**make.META, "dataset": "toy"}, gather([filled, store], reference=False))]
    row, old = plan_of(wandb_publish.plans(both, {}, FACTS), "row", "dncnn"), plan_of(plans, "row", "dncnn")
    assert row.id == old.id and row.digest != old.digest and row.config["seeds"] == [0, 1]


def test_one_run_per_unit_when_asked(make: Any, filled: Path) -> None:
    (board,) = boards(make, filled)
    row = next(r for r in own(board, False) if r.variant == "dncnn")
    units = list(unit_plans(board, row, {}))
    assert [u.config["draw"] for u in units] == [0, 1] and len({u.id for u in units}) == 2
    assert all(u.config["row"] == row_plan(board, row, {}).id for u in units)


@pytest.mark.parametrize(
    ("pixels", "pictures", "previews"), [("redistribute", True, True), ("display", True, False), ("never", False, False)]
)
def test_the_licence_decides_what_is_shown_and_what_travels(
    make: Any, filled: Path, pixels: str, pictures: bool, previews: bool
) -> None:
    (board,) = boards(make, filled, pixels=pixels)
    row = next(r for r in own(board, False) if r.variant == "dncnn")
    content = row_plan(board, row, {}).make()
    table = content.tables["samples"]
    assert any(isinstance(c, Picture) for line in table.rows for c in line) == pictures
    assert ("answer" in table.columns) == pictures and table.columns[:3] == ("sample", "cluster", "psnr") and len(table.rows) == 12
    assert [line[0] for line in table.rows][:2] == ["photo0", "photo1"], "samples with pictures come first"
    (results,) = content.outputs
    arrays = [list(unpack(v)) for n, v in results.files.items() if n.endswith(".npz")]
    assert len(arrays) == 2 and all(any(f.startswith("preview/") for f in files) == previews for files in arrays)
    assert all({"ids", "clusters", "metric/psnr"} <= set(files) for files in arrays)


def test_whole_answers_and_features_stay_at_home() -> None:
    names = ("ids", "clusters", "metric/psnr", "sample/a", "features/fd", "offered/x", "preview/a/answer", "previews")
    arrays = {n: np.zeros(2) for n in names}
    assert set(portable(arrays, "redistribute")) == {"ids", "clusters", "metric/psnr", "preview/a/answer", "previews"}
    assert set(portable(arrays, "never")) == {"ids", "clusters", "metric/psnr"}


def test_checkpoints_of_restricted_data_travel_by_hash(make: Any, filled: Path, tmp_path: Path) -> None:
    known = components(tmp_path)
    for c, weights, there in [
        (next(iter(known.values())), True, True),
        (next(iter(known.values())), False, False),
        (replace(next(iter(known.values())), pixels="never"), True, False),
    ]:
        train = plan_of(wandb_publish.plans(boards(make, filled), {c.version: c}, FACTS, weights=weights), "train")
        content = train.make()
        (model,) = content.outputs
        assert ("weights.safetensors" in model.files) == there and model.version == f"sha-{SHA[:12]}"
        assert content.history == [(1, {"loss": 0.5}), (2, {"loss": 0.25})]


def test_nothing_personal_leaves(make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    record, _ = make.unit()
    record["provenance"] = {"host": "mine", "command": "scorebench run", "user": "me", "cpu": "x"}
    record["hparams"] = {"checkpoint": str(tmp_path / "home" / "weights" / "w.pt"), "other": str(Path.home() / "w.pt")}
    out = public(record)
    assert out["provenance"] == {"cpu": "x"} and out["hparams"] == {"checkpoint": "$SCOREBENCH_HOME/weights/w.pt", "other": "~/w.pt"}
    assert impersonal({"n": 1}) == {"n": 1}


def test_names_and_values_that_wandb_takes() -> None:
    assert slug("inverse/photos cs25 [w=2]") == "inverse-photos-cs25-w-2" and len(slug("x" * 300)) == 110 and slug("x" * 300) != slug("x" * 301)
    assert tags("a", "", "a", "b" * 80) == ("a", "b" * 63 + "…")
    assert scalars({"a": np.float64(1), "b": float("nan"), "c": None, "d": [1], "e": "t"}) == {"a": 1.0, "e": "t"}
    assert without_dots({"a.b": {"c.d": 1}}) == {"a_b": {"c_d": 1}}


def test_the_report_is_plain_data(make: Any, filled: Path) -> None:
    report = wandb_report.content("quickstart", boards(make, filled))
    (section,) = report.data()["sections"]
    assert section["group"] == "denoising/toy" and "dncnn" in section["markdown"] and not section["markdown"].startswith("#")
    assert {p["kind"] for p in section["panels"]} == {"bar", "scatter"}
    assert json.loads(json.dumps(report.data())) and "95 %" in report.introduction
    with pytest.raises(RequestError, match="nothing to report"):
        wandb_report.content("quickstart", [])


def test_a_report_of_the_real_package(make: Any, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb_workspaces", reason="the extra 'report' is not installed")
    target = Target("p", "lab", False, tmp_path, "http://127.0.0.1:9")
    made = wandb_report.build(wandb_report.content("quickstart", boards(make, filled)), target)
    assert made.title == "scorebench: quickstart" and len(made.blocks) == 5


# ------------------------------------------------------------------ the real client, offline
@pytest.fixture(scope="module")
def published(make: Any, filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Target, list[Any], list[RunPlan], Any]]:
    scratch = tmp_path_factory.mktemp("client")
    before = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith("WANDB_")}
    target = Target("toy", None, False, filled, "https://api.wandb.invalid")
    made = boards(make, filled)
    todo = wandb_publish.plans(made, components(scratch), FACTS)
    outcome = wandb_publish.publish(target, made, todo)
    yield target, made, todo, outcome
    os.environ.update(before)


@functools.cache
def inspect(folder: str) -> list[dict[str, Any]]:
    """Return a run's records as the client's own inspector reads them."""
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip(f"this wandb cannot inspect runs: {done.stderr[-200:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def stored_table(folder: str, name: str) -> dict[str, Any]:
    """Return a table as it stands in the artifact that carries it, where cells with pictures say which."""
    manifests = [x["artifact"]["manifest"]["contents"] for x in inspect(folder) if x["type"] == "artifact"]
    (place,) = [c["local_path"] for contents in manifests for c in contents if c["path"] == f"{name}.table.json"]
    return json.loads(Path(place).read_text())


def folder_of(target: Target, run: str) -> str:
    (folder,) = (target.store / "wandb").glob(f"offline-run-*-{run}")
    return str(folder)


def test_what_the_client_wrote_is_what_was_planned(published: Any) -> None:
    target, _, todo, outcome = published
    assert len(outcome.sent) == 5 and not outcome.kept and len(outcome.unsynced) == 5
    row = plan_of(todo, "row", "dncnn")
    lines = inspect(folder_of(target, row.id))
    run = next(x["run"] for x in lines if x["type"] == "run")
    assert (run["project"], run["run_id"], run["run_group"], run["job_type"]) == ("toy", row.id, "denoising/toy", "row")
    assert sorted(run["tags"]) == sorted(row.tags) and run.get("host", "") == ""
    config = run["config"]["update"]
    assert {k: config[k] for k in ("task", "seeds", "draws", "inputs", "parent")} == {
        k: row.config[k] for k in ("task", "seeds", "draws", "inputs", "parent")
    }
    summary: dict[str, Any] = {}
    for x in lines:
        if x["type"] == "summary":
            summary |= x["summary"].get("update", {})
    assert {k: summary[k] for k in row.summary} == pytest.approx(row.summary)
    artifacts = {x["artifact"]["name"]: x["artifact"] for x in lines if x["type"] == "artifact"}
    results = next(a for a in artifacts.values() if a["type"] == "results")
    assert {"latest"} < set(results["aliases"]) and json.loads(results["metadata"])["pixels"] == "redistribute"
    files = {c["path"]: c for c in results["manifest"]["contents"]}
    assert set(files) == {"records.jsonl", "samples/dncnn-0-0.npz", "samples/dncnn-0-1.npz"}
    assert all(str(target.store) in c["local_path"] and Path(c["local_path"]).is_file() for c in files.values()), "`wandb sync` finds them"
    records = [json.loads(x) for x in Path(files["records.jsonl"]["local_path"]).read_text().splitlines()]
    assert [r["unit_id"] for r in records] == ["dncnn-0-0", "dncnn-0-1"]


def test_the_cells_of_the_tables(published: Any) -> None:
    target, made, todo, _ = published
    row = plan_of(todo, "row", "dncnn")
    samples, units = (stored_table(folder_of(target, row.id), n) for n in ("samples", "units"))
    assert samples["columns"] == ["sample", "cluster", "psnr", "ssim", "given", "answer", "clean"] and len(samples["data"]) == 12
    first = samples["data"][0]
    assert first[0] == "photo0" and first[2] == pytest.approx(row.make().tables["samples"].rows[0][2]) and first[4]["_type"] == "image-file"
    assert (first[4]["width"], first[4]["height"]) == (24, 24) and samples["data"][-1][4] is None
    assert units["columns"][:3] == ["seed", "draw", "psnr"] and [u[1] for u in units["data"]] == [0, 1]
    table = stored_table(folder_of(target, "leaderboard"), "denoising-toy-v1")
    lines = [dict(zip(table["columns"], line, strict=True)) for line in table["data"]]
    assert [x["variant"] for x in lines] == ["dncnn", "noisy-input"] and lines[0]["run"] == row.id
    assert lines[1]["delta"] == pytest.approx(made[0].rows[1].delta("psnr").difference) and lines[1]["verdict"] == "worse"


def test_lineage_offline_is_in_names_and_hashes(published: Any) -> None:
    target, _, todo, _ = published
    train = plan_of(todo, "train")
    lines = inspect(folder_of(target, train.id))
    model = next(x["artifact"] for x in lines if x["type"] == "artifact")
    assert (model["name"], model["type"]) == ("fit-dncnn", "model") and f"sha-{SHA[:12]}" in model["aliases"]
    weights = next(c for c in model["manifest"]["contents"] if c["path"] == "weights.safetensors")
    assert Path(weights["local_path"]).read_bytes() == WEIGHTS
    losses = [x["history"]["item"]["loss"] for x in lines if x["type"] == "history"]
    assert losses == [0.5, 0.25]
    dataset = next(x["artifact"] for x in inspect(folder_of(target, plan_of(todo, "dataset").id)) if x["type"] == "artifact")
    manifest = json.loads(Path(dataset["manifest"]["contents"][0]["local_path"]).read_text())
    assert manifest["licence"] == "CC0" and manifest["samples"]["denoising/toy@1 test"]["photo3"] == "p1"
    assert manifest["observations"]["denoising/toy@1 test"] == {"0": "obs0", "1": "obs1"}


def test_a_second_publish_sends_nothing_and_a_removed_run_is_sent_again(published: Any) -> None:
    target, made, todo, first = published

    class Nobody(wandb_client.Client):
        def send(self, plan: RunPlan) -> Any:
            raise AssertionError(f"{plan.id} was sent again")

    second = wandb_publish.publish(target, made, todo, client=Nobody(target))
    assert not second.sent and second.kept == first.sent and second.unsynced == first.unsynced
    assert "offline-run-*" in wandb_client.sync_command(second.unsynced)


def test_sound_goes_into_a_table(published: Any, tmp_path: Path) -> None:
    from scorebench.leaderboards.pictures import wav
    from scorebench.leaderboards.wandb_plan import Content, TablePlan
    from scorebench.leaderboards.wandb_samples import decoded

    target = replace(published[0], store=tmp_path)
    sound = Sound(decoded(wav(np.sin(np.arange(800) / 9), 8000)))
    content = Content(tables={"t": TablePlan(("sample", "answer"), [("a", sound), ("b", None)])})
    sent = wandb_client.Client(target).send(RunPlan("x1", "x", "g", "row", (), {}, {}, make=lambda: content))
    first, second = stored_table(sent.where, "t")["data"]
    assert first[1]["_type"] == "audio-file" and second[1] is None
    contents = next(x["artifact"]["manifest"]["contents"] for x in inspect(sent.where) if x["type"] == "artifact")
    (kept,) = [c["local_path"] for c in contents if c["path"] == first[1]["path"]]
    assert Path(kept).read_bytes() == sound.wav, "kept in the store until it is sent"


# ------------------------------------------------------------------ the journal
class Recording(wandb_client.Client):
    """Sends nothing; fails at the run of a given number."""

    def __init__(self, target: Target, fails_at: int | None = None) -> None:
        super().__init__(target)
        self.sent: list[str] = []
        self.fails_at = fails_at

    def send(self, plan: RunPlan) -> wandb_client.Sent:
        if len(self.sent) == self.fails_at:
            raise PublishError("the connection was cut.")
        self.sent.append(plan.id)
        content = plan.make()
        return wandb_client.Sent(f"https://x/{plan.id}", [(o.name, o.version) for o in content.outputs])


def test_a_publish_that_failed_goes_on_where_it_stopped(make: Any, filled: Path, tmp_path: Path) -> None:
    target = Target("p", "lab", True, tmp_path, "https://x")
    made = boards(make, filled)
    todo = wandb_publish.plans(made, components(tmp_path), FACTS)
    broken = Recording(target, fails_at=2)
    with pytest.raises(PublishError, match=r"the connection was cut \(2 of 5 runs are published; the same command goes on"):
        wandb_publish.publish(target, made, todo, client=broken)
    journal = tmp_path / "publish" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"torn')
    whole = Recording(target)
    outcome = wandb_publish.publish(target, made, todo, client=whole)
    assert whole.sent == [p.id for p in todo[2:]] + ["leaderboard"] and len(outcome.kept) == 2
    third = Recording(target)
    assert not wandb_publish.publish(target, made, todo, client=third).sent and not third.sent
    other = Recording(replace(target, project="another"))
    assert len(wandb_publish.publish(other.target, made, todo, client=other).sent) == 5, "another project knows nothing of this one"


def test_the_leaderboard_uses_the_results_of_rows_sent_earlier(make: Any, filled: Path) -> None:
    (board,) = boards(make, filled)
    plan = leaderboard_plan([board], [Input("results-x", "results", "sha-1", "x")])
    assert plan.config["inputs"] == {"x": "results-x:sha-1"} and plan.summary["best/denoising-toy-v1"] == "dncnn"
    assert leaderboard_plan([board], link="wandb-registry-model/b").digest != leaderboard_plan([board]).digest
    assert len(board_table(board).rows) == 2


def test_nothing_to_publish(make: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nothing to publish"):
        wandb_publish.plans(boards(make, tmp_path), {}, FACTS)
