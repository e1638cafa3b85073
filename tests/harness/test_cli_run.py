"""`scorebench run`, `status`, `board`, `compare`: from a request to a board, and what wrong requests get."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import call, data, good, wrong

from scorebench.configs.errors import RequestError
from scorebench.harness.cli import request

TASK = "classification/digits"
INLINE = ("--executor", "inline")


# ---------------------------------------------------------------------- reading requests
@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-3", 1e-3), ("0.5", 0.5), ("true", True), ("[1, 2]", [1, 2]), ("cosine", "cosine"), ("null", None),
     ("'3'", "3"), ("a=b", "a=b")],
)
def test_settings_are_yaml(text: str, value: Any) -> None:
    assert request.parse_assignment(f"key={text}") == ("key", value)


@pytest.mark.parametrize("text", ["key", "=3", "3=3", "a b=1", "key=[1"])
def test_settings_that_are_not(text: str) -> None:
    with pytest.raises(RequestError):
        request.parse_assignment(text)


@pytest.mark.parametrize(("text", "numbers"), [("3", (3,)), ("0,2,5", (0, 2, 5)), ("0-3", (0, 1, 2, 3)), ("7,0-1", (7, 0, 1))])
def test_integers(text: str, numbers: tuple[int, ...]) -> None:
    assert request.Integers().convert(text, None, None) == numbers


@pytest.mark.parametrize("text", ["", "-1", "a", "3-1", "0-99999", "1.5"])
def test_integers_refused(text: str) -> None:
    with pytest.raises(Exception, match=r"not accepted"):
        request.Integers().convert(text, None, None)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("0.5h", 1800)])
def test_durations(text: str, seconds: float) -> None:
    assert request.Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize(("text", "megabytes"), [("800", 800), ("800M", 800), ("2G", 2048), ("1.5gb", 1536)])
def test_memory(text: str, megabytes: float) -> None:
    assert request.parse_memory(text) == megabytes


def test_bare_words_are_options_or_settings() -> None:
    none: dict[str, Any] = {"tasks": (), "methods": (), "seeds": (), "draws": (), "budgets": (), "split": None, "limit": None, "settings": ()}
    out = request.asked(["task=a", "method=b[p]", "seed=0-1", "steps=3"], **{**none, "methods": ("c",), "settings": ("seed=5",)})
    assert (out.tasks, out.methods, out.seeds, out.overrides) == (("a",), ("c", "b[p]"), (0, 1), {"steps": 3, "seed": 5})
    both = ["task=a", "method=b"]
    for words in (["task=a"], ["method=a"], [*both, "x"], [*both, "k=1", "k=2"], [*both, "split=all"], [*both, "limit=0"]):
        with pytest.raises(RequestError):
            request.asked(words, **none)


# ---------------------------------------------------------------------- running
@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two classifiers' records."""
    path = tmp_path_factory.mktemp("cli") / "runs"
    text = good("run", "-t", TASK, "-m", "majority-class", "method=logistic-regression", "--store", str(path), *INLINE)
    assert "done      majority-class on classification/digits" in text
    assert "2 done. Records are in" in text and "accuracy (higher is better)" in text
    return path


def test_a_second_run_skips_and_its_json_has_the_promised_shape(store: Path) -> None:
    result = call("run", "-t", TASK, "-m", "majority-class", "-m", "logistic-regression", "--store", str(store), *INLINE, "--json")
    assert result.exit_code == 0 and "already done" in result.stderr
    records = json.loads(result.stdout)
    assert [r["variant"] for r in records] == ["majority-class", "logistic-regression"]
    for r in records:
        assert r["cached"] is True and r["status"] == "ok" and r["error"] is None
        assert {"unit_id", "spec_id", "task", "task_version", "budget", "method", "seed", "draw", "hparams", "observation_hash"} <= set(r)
        assert {"value", "n", "identity"} <= set(r["metrics"]["accuracy"])
        assert set(r["cost"]) >= {"nfe", "params", "train_s", "train_gflops", "train_nfe", "sample_s_median", "sample_s_p95", "peak_mb"}
    assert records[1]["metrics"]["accuracy"]["value"] > records[0]["metrics"]["accuracy"]["value"]


def test_partial_and_dev_runs_are_shown_and_never_ranked(store: Path, tmp_path: Path) -> None:
    text = good("run", "-t", TASK, "-m", "majority-class", "--limit", "20", "--store", str(tmp_path), *INLINE)
    assert "partial, never ranked" in text
    assert "dev split, never ranked" in good("run", "-t", TASK, "-m", "majority-class", "split=dev", "--store", str(tmp_path), *INLINE)
    rows = data("board", TASK, "--store", str(tmp_path))["rows"]
    assert all(r["rank"] is None for r in rows if r["partial"])


def test_a_run_with_one_failing_unit_exits_1_and_does_the_others(tmp_path: Path, forget: None) -> None:
    folder = tmp_path / "bad"
    good("new", "method", "bad-one", "--family", "classification", "--out", str(folder))
    module = folder / "bad_one.py"
    module.write_text(module.read_text().replace("return -self.sharpness", "return float('nan') * -self.sharpness"))
    arguments = ("run", "-t", TASK, "-m", "bad-one", "-m", "majority-class", "--include", str(folder), "--store", str(tmp_path / "s"), "--json")
    done = call(*arguments, *INLINE)
    assert done.exit_code == 1 and "Traceback" not in done.output
    failed, ok = json.loads(done.stdout)
    assert failed["status"] == "failed" and failed["error"]["kind"] == "not-finite" and failed["metrics"] == {}
    assert ok["status"] == "ok"
    assert "NaN" in data("status", str(tmp_path / "s"))["failures"][0]["error"]["message"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "No task was named"),
        (("-t", TASK), "No method was named"),
        (("-t", "classification/digts", "-m", "majority-class"), "did you mean classification/digits"),
        (("-t", TASK, "-m", "majority-clas"), "did you mean majority-class"),
        (("-t", TASK, "-m", "majority-class[x]"), "no preset 'x'"),
        (("-t", TASK, "-m", "moment-gaussian"), "cannot answer task"),
        (("-t", TASK, "-m", "majority-class", "--set", "nonsense=1"), "no hyper-parameter 'nonsense'"),
        (("-t", TASK, "-m", "majority-class", "--set", "nonsense"), "key=value"),
        (("-t", TASK, "-m", "majority-class", "extra"), "key=value"),
        (("-t", TASK, "-m", "majority-class", "-s", "-1"), "--seed"),
        (("-t", TASK, "-m", "majority-class", "--budget", "nfe7"), "no budget 'nfe7'"),
        (("-t", TASK, "-m", "majority-class", "--device", "tpu"), "accepted: cpu, cuda"),
        (("-t", TASK, "-m", "majority-class", "--device", "cuda:99"), "is not here"),
        (("-t", TASK, "-m", "majority-class", "--precision", "8"), "--precision"),
        (("-t", TASK, "-m", "majority-class", "--time-limit", "soon"), "not a duration"),
        (("-t", TASK, "-m", "majority-class", "--memory-limit", "much"), "write megabytes"),
        (("-t", TASK, "-m", "majority-class", "--limit", "0"), "--limit"),
        (("-t", TASK, "-m", "majority-class", "--executor", "ray"), "--executor"),
        (("-t", TASK, "-m", "majority-class", "--executor", "inline", "--time-limit", "1m"), "worker processes"),
        (("-t", TASK, "-m", "majority-class", "--executor", "inline", "--workers", "2"), "one unit at a time"),
        (("-t", TASK, "-m", "majority-class", "--profile", "gone"), "Unknown profile"),
        (("-t", TASK, "-m", "majority-class", "--include", "/nowhere"), "no such folder"),
    ],
)
def test_wrong_requests_are_one_sentence(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    assert says in wrong("run", *words, "--store", str(tmp_path / "never"))
    assert not (tmp_path / "never" / "ledger").exists() or not any((tmp_path / "never" / "ledger").iterdir())


def test_missing_data_say_where_to_get_and_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOREBENCH_DATA", raising=False)
    from scorebench.datasets import registry

    registry.get.cache_clear()
    message = wrong("run", "-t", "denoising/bsd68-gaussian25", "-m", "noisy-input", "--store", str(tmp_path), *INLINE)
    assert "bsd68" in message and "SCOREBENCH_DATA" in message
    registry.get.cache_clear()


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = wrong("run", "-t", TASK, "-m", "majority-class", "--store", str(tmp_path / "file"), *INLINE)
    assert "not writable" in message


# ---------------------------------------------------------------------- what came out
def test_status(store: Path) -> None:
    found = data("status", str(store))
    assert found["tasks"][0]["ok"] == 2 and found["failures"] == []
    assert TASK in good("status", str(store))
    assert "no store" in wrong("status", str(store / "nowhere"))


def test_status_reports_damaged_lines(store: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    (copy / "ledger" / "other.jsonl").write_text('{"half": ')
    found = data("status", str(copy))
    assert any("other.jsonl" in p for p in found["problems"])
    assert found["tasks"][0]["ok"] == 2
    assert "ignored: other.jsonl" in good("status", str(copy))


def test_board_formats(store: Path, tmp_path: Path) -> None:
    where = ("--store", str(store))
    board = data("board", TASK, *where)
    assert {"task", "version", "budget", "primary", "reference", "rows"} <= set(board) and board["task"] == TASK
    for row in board["rows"]:
        assert {"rank", "method", "variant", "track", "seeds", "stale", "selection", "cost", "metrics"} <= set(row)
        assert {"mean", "delta", "low", "high", "n", "identity"} <= set(row["metrics"]["accuracy"])
    assert json.loads(good("board", TASK, "--format", "json", *where)) == board
    variants = {r["variant"] for r in board["rows"]}
    assert {"majority-class", "logistic-regression"} <= variants
    for form in ("terminal", "md"):
        text = good("board", TASK, "--format", form, *where)
        assert all(v in text for v in variants)
    rows = list(csv.DictReader(good("board", TASK, "--format", "csv", *where).splitlines()))
    assert {r["variant"] for r in rows} == variants
    out = tmp_path / "deep" / "board.csv"
    assert "Wrote 1 board" in good("board", TASK, "--out", str(out), *where)
    assert {r["variant"] for r in csv.DictReader(out.read_text().splitlines())} == variants


def test_board_html(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    good("board", TASK, "--out", str(out), "--store", str(store))
    text = out.read_text()
    assert text.lstrip().lower().startswith("<!doctype html") and "logistic-regression" in text
    assert "src=\"http" not in text


def test_boards_of_families_and_all_are_lists(store: Path) -> None:
    for what in ("classification", "all"):
        boards = data("board", what, "--store", str(store))
        assert isinstance(boards, list) and TASK in [b["task"] for b in boards]


def test_board_knows_stale_rows(store: Path) -> None:
    rows = data("board", TASK, "--stale", "--store", str(store))["rows"]
    assert not any(r["stale"] for r in rows if r["source"] == "run")


def test_board_refuses(store: Path, tmp_path: Path) -> None:
    assert "Unknown task" in wrong("board", "classification/digit")
    assert "did you mean classification" in wrong("board", "clasification")
    assert "no budget" in wrong("board", TASK, "--budget", "nfe7")
    assert "no store" in wrong("board", TASK, "--store", str(tmp_path / "nowhere"))
    assert "--format" in wrong("board", TASK, "--format", "pdf")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in wrong("board", TASK, "--out", str(tmp_path / "file" / "x.md"))


def test_compare(store: Path) -> None:
    where = ("--store", str(store))
    (c,) = data("compare", "logistic-regression", "majority-class", "-t", TASK, *where)
    assert {"task", "metric", "a", "b", "difference", "low", "high", "n", "mde", "verdict"} <= set(c)
    assert c["verdict"] == "better" and c["low"] > 0.5
    assert "smallest difference" in good("compare", "logistic-regression", "majority-class", *where)
    assert len(data("compare", "logistic-regression", "majority-class", "--metric", "all", "-t", TASK, *where)) == 3
    everywhere = data("compare", "logistic-regression", "majority-class", *where)  # with the accepted records of other tasks
    assert {c["task"] for c in everywhere} >= {TASK, "classification/digits-noisy-labels40"}
    assert "did you mean majority-class" in wrong("compare", "logistic-regression", "majority-clas", *where)
    assert "no metric" in wrong("compare", "logistic-regression", "majority-class", "--metric", "psnr", "-t", TASK, *where)
    assert "both" in wrong("compare", "majority-class", "majority-class", *where)


def test_defaults_of_a_toml_file_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scorebench.toml").write_text('store = "here"\nexecutor = "inline"\n')
    monkeypatch.chdir(tmp_path)
    good("run", "-t", TASK, "-m", "majority-class", "--limit", "5")
    assert list((tmp_path / "here" / "ledger").glob("*.jsonl"))


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_ctrl_c_exits_130_keeps_what_is_recorded_and_says_how_to_resume(executor: str, tmp_path: Path, forget: None) -> None:
    folder, store = tmp_path / "slow", tmp_path / "runs"
    good("new", "method", "slow-one", "--family", "classification", "--out", str(folder))
    module = folder / "slow_one.py"
    wait = "import time; (__import__('pathlib').Path(__file__).parent / 'running').touch(); time.sleep(1)"
    module.write_text(module.read_text().replace("        difference = request", f"        {wait}\n        difference = request"))
    command = [sys.executable, "-m", "scorebench", "run", "-t", TASK, "-m", "majority-class", "-m", "slow-one", "--include", str(folder)]
    command += ["--store", str(store), "--executor", executor, "--workers", "1", "--batch-size", "1"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while not (folder / "running").exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130, (out, err)
    assert err.strip() == "interrupted; the same command resumes (1 of 2 units are recorded and kept)"
    assert data("status", str(store))["tasks"][0]["ok"] == 1
