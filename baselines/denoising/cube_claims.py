"""The check of the claim that DDS2M loses less than direct fitting when the noise doubles, from records alone (no torch here)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from .check_intervals import ENOUGH, half_width


def degrades_less(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The claim that DDS2M loses fewer dB than DS2DP when the noise doubles: both losses over the seeds and draws that all four cells have.

    The interval is a t over those runs. Cubes are the same in all of them, so it is about these cubes only.
    """
    cells: dict[tuple[str, str], dict[tuple[int, int], Mapping[str, Any]]] = {}
    for r in records:
        if r["variant"] in ("dds2m", "ds2dp"):
            cells.setdefault((r["variant"], r["task"][-2:]), {})[r["seed"], r["draw"]] = r
    four = [cells.get((v, level), {}) for v in ("ds2dp", "dds2m") for level in ("01", "02")]
    runs = sorted(set.intersection(*map(set, four)))
    if not runs:
        return {"verdict": "not-run", "note": "dds2m and ds2dp need records of equal seeds and draws on both noise levels"}
    psnr = [[float(c[k]["metrics"]["psnr"]["value"]) for c in four] for k in runs]
    effects = [(a - b) - (c - d) for a, b, c, d in psnr]
    mean, named = fmean(effects), [str(c[k]["unit_id"]) for c in four for k in runs]
    if len(runs) < ENOUGH:
        note = f"{len(runs)} run(s) of each; at least {ENOUGH} are needed"
        return {"verdict": "inconclusive", "effect": mean, "note": note, "records": named}
    half = half_width(effects)
    verdict = "supported" if mean - half > 0 else "inconclusive"
    note = "" if mean + half >= 0 else "not seen at embedded scale"
    return {"verdict": verdict, "effect": mean, "low": mean - half, "high": mean + half, "note": note, "records": named}
