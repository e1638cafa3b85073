"""The check of the claim about calibrated filters: how far the strength found falls behind the best one of every picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .check_intervals import ENOUGH, half_width

ALLOWED = 0.2
"""What the claim allows, in dB."""
WANTED = ("calibrated-filter[nlm-all]", "calibrated-filter[tv-all]")


def calibration(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the verdict on "the calibrated NLM and TV filters are within 0.2 dB of the oracle", from their records' unranked oracles.

    The effect is the weakest filter's mean PSNR minus that of the best candidate for every picture, over the draws; the interval is a t over
    the draws, 95 %. They share their pictures, so it is about these pictures; three are needed.
    """
    gaps: dict[str, list[float]] = {}
    used = []
    for r in records:
        if r["variant"] in WANTED and "calibration" in (r.get("oracles") or {}):
            gaps.setdefault(r["variant"], []).append(r["metrics"]["psnr"]["value"] - r["oracles"]["calibration"]["primary"])
            used.append(r["unit_id"])
    if missing := [v for v in WANTED if v not in gaps]:
        return {"verdict": "not-run", "note": f"no record of {', '.join(missing)}."}
    name = min(WANTED, key=lambda v: sum(gaps[v]) / len(gaps[v]))
    values = gaps[name]
    mean = sum(values) / len(values)
    note = "; ".join(f"{v}: {sum(gaps[v]) / len(gaps[v]):+.2f} dB of the oracle" for v in WANTED)
    if len(values) < ENOUGH:
        note += f"; {len(values)} draw(s), at least {ENOUGH} are needed"
        return {"verdict": "inconclusive", "effect": mean, "note": note, "records": used}
    half = half_width(values)
    low, high = mean - half, mean + half
    verdict = "supported" if low > -ALLOWED else "inconclusive"
    if high < -ALLOWED:
        note += "; not seen at embedded scale"
    return {"verdict": verdict, "effect": mean, "low": low, "high": high, "note": note, "records": used}
