"""Boards rank what can be compared, refuse what cannot, and say so."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from scorebench.configs.errors import RequestError, RunError
from scorebench.leaderboards import record as R
from scorebench.leaderboards import render_csv, render_json, render_markdown, render_terminal
from scorebench.leaderboards.board import build, telling
from scorebench.leaderboards.compare import compare
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.reference import accept, load_reference
from scorebench.leaderboards.sources import gather
from scorebench.leaderboards.tracks import track_of


def board_of(store, make, **options):
    return build(options.pop("meta", make.META), gather([store], reference=False), **options)


@pytest.fixture
def store(tmp_path, make):
    return make.fill(Store(tmp_path / "runs"))


def test_ranks_within_tracks_and_shape_of_the_json(store, make):
    data = json.loads(render_json.render([board_of(store, make)]))
    assert {"task", "version", "budget", "primary", "reference", "rows"} <= set(data)
    assert (data["reference"], data["do_nothing"]) == ("dncnn", "noisy-input")
    got = [(r["rank"], r["variant"], r["track"], r["seeds"], r["draws"], r["do_nothing"]) for r in data["rows"]]
    assert got[0] == (1, "dncnn", "supervised", 3, 3, False) and got[-1] == (3, "noisy-input", "training-free", 1, 3, True)
    for row in data["rows"]:
        assert {"rank", "method", "variant", "track", "seeds", "stale", "selection", "cost", "metrics"} <= set(row)
        m = row["metrics"]["psnr"]
        assert {"mean", "delta", "low", "high", "n", "identity"} <= set(m) and m["low"] <= m["delta"] <= m["high"] and m["n"] == make.N
        assert set(row["metrics"]["lpips"]) == {"unavailable"}
    nothing = data["rows"][-1]["metrics"]["psnr"]
    assert nothing["verdict"] == "worse" and nothing["delta"] == pytest.approx(nothing["mean"] - data["rows"][0]["metrics"]["psnr"]["mean"])
    near = {r["variant"] for r in data["rows"] if r["near_best"]}
    assert near == {"dncnn", "nlm", "tv[weight=0.1]"}


def test_lower_is_better_ranks_the_other_way(tmp_path, make):
    store = Store(tmp_path)
    for variant, value in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        metric = R.metric(value, 12, "fd|n=12", "set", higher_is_better=False, se=0.1)
        store.append(*make.unit(variant, metrics={"fd": metric}, stochastic="inference"))
    meta = {**make.META, "primary": "fd", "metrics": {"fd": {"margin": "1.5%"}}, "reference": "c", "do_nothing": "a"}
    board = board_of(store, make, meta=meta)
    assert [r.variant for r in board.rows] == ["b", "c", "a"]
    assert board.rows[0].verdict("fd") == "better" and board.rows[2].verdict("fd") == "worse"
    assert board.rows[1].delta("fd").interval() == (0, 0)


def test_other_observations_protocols_and_versions_are_refused(store, make):
    store.append(*make.unit("alien", observation_hash="another"))
    store.append(*make.unit("old", task_version=0))
    protocol = R.metric(make.unit("y")[0]["metrics"]["psnr"]["value"], make.N, "psnr|rgb", "sample", higher_is_better=True)
    store.append(*make.unit("y", metrics={"psnr": protocol}))
    other = R.metric(0.5, make.N, "ssim|rgb", "sample", higher_is_better=True)
    store.append(*make.unit("half", metrics={"ssim": other}))
    board = board_of(store, make)
    reasons = {r.variant: r.reason for r in board.refused}
    assert set(reasons) == {"alien", "old", "y"}
    assert "other observations" in reasons["alien"] and "version 0" in reasons["old"] and "psnr|rgb" in reasons["y"]
    half = next(r for r in render_json.board_data(board)["rows"] if r["variant"] == "half")
    assert "mean" in half["metrics"]["psnr"] and "another protocol" in half["metrics"]["ssim"]["unavailable"]["because"]
    text = render_terminal.render([board])
    assert "Refused: alien" in text and "Refused: y" in text


def test_the_locked_hash_decides(store, make):
    board = board_of(store, make, hashes={0: "locked", 1: "obs1", 2: "obs2"})
    assert all(r.reason.startswith("it saw other observations in draw 0") for r in board.refused) and len(board.refused) == 6
    assert board.rows[0].group.draws == [1, 2]


def test_partial_test_clean_failed_and_stale_rows(store, make):
    store.append(*make.unit("part", partial=True, n=6, level=50, observation_hash="half"))
    store.append(*make.unit("peek", level=45, selection="test-clean"))
    store.append(*make.unit("slow", status="failed"))
    store.append(*make.unit("nlm", draw=3, status="failed", suffix="-x"))
    board = board_of(store, make, codes={"nlm": "code2", "dncnn": "code1"})
    by = {r["variant"]: r for r in render_json.board_data(board)["rows"]}
    assert (by["part"]["rank"], by["peek"]["rank"]) == (None, None) and not by["peek"]["near_best"]
    assert by["part"]["metrics"]["psnr"]["delta"] is None and by["part"]["unranked"] == "partial run"
    assert by["nlm"]["stale"] and not by["dncnn"]["stale"] and by["nlm"]["failures"][0]["error"]["kind"] == "timeout"
    assert [f["variant"] for f in board.failed] == ["slow"]
    text = render_terminal.render([board])
    for said in ("nlm (stale, 1 failed)", "slow seed 0 draw 0 failed (timeout)", "peek is not ranked: chosen on clean test data", "not ranked"):
        assert said in text
    assert by["dncnn"]["rank"] == 1


def test_how_weights_were_chosen_is_shown(store, make):
    store.append(*make.unit("tuned", level=27, selection="dev-noisy", configurations_tried=12))
    board = board_of(store, make)
    by = {r["variant"]: r for r in render_json.board_data(board)["rows"]}
    assert (by["tuned"]["selection"], by["tuned"]["configurations_tried"], by["nlm"]["configurations_tried"]) == ("dev-noisy", 12, 1)
    for text in (render_terminal.render([board]), render_markdown.render([board]).replace("\\", "")):
        said = " ".join(text.split())
        assert "Weights chosen on noisy dev data: tuned; the last ones elsewhere." in said
        assert "Configurations tried on dev before the one shown: tuned (12)." in said


def test_new_code_or_settings_supersede_old_ones(store, make):
    for draw in range(3):
        store.append(*make.unit("nlm", draw=draw, level=28.5, code="code2", suffix="-new"))
    row = board_of(store, make).row("nlm")
    assert row.mean("psnr") > 28 and row.group.superseded == 3 and row.group.first["code"] == "code2"
    row = board_of(store, make, codes={"nlm": "code1"}).row("nlm")
    assert row.mean("psnr") < 28 and row.group.stale is False


def test_budgets_admit_what_fits(tmp_path, make):
    store = Store(tmp_path)
    meta = {**make.META, "budgets": {"nfe5": {"nfe": 5}, "nfe10": {"nfe": 10}}, "reference": "b"}
    store.append(*make.unit("a", budget="nfe5", cost={"nfe": 5.0}))
    store.append(*make.unit("b", budget="nfe5", cost={"nfe": 5.0}, level=20))
    store.append(*make.unit("b", budget="nfe10", cost={"nfe": 10.0}, level=25, suffix="-10"))
    assert {r.variant for r in board_of(store, make, meta=meta).rows} == {"a", "b"}
    ten = board_of(store, make, meta=meta, budget="nfe10")
    assert {r.variant: r.group.first["budget"] for r in ten.rows} == {"a": "nfe5", "b": "nfe10"}
    store.append(*make.unit("c", budget="nfe10", cost={"nfe": 9.0}))
    five = board_of(store, make, meta=meta, budget="nfe5")
    assert "c" not in {r.variant for r in five.rows}
    wide = {**meta, "budgets": {**meta["budgets"], "nfe50": {"nfe": 50}}}
    fifty = board_of(store, make, meta=wide, budget="nfe50")
    assert {r.variant: r.group.first["budget"] for r in fifty.rows} == {"a": "nfe5", "b": "nfe10", "c": "nfe10"}
    assert telling([five, ten, fifty]) == [five, ten] and telling([fifty]) == [fifty]


def test_without_the_reference_the_do_nothing_row_stands_in_and_without_both_nothing_is_invented(tmp_path, make):
    store = Store(tmp_path)
    store.append(*make.unit("nlm", level=27))
    board = board_of(store, make)
    assert board.reference_row is None and render_json.board_data(board)["rows"][0]["metrics"]["psnr"]["delta"] is None
    assert "has not been run" in render_terminal.render([board])
    store.append(*make.unit("noisy-input", level=20))
    assert render_json.board_data(board_of(store, make))["reference"] == "noisy-input"
    assert "No record yet" in render_terminal.render([board_of(Store(tmp_path / "empty"), make)])


def test_restricting_names_keeps_the_reference(store, make):
    assert {r.variant for r in board_of(store, make, names=["nlm"]).rows} == {"nlm", "dncnn", "noisy-input"}


# ---------------------------------------------------------------------- accepted records
def test_accepted_records_give_the_same_board_and_a_newcomer_adds_a_row(tmp_path, store, make):
    gathered = gather([store], reference=False)
    folder = tmp_path / "reference"
    assert accept(gathered.samples, gathered.records(), folder) == {"denoising": 18}
    first = {f.name: f.read_bytes() for f in folder.iterdir()}
    accept(gathered.samples, gathered.records(), folder)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == first  # the same records give the same bytes
    a, b = render_json.board_data(board_of(store, make)), render_json.board_data(build(make.META, load_reference(folder)))
    for x, y in zip(a["rows"], b["rows"], strict=True):
        assert y["source"] == "reference" and {**x, "source": 0} == {**y, "source": 0}
    mine = Store(tmp_path / "mine")
    mine.append(*make.unit("newcomer", level=30))
    both = gather([mine], folder=folder)
    board = build(make.META, both)
    assert {r.variant: r.group.source for r in board.rows} == {
        "newcomer": "run", "dncnn": "reference", "nlm": "reference", "tv[weight=0.1]": "reference", "noisy-input": "reference",
    }  # fmt: skip
    (c, *_) = compare(board, "newcomer", "nlm")
    assert c.verdict == "better" and c.estimate.clusters == make.N // 2


def test_accepted_records_say_nothing_about_the_machine(tmp_path, make, monkeypatch):
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "cache" / "home"))
    store = Store(tmp_path / "runs")
    remedy = f"put it into {tmp_path}/cache/home/weights"
    facts = {"host": "my-laptop", "command": "scorebench run --store /secret", "cpu": "a processor", "scorebench": "0.1.0"}
    store.append(*make.unit("nlm", metrics={"lpips": R.unavailable("no weights", remedy)}, provenance=facts))
    gathered = gather([store], reference=False)
    accept(gathered.samples, gathered.records(), tmp_path / "reference")
    line = (tmp_path / "reference" / "denoising.jsonl").read_text()
    assert "$SCOREBENCH_HOME/weights" in line and "a processor" in line
    assert not re.search("my-laptop|secret|" + re.escape(str(tmp_path)), line)


def test_what_cannot_be_accepted_and_damaged_archives(tmp_path, store, make):
    gathered = gather([store], reference=False)
    folder = tmp_path / "reference"
    accept(gathered.samples, gathered.records(), folder)
    (folder / "denoising.npz").write_bytes(b"damaged")
    reference = load_reference(folder)
    board = build(make.META, reference)
    assert board.rows and "reads" not in board.notes
    with pytest.raises(RunError, match="not those their records name"):
        compare(board, "nlm", "dncnn")
    with (folder / "denoising.jsonl").open("a") as f:
        f.write('{"task":"denoising/toy", broken\n')
    assert "denoising.jsonl:19: not valid JSON" in build(make.META, load_reference(folder)).notes[0]
    store.append(*make.unit("part", partial=True))
    gathered = gather([store], reference=False)
    with pytest.raises(RequestError, match="partial"):
        accept(gathered.samples, gathered.records(), folder)


# ---------------------------------------------------------------------- compare
def test_compare_says_what_the_evidence_supports(store, make):
    board = board_of(store, make)
    ab, ba = compare(board, "dncnn", "nlm")[0], compare(board, "nlm", "dncnn")[0]
    assert (ab.verdict, ba.verdict) == ("better", "worse") and ab.data()["difference"] == -ba.data()["difference"]
    assert {"task", "metric", "a", "b", "difference", "low", "high", "n", "mde", "verdict"} <= set(ab.data())
    assert ab.data()["estimand"] == "population" and ab.data()["n"] == 6
    assert "dncnn is better, by more than the margin of 0.050 dB" in ab.words() and "smallest difference" in ab.words()
    same = compare(board, "nlm", "tv[weight=0.1]", ["psnr"])[0]
    assert same.verdict == "equivalent" and "equivalent" in same.words()
    gone = compare(board, "nlm", "lost", ["psnr"])[0]
    assert gone.estimate is None and "lost has no record" in gone.words() and gone.data()["difference"] is None
    assert "lpips of nlm is unavailable" in compare(board, "nlm", "dncnn", ["lpips"])[0].words()
    json.dumps([c.data() for c in compare(board, "nlm", "dncnn")], allow_nan=False)


def test_compare_with_few_clusters_and_single_trainings(tmp_path, make):
    store = Store(tmp_path)
    for variant, level in (("a", 20), ("b", 30)):
        store.append(*make.unit(variant, level=level, n=8, stochastic="fit"))
    c = compare(board_of(store, make), "a", "b", ["psnr"])[0]
    assert c.verdict == "too-few-samples" and c.mde is None and c.instances == (True, True)
    assert "this trained instance of a and this trained instance of b" in c.words() and "6 or more could" in c.words()


# ---------------------------------------------------------------------- renderers
def test_terminal_fits_100_columns_and_has_no_escape_codes_in_a_pipe(store, make):
    board = board_of(store, make)
    text = render_terminal.render([board])
    assert max(map(len, text.splitlines())) <= 100 and "\033" not in text
    assert re.search(r"1 \*\s+nlm\s+27\.\d\d\s+-1\.\d\d \[-1\.\d\d, -1\.\d\d\]\s+worse", text)
    assert "lpips is unavailable: the AlexNet weights are not on this machine" in text
    styled = render_terminal.render([board], ansi=True)
    assert re.sub(r"\033\[\dm", "", styled) == text and "\033[1m1 *  dncnn" in styled
    narrow = render_terminal.render([board], width=72)
    assert "train" not in narrow.splitlines()[3] and "psnr" in narrow


def test_markdown_and_csv_hold_everything_and_nothing_is_executed(store, make):
    store.append(*make.unit("x[<script>alert(1)</script>|y]", unit_id="evil"))
    board = board_of(store, make)
    md = render_markdown.render([board])
    assert "<script" not in md and "| 1 | **dncnn** | supervised | **29.1" in md
    table = [line for line in md.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    rows = list(csv.DictReader(io.StringIO(render_csv.render([board]))))
    assert rows[0]["variant"] == "dncnn" and float(rows[0]["psnr_mean"]) == board.rows[0].mean("psnr")
    assert len(rows[0]["unit_ids"].split()) == 9 and rows[0]["lpips_mean"] == ""
    assert render_csv.guarded("=1+1") == "'=1+1" and render_csv.guarded(-1.5) == -1.5
    several = json.loads(render_json.render([board, board]))
    assert len(several) == 2


def test_tracks_follow_from_facts():
    assert track_of({}) == "training-free" and track_of({"noise_known": True}) == "training-free"
    assert track_of({"clean_images": True, "labels": True}) == "supervised" and track_of({"labels": True}) == "supervised"
    assert track_of({"second_noisy_copy": True, "sees_test_inputs": True}) == "noisy pairs + transductive"
    assert track_of({"noisy_images": True, "noise_known": True}) == "noisy pictures"
    assert track_of({"external_weights": ["imagenet", "bsd"]}) == "external weights (bsd, imagenet)"


def test_values_are_cached_and_the_cache_is_only_a_cache(tmp_path, make):
    store = make.fill(Store(tmp_path), draws=(0,), trained=(0,))
    cold = render_json.board_data(board_of(store, make))
    packs = list((tmp_path / "index").glob("values-*.npz"))
    assert packs
    for f in (tmp_path / "samples").iterdir():
        f.unlink()
    assert render_json.board_data(board_of(Store(tmp_path), make)) == cold
    fresh = make.fill(Store(tmp_path / "b"), draws=(0,), trained=(0,))
    render_json.board_data(board_of(fresh, make))
    for f in (tmp_path / "b" / "index").glob("values-*.npz"):
        f.write_bytes(b"junk")
    again = render_json.board_data(board_of(Store(tmp_path / "b"), make))
    assert again["rows"][1]["metrics"] == cold["rows"][1]["metrics"]


def test_boards_import_no_heavy_module():
    code = (
        "import sys; from scorebench.leaderboards import board, compare, render_terminal, render_csv, render_json, render_markdown, sources;"
        "bad = {m.split('.')[0] for m in sys.modules} & {'torch', 'pandas', 'scipy', 'PIL', 'matplotlib'}; assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_sample_orders_are_aligned(tmp_path, make):
    mixed, straight, elsewhere = (Store(tmp_path / name) for name in ("mixed", "straight", "elsewhere"))
    a, sa = make.unit("a")
    b, sb = make.unit("b", level=27)
    order = np.random.default_rng(0).permutation(make.N)
    shuffled = {k: v[order] if k in ("ids", "clusters", "metric/psnr", "metric/ssim") else v for k, v in sb.items()}
    for store, samples in ((mixed, shuffled), (straight, sb)):
        store.append(a, sa)
        store.append(b, samples)
    elsewhere.append(b, shuffled)
    only_a = Store(tmp_path / "only a")
    only_a.append(a, sa)
    want = compare(board_of(straight, make), "a", "b")[0]
    assert compare(board_of(mixed, make), "a", "b")[0].data() == want.data()
    across = compare(build(make.META, gather([only_a, elsewhere], reference=False)), "a", "b")[0]  # one row from each of two stores
    assert across.data() == want.data()


def test_a_mended_protocol_replaces_the_old_one(tmp_path, make):
    """Records of a metric's new identity, written later, lead the board; those of the old one are refused, whatever their order."""
    store = Store(tmp_path)
    for identity in ("psnr|old", "psnr|new"):
        for variant, level in (("dncnn", 29.0), ("nlm", 27.0)):
            record, samples = make.unit(variant, 0, 0, level, suffix=identity[-3:])
            record["metrics"]["psnr"]["identity"] = identity
            record["spec_id"] += identity
            store.append(record, samples)
    board = build(make.META, gather([tmp_path], reference=False))
    assert {r.variant: r.group.first["metrics"]["psnr"]["identity"] for r in board.rows} == {"dncnn": "psnr|new", "nlm": "psnr|new"}
    assert len(board.refused) == 2


def test_of_equal_units_the_users_own_is_shown_with_its_pictures(tmp_path, store, make):
    from scorebench.leaderboards.gallery import gallery

    gathered = gather([store], reference=False)
    accept(gathered.samples, gathered.records(), tmp_path / "reference")
    mine = Store(tmp_path / "mine")
    for variant, level in (("dncnn", 29.2), ("noisy-input", 20.2)):
        mine.append(*make.unit(variant, 0, 0, level, stochastic="fit" if variant == "dncnn" else "none", suffix="-mine"))
    board = build(make.META, gather([mine], folder=tmp_path / "reference"))
    row = next(r for r in board.rows if r.variant == "dncnn")
    assert len(row.group.units) == 9 and row.group.units[0, 0]["source"] == "run" and row.group.units[1, 0]["source"] == "reference"
    assert any(f.title == "dncnn" for strip in gallery(board).strips for f in strip.figures)


def test_trainings_of_a_prior_are_the_first_axis_of_a_row() -> None:
    from scorebench.leaderboards.rows import STRETCH, group_rows

    def one(seed: int, training: int, draw: int = 0) -> dict[str, object]:
        prior = {"owner": "digits", "seed": training, "sha256": f"{training}", "key": "k", "pinned": True}
        return {
            "variant": "ddim", "method": "ddim", "partial": False, "selection": "last", "hparams": {}, "data_fingerprint": "f", "code": "c",
            "environment_key": "e", "budget": "nfe10", "source": "run", "written": "", "artifacts": {"prior": prior},
            "seed": seed, "draw": draw, "track": "supervised", "stochastic": "inference", "cost": {}, "metrics": {},
        }  # fmt: skip

    (single,) = group_rows([one(s, 0) for s in range(3)])
    assert sorted(single.units) == [(0, 0), (1, 0), (2, 0)] and single.stochastic == "inference" and single.conditional_on == ["prior"]
    (row,) = group_rows([one(s, p) for s in range(2) for p in range(3)])
    assert sorted(row.units) == [(p, k) for p in range(3) for k in (0, STRETCH)]
    assert row.stochastic == "fit" and row.trainings == 3 and row.conditional_on == []
    (drawn,) = group_rows([one(4, p, d) for p in range(3) for d in range(1, 3)])
    assert sorted(drawn.units) == [(p, d) for p in range(3) for d in (1, 2)], "with one seed the second axis is the draw"
    (together,) = group_rows([one(p, p) for p in range(3)])
    assert sorted(together.units) == [(p, 0) for p in range(3)], "each training of the prior with a seed of its own"
    (ragged,) = group_rows([one(0, 0), one(1, 0), one(2, 0), one(0, 1), one(0, 2)])
    assert (ragged.seeds, ragged.draws) == ([0, 1, 2], [0]), "a row says how many units its numbers are made of"
    (one_training,) = group_rows([*(one(0, 0, d) for d in range(9)), one(0, 1), one(0, 2)])
    assert (one_training.seeds, len(one_training.draws)) == ([0], 9)
    (plain,) = group_rows([one(0, 0, d) for d in range(3)])
    assert set(plain.draws) & set(row.draws) == {0}, "the second seed of a row saw draw 0 again, not draw 1"
