"""What a board says about metrics: Frechet distances of few samples carry a warning."""

from __future__ import annotations

from typing import Any

import pytest

from scorebench.leaderboards.words import footnotes


class Row(dict):
    """A row that has nothing to say but its metrics: whatever else is asked is empty or as usual."""

    def __missing__(self, key: str) -> Any:
        known: dict[str, Any] = {"conditional_on": (), "failures": (), "cost": {}, "selection": "last", "configurations_tried": 1}
        return known.get(key)


def board(metric: str, n: int, identity: str = "") -> dict[str, Any]:
    row = Row(variant="a", metrics={metric: {"mean": 1.0, "n": n, "identity": identity or f"{metric}|n={n}"}})
    return {"primary": metric, "rows": [row], "reference": "a", "failed": [], "refused": [], "notes": []}


@pytest.mark.parametrize(("metric", "identity"), [("fid", ""), ("fd-digits", ""), ("fid", "frechet[mine@0123]|clean")])
def test_few_samples_behind_a_frechet_distance_are_said(metric: str, identity: str) -> None:
    said = [x for x in footnotes(board(metric, 1000, identity)) if "Biased upwards" in x]
    assert len(said) == 1 and f"{metric} (n = 1,000)" in said[0]


@pytest.mark.parametrize(("metric", "n"), [("fid", 10_000), ("fid", 50_000), ("psnr", 12), ("kid", 100)])
def test_enough_samples_and_unbiased_metrics_are_not(metric: str, n: int) -> None:
    assert not [x for x in footnotes(board(metric, n)) if "Biased upwards" in x]
