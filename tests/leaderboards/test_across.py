"""Across tasks: shares of the gap, win rates, one vote per dataset, intervals that cover."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scorebench.leaderboards.across import across, lines, markdown
from scorebench.leaderboards.board import build
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.record import metric
from scorebench.leaderboards.sources import gather

LEVELS = {"dncnn": 30.0, "nlm": 28.0, "tv": 26.0, "noisy-input": 20.0}


def boards_of(store, metas):
    gathered = gather([store], reference=False)
    return [build(m, gathered) for m in metas]


@pytest.fixture
def family(tmp_path, make):
    """Three tasks on two datasets: on the second dataset nlm falls behind tv."""
    store, metas = Store(tmp_path), []
    for k, (dataset, nlm) in enumerate((("photos", 28.0), ("photos", 29.0), ("pages", 22.0))):
        meta = {**make.META, "id": f"denoising/toy{k}", "dataset": dataset}
        metas.append(meta)
        for variant, level in {**LEVELS, "nlm": nlm}.items():
            for draw in range(3):
                store.append(*make.unit(variant, draw=draw, level=level, meta=meta, suffix=f"-{k}"))
    return store, metas


def test_shares_are_those_of_the_means_and_datasets_count_once(family, make):
    boards = boards_of(*family)
    result = across(boards)
    assert result.datasets == ["photos", "pages"] and len(result.boards) == 3
    by = {s.variant: s for s in result.standings}

    def share(board, variant):
        m = {r.variant: r.mean("psnr") for r in board.rows}
        return (m[variant] - m["noisy-input"]) / (m["dncnn"] - m["noisy-input"])

    nlm = [share(b, "nlm") for b in boards]
    assert by["nlm"].share == pytest.approx(((nlm[0] + nlm[1]) / 2 + nlm[2]) / 2)
    assert (by["dncnn"].share, by["noisy-input"].share) == (1, 0) and by["dncnn"].low is None
    assert by["nlm"].low < by["nlm"].share < by["nlm"].high
    # nlm beats tv on both photo tasks and loses on the pages; all are in one track, with the reference
    assert by["nlm"].win_rate == pytest.approx((0.5 + 0) / 2) and by["tv"].win_rate == pytest.approx((0 + 0.5) / 2)
    assert by["dncnn"].win_rate == 1 and by["noisy-input"].win_rate is None
    assert [s.rank for s in sorted(result.standings, key=lambda s: -s.share)] == [1, 2, 3, 4]


def test_rows_that_lack_a_board_are_not_ranked_and_boards_without_a_gap_are_left_out(family, make):
    store, metas = family
    store.append(*make.unit("guest", level=29, meta=metas[0]))
    empty = {**make.META, "id": "denoising/empty", "dataset": "photos"}
    result = across(boards_of(store, [*metas, empty]))
    guest = next(s for s in result.standings if s.variant == "guest")
    assert guest.rank is None and guest.missing == 2
    assert result.left_out == ["denoising/empty (the reference or the do-nothing row has not been run)"]
    text = "\n".join(lines(result))
    assert "Across denoising: 3 boards on 2 datasets" in text and "1/3" in text and "Left out: denoising/empty" in text
    assert "| guest |" in markdown(result)
    data = result.data()
    assert {r["variant"] for r in data["rows"]} == {*LEVELS, "guest"} and data["rows"][0]["boards"] == 3


def test_lower_is_better_and_references_below_the_do_nothing_row(tmp_path, make):
    store = Store(tmp_path)
    meta = {**make.META, "primary": "fd", "metrics": {"fd": {"margin": "1.5%"}}, "dataset": "toy"}
    for variant, value in (("dncnn", 2.0), ("nlm", 4.0), ("noisy-input", 10.0)):
        entry = metric(value, 12, "fd|n=12", "set", higher_is_better=False, se=0.1)
        store.append(*make.unit(variant, metrics={"fd": entry}, stochastic="inference"))
    result = across(boards_of(store, [meta]))
    assert {s.variant: s.share for s in result.standings} == {"dncnn": 1, "nlm": 0.75, "noisy-input": 0}
    nlm = next(s for s in result.standings if s.variant == "nlm")
    # by hand: var of (m - b)/(a - b) with equal se 0.1: (1 + s^2 + (1 - s)^2) 0.01 / 64
    se = math.sqrt((1 + 0.75**2 + 0.25**2) * 0.01 / 64)
    assert (nlm.high - nlm.low) / 2 == pytest.approx(2.093 * se, rel=1e-3)
    worse = across(boards_of(store, [{**meta, "reference": "noisy-input", "do_nothing": "dncnn"}]))
    assert worse.standings == [] and "not above the do-nothing row" in worse.left_out[0] and "No gap to close" in lines(worse)[0]


def test_the_interval_of_a_share_covers(tmp_path, make):
    """One task, three draws: the linearised interval of the ratio holds the true share about as often as it says."""
    from scorebench.leaderboards.across import _share
    from scorebench.leaderboards.statistics import Cells

    class Row:
        def __init__(self, means):
            self.values = Cells(means, (0,), tuple(range(means.shape[1])), "none", "set", None)

        def mean(self, _):
            return float(self.values.means.mean())

        def cells(self, _):
            return self.values

    class Board:
        primary, meta = "psnr", {"reference": "ref"}

        def __init__(self, rows):
            self.rows, self.do_nothing_row = rows, rows["nothing"]

        def row(self, name):
            return self.rows[name]

    rng, hits, n = np.random.default_rng(4), 0, 1500
    for _ in range(n):
        shared = rng.normal(0, 0.3, (1, 4))
        rows = {k: Row(level + shared + rng.normal(0, 0.2, (1, 4))) for k, level in (("row", 27.5), ("ref", 30), ("nothing", 20))}
        rows["ref"] = rows.pop("ref")
        got = _share(rows["row"], Board({"ref": rows["ref"], **rows}))
        from scorebench.leaderboards import student

        hits += abs(got.value - 0.75) <= student.quantile(0.975, got.df) * got.se
    assert 0.93 <= hits / n <= 0.97
