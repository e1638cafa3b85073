"""`scorebench reproduce`, `table`, `list tables`, `show table`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import call, data, good, wrong

from scorebench.harness.cli.reproduce import load
from scorebench.leaderboards import tables

KEYS = {"row", "metric", "paper", "kind", "where", "reproduced", "difference", "tolerance", "verdict"}
TABLE = """\
id: photos
title: Embedded photographs
paper: {title: None}
draws: 3
kind: reimplemented
selection: last
aggregate: mean per picture
input: {clip: false, quantise: false}
where: nowhere
columns: [{id: "25", task: denoising/photos-gaussian25, metric: psnr}]
rows:
  - {id: Noisy, variant: noisy-input, values: ["VALUE"]}
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: None) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def accepted() -> float:
    (board,) = [json.loads(good("board", "denoising/photos-gaussian25", "--accepted", "--json"))]
    return next(r["metrics"]["psnr"]["mean"] for r in board["rows"] if r["variant"] == "noisy-input")


def test_judged_from_accepted_records_without_running(elsewhere: Path) -> None:
    file = elsewhere / "photos.yaml"
    file.write_text(TABLE.replace("VALUE", f"{accepted():.2f}"))
    (cell,) = data("reproduce", "photos.yaml", "--no-run")
    assert set(cell) >= KEYS and cell["verdict"] == "reproduced" and cell["draws"] == 3 and abs(cell["difference"]) <= 0.005
    text = good("table", "photos.yaml", "--no-run")
    assert "REPRODUCED" in text and "1 numbers: 1 reproduced." in text and "psnr|" in text
    file.write_text(TABLE.replace("VALUE", "25.00"))
    missed = call("reproduce", "photos.yaml", "--no-run", "--json")
    assert missed.exit_code == 1 and json.loads(missed.stdout)[0]["verdict"] == "missed"


def test_what_is_missing_is_run(elsewhere: Path) -> None:
    (elsewhere / "digits.yaml").write_text(
        TABLE.replace("draws: 3", "draws: 1").replace("denoising/photos-gaussian25, metric: psnr", "classification/digits, metric: accuracy")
        .replace("noisy-input", "majority-class").replace("VALUE", "0.10")
    )  # fmt: skip
    text = good("reproduce", "digits.yaml", "--executor", "inline", "--store", "mine")
    assert "reproduced" in text and "Tolerance: half the last printed digit." in text
    again = call("reproduce", "digits.yaml", "--executor", "inline", "--store", "mine", "--json")
    assert again.exit_code == 0 and len(list(Path("mine/ledger").glob("*.jsonl"))) == 1


def test_cells_without_data_say_so_and_nothing_reproduced_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCOREBENCH_DATA", str(tmp_path / "empty"))
    for command in (("reproduce", "dncnn"), ("table", "dncnn", "--no-run")):
        result = call(*command)
        said = re.search(r"(\d+) numbers: (\d+) unavailable\.", result.stdout)
        assert result.exit_code == 1 and said is not None and said[1] == said[2]
        assert "bsd68" in result.stdout and "checkpoints/dncnn-s-25/net.pth is in no folder of $SCOREBENCH_DATA" in result.stdout


def test_lists_and_shows() -> None:
    assert {"dncnn", "voicebank-noisy"} <= {r["id"] for r in data("list", "tables")}
    text = " ".join(good("show", "table", "dncnn").split())
    assert "Set12, 25: 30.404" in text and "README of SaoYan/DnCNN-PyTorch" in text and "Kai Zhang" in text
    assert data("show", "table", "dncnn")["cells"][0]["paper"] == 31.71
    assert "method dncnn" in good("show", "dncnn") and "table voicebank-noisy" in good("show", "voicebank-noisy")


def test_wrong_requests(elsewhere: Path) -> None:
    assert "Unknown table 'dncn'; did you mean dncnn" in wrong("reproduce", "dncn")
    assert "cannot be read" in wrong("reproduce", "absent.yaml", "--no-run")
    (elsewhere / "bad.yaml").write_text(TABLE.replace("VALUE", "x"))
    assert wrong("reproduce", "bad.yaml").endswith("bad.yaml:12: 'x' is no number; write it as printed, or null where the paper has none.")
    (elsewhere / "bad.yaml").write_text(TABLE.replace("VALUE", "1.0").replace("noisy-input", "noisy-inptu"))
    assert "bad.yaml:12: row 'Noisy': Unknown method 'noisy-inptu'; did you mean noisy-input" in wrong("reproduce", "bad.yaml")
    (elsewhere / "bad.yaml").write_text("- a list")
    assert "expected a mapping" in wrong("show", "table", "bad.yaml")


@pytest.mark.parametrize("name", tables.known())
def test_shipped_tables_name_what_exists(name: str) -> None:
    table = load(name)
    assert table.id == name and table.paper["title"] and all(c.where for c in table.cells)


def test_judging_does_not_import_torch() -> None:
    code = "import sys; from scorebench.harness.cli.main import cli; cli.main(['table', 'dncnn', '--no-run'], standalone_mode=False)"
    done = subprocess.run([sys.executable, "-c", code + "; print('torch' in sys.modules)"], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
