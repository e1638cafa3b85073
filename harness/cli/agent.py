"""What a run started by `wandb agent` tells W&B: the metrics a sweep chooses by."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any


def is_agent() -> bool:
    """Whether this command was started by an agent of a W&B sweep."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def values(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean of every metric over the units of one point; one that a unit lacks is left out, as is everything when a unit failed."""
    if any(r["status"] != "ok" for r in records):
        return {}
    names = dict.fromkeys(name for r in records for name in r["metrics"])
    found = {name: [r["metrics"].get(name, {}).get("value") for r in records] for name in names}
    return {name: fmean(v) for name, v in found.items() if v and None not in v}


def report(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Log the means to the run that the agent has opened; return them. The agent's own settings (project, run, sweep) come by environment."""
    import wandb

    means = values(records)
    with wandb.init(settings=wandb.Settings(silent=True)) as run:
        run.config.update({"configurations_tried": max((r.get("configurations_tried", 1) for r in records), default=1)})
        if means:
            run.log(means)
    return means
