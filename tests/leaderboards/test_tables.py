"""Paper tables: read with file and line, judged from ten draws with a derived tolerance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scorebench.configs.errors import RequestError
from scorebench.leaderboards import tables
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.reproduce import exit_code, judge, tolerance
from scorebench.leaderboards.sources import gather

TABLE = """\
id: toy
title: A toy
paper: {title: On toys, authors: A. Player, year: 2020}
draws: 3
selection: last
aggregate: mean per picture
input: {clip: false, quantise: false}
columns:
  - {id: "toy 25", task: denoising/toy, metric: psnr, level: 25}
  - {id: "toy 50", task: denoising/toy, metric: ssim, level: 50, digits: 2}
rows:
  - {id: DnCNN, variant: dncnn, kind: checkpoint, where: [Table 1, Table 2], values: ["29.4", 0.8]}
  - {id: NLM, variant: "nlm", kind: reimplemented, where: Table 1, values: ["27.60", null], disputed_by: somebody}
  - {id: BM3D, kind: reimplemented, where: Table 1, values: ["28.57", null], notes: no such method here}
cells:
  - {row: TV, variant: "tv", set: {weight: 0.1}, kind: reimplemented, where: text, paper: 27.5, digits: 1, task: denoising/toy, metric: psnr}
"""


def write(tmp_path, text=TABLE):
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    return tables.get(str(path))


@pytest.fixture
def store(tmp_path, make):
    store = Store(tmp_path / "runs")
    for draw in range(3):
        store.append(*make.unit("dncnn", draw=draw, level=29.2))
        store.append(*make.unit("nlm", draw=draw, level=27.5))
        store.append(*make.unit("tv[weight=0.1]", draw=draw, level=27.49, hparams={"weight": 0.1, "steps": 50}))
        store.append(*make.unit("tv[weight=0.9]", draw=draw, level=20, hparams={"weight": 0.9}))
        store.append(*make.unit("nlm[fast]", draw=draw, level=10, preset="fast"))
    return store


def judged(table, store, make, missing=None):
    return judge(table, gather([store], reference=False), {make.META["id"]: make.META}, missing or {})


def test_a_table_is_read(tmp_path):
    t = write(tmp_path)
    assert (t.id, t.draws, t.rows, t.columns) == ("toy", 3, ["DnCNN", "NLM", "BM3D", "TV"], ["toy 25", "toy 50", "denoising/toy"])
    first, second, nlm, bm3d, tv = t.cells
    assert (first.paper, first.digits, first.where, second.where, second.digits) == (29.4, 1, "Table 1", "Table 2", 2)
    assert (nlm.digits, nlm.half, nlm.disputed_by) == (2, pytest.approx(0.005), "somebody") and bm3d.variant is None
    assert tv.set == {"weight": 0.1} and tv.selection == "last" and tv.aggregate == "mean per picture"


def test_the_verdicts_follow_the_formula(tmp_path, store, make):
    t = write(tmp_path)
    first, _, nlm, bm3d, tv = judged(t, store, make)
    values = [make.unit("dncnn", draw=d, level=29.2)[0]["metrics"]["psnr"]["value"] for d in range(3)]
    assert first.value == pytest.approx(np.mean(values)) and first.sd == pytest.approx(np.std(values, ddof=1)) and first.draws == 3
    assert first.tolerance == pytest.approx(3 * first.sd * math.sqrt(4 / 3) + 0.05)
    assert first.verdict == ("reproduced" if abs(first.value - 29.4) <= first.tolerance else "missed")
    assert set(first.records) == {"dncnn-0-0", "dncnn-0-1", "dncnn-0-2"}
    assert bm3d.verdict == "unavailable" and bm3d.note == "no such method here"
    assert set(tv.records) == {f"tv_weight_0.1_-0-{d}" for d in range(3)} and set(nlm.records) == {f"nlm-0-{d}" for d in range(3)}
    data = first.data()
    assert {"row", "metric", "paper", "kind", "where", "reproduced", "difference", "tolerance", "verdict"} <= set(data)
    assert data["difference"] == pytest.approx(first.value - 29.4)


def test_hits_misses_and_the_exit_code(tmp_path, store, make):
    (got,) = [r for r in judged(write(tmp_path), store, make) if r.cell.row == "TV"]
    exact = f"{got.value:.1f}"
    hit = judged(write(tmp_path, TABLE.replace("paper: 27.5", f"paper: {exact}")), store, make)[-1]
    miss = judged(write(tmp_path, TABLE.replace("paper: 27.5", "paper: 30.0")), store, make)[-1]
    assert (hit.verdict, miss.verdict) == ("reproduced", "missed")
    assert exit_code([hit]) == 0 and exit_code([hit, miss]) == 1 and exit_code([]) == 1 and exit_code([got]) in (0, 1)


def test_too_few_draws_have_no_verdict_and_the_fullest_version_counts(tmp_path, store, make):
    t = write(tmp_path, TABLE.replace("draws: 3", "draws: 4"))
    r = judged(t, store, make)[0]
    assert r.verdict == "not-run" and r.note.startswith("3 of 4 draws") and r.value is not None and exit_code([r]) == 1
    store.append(*make.unit("dncnn", draw=0, level=50, code="code2", suffix="-new"))
    assert judged(write(tmp_path), store, make)[0].draws == 3


def test_partial_failed_dev_and_old_records_do_not_count(tmp_path, make):
    store = Store(tmp_path / "other")
    store.append(*make.unit("dncnn", 0, 0, partial=True, suffix="a"))
    store.append(*make.unit("dncnn", 0, 1, status="failed", suffix="b"))
    store.append(*make.unit("dncnn", 0, 2, split="dev", suffix="c"))
    store.append(*make.unit("dncnn", 0, 3, task_version=0, suffix="d"))
    assert judged(write(tmp_path), store, make)[0].verdict == "not-run"
    missing = judged(write(tmp_path), store, make, {"denoising/toy": "the toys are not on this machine."})[0]
    assert (missing.verdict, missing.note) == ("unavailable", "the toys are not on this machine")


def test_retrained_cells_need_trainings_and_carry_their_spread(tmp_path, make):
    text = TABLE.replace("variant: dncnn, kind: checkpoint", "variant: dncnn, kind: retrained, seeds: [0, 1, 2]")
    one, three = Store(tmp_path / "one"), Store(tmp_path / "three")
    for store, seeds in ((one, [0]), (three, [0, 1, 2])):
        for seed in seeds:
            for draw in range(3):
                store.append(*make.unit("dncnn", seed, draw, 29.2, stochastic="fit", seed_sd=0.5))
    few, enough = judged(write(tmp_path, text), one, make)[0], judged(write(tmp_path, text), three, make)[0]
    assert few.verdict == "not-run" and "1 of at least 3 trainings" in few.note
    assert enough.tolerance > 3 * 0.1 * math.sqrt(4 / 3) and enough.verdict in ("reproduced", "missed")


def test_files_are_looked_for_in_the_data_folders(tmp_path, store, make, monkeypatch):
    text = TABLE.replace("variant: dncnn,", 'variant: dncnn, files: {checkpoint: "weights/{level}.pth"}, get: "ask the authors",')
    monkeypatch.setenv("SCOREBENCH_DATA", str(tmp_path / "data"))
    first, second, *_ = judged(write(tmp_path, text), store, make)
    assert (first.verdict, second.verdict) == ("unavailable", "unavailable")
    assert first.note == "weights/25.pth is in no folder of $SCOREBENCH_DATA; ask the authors" and "weights/50.pth" in second.note
    file = tmp_path / "data" / "weights" / "25.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert judged(write(tmp_path, text), store, make)[0].verdict == "not-run"
    for draw in range(3):
        r, samples = make.unit("dncnn", draw=draw, level=29.2, hparams={"checkpoint": str(file)}, suffix="-f")
        store.append({**r, "variant": f"dncnn[checkpoint={file}]"}, samples)
    first, second, *_ = judged(write(tmp_path, text), store, make)
    assert first.value is not None and second.verdict == "unavailable"


def test_a_number_from_one_draw_is_within_the_tolerance():
    """The paper drew its noise once; ours is the mean of ten draws: 3 standard deviations hold in 98 of 100 tables or more."""
    rng, hits, caught, n = np.random.default_rng(3), 0, 0, 4000
    for _ in range(n):
        ours = rng.normal(30, 0.02, 10)
        allowed = tolerance(ours.std(ddof=1), 10, 0.005)
        hits += abs(round(rng.normal(30, 0.02), 2) - ours.mean()) <= allowed
        caught += abs(round(rng.normal(30.2, 0.02), 2) - ours.mean()) > allowed
    assert hits / n > 0.98 and caught / n > 0.98


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id: toy", "id: Toy", r"toy.yaml:1: field 'id' is 'Toy'"),
        ("title: A toy\n", "", r"toy.yaml:1: field 'title' is missing"),
        ("draws: 3", "draws: 0", r"toy.yaml:4: field 'draws' is 0"),
        ("draws: 3", "draw: 3", r"toy.yaml:4: unknown field 'draw'; did you mean 'draws'"),
        ('values: ["29.4", 0.8]', 'values: ["29.4"]', r"toy.yaml:12: row 'DnCNN' has 1 values for 2 columns"),
        ("where: [Table 1, Table 2]", "where: [Table 1]", r"toy.yaml:12: field 'where' of row 'DnCNN' has 1 entries"),
        ('"29.4"', '"29,4"', r"toy.yaml:12: '29,4' is no number"),
        (", digits: 2", "", r"toy.yaml:12: how many digits of 0.8 are printed is not known"),
        ("kind: checkpoint", "kind: official", r"toy.yaml:12: field 'rows.0.kind' is 'official'; accepted: checkpoint, retrained, re"),
        ("kind: checkpoint, ", "", r"toy.yaml:12: the number of 'DnCNN' has no 'kind'"),
        ("selection: last", "selection: best", r"toy.yaml:5: field 'selection' is 'best'"),
        ("input: {clip: false, quantise: false}\n", "", r"has no 'input' \(how the paper treated its input"),
        ("id: NLM", "id: DnCNN", r"row 'DnCNN' has two numbers in column 'toy 25'"),
        ('id: BM3D,', "id: BM3D, set: {a: 1},", r"toy.yaml:14: row 'BM3D' has settings and no variant"),
        ('variant: dncnn,', 'variant: dncnn, files: {f: "{sigma}.pth"},', r"toy.yaml:12: field 'files.f'.*level"),
        ('variant: dncnn,', "variant: dncnn, seeds: [a],", r"toy.yaml:12: field 'seeds' must be a list of integers"),
        ('variant: dncnn,', "variant: dncnn, include: nowhere,", r"toy.yaml:12: include 'nowhere': no such folder"),
        ("columns:\n", "colums:\n", r"unknown field 'colums'"),
        ("  - {row: TV,", "  - TV\n  - {row: TW,", r"toy.yaml:16: cell 1 must be a mapping"),
    ],
)
def test_a_wrong_table_names_file_line_and_reason(tmp_path, old, new, message):
    assert old in TABLE
    with pytest.raises(RequestError, match=message):
        write(tmp_path, TABLE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"toy 25", task: denoising/toy', '"toy 25", task: denoising/tov', r"toy.yaml:12: Unknown task 'denoising/tov'; did you mean"),
        ("metric: psnr, level", "metric: snr, level", r"denoising/toy has no metric 'snr'; accepted: psnr, ssim, lpips"),
        ("variant: dncnn,", "variant: dncn,", r"toy.yaml:12: row 'DnCNN': unknown dncn"),
        ("variant: dncnn,", "variant: dncnn, budget: nfe5,", r"has no budget 'nfe5'; accepted: default"),
    ],
)
def test_names_that_do_not_exist(tmp_path, make, old, new, message):
    t = write(tmp_path, TABLE.replace(old, new, 1))
    with pytest.raises(RequestError, match=message):
        tables.check(t, {make.META["id"]: make.META}, lambda v: None if v in ("dncnn", "nlm", "tv") else f"unknown {v}")


def test_shipped_tables_and_unknown_ones():
    assert {"dncnn", "voicebank-noisy"} <= set(tables.known())
    with pytest.raises(RequestError, match="Unknown table 'dncn'; did you mean dncnn"):
        tables.get("dncn")
    with pytest.raises(RequestError, match="cannot be read"):
        tables.get("nowhere.yaml")
