"""Boards in the Hub's layouts, read back with the Hub's own reader where it is installed."""

from __future__ import annotations

import pytest
import yaml

from scorebench.leaderboards import render_hf
from scorebench.leaderboards.board import build
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.sources import gather


@pytest.fixture
def board(tmp_path, make):
    store = make.fill(Store(tmp_path / "runs"))
    store.append(*make.unit("part", partial=True, n=6, observation_hash="half"))
    store.append(*make.unit("peek", level=45, selection="test-clean"))
    return build({**make.META, "dataset": "toys"}, gather([store], reference=False))


def test_every_whole_row_and_every_value_is_there(board):
    index = yaml.safe_load(render_hf.render([board]))["model-index"]
    assert {m["name"] for m in index} == {"dncnn", "nlm", "tv[weight=0.1]", "noisy-input", "peek"}
    dncnn = next(m for m in index if m["name"] == "dncnn")["results"]
    assert len(dncnn) == 1 and dncnn[0]["dataset"] == {"type": "toys", "name": "Toy denoising", "config": "denoising/toy@1", "split": "test"}
    values = {m["type"]: m["value"] for m in dncnn[0]["metrics"]}
    assert set(values) == {"psnr", "ssim"} and values["psnr"] == pytest.approx(board.row("dncnn").mean("psnr"))
    peek = next(m for m in index if m["name"] == "peek")["results"][0]["metrics"][0]["name"]
    assert "selection test-clean" in peek and "not ranked: chosen on clean test data" in peek and "protocol psnr|grey" in peek


def test_files_of_the_repositories(board):
    files = render_hf.files([board], "me/benchmark")
    assert set(files) >= {"tv-weight-0.1/README.md", "tv-weight-0.1/.eval_results/scorebench.yaml"}
    entries = yaml.safe_load(files["nlm/.eval_results/scorebench.yaml"])
    assert entries[0]["dataset"] == {"id": "me/benchmark", "task_id": "denoising-toy-v1-psnr"} and entries[0]["date"][:2] == "20"
    head = files["nlm/README.md"].split("---\n")[1]
    assert yaml.safe_load(head)["model-index"][0]["name"] == "nlm"


def test_the_hubs_own_reader_takes_them(board):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    if not hasattr(hub, "parse_eval_result_entries"):
        pytest.skip("this huggingface_hub does not know .eval_results")
    from huggingface_hub.repocard_data import model_index_to_eval_results

    files = render_hf.files([board])
    entries = hub.parse_eval_result_entries(yaml.safe_load(files["dncnn/.eval_results/scorebench.yaml"]))
    assert [e.value for e in entries] == [pytest.approx(board.row("dncnn").mean(m)) for m in ("psnr", "ssim")]
    assert hub.eval_result_entries_to_yaml(entries) == yaml.safe_load(files["dncnn/.eval_results/scorebench.yaml"])
    name, results = model_index_to_eval_results(yaml.safe_load(files["dncnn/README.md"].split("---\n")[1])["model-index"])
    assert name == "dncnn" and [r.metric_type for r in results] == ["psnr", "ssim"] and results[0].dataset_split == "test"
    assert hub.ModelCard(files["dncnn/README.md"]).data.eval_results[0].metric_value == results[0].metric_value
