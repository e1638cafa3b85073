"""Intervals cover what they say, verdicts are what their definitions say, and everything flips with its arguments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scorebench.leaderboards import student
from scorebench.leaderboards.best import near_best
from scorebench.leaderboards.statistics import (
    Cells,
    Estimate,
    _stands_out,
    complete,
    components,
    fixed_set,
    margin_value,
    population,
    smallest_detectable,
    too_few,
    verdict,
)


def cells(means, stochastic="fit", level="sample", se=None, samples=None):
    means = np.atleast_2d(np.asarray(means, float))
    return Cells(means, tuple(range(means.shape[0])), tuple(range(means.shape[1])), stochastic, level, se, samples)


def from_cube(cube, clusters=None, stochastic="fit"):
    names = np.array([f"c{k:03d}" for k in range(cube.shape[-1])]) if clusters is None else np.asarray(clusters)
    return cells(cube.mean(-1), stochastic, samples=lambda: (np.arange(cube.shape[-1]), names, cube))


def estimate(difference, se, df=10.0, estimand="fixed-set", clusters=20):
    return Estimate(difference, None if se is None else se**2, df, estimand, False, 3, clusters)


# ---------------------------------------------------------------------- Student's t
def test_student_against_scipy():
    for df in (1, 1.3, 2, 2.7, 5, 10.4, 30, 100, 1e4):
        for p in (0.8, 0.9, 0.975, 0.995, 0.9995):
            q = stats.t.ppf(p, df)
            assert student.quantile(p, df) == pytest.approx(q, rel=1e-6)
            assert student.cdf(q, df) == pytest.approx(p, abs=1e-9) and student.cdf(-q, df) == pytest.approx(1 - p, abs=1e-9)
    assert student.quantile(0.975, 1e9) == pytest.approx(stats.norm.ppf(0.975), rel=1e-4)
    assert student.two_sided(2.0, 7) == pytest.approx(2 * stats.t.sf(2.0, 7))


def test_f_test_point_is_the_80_percent_point():
    for df in ((2, 4), (2, 36), (4, 8), (9, 18), (9, 36)):
        f = stats.f.ppf(0.80, *df)
        assert _stands_out(1.04 * f, 1, *df) and not _stands_out(0.96 * f, 1, *df)


# ---------------------------------------------------------------------- cases known in closed form
def test_seeds_only_is_welchs_test():
    rng = np.random.default_rng(3)
    for _ in range(20):
        a, b = rng.normal(0, 1, 6), rng.normal(0.5, 2, 9)
        e = fixed_set(cells(np.repeat(a[:, None], 3, 1)), cells(np.repeat(b[:, None], 3, 1)))
        welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
        assert e.interval() == pytest.approx((welch.low, welch.high), rel=2e-3, abs=1e-3)  # df are rounded to three digits


def test_draws_only_is_the_paired_test():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0, 1, 7), rng.normal(0, 1, 7)
    e = fixed_set(cells(a, "none"), cells(b, "none"))
    paired = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert e.interval() == pytest.approx((paired.low, paired.high), rel=1e-9)


def test_clusters_only_is_the_paired_test_over_clusters():
    rng = np.random.default_rng(5)
    a, b = rng.normal(30, 3, 12), rng.normal(30, 3, 12)
    e = population(from_cube(a[None, None], stochastic="none"), from_cube(b[None, None], stochastic="none"))
    paired = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert e.interval() == pytest.approx((paired.low, paired.high), rel=2e-3)
    # crops of one photograph are not new evidence: four equal copies of every value change nothing
    names = np.repeat([f"p{k}" for k in range(12)], 4)
    crops = population(from_cube(np.repeat(a, 4)[None, None], names, "none"), from_cube(np.repeat(b, 4)[None, None], names, "none"))
    assert crops.interval() == pytest.approx(e.interval()) and crops.clusters == 12


def test_equal_outputs_are_equivalent_exactly():
    row = from_cube(np.random.default_rng(0).normal(size=(1, 3, 8)), stochastic="none")
    e = fixed_set(row, row)
    assert e.interval() == (0, 0) and verdict(e, 0.05, True) == "equivalent" and verdict(e, 0.0, True) == "equivalent"


def test_few_draws_are_bounded_by_the_spread_between_clusters():
    rng = np.random.default_rng(6)
    cube = rng.normal(30, 1, (1, 1, 10))
    a, b = from_cube(cube, stochastic="none"), from_cube(cube + rng.normal(0.5, 0.1, (1, 1, 10)), stochastic="none")
    e = fixed_set(b, a)
    assert e.estimand == "fixed-set" and "bounded" in e.how and e.variance > 0 and verdict(e, 0.05, True) == "better"
    without = fixed_set(cells(b.means, "none"), cells(a.means, "none"))
    assert without.interval() is None and verdict(without, 0.05, True) == "too-few-samples"


def test_set_level_takes_seeds_or_the_jackknife():
    one = cells([[10.0]], "inference", "set", se=np.array([[0.3]]))
    two = cells([[12.0]], "inference", "set", se=np.array([[0.4]]))
    assert fixed_set(one, two).se == pytest.approx(0.5)
    assert fixed_set(cells([[10.0]], "inference", "set"), two).variance is None
    seeds = cells([[10.0], [11.0], [12.0]], "fit", "set")
    assert fixed_set(seeds, two).se == pytest.approx(math.sqrt(1 / 3 + 0.16))


def test_words_about_a_method_need_three_trainings():
    trained = np.random.default_rng(1).normal(size=(3, 3))
    assert not fixed_set(cells(trained), cells(trained[:1], "none")).instance
    assert fixed_set(cells(trained[:2]), cells(trained[:1], "none")).instance
    assert not fixed_set(cells(trained[:1], "inference"), cells(trained[:1], "none")).instance


def test_draws_that_only_one_row_has_are_left_out():
    a, b = cells([[1.0, 2.0, 3.0, 50.0]], "none"), cells([[0.0, 1.0, 2.0]], "none")
    assert fixed_set(a, b).difference == 1.0 and fixed_set(a, b).draws == 3
    lone = Cells(np.zeros((1, 1)), (0,), (9,), "none")
    assert fixed_set(a, lone).variance is None and population(a, lone).variance is None


def test_largest_complete_table():
    assert complete({(0, 0): 1, (0, 1): 1, (1, 0): 1, (1, 1): 1, (2, 0): 1}) == ((0, 1), (0, 1))
    assert complete({(0, 0): 1, (1, 0): 1, (2, 0): 1, (2, 1): 1}) == ((0, 1, 2), (0,))
    assert complete({(4, 2): 1}) == ((4,), (2,))


def test_components_find_what_was_put_in():
    rng = np.random.default_rng(7)
    s, d, n = 40, 30, 60
    cube = rng.normal(0, 2, (s, 1, 1)) + rng.normal(0, 1, (1, d, 1)) + rng.normal(0, 3, n)
    cube = cube + rng.normal(0, 0.5, (s, d, 1))
    got = components(from_cube(cube))
    assert got["train seed"] == pytest.approx(2, rel=0.3) and got["draw"] == pytest.approx(1, rel=0.35)
    assert got["cluster"] == pytest.approx(3, rel=0.3) and got["residual"] == pytest.approx(0.5, rel=0.1)
    assert components(cells([[1.0]]))["draw"] is None


# ---------------------------------------------------------------------- verdicts
def test_verdicts_by_definition():
    q = stats.t.ppf(0.975, 10)
    assert verdict(estimate(0.1, 0.04 / q), 0.05, True) == "better"
    assert verdict(estimate(0.1, 0.06 / q), 0.05, True) == "inconclusive"
    assert verdict(estimate(-0.1, 0.04 / q), 0.05, True) == "worse"
    assert verdict(estimate(0.1, 0.04 / q), 0.05, False) == "worse"
    q90 = stats.t.ppf(0.95, 10)
    assert verdict(estimate(0.01, 0.039 / q90), 0.05, True) == "equivalent"
    assert verdict(estimate(0.01, 0.041 / q90), 0.05, True) == "inconclusive"
    assert verdict(estimate(1.0, None), 0.05, True) == "too-few-samples"


def test_too_few_is_where_no_outcome_could_reach_the_level():
    assert too_few(5) and not too_few(6)
    assert too_few(12, 15 * 14 // 2) and not too_few(12, 14)
    assert verdict(estimate(5.0, 0.001, estimand="population", clusters=5), 0.05, True) == "too-few-samples"
    assert verdict(estimate(5.0, 0.001, estimand="population", clusters=6), 0.05, True) == "better"


numbers = st.floats(-5, 5, allow_nan=False).map(lambda x: round(x, 6))


@settings(max_examples=120, deadline=None)
@given(
    a=st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=4),
    b=st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=4),
    margin=st.floats(0, 2), higher=st.booleans(), kind=st.sampled_from(["none", "inference", "fit"]),
)  # fmt: skip
def test_swapping_flips_the_verdict_and_nothing_else(a, b, margin, higher, kind):
    x, y = cells(a, kind), cells(b)
    xy, yx = fixed_set(x, y), fixed_set(y, x)
    assert xy.difference == -yx.difference and xy.variance == pytest.approx(yx.variance, rel=1e-9, abs=1e-15)
    flip = {"better": "worse", "worse": "better"}
    assert verdict(xy.flipped(), margin, higher) == flip.get(verdict(xy, margin, higher), verdict(xy, margin, higher))
    assert verdict(xy, margin, higher) == flip.get(verdict(xy, margin, not higher), verdict(xy, margin, not higher))


@settings(max_examples=60, deadline=None)
@given(difference=numbers, se=st.floats(1e-4, 3), margin=st.floats(0.01, 2), more=st.floats(1.1, 5))
def test_verdicts_are_monotone(difference, se, margin, more):
    tight, wide = estimate(difference, se), estimate(difference, se * more)
    if verdict(wide, margin, True) != "inconclusive":
        assert verdict(tight, margin, True) == verdict(wide, margin, True)
    assert smallest_detectable(wide, margin) > smallest_detectable(tight, margin) > margin


def test_margins():
    assert margin_value(0.05) == 0.05 and margin_value(None) == 0 and margin_value("0.05") == 0.05
    assert margin_value("1.5%", 10.0, 30.0) == pytest.approx(0.3) and margin_value("1.5 %", -20.0) == pytest.approx(0.3)


def test_smallest_detectable_has_the_power_it_says():
    rng = np.random.default_rng(11)
    truth, hits = None, 0
    for _ in range(800):
        z = rng.normal(0, 1, (1, 8))
        a = from_cube(z[:, None], stochastic="none")
        zero = from_cube(np.zeros((1, 1, 8)), stochastic="none")
        exact = estimate(0, 1 / math.sqrt(8), df=7.0)
        truth = smallest_detectable(exact, 0.3)
        shifted = from_cube(z[:, None] + truth, stochastic="none")
        hits += verdict(population(shifted, zero), 0.3, True) == "better"
        assert population(a, zero).df == pytest.approx(7)
    assert 0.74 < hits / 800 < 0.86


# ---------------------------------------------------------------------- coverage, simulated
MIXES = {  # standard deviations: seed of a, seed of b, shared draw effect of the difference, residual
    "seeds": (1.0, 1.0, 0.1, 0.1), "unequal seeds": (1.0, 0.3, 0.1, 0.1), "draws": (0.1, 0.1, 1.0, 0.1), "even": (0.5, 0.5, 0.5, 0.5),
    "seeds in noise": (0.7, 0.7, 0.3, 1.0), "deterministic reference": (0.7, None, 0.5, 0.5),
}  # fmt: skip


def cover_fixed(seeds, draws, mix, n, rng):
    sa, sb, sd, e = mix
    hits = 0
    for _ in range(n):
        scene = rng.normal(0, 1, draws)  # what a draw does to both
        a = rng.normal(0, sa, (seeds, 1)) + rng.normal(0, sd, draws) + scene + rng.normal(0, e, (seeds, draws))
        b = scene[None] if sb is None else rng.normal(0, sb, (seeds, 1)) + scene + rng.normal(0, e, (seeds, draws))
        low, high = fixed_set(cells(a), cells(b, "none" if sb is None else "fit")).interval()
        hits += low <= 0 <= high
    return hits / n


def cover_population(seeds, clusters, mix, n, rng):
    """mix: standard deviations of seeds, of the difference between clusters, of seed x cluster, of the residual."""
    sa, sc, sac, e = mix
    hits = 0
    for _ in range(n):
        scene = rng.normal(0, 3, clusters)
        rows = []
        for s in (seeds, seeds):
            cube = scene + rng.normal(0, sa, (s, 1, 1)) + rng.normal(0, sc, clusters) + rng.normal(0, sac, (s, 1, clusters))
            rows.append(from_cube(cube + rng.normal(0, e, (s, 1, clusters))))
        low, high = population(*rows).interval()
        hits += low <= 0 <= high
    return hits / n


@pytest.mark.parametrize("name", MIXES)
def test_fixed_set_coverage(name):
    rng = np.random.default_rng(17)
    got = {seeds: cover_fixed(seeds, 3, MIXES[name], 700, rng) for seeds in (3, 5, 10)}
    assert 0.93 <= np.mean(list(got.values())) <= 0.97, got
    assert all(0.91 <= c <= 0.985 for c in got.values()), got  # one of them has a standard error of 0.008


POPULATIONS = {
    "clusters": (0.1, 1.0, 0.3, 0.3), "seeds": (1.0, 0.3, 0.3, 0.3), "even": (0.5, 0.5, 0.5, 0.5), "seeds in noise": (0.3, 0.0, 1.0, 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", POPULATIONS)
def test_population_coverage(name):
    rng = np.random.default_rng(18)
    got = {(s, c): cover_population(s, c, POPULATIONS[name], 500, rng) for s in (3, 5) for c in (8, 20)}
    assert 0.93 <= np.mean(list(got.values())) <= 0.97, got


@pytest.mark.slow
@pytest.mark.parametrize("draws", [3, 5])
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("name", MIXES)
def test_fixed_set_coverage_in_full(name, seeds, draws):
    assert 0.925 <= cover_fixed(seeds, draws, MIXES[name], 6000, np.random.default_rng(19)) <= 0.975


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [8, 20])
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("name", POPULATIONS)
def test_population_coverage_in_full(name, seeds, clusters):
    assert 0.925 <= cover_population(seeds, clusters, POPULATIONS[name], 6000, np.random.default_rng(20)) <= 0.975


def test_pooling_cells_would_not_cover():
    """The mistake the design warns of, for comparison: all cells pooled as if they were independent."""
    rng, hits = np.random.default_rng(21), 0
    for _ in range(400):
        a = rng.normal(0, 1, (3, 1)) + rng.normal(0, 0.1, (3, 3))
        b = rng.normal(0, 1, (3, 1)) + rng.normal(0, 0.1, (3, 3))
        half = stats.t.ppf(0.975, 16) * math.sqrt(a.var(ddof=1) / 9 + b.var(ddof=1) / 9)
        hits += abs(a.mean() - b.mean()) <= half
    assert hits / 400 < 0.85


# ---------------------------------------------------------------------- the best
def board_of(means, se, df, rng):
    """Return (best, estimates of best - row, shares) of one simulated board of independent rows with ``df`` + 1 seeds."""
    seeds = df + 1
    values = np.asarray(means)[:, None] + rng.normal(0, se * math.sqrt(seeds), (len(means), seeds))
    got, own = values.mean(1), values.var(1, ddof=1) / seeds
    best = int(got.argmax())
    estimates, shares = [], []
    for j in range(len(means)):
        v = own[best] + own[j]
        welch = v * v / ((own[best] ** 2 + own[j] ** 2) / df)
        estimates.append(Estimate(got[best] - got[j], 0.0 if j == best else v, welch, "fixed-set", False, 3))
        shares.append(own[best] / v)
    return best, estimates, shares


@pytest.mark.parametrize(("means", "df"), [(np.zeros(12), 4), (np.r_[np.zeros(4), -np.arange(1, 9)], 2), (np.r_[0, -0.5 * np.ones(9)], 9)])
def test_the_true_best_is_kept(means, df):
    rng, kept, runs = np.random.default_rng(22), 0, 200
    for _ in range(runs):
        best, estimates, shares = board_of(means, 0.5, df, rng)
        near = near_best(estimates, shares)
        assert near[best]
        kept += near[0]
    assert kept / runs >= 0.93


def test_far_rows_are_told_apart_and_one_test_is_the_t_test():
    rng = np.random.default_rng(23)
    _, estimates, shares = board_of([0, -10, -20, -0.01], 0.2, 9, rng)
    assert near_best(estimates, shares).tolist() == [True, False, False, True]
    for t, kept in ((2.15, True), (2.32, False)):  # 97.5 % point of t with 10 df: 2.228
        assert near_best([Estimate(t, 1.0, 10, "fixed-set", False, 3)], [0.5]).tolist() == [kept]
    exact = [Estimate(d, v, 1, "fixed-set", False, 3) for d, v in ((0.0, 0.0), (0.1, 0.0), (0.1, None))]
    assert near_best(exact, [0, 0, 0]).tolist() == [True, False, False]


def test_more_rows_ask_for_more():
    e = Estimate(2.4, 1.0, 10, "fixed-set", False, 3)
    assert not near_best([e], [0.5])[0]
    assert near_best([e] * 15, [0.5] * 15).all()
