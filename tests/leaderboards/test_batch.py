"""Rows together give what rows one by one give."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scorebench.leaderboards import batch
from scorebench.leaderboards import statistics as stats
from scorebench.leaderboards.arrays import pack, unpack
from scorebench.leaderboards.board import build
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.sources import gather

IDS = np.array([f"s{k:02d}" for k in range(20)])
CLUSTERS = {"own": IDS, "shared": np.array([f"c{k * 7 % 6}" for k in range(20)]), "one": np.array(["c"] * 20)}


def cells(rng, seeds, draws, stochastic, clusters, level="sample"):
    """Return (Cells, records that `load` knows) with seeds and draws that do or do not stand out of the noise."""
    values = rng.normal(28, 1) + rng.normal(0, 2, 20) + rng.normal(0, rng.choice([0.01, 0.5]), (seeds, 1, 1))
    values = values + rng.normal(0, rng.choice([0.0, 0.3]), (1, draws, 1)) + rng.normal(0, 0.1, (seeds, draws, 20))

    def samples():
        return IDS, clusters, values

    se = np.abs(values.mean(2)) * 0.01 if level == "set" else None
    made = stats.Cells(values.mean(2), tuple(range(seeds)), tuple(range(draws)), stochastic, level, se, samples if level == "sample" else None)
    return made, list(values.reshape(seeds * draws, 20))


def fresh(c):
    return stats.Cells(c.means, c.seeds, c.draws, c.stochastic, c.level, c.se, c.samples)


@pytest.mark.parametrize("draws", [1, 2, 3, 5])
@pytest.mark.parametrize("grouping", list(CLUSTERS))
def test_batches_equal_single_estimates(draws, grouping):
    rng = np.random.default_rng(draws)
    rows, records = [], []
    for seeds, stochastic in itertools.product((1, 2, 3, 5), ("none", "inference", "fit")):
        for _ in range(5):
            made, units = cells(rng, seeds, draws, stochastic, CLUSTERS[grouping])
            rows.append(made)
            records.append(units)
    rows.append(cells(rng, 3, draws, "fit", None, "set")[0])
    records.append([])
    batch.load_clusters(rows[:-1], records, lambda units: (IDS, CLUSTERS[grouping], np.array(units)))
    assert all("by_cluster" in r.__dict__ for r in rows[:-1])
    for other in (*rows[:60:11], cells(rng, 3, 4, "fit", CLUSTERS[grouping])[0]):
        mine = [r for r in rows if r is not other and r.level == other.level]
        for row, got in zip(mine, batch.fixed_set(mine, other), strict=True):
            want = stats.fixed_set(fresh(row), fresh(other))
            assert (got.how, got.instance, got.draws, got.clusters) == (want.how, want.instance, want.draws, want.clusters)
            assert got.difference == pytest.approx(want.difference, abs=1e-12)
            assert (got.variance is None) == (want.variance is None)
            if want.variance is not None:
                assert got.variance == pytest.approx(want.variance, rel=1e-11, abs=1e-18) and got.df == pytest.approx(want.df, rel=1e-9)
                assert set(got.terms) == set(want.terms)


def test_a_board_reads_each_samples_file_once(tmp_path, make, monkeypatch):
    from scorebench.leaderboards import sources

    store = make.fill(Store(tmp_path), draws=(0,))
    read = []
    monkeypatch.setattr(sources, "load_samples", lambda root, r, keep=None: read.append(r["unit_id"]) or _load(root, r, keep))
    _load = __import__("scorebench.leaderboards.ledger", fromlist=["load_samples"]).load_samples
    for _ in range(2):
        board = build(make.META, gather([store], reference=False))
        assert all(r.delta(m).variance is not None for r in board.rows for m in ("psnr", "ssim"))
    assert sorted(read) == sorted(r["unit_id"] for r in store.records())


def test_rows_from_two_stores_are_put_in_one_order(tmp_path, make):
    a, b = make.fill(Store(tmp_path / "a"), draws=(0,)), Store(tmp_path / "b")
    record, samples = make.unit("late", 0, 0, 28.0)
    flipped = {k: v[::-1] if k in ("ids", "clusters") or k.startswith("metric/") else v for k, v in samples.items()}
    b.append(record, flipped)
    apart = build(make.META, gather([a, b], reference=False)).row("late").delta("psnr")
    a.append(record, samples)
    together = build(make.META, gather([a], reference=False)).row("late").delta("psnr")
    assert apart.difference == pytest.approx(together.difference, abs=1e-12) and apart.variance == pytest.approx(together.variance, rel=1e-10)


def test_archives_are_read_as_numpy_reads_them():
    import io

    arrays = {
        "a": np.arange(6, dtype=np.float16).reshape(2, 3), "text": np.array(["x", "yy"]), "f": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "none": np.zeros((0, 3)), "scalar": np.array(3), "flag": np.array([True, False]), "empty": np.array([], dtype="<U1"),
    }  # fmt: skip
    content = pack(arrays)
    with np.load(io.BytesIO(content)) as wanted:
        for name, got in unpack(content).items():
            assert got.dtype == wanted[name].dtype and got.flags.writeable
            np.testing.assert_array_equal(got, wanted[name])
    assert set(unpack(content, lambda n: n == "a")) == {"a"}
    buffer = io.BytesIO()
    np.savez(buffer, bad=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="objects"):
        unpack(buffer.getvalue())
