"""The interval that claims checked by a function stand on (no torch and no scipy here: claims are shown without importing them)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import stdev

ENOUGH = 3
"""Runs for an interval."""
T95 = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Quantile of Student's t for a 95 % interval, by the number of runs (10 stands for more, which is cautious)."""


def half_width(values: Sequence[float]) -> float:
    """Return half the width of the 95 % t interval of the mean of at least `ENOUGH` runs."""
    return T95[min(len(values), max(T95))] * stdev(values) / len(values) ** 0.5
