"""`scorebench suite` and `scorebench quickstart`, on a small suite; and the suites that ship."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import call, data, good, wrong

from scorebench.baselines.card import cards, get, parse_variant
from scorebench.configs.errors import RequestError
from scorebench.configs.loader import read
from scorebench.datasets import registry as datasets
from scorebench.harness import suites
from scorebench.tasks.registry import get_spec
from scorebench.tasks.spec import FAMILIES

SMALL = """\
id: quickstart
title: Small
cells:
  - tasks: [classification/digits]
    variants: [majority-class, logistic-regression]
  - tasks: [generation/gmm2d]
    variants: [moment-gaussian, ddim]
    budgets: [nfe10]
    seeds: [0, 1]
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    monkeypatch.setattr(suites, "_documents", lambda: {"quickstart": read(file)})
    monkeypatch.chdir(tmp_path)
    return file


def test_quickstart_prints_boards_writes_a_page_and_is_quick_the_second_time(small: Path, tmp_path: Path) -> None:
    text = good("quickstart", "--executor", "inline")
    assert "=== classification ===" in text and "=== generation ===" in text
    assert "ddim" in text and "sliced-wasserstein" in text
    assert " left)" in text and "(1 of" in text
    page = (tmp_path / "runs" / "quickstart.html").read_text()
    assert "runs/quickstart.html" in text and "logistic-regression" in page and "data:image/png" in page
    again = good("quickstart", "--executor", "inline")
    assert "0 units done, 6 done before, 0 failed" in again
    result = call("quickstart", "--executor", "inline", "--json")
    records = json.loads(result.stdout)
    assert result.exit_code == 0 and all(r["cached"] and r["status"] == "ok" for r in records)
    assert {(r["variant"], r["seed"]) for r in records} >= {("ddim", 0), ("ddim", 1), ("majority-class", 0)}


def test_suite_runs_the_same_units(small: Path, tmp_path: Path) -> None:
    records = data("suite", "quickstart", "--executor", "inline", "--store", str(tmp_path / "s"))
    assert {r["budget"] for r in records if r["task"] == "generation/gmm2d"} == {"nfe10"}
    text = good("suite", "quickstart", "--executor", "inline", "--store", str(tmp_path / "s"))
    assert "already done" in text and "Records are in" in text
    assert "did you mean quickstart" in wrong("suite", "quickstar")


def test_full_ignores_shipped_weights(small: Path, tmp_path: Path) -> None:
    small.write_text(SMALL.partition("  - tasks: [generation")[0])
    good("quickstart", "--full", "--executor", "inline")
    (ledger,) = (tmp_path / "runs" / "ledger").glob("*.jsonl")
    fits = [json.loads(line)["artifacts"]["fit"] for line in ledger.read_text().splitlines()]
    assert fits and not any(f["pinned"] for f in fits)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Small", "titel: Small", "title"),
        ("majority-class", "majority-clas", r"small.yaml:4: Unknown method"),
        ("ddim]", "\"ddim[uniform]\"]", "no preset"),
        ("classification/digits", "classification/digit", "Unknown task"),
        ("seeds: [0, 1]", "seeds: [a]", "integers"),
        ("seeds: [0, 1]", "seed: [0]", "did you mean 'seeds'"),
    ],
)
def test_a_wrong_suite_names_file_and_line(small: Path, old: str, new: str, message: str) -> None:
    small.write_text(SMALL.replace(old, new))
    with pytest.raises(RequestError, match=message):
        suites.get("quickstart")
    assert "small.yaml:" in wrong("suite", "quickstart")


def test_star_means_every_method_that_can_answer() -> None:
    cell = suites.Cell(("classification/digits",), ("*", "plain-cnn"))
    names = suites.expand(cell)
    spec = get_spec("classification/digits")
    assert names == [c.id for c in cards().values() if c.answers(spec.id, spec.ability)]


# ---------------------------------------------------------------------- what ships
@pytest.mark.parametrize("name", suites.known())
def test_shipped_suites_name_what_exists(name: str) -> None:
    suite = suites.get(name)
    for cell in suite.cells:
        for task in cell.tasks:
            spec = get_spec(task)
            answering = [v for v in suites.expand(cell) if get(parse_variant(v).method).answers(task, spec.ability)]
            assert answering, (name, task)


def test_the_quickstart_covers_six_families_on_embedded_data_with_their_do_nothing_rows() -> None:
    suite = suites.get("quickstart")
    assert {t.split("/")[0] for t in suite.tasks()} == set(FAMILIES)
    for cell in suite.cells:
        for task in cell.tasks:
            spec = get_spec(task)
            assert datasets.get(spec.dataset).embedded
            variants = suites.expand(cell)
            assert spec.do_nothing in variants and len(variants) > 1, task
            assert spec.reference in variants or spec.reference is None, task
