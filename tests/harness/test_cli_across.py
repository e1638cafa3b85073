"""`scorebench board FAMILY`: standings across tasks; `--format hf`: the Hub's layouts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import data, good, wrong


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_familys_boards_end_with_its_standings() -> None:
    text = good("board", "denoising", "--accepted")
    assert text.count("Across denoising") == 1 and "gap closed" in text and text.index("photos-gaussian50 v1") < text.index("Across denoising")
    assert "Across" not in good("board", "denoising/photos-gaussian25", "--accepted")
    assert "## Across denoising" in good("board", "denoising", "--accepted", "--format", "md")


def test_across_alone() -> None:
    text = good("board", "denoising", "--accepted", "--across")
    assert text.startswith("Across denoising") and "photos-gaussian50 v1" not in text
    (family,) = data("board", "denoising", "--accepted", "--across")
    rows = {r["variant"]: r for r in family["rows"]}
    assert family["family"] == "denoising" and rows["noisy-input"]["gap_closed"] == 0
    nlm = rows["nlm"]  # no figure of it is asserted: which boards it averages grows with the accepted records
    assert nlm["boards"] == len(nlm["shares"]) > 2 and 0 < nlm["low"] < nlm["gap_closed"] < nlm["high"]
    dncnn = {s["task"]: s["gap_closed"] for s in rows["dncnn"]["shares"]}
    assert dncnn["denoising/photos-gaussian25"] == 1  # the task's reference, by definition
    assert len(data("board", "all", "--accepted", "--across")) >= 4
    assert "no standings" in good("board", "denoising/photos-gaussian25", "--across")
    assert "not csv" in wrong("board", "denoising", "--across", "--format", "csv")


def test_hub_layouts(tmp_path: Path) -> None:
    index = yaml.safe_load(good("board", "denoising/photos-gaussian25", "--accepted", "--format", "hf"))["model-index"]
    assert {"dncnn", "nlm"} <= {m["name"] for m in index}
    out = good("board", "denoising", "--accepted", "--format", "hf", "--out", "hub", "--hub-dataset", "me/bench")
    assert "model repositories to hub" in out
    entries = yaml.safe_load((tmp_path / "hub" / "nlm" / ".eval_results" / "scorebench.yaml").read_text())
    assert {e["dataset"]["id"] for e in entries} == {"me/bench"} and len(entries) >= 8
