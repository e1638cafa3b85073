"""How numbers and facts of a board read: digits, units, footnotes. Shared by the terminal, Markdown and HTML renderers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Data = dict[str, Any]
"""A board as `render_json.board_data` gives it."""

SHORT = {"better": "better", "worse": "worse", "equivalent": "equal", "inconclusive": "unclear", "too-few-samples": "too few"}
"""Verdicts in narrow columns."""


def digits(margin: Any, value: float | None) -> int:
    """Return how many decimals show a value so that its margin (number or percentage) is visible; four significant digits without one."""
    size = abs(value or 0.0)
    if isinstance(margin, str) and margin.strip().endswith("%"):
        step = size * float(margin.rstrip("% ")) / 100
    elif margin is not None:
        step = float(margin)
    else:
        step = size * 1e-3
    return min(6, max(0, math.ceil(-math.log10(step) - 1e-9))) if step > 0 else 3


def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """Return a number with a fixed number of decimals; a dash for none, no minus before a zero."""
    if value is None:
        return "–"
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.replace("-", "+" if sign else "")
    return text


def seconds(value: float | None) -> str:
    """Return a duration in a readable unit."""
    if value is None:
        return "–"
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"


def count(value: float | None) -> str:
    """Return a count with a decimal prefix: 556 k, 1.3 M."""
    if value is None:
        return "–"
    for size, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}"


def decimals(data: Data, metric: str, margins: dict[str, Any]) -> int:
    """Return the decimals of one metric's column."""
    means = [r["metrics"][metric]["mean"] for r in data["rows"] if "mean" in r["metrics"].get(metric, {})]
    smallest = min((abs(m) for m in means if m), default=None)
    return digits(margins.get(metric), smallest)


def delta(entry: Mapping[str, Any], places: int) -> str:
    """Return ``-1.72 [-1.80, -1.64]``, without the brackets where no interval can be told."""
    if entry.get("delta") is None:
        return ""
    text = number(entry["delta"], places, sign=True)
    if entry["low"] is not None:
        text += f" [{number(entry['low'], places, sign=True)}, {number(entry['high'], places, sign=True)}]"
    return text


def spelled(data: Data, metric: str) -> str:
    """Return ``psnr (dB, higher is better)``."""
    entry = next((r["metrics"][metric] for r in data["rows"] if "mean" in r["metrics"].get(metric, {})), None)
    if entry is None:
        return metric
    unit = f"{entry['unit']}, " if entry.get("unit") else ""
    return f"{metric} ({unit}{'higher' if entry['higher_is_better'] else 'lower'} is better)"


def names(items: Sequence[str], most: int = 4) -> str:
    """Return ``a, b and 3 more``."""
    items = list(dict.fromkeys(items))
    return ", ".join(items) if len(items) <= most else f"{', '.join(items[:most])} and {len(items) - most} more"


SELECTED = {"dev-noisy": "noisy dev data", "dev-clean": "clean dev data", "test-clean": "clean test data"}
"""How a record's selection reads, where it is not the last weights."""

BIASED_BELOW = 10_000
"""Number of samples below which a board says that a Frechet distance is biased."""


def _frechet(metric: str, entry: Mapping[str, Any]) -> bool:
    return metric.startswith(("fid", "fd-")) or str(entry.get("identity", "")).startswith("frechet[")


def footnotes(data: Data) -> list[str]:
    """Return what a reader must know to read the board rightly, one sentence each."""
    primary, rows = data["primary"], data["rows"]
    out = []
    ref = data["reference"]
    if ref:
        out.append(
            f"Differences are to {ref}, with 95 % intervals on these samples (fixed-set; random are training seeds and draws); "
            "* is not distinguishable from the best of its track (step-down max-T, 5 %)."
        )
    else:
        out.append("The reference row has not been run, so no differences are shown; * is not distinguishable from the best of its track.")
    entries = [(r["variant"], r["metrics"].get(primary, {})) for r in rows if not r["unranked"]]
    if single := [r["variant"] for r in rows if r["instance"] and not r["unranked"]]:
        out.append(f"Fewer than three trainings behind {names(single)}: what is said is about this trained instance, not the method.")
    if bounded := sorted({e["from"] for _, e in entries if "bounded" in (e.get("from") or "")}):
        out.append(f"{bounded[0][0].upper()}{bounded[0][1:]}, so intervals are wide; draws 0, 1 and 2 make them tight.")
    if roles := sorted({role for r in rows for role in r["conditional_on"]}):
        out.append(f"Numbers are conditional on one training of: {', '.join(roles)}.")
    small = {m: e["n"] for r in rows for m, e in r["metrics"].items() if _frechet(m, e) and e.get("n", BIASED_BELOW) < BIASED_BELOW}
    if small:
        sizes = names([f"{m} (n = {n:,})" for m, n in small.items()])
        out.append(f"Biased upwards at this number of samples: {sizes}; a Frechet distance below 10,000 samples compares equal n only.")
    other: dict[str, list[str]] = {}
    for r in rows:
        if r["selection"] != "last":
            other.setdefault(r["selection"], []).append(r["variant"])
    out += [f"Weights chosen on {SELECTED[how]}: {names(variants)}; the last ones elsewhere." for how, variants in other.items()]
    if tried := [f"{r['variant']} ({r['configurations_tried']})" for r in rows if r["configurations_tried"] > 1]:
        out.append(f"Configurations tried on dev before the one shown: {names(tried)}.")
    if stale := [r["variant"] for r in rows if r["stale"]]:
        out.append(f"Stale, because the code has changed since: {names(stale)}; run them again to refresh.")
    if any(r["cost"].get("exclusive") is False for r in rows):
        out.append("Times with ~ were taken beside other work and are not to be compared.")
    if submitted := [r["variant"] for r in rows if r["submitted"]]:
        out.append(f"Outputs submitted, not run here, so their cost is blank: {names(submitted)}.")
    if packaged := [r for r in rows if r["source"] == "reference"]:
        out.append(f"{len(packaged)} of {len(rows)} rows are the accepted records that ship with the package.")
    seen: dict[tuple[str, str, str], list[str]] = {}
    for r in rows:
        for m, e in r["metrics"].items():
            if "unavailable" in e:
                seen.setdefault((m, e["unavailable"]["because"], e["unavailable"]["remedy"]), []).append(r["variant"])
    for (m, because, remedy), variants in seen.items():
        for_whom = "" if len(variants) == len(rows) else f" for {names(variants)}"
        out.append(f"{m} is unavailable{for_whom}: {because.rstrip('.')}. {remedy[:1].upper()}{remedy[1:].rstrip('.')}.")
    for r in rows:
        if r["unranked"]:
            out.append(f"{r['variant']} is not ranked: {r['unranked']}.")
        for f in r["failures"]:
            out.append(f"{r['variant']} seed {f['seed']} draw {f['draw']} failed ({f['error']['kind']}): {f['error']['message'].rstrip('.')}.")
    for f in data["failed"]:
        out.append(f"{f['variant']} seed {f['seed']} draw {f['draw']} failed ({f['error']['kind']}): {f['error']['message'].rstrip('.')}.")
    refused: dict[tuple[str, str], int] = {}
    for x in data["refused"]:
        refused[(x["variant"], x["reason"])] = refused.get((x["variant"], x["reason"]), 0) + 1
    for (variant, reason), n in refused.items():
        out.append(f"Refused: {variant} ({n} record{'s' if n > 1 else ''}): {reason}.")
    out += [f"Ledger: {note}." for note in data["notes"]]
    return out
