"""The variance of seeds within a family, from every cell of the reference and of tonight that has more than one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .gate_cells import Key, Layer, Measure, Side, same, weights_of
from .gate_statistics import Pool, Spread


class Pools:
    """The variance of seeds in each (family, metric, kind). The kind is what a seed changes: none, inference, fit, or ``prior``.

    ``nights``: the cells of tonight, and of fresh seeds.
    """

    def __init__(self, layers: Sequence[Layer], nights: Sequence[Mapping[Key, Side]]) -> None:
        cells = [*(layer.cells for layer in layers), *nights]
        self._groups: dict[Key, list[Side]] = {}
        for key in dict.fromkeys(k for c in cells for k in c):
            found = [c[key] for c in cells if key in c]
            self._groups[key] = [s for i, s in enumerate(found) if not any(same(s, other) for other in found[:i])]
        self._made: dict[Any, Pool] = {}

    @staticmethod
    def kind(side: Side, again: str = "") -> str:
        """Return what a seed of a cell changes; ``again``: what was trained again."""
        several = len({p[0] for p in side.units}) > 1
        return "prior" if several or again == "prior" else str(next(iter(side.units.values()))["stochastic"])

    def of(self, task: str, m: Measure, kind: str) -> Pool:
        """Return the pool of a metric in the family of ``task``, in squared margins of a cell with measure ``m``."""
        family = task.split("/")[0]
        where = (family, m.name, kind, m.share or m.margin)
        if where not in self._made:
            members = [sides for key, sides in self._groups.items() if key[0].split("/")[0] == family]
            self._made[where] = Pool.of([self._spread([s for s in sides if self.kind(s) == kind], m) for sides in members])
        return self._made[where]

    @staticmethod
    def _spread(sides: Sequence[Side], m: Measure) -> Spread:
        groups = []
        for side in _distinct(sides):
            values = list(side.by_seed(m.name, sorted({p[2] for p in side.units})).values())
            if len(values) > 1:
                # an absolute margin is the same for all cells, a percentage is of the cell's own value
                per = m.margin if m.share is None else m.share * abs(float(np.mean(values)))
                groups.append([v / per for v in values] if per else [])
        return Spread.of(*groups)


def _distinct(sides: Sequence[Side]) -> Iterable[Side]:
    """Yield the sides that do not repeat another's weights and seeds: a frozen cell says nothing new about seeds."""
    seen: set[Any] = set()
    for side in sides:
        mark = frozenset((p, tuple(sorted(weights_of(r).items()))) for p, r in side.units.items())
        if mark not in seen:
            seen.add(mark)
            yield side
