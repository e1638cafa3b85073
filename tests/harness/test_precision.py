"""bf16 is quicker on processors that have it (benchmarks/precision.py); what it does to numbers is below what docs/running.md states."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorebench.harness.controller import records_of, run_units
from scorebench.harness.executors.inline import InlineExecutor
from scorebench.harness.plan import plan
from scorebench.harness.unit import RunContext
from scorebench.leaderboards.ledger import Store


def value(task: str, method: str, metric: str, precision: str, store: Path, **options: object) -> float:
    """Return the metric of one unit under a precision, from the shipped weights."""
    units = plan([task], [method], precision=precision, **options)  # type: ignore[arg-type]
    run_units(units, RunContext(store), InlineExecutor())
    (record,) = records_of(units, Store(store))
    assert record is not None and record["status"] == "ok", record
    return float(record["metrics"][metric]["value"])


@pytest.mark.parametrize(
    ("task", "method", "metric", "options", "tolerance"),
    [
        ("generation/digits", "ddim", "fd-digits", {"budgets": ["nfe10"]}, {"rel": 0.02}),
        ("denoising/photos-gaussian25", "dncnn", "psnr", {}, {"abs": 0.05}),
    ],
)
def test_numbers_under_bf16_stay_within_the_stated_tolerance(task, method, metric, options, tolerance, tmp_path: Path) -> None:
    full = value(task, method, metric, "32", tmp_path, **options)
    half = value(task, method, metric, "bf16-mixed", tmp_path, **options)
    assert half != full, "the precision was not applied"
    assert half == pytest.approx(full, **tolerance)
