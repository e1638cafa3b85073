"""The gate's arithmetic against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from scorebench.leaderboards import gate_statistics as gs


def test_holm_is_the_step_down_of_its_paper() -> None:
    assert gs.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert gs.holm([]) == [] and gs.holm([0.9, 0.8]) == [1.0, 1.0]
    rng = np.random.default_rng(0)
    p = rng.random(50)
    adjusted = gs.holm(p.tolist())
    assert all(a >= q for a, q in zip(adjusted, p, strict=True))  # never below the raw one
    assert (np.argsort(p) == np.argsort(adjusted, kind="stable")).all() or len(set(adjusted)) < 50


def test_gamma_derivatives_equal_scipys() -> None:
    for x in (0.3, 1.0, 2.5, 7.0, 40.0):
        assert gs.digamma(x) == pytest.approx(special.digamma(x), abs=1e-9)
        assert gs.trigamma(x) == pytest.approx(special.polygamma(1, x), rel=1e-9)
        assert gs.trigamma_inverse(gs.trigamma(x)) == pytest.approx(x, rel=1e-6)


def test_upper_tail_equals_scipys() -> None:
    for t, df in ((-1.0, 4), (0.0, 3), (2.5, 7.5), (4.0, 30)):
        assert gs.upper_tail(t, df) == pytest.approx(stats.t.sf(t, df), abs=1e-9)
    assert gs.upper_tail(float("inf"), 3) == 0.0


def spreads(variances: np.ndarray, df: int, rng: np.random.Generator) -> list[gs.Spread]:
    return [gs.Spread(float(v * rng.chisquare(df)), df) for v in variances]


def test_a_family_of_equal_variances_is_pooled() -> None:
    rng = np.random.default_rng(1)
    pool = gs.Pool.of(spreads(np.full(400, 0.04), 4, rng))
    assert pool.variance == pytest.approx(0.04, rel=0.1) and pool.df > 30
    variance, df = pool.of_cell(gs.Spread(0.0, 4))
    assert variance == pytest.approx(0.04, rel=0.2) and df > 30


def test_a_family_of_unequal_variances_leaves_each_cell_its_own() -> None:
    rng = np.random.default_rng(2)
    d0, s0 = 5.0, 0.04
    true = d0 * s0 / rng.chisquare(d0, 2000)  # the model of the paper: 1/variance is scaled chi-squared
    found = spreads(true, 4, rng)
    pool = gs.Pool.of(found)
    assert pool.df == pytest.approx(d0, rel=0.25) and pool.variance == pytest.approx(s0, rel=0.1)
    # and the t made with it has the level it says: one seed mean against another of the same cell
    z = rng.standard_normal(2000) * np.sqrt(true)
    p = [gs.upper_tail(d / np.sqrt(v), df) for d, (v, df) in zip(z, [pool.of_cell(s) for s in found], strict=True)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(np.array(p) < 0.005) == pytest.approx(0.005, abs=0.005)


def test_no_seeds_no_variance() -> None:
    assert gs.Pool.of([gs.Spread.of([1.0])]).of_cell(gs.Spread(0, 0)) is None
    assert gs.Spread.of([1.0, 3.0], [5.0]) == gs.Spread(2.0, 1)
    assert gs.Pool.of([gs.Spread(0.0, 2)] * 5).of_cell(gs.Spread(0.0, 2)) == (0.0, 10.0)
