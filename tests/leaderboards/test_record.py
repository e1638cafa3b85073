"""A record that could not be trusted is refused, with the kind of failure it is."""

from __future__ import annotations

import numpy as np
import pytest

from scorebench.configs.errors import RunError
from scorebench.leaderboards import record as R


def good():
    values = np.array([0.5, 0.7, 0.9])
    blank = R.blank(
        unit_id="u", spec_id="s", task="denoising/x", task_version=1, method="m", variant="m", seed=0, draw=0, environment_key="e"
    )
    metrics = {
        "ssim": R.metric(values.mean(), 3, "ssim|x", "sample", higher_is_better=True),
        "fd": R.metric(2.0, 3, "fd|x|n=3", "set", higher_is_better=False, se=0.1),
        "lpips": R.unavailable("no weights", "fetch them"),
    }
    samples = {
        "ids": np.array(["a", "b", "c"]), "clusters": np.array(["p", "p", "q"]), "metric/ssim": values,
        "features/fd": np.zeros((3, 2), np.float16), "preview/a/answer": np.zeros((1, 2, 2), np.uint8),
    }  # fmt: skip
    return R.succeed(blank, metrics, {"nfe": 1.0}), samples


BOUNDS = {"ssim": (0.0, 1.0)}


def test_a_good_record_passes_and_has_every_field():
    record, samples = good()
    R.validate(record, samples, bounds=BOUNDS, expected_ids=["a", "b", "c"])
    assert set(R.COST) <= set(record["cost"]) and record["selection"] == "last" and record["configurations_tried"] == 1
    failed = R.fail(R.blank(**{k: record[k] for k in ("unit_id", "spec_id", "task", "task_version", "method", "variant", "seed", "draw",
                                                      "environment_key")}), "crashed", "the worker\n died")  # fmt: skip
    R.validate(failed)
    assert failed["error"] == {"kind": "crashed", "message": "the worker died"}


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (lambda r, s: r["metrics"]["ssim"].update(value=1.2), "wrong-output", "outside its range"),
        (lambda r, s: r["metrics"]["ssim"].update(value=float("nan")), "not-finite", "finite"),
        (lambda r, s: r["metrics"]["ssim"].update(value=0.71), "wrong-output", "not the mean"),
        (lambda r, s: r["metrics"]["ssim"].pop("identity"), "error", "lacks identity"),
        (lambda r, s: r["metrics"]["fd"].update(level="pooled"), "error", "accepted: sample, set"),
        (lambda r, s: r["cost"].update(sample_s_median=float("inf")), "not-finite", "sample_s_median"),
        (lambda r, s: r.update(status="done"), "error", "accepted: ok, failed"),
        (lambda r, s: r.update(seed="0"), "error", "'seed'"),
        (lambda r, s: r.update(draw=True), "error", "'draw'"),
        (lambda r, s: r.update(unit_id="../u"), "error", "file name"),
        (lambda r, s: r.update(selection="best"), "error", "dev-noisy"),
        (lambda r, s: r.update(error={"kind": "timeout", "message": "x"}), "error", "carries an error"),
        (lambda r, s: r.update(metrics={}), "error", "no metrics"),
        (lambda r, s: r.update(status="failed", error={"kind": "bad luck", "message": "x"}), "error", "kind"),
        (lambda r, s: r.update(status="failed", error={"kind": "timeout", "message": "x"}), "error", "metric values"),
        (lambda r, s: s.pop("clusters"), "wrong-output", "clusters"),
        (lambda r, s: s.update(ids=np.array(["a", "b", "b"])), "wrong-output", "more than once"),
        (lambda r, s: s.update(ids=np.array(["a", "b", "d"])), "wrong-output", "'c' is missing"),
        (lambda r, s: s.update(ids=np.array(["a", "c", "b"])), "wrong-output", "another order"),
        (lambda r, s: s.update({"metric/ssim": np.array([0.7, 0.7])}), "wrong-output", "2 entries for 3"),
        (lambda r, s: s.update({"metric/ssim": np.array([0.7, 0.3, 1.1])}), "wrong-output", "outside its range"),
        (lambda r, s: s.update({"metric/ssim": np.array([0.7, np.nan, 0.7])}), "not-finite", "'b'"),
        (lambda r, s: s.update({"features/fd": np.full((3, 2), np.inf, np.float16)}), "not-finite", "'a'"),
        (lambda r, s: s.pop("metric/ssim"), "wrong-output", "lack 'metric/ssim'"),
    ],
)
def test_broken_records_are_refused(change, kind, says):
    record, samples = good()
    change(record, samples)
    with pytest.raises(RunError, match=says) as e:
        R.validate(record, samples, bounds=BOUNDS, expected_ids=["a", "b", "c"])
    assert e.value.kind == kind


def test_unknown_fields_are_a_defect_of_the_caller():
    with pytest.raises(TypeError, match="sede"):
        R.blank(unit_id="u", spec_id="s", task="t", task_version=1, method="m", variant="m", seed=0, draw=0, environment_key="e", sede=1)
