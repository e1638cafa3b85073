"""The check of the claim about rates: how the error of the blind denoiser falls as the noise vanishes, from records alone (no torch here:
claims are shown without importing it). Kadkhodaie et al. 2023, arXiv:2310.02557, section 4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from .check_intervals import ENOUGH, half_width

ALPHAS = (1, 2, 4)
SIGMAS = (5, 15, 50)
ALLOWED = 0.1
"""How far a slope may lie from the optimal one."""


def slope(psnr_in: list[float], psnr_out: list[float]) -> float:
    """Return the least-squares slope."""
    mx, my = fmean(psnr_in), fmean(psnr_out)
    return sum((a - mx) * (b - my) for a, b in zip(psnr_in, psnr_out, strict=True)) / sum((a - mx) ** 2 for a in psnr_in)


def near_optimal(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The claim that the slope of PSNR out against PSNR in is alpha / (alpha + 1) to within 0.1, for alpha 1, 2 and 4.

    The slope is that over sigma 5, 15 and 50 (of 255), though the theory speaks of the limit of no noise. The effect is the largest distance;
    its interval is a t over the trainings (seeds), 95 %, at the alpha where it is largest. A denoiser that makes a task's pictures worse has no
    rate to speak of: the claim is then not supported, whatever the slopes.
    """
    cells: dict[tuple[int, int, int], list[float]] = {}
    names = []
    for r in records:
        if r["variant"] == "gahb-denoiser" and "c-alpha" in r["task"]:
            alpha, sigma = r["task"].removeprefix("denoising/c-alpha").split("-gaussian")
            cells.setdefault((int(r["seed"]), int(alpha), int(sigma)), []).append(float(r["metrics"]["psnr"]["value"]))
            names.append(str(r["unit_id"]))
    seeds = [s for s in sorted({k[0] for k in cells}) if all((s, a, g) in cells for a in ALPHAS for g in SIGMAS)]
    if not seeds:
        return {"verdict": "not-run", "note": "gahb-denoiser needs records of one seed on all nine C^alpha tasks."}
    x = [-20 * math.log10(g / 255) for g in SIGMAS]
    slopes = {a: [slope(x, [fmean(cells[s, a, g]) for g in SIGMAS]) for s in seeds] for a in ALPHAS}
    gaps = {a: [abs(v - a / (a + 1)) for v in values] for a, values in slopes.items()}
    worst = max(ALPHAS, key=lambda a: fmean(gaps[a]))
    effect = fmean(gaps[worst])
    note = "; ".join(f"alpha {a}: slope {fmean(v):.3f}, optimal {a / (a + 1):.3f}" for a, v in slopes.items())
    if len(seeds) < ENOUGH:
        note += f"; {len(seeds)} training(s), at least {ENOUGH} are needed"
        return {"verdict": "inconclusive", "effect": effect, "note": note, "records": names}
    mean = {(a, g): fmean(fmean(cells[s, a, g]) for s in seeds) for a in ALPHAS for g in SIGMAS}
    spoilt = [f"alpha {a}, sigma {g}" for a in ALPHAS for g, before in zip(SIGMAS, x, strict=True) if mean[a, g] < before]
    if spoilt:
        note += f"; below the noisy picture itself at {', '.join(spoilt)}"
    half = half_width(gaps[worst])
    verdict = "supported" if effect + half < ALLOWED and not spoilt else "inconclusive"
    note += "; not seen at embedded scale" if effect - half > ALLOWED else ""
    return {"verdict": verdict, "effect": effect, "low": effect - half, "high": effect + half, "note": note, "records": names}
