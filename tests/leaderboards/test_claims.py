"""Claims: a card's inequalities are parsed with file and line, and judged from records as the statistics say."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

from scorebench.configs.errors import RequestError
from scorebench.configs.loader import read
from scorebench.leaderboards import evidence
from scorebench.leaderboards.board import build
from scorebench.leaderboards.claims import Claim, parse, resolve
from scorebench.leaderboards.compare import compare
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.sources import gather
from scorebench.leaderboards.statistics import fixed_set

TASK = "denoising/toy"


def claim(**over):
    fields = {"tasks": (TASK,), "metric": "psnr", "left": "dncnn", "op": ">", "right": "nlm", **over}
    return Claim("dncnn", "c", "it is better", **fields)


def judge(store, make, *claims, metas=None):
    metas = metas or {TASK: make.META}
    gathered = gather([store], reference=False)
    return evidence.evaluate([(c, c.tasks) for c in claims], lambda t, b: build(metas[t], gathered, budget=b), metas)


@pytest.fixture
def store(tmp_path, make):
    return make.fill(Store(tmp_path / "runs"))


def test_effect_and_interval_are_those_of_compare_and_the_records_are_named(store, make):
    (v,) = judge(store, make, claim())
    (c,) = compare(build(make.META, gather([store], reference=False)), "dncnn", "nlm", ["psnr"])
    assert (v["effect"], v["low"], v["high"]) == (c.estimate.difference, *c.estimate.interval()) and v["verdict"] == "supported"
    assert len(v["records"]) == 12 and {"dncnn-2-1", "nlm-0-2"} <= set(v["records"]) and v["inequality"] == "dncnn > nlm (psnr)"
    assert {"method", "claim", "statement", "verdict", "scale", "parity", "effect", "low", "high"} <= set(v)


def test_by_ratio_numbers_and_direction(store, make):
    gap = judge(store, make, claim())[0]["effect"]  # about 1.7 dB
    verdicts = [
        v["verdict"]
        for v in judge(
            store, make, claim(by=1.0), claim(by=5.0), claim(left="nlm", op="<", right="dncnn", by=1.0), claim(op="<", by=-5.0),
            claim(right=20.0), claim(right=60.0, scale="protocol"), claim(ratio=0.9), claim(ratio=2.0, parity="official code"),
        )
    ]  # fmt: skip
    assert 1.3 < gap < 2.2
    assert verdicts == [
        "supported", "inconclusive", "supported", "supported", "supported", "contradicted", "supported", "contradicted",
    ]  # fmt: skip
    ratio, number = judge(store, make, claim(ratio=0.5), claim(right=20.0))
    means = {r.variant: r.mean("psnr") for r in build(make.META, gather([store], reference=False)).rows}
    assert ratio["effect"] == pytest.approx(means["dncnn"] - 0.5 * means["nlm"]) and number["effect"] == pytest.approx(means["dncnn"] - 20)
    assert number["low"] < number["effect"] < number["high"]


def test_a_toy_run_never_contradicts(store, make):
    toy, full, official = judge(
        store, make, claim(op="<"), claim(op="<", scale="protocol"), claim(op="<", parity="official weights")
    )  # fmt: skip
    assert (toy["verdict"], toy["against"]) == ("inconclusive", True) and "not seen at embedded scale" in toy["note"]
    assert full["verdict"] == official["verdict"] == "contradicted"


def test_what_was_not_run_and_what_failed(store, make):
    store.append(*make.unit("slow", status="failed"))
    store.append(*make.unit("part", partial=True, n=6, observation_hash="half"))
    absent, failed, partial = judge(store, make, claim(right="bm3d"), claim(right="slow"), claim(right="part"))
    assert {v["verdict"] for v in (absent, failed, partial)} == {"not-run"} and absent["records"] == [] and absent["effect"] is None
    assert "bm3d has no record" in absent["note"] and "longer than 60 s" in failed["note"] and "partial" in partial["note"]
    assert judge(store, make, claim(metric="lpips"))[0]["note"] == "lpips of dncnn is unavailable"


def test_one_training_is_no_word_about_a_method(tmp_path, make):
    store = make.fill(Store(tmp_path), trained=(0, 1))
    (v,) = judge(store, make, claim())
    assert v["verdict"] == "inconclusive" and "2 trainings of dncnn; a word about the method needs three" in v["note"]


# ---------------------------------------------------------------------- solvers and their priors
def solver(make, name, level, trainings, shifts, prior="digits"):
    """Return units of a solver on several trainings of one prior, whose training shifts every result alike."""
    for p in trainings:
        for draw in range(3):
            artifacts = {"prior": {"key": f"k{p}", "owner": prior, "seed": p}}
            yield make.unit(name, 0, draw, level + shifts[p], stochastic="inference", artifacts=artifacts, suffix=f"-p{p}")


def test_a_solver_needs_three_trainings_of_its_prior_and_shared_trainings_are_paired(tmp_path, make):
    shifts = [-1.5, 0.2, 1.3]
    one, three = Store(tmp_path / "one"), Store(tmp_path / "three")
    for store, trainings in ((one, [0]), (three, [0, 1, 2])):
        for name, level in (("fast", 25.3), ("slow", 25.0)):
            for u in solver(make, name, level, trainings, shifts):
                store.append(*u)
    c = claim(left="fast", right="slow")
    (a,), (b,) = judge(one, make, c), judge(three, make, c)
    assert a["verdict"] == "inconclusive" and "stands on 1 training of digits" in a["note"]
    # unpaired, the spread between trainings (1.4 dB) would drown the 0.3 dB between the solvers
    assert b["verdict"] == "supported" and 0.1 < b["low"] < b["effect"] < b["high"] < 0.5
    board = build(make.META, gather([three], reference=False))
    low, high = fixed_set(board.row("fast").cells("psnr"), board.row("slow").cells("psnr")).interval()
    assert high - low > 2


def test_an_exact_prior_has_no_training(tmp_path, make):
    store = Store(tmp_path)
    for name, level in (("fast", 26.0), ("slow", 25.0)):
        for draw in range(3):
            store.append(*make.unit(name, 0, draw, level, stochastic="inference", artifacts={"prior": {"owner": "gmm2d", "seed": None}}))
    assert judge(store, make, claim(left="fast", right="slow"))[0]["verdict"] == "supported"


# ---------------------------------------------------------------------- costs, diagnostics, slopes
def test_costs_are_counted_and_times_need_the_machine_alone(tmp_path, make):
    store = Store(tmp_path)
    for draw in range(3):
        store.append(*make.unit("a", draw=draw, cost={"nfe": 5.0, "sample_s_median": 0.01 + draw / 1e4}))
        store.append(*make.unit("b", draw=draw, cost={"nfe": 10.0, "sample_s_median": 0.02 + draw / 1e4}))
        store.append(*make.unit("busy", draw=draw, cost={"exclusive": False}))
    nfe, half, time, busy = judge(
        store, make, claim(metric="nfe", left="a", op="<", right="b"), claim(metric="nfe", left="a", op="<=", right="b", ratio=0.5),
        claim(metric="sample_s_median", left="a", op="<", right="b"), claim(metric="sample_s_median", left="busy", op="<", right="b"),
    )  # fmt: skip
    assert (nfe["verdict"], nfe["effect"], nfe["low"], nfe["high"]) == ("supported", -5, -5, -5)
    assert (half["verdict"], half["effect"]) == ("supported", 0)
    assert time["verdict"] == "supported" and busy["verdict"] == "not-run" and "beside other work" in busy["note"]


def test_diagnostics_come_from_the_records(tmp_path, make):
    store = Store(tmp_path)
    for draw in range(3):
        store.append(*make.unit("a", draw=draw, diagnostics={"residual": 0.1 + draw / 1000}))
        store.append(*make.unit("a[long]", draw=draw, diagnostics={"residual": 0.01}))
    c = claim(metric="a/residual", left="a[long]", op="<", right="a")
    got, below, absent = judge(
        store, make, c, claim(metric="a/residual", left="a", op="<", right=0.2), claim(metric="a/other", left="a", right=0.0)
    )  # fmt: skip
    assert got["verdict"] == below["verdict"] == "supported" and got["effect"] == pytest.approx(0.01 - 0.101)
    assert absent["verdict"] == "not-run" and "was not recorded" in absent["note"]


def test_slopes_are_least_squares(tmp_path, make):
    from scorebench.leaderboards.claims import Slope

    store, x = Store(tmp_path), [5.0, 10.0, 20.0, 40.0]
    names = [f"s[steps={int(k)}]" for k in x]
    for name, steps in zip(names, x, strict=True):
        for draw in range(3):
            store.append(*make.unit(name, draw=draw, level=30 - 40 / steps))
    board = build(make.META, gather([store], reference=False))
    y = [board.row(n).mean("psnr") for n in names]
    points = tuple((n, None) for n in names)
    plain, log = judge(
        store, make, claim(left=Slope(points, tuple(x), False), right=0.0), claim(left=Slope(points, tuple(x), True), right=0.1)
    )  # fmt: skip
    assert plain["effect"] == pytest.approx(np.polyfit(x, y, 1)[0]) and plain["verdict"] == "supported"
    assert log["effect"] == pytest.approx(np.polyfit(np.log(x), np.log(y), 1)[0] - 0.1) and plain["low"] < plain["effect"] < plain["high"]


def test_a_slope_over_budgets(tmp_path, make):
    from scorebench.leaderboards.claims import Slope

    meta = {**make.META, "budgets": {"nfe5": {"nfe": 5}, "nfe10": {"nfe": 10}, "nfe20": {"nfe": 20}}}
    store = Store(tmp_path)
    for k, (budget, nfe) in enumerate((("nfe5", 5.0), ("nfe10", 10.0), ("nfe20", 20.0))):
        for draw in range(3):
            store.append(*make.unit("s", draw=draw, level=20 + k, budget=budget, cost={"nfe": nfe}, suffix=budget))
    side = Slope((("s", "nfe5"), ("s", "nfe10"), ("s", "nfe20")), (0.0, 1.0, 2.0), False)
    (v,) = judge(store, make, claim(left=side, right=0.5), metas={TASK: meta})
    assert v["verdict"] == "supported" and v["effect"] == pytest.approx(0.5, abs=0.05)


# ---------------------------------------------------------------------- several tasks
@pytest.fixture
def several(tmp_path, make):
    """Three tasks: nlm is above tv by 1, 2 and -1 dB."""
    store, metas = Store(tmp_path), {}
    for k, gap in enumerate((1.0, 2.0, -1.0)):
        meta = {**make.META, "id": f"denoising/toy{k}"}
        metas[meta["id"]] = meta
        for draw in range(3):
            store.append(*make.unit("nlm", draw=draw, level=26 + gap, meta=meta, suffix=f"-{k}"))
            store.append(*make.unit("tv", draw=draw, level=26, meta=meta, suffix=f"-{k}"))
    return store, metas


def test_each_and_the_median(several, make):
    store, metas = several
    two, three = tuple(metas)[:2], tuple(metas)
    base = {"left": "nlm", "right": "tv"}
    both, each, median, full, lost = judge(
        store, make, claim(tasks=two, **base), claim(tasks=three, **base), claim(tasks=three, over="median", **base),
        claim(tasks=three, scale="protocol", **base), claim(tasks=three, left="nlm", right="bm3d"), metas=metas,
    )  # fmt: skip
    assert both["verdict"] == "supported" and both["effect"] == pytest.approx(1, abs=0.1) and "each of 2 boards" in both["note"]
    assert each["verdict"] == "inconclusive" and each["effect"] == pytest.approx(-1, abs=0.1) and "denoising/toy2" in each["note"]
    assert median["verdict"] == "supported" and median["low"] < median["effect"] < median["high"] and len(median["parts"]) == 3
    assert full["verdict"] == "contradicted" and lost["verdict"] == "not-run"


def test_other_trainings_of_a_prior_are_not_other_trainings_of_a_fit(tmp_path, make):
    def judged(where: str, seeds: tuple[int, ...]) -> dict:
        store = Store(tmp_path / where)
        for k, seed in enumerate(seeds):
            prior = {"prior": {"owner": "digits", "seed": k, "key": f"k{k}", "sha256": f"{k}", "pinned": False}}
            store.append(*make.unit("solver", seed, 0, 29.2, stochastic="fit", artifacts=prior, suffix=f"-{k}"))
        for draw in range(3):
            store.append(*make.unit("nlm", 0, draw, 27.5))
        return judge(store, make, claim(left="solver"))[0]

    same, own = judged("same", (0, 0, 0)), judged("own", (0, 1, 2))
    assert same["verdict"] == "inconclusive" and "1 seed of solver's own fit" in same["note"]
    assert own["verdict"] == "supported"


def test_a_word_needs_three_trainings_in_the_table_that_the_numbers_are_from(tmp_path, make):
    store = make.fill(Store(tmp_path / "runs"), draws=tuple(range(6)), trained=(0,))
    for seed in (1, 2):  # one draw each: the largest complete table is one training with six draws
        store.append(*make.unit("dncnn", seed, 0, 29.2, stochastic="fit"))
    (v,) = judge(store, make, claim())
    assert v["verdict"] == "inconclusive" and "1 training of dncnn" in v["note"]


# ---------------------------------------------------------------------- checks
def test_a_check_is_a_function_of_the_records(store, make, tmp_path):
    (tmp_path / "own.py").write_text(
        textwrap.dedent("""\
        def best(records):
            value = max(r["metrics"]["psnr"]["value"] for r in records)
            return {"verdict": "contradicted", "effect": value, "note": f"{len(records)} records", "records": ["dncnn-0-0"]}
        def broken(records):
            raise KeyError("psnr")
        def odd(records):
            return "yes"
        """)
    )
    base = {"left": None, "op": None, "right": None, "folder": tmp_path}
    got, full, broken = judge(
        store, make, claim(check="own:best", **base), claim(check="own:best", scale="protocol", **base), claim(check="own:broken", **base)
    )  # fmt: skip
    assert (got["verdict"], full["verdict"], broken["verdict"]) == ("inconclusive", "contradicted", "inconclusive")
    assert got["note"] == "not seen at embedded scale; 18 records" and got["records"] == ["dncnn-0-0"] and "KeyError" in broken["note"]
    # what no board ranks reaches no check
    store.append(*make.unit("nlm", 0, 0, 99.0, task_version=0, suffix="-old-task"))
    store.append(*make.unit("tv", 0, 1, 99.0, observation_hash="other", suffix="-other"))
    store.append(*make.unit("chosen", 0, 0, 99.0, selection="test-clean"))
    (again,) = judge(store, make, claim(check="own:best", **base))
    assert again["note"] == got["note"] and again["effect"] == got["effect"]
    with pytest.raises(RequestError, match="must return a mapping whose 'verdict'"):
        judge(store, make, claim(check="own:odd", **base))
    with pytest.raises(RequestError, match="does not import"):
        judge(store, make, claim(check="nowhere:f", **base))


# ---------------------------------------------------------------------- cards
CARD = """\
id: toy
claims:
  - id: one
    statement: "It wins."
    task: denoising/toy
    metric: psnr
    left: toy
    op: ">"
    right: nlm
  - {id: two, statement: "It wins clearly.", task: ["denoising/*"], left: "toy[default]", op: ">=", right: 3, by: 0.5, over: median}
  - {id: three, statement: "Order two.", task: denoising/toy, left: {slope: [a, b], x: [5, 10], log: true}, op: "<", right: -1.5}
  - {id: four, statement: "Who knows.", unchecked: no data}
"""


def cards(tmp_path, text):
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    return parse(read(path).data["claims"], path, "toy")


def test_a_card_is_read(tmp_path, make):
    one, two, three, four = cards(tmp_path, CARD)
    assert (one.left, one.op, one.right, one.by, one.scale, one.parity) == ("toy", ">", "nlm", 0, "embedded", "none")
    assert (two.left, two.right, two.over, two.tasks) == ("toy", 3.0, "median", ("denoising/*",))
    assert three.variants() == ["a", "b"] and three.left.log and four.unchecked == "no data"
    (own,) = cards(tmp_path, CARD.partition("  - {id: two")[0].replace("metric: psnr", "metric: method/residual").replace("nlm", "0.1"))
    assert own.metric == "toy/residual"
    assert two.inequality == "toy >= 3 + 0.5 (primary metric)"
    assert resolve(two, {TASK: make.META}, lambda v: None) == (TASK,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id: one", "id: One", r"toy.yaml:3: claim id 'One'"),
        ("id: two", "id: one", r"toy.yaml:10: claim id 'one' is used twice"),
        ('statement: "It wins."', 'statment: "It wins."', r"toy.yaml:3: field 'claims.0.statement' is missing"),
        ('op: ">"', 'op: "=>"', r"toy.yaml:8: field 'claims.0.op' is '=>'; accepted: >, >=, <, <="),
        ("    right: nlm\n", "", r"toy.yaml:3: claim 'one' has no 'right'"),
        ("    right: nlm\n", "    right: toy\n", r"toy.yaml:9: claim 'one' compares toy with itself"),
        ("    right: nlm\n", "    right: [nlm]\n", r"toy.yaml:9: field 'claims.0.right' must be str or dict or int or float"),
        ("metric: psnr", "metric: toy/residual", r"toy.yaml:6: 'toy/residual' is a diagnostic of toy; nlm has none"),
        ("metric: psnr", "metrik: psnr", r"toy.yaml:6: unknown field 'claims.0.metrik'; did you mean 'metric'"),
        ("by: 0.5", "by: much", r"toy.yaml:10: field 'claims.1.by' must be int or float"),
        ("over: median", "over: all", r"accepted: each, median"),
        ("x: [5, 10]", "x: [5]", r"toy.yaml:11: field 'x' must hold one number per entry"),
        ("x: [5, 10]", "x: [0, 10]", r"above 0"),
        ("unchecked: no data", "where: p. 3", r"toy.yaml:12: claim 'four' says neither"),
        ("unchecked: no data", "unchecked: no data, check: 'a:b'", r"has check and unchecked"),
        ("unchecked: no data", "check: ab", r"must read 'module:function'"),
        ("- {id: four", "- four\n  - {id: five", r"toy.yaml:12: claim 4 must be a mapping"),
    ],
)
def test_a_wrong_claim_names_file_line_and_reason(tmp_path, old, new, message):
    assert old in CARD
    with pytest.raises(RequestError, match=message):
        cards(tmp_path, CARD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("task: denoising/toy\n", "task: denoising/tov\n", r"toy.yaml:5: claim 'one' names the unknown task 'denoising/tov'; did you"),
        ("metric: psnr", "metric: psnrr", r"toy.yaml:6: claim 'one': denoising/toy has no metric 'psnrr'; accepted: psnr, ssim, lpips, a cost"),
        ("metric: psnr", "budget: nfe5", r"toy.yaml:6: claim 'one': denoising/toy has no budget 'nfe5'; accepted: default, all"),
        ("right: nlm", "right: nml", r"toy.yaml:9: claim 'one': unknown nml"),
    ],
)
def test_names_that_do_not_exist(tmp_path, make, old, new, message):
    found = cards(tmp_path, CARD.replace(old, new, 1))
    with pytest.raises(RequestError, match=message):
        for c in found:
            resolve(c, {TASK: make.META}, lambda v: None if v in ("toy", "nlm", "a", "b") else f"unknown {v}")
