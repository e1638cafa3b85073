"""Whole boards, simulated: the intervals they show cover what they say, and claims that are not true are seldom supported."""

from __future__ import annotations

import numpy as np
import pytest

from scorebench.leaderboards import evidence
from scorebench.leaderboards import record as R
from scorebench.leaderboards.board import build
from scorebench.leaderboards.claims import Claim
from scorebench.leaderboards.sources import Gathered, Source, stack

CLUSTERS = 20
MIXES = {"seeds": (0.5, 0.1, 0.1), "draws": (0.05, 0.5, 0.1), "even": (0.3, 0.3, 0.3)}
"""Standard deviations: between training seeds, between draws (what a draw does to one row and not to the other), residual."""


class Memory(Source):
    """Records that never touch a disk."""

    def __init__(self, units):
        self.units = units

    def records(self, task=None):
        return [r for r, _ in self.units]

    def samples(self, record):
        return next(s for r, s in self.units if r["unit_id"] == record["unit_id"])

    def values(self, records, metric):
        return stack([self.samples(r) for r in records], metric)


def units(variant, seeds, draws, mix, rng, scene, stochastic):
    """Yield the units of one row whose true mean is 30 on these samples."""
    seed_sd, draw_sd, rest = mix
    of_draw = rng.normal(0, draw_sd, draws)
    cluster = rng.normal(0, 0.5, CLUSTERS)
    cluster -= cluster.mean()
    for seed in range(seeds if stochastic == "fit" else 1):
        shift = rng.normal(0, seed_sd) if stochastic == "fit" else 0.0
        for draw in range(draws):
            psnr = 30 + scene[draw] + cluster + shift + of_draw[draw] + rng.normal(0, rest)
            name = f"{variant}-{seed}-{draw}"
            record = R.blank(
                unit_id=name, spec_id=name, task="denoising/toy", task_version=1, method=variant, variant=variant, seed=seed, draw=draw,
                environment_key="env", observation_hash=f"o{draw}", stochastic=stochastic, code="c",
            )  # fmt: skip
            metric = R.metric(psnr.mean(), CLUSTERS, "psnr|toy", "sample", higher_is_better=True, unit="dB")
            samples = {"ids": np.arange(CLUSTERS).astype(str), "clusters": np.arange(CLUSTERS).astype(str), "metric/psnr": psnr}
            yield {**R.succeed(record, {"psnr": metric}), "samples": {"sha256": name}, "source": "run", "written": name}, samples


def board(make, seeds, mix, rng, draws=3):
    scene = [rng.normal(0, 2, CLUSTERS) for _ in range(draws)]
    found = [u for v, kind in (("a", "fit"), ("b", "fit"), ("noisy-input", "none")) for u in units(v, seeds, draws, mix, rng, scene, kind)]
    meta = {**make.META, "reference": "b", "metrics": {"psnr": {"margin": 0.0}}}
    gathered = Gathered([Memory(found)])
    return build(meta, gathered), meta, gathered


@pytest.mark.parametrize("name", MIXES)
def test_the_intervals_on_boards_cover(make, name):
    rng = np.random.default_rng(41)
    hits, n = [], 60
    for seeds in (3, 5, 10):
        for _ in range(n):
            shown, _, _ = board(make, seeds, MIXES[name], rng)
            for variant in ("a", "noisy-input"):
                low, high = shown.row(variant).delta("psnr").interval()
                hits.append(low <= 0 <= high)
    assert 0.92 <= np.mean(hits) <= 0.98, np.mean(hits)  # 360 intervals: a standard error of 0.011


def test_a_claim_that_is_not_true_is_seldom_supported(make):
    rng, n, mix = np.random.default_rng(42), 150, (0.3, 0.0, 0.3)  # noise is drawn per sample: no draw moves all samples of a row alike
    claim = Claim("a", "c", "a is above b", ("denoising/toy",), metric="psnr", left="a", op=">", right="b", scale="protocol")
    seen = []
    for _ in range(n):
        shown, meta, _ = board(make, 3, mix, rng)
        (v,) = evidence.evaluate([(claim, claim.tasks)], lambda t, b, x=shown: x, {meta["id"]: meta})
        seen.append(v["verdict"])
    assert seen.count("supported") <= 0.06 * n and seen.count("contradicted") <= 0.06 * n
