"""The second look: a suspected loss is an alarm only when seeds that nobody has seen say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import gate_tiers as tiers
from .gate_cells import Key, Layer, Side, measures
from .gate_night import Night
from .gate_pools import Pools
from .gate_statistics import Pool, Spread

FRESH = 5
"""Seeds of a confirmation run."""
FROM = 100
"""Where the fresh seeds begin, so that they are never those of a suite."""


@dataclass(frozen=True)
class Wanted:
    """A cell that must be run with fresh seeds: of the method, or (``of`` = prior) of the training of what it is handed."""

    key: Key
    of: str
    seeds: tuple[int, ...]
    draws: tuple[int, ...]


def wanted(night: Night, layers: Sequence[Layer], cells: Mapping[Key, Side]) -> list[Wanted]:
    """Return what the night's suspicions need, each cell once. Seeds are the first from `FROM` on that the reference does not have."""
    out: dict[Key, Wanted] = {}
    for f in night.of("suspect"):
        key = (f.task, f.budget, f.variant)
        known = [layer.cells[key] for layer in layers if key in layer.cells]
        trained = any(o.trained == "prior" for o in night.of("suspect") if (o.task, o.budget, o.variant) == key)
        places = [p for side in known for p in side.units]
        taken = {seed for p in places for _, seed in p[0]} if trained else {p[1] for p in places}
        seeds = [s for s in range(FROM, FROM + FRESH + len(taken)) if s not in taken][:FRESH]
        draws = sorted({p[2] for p in cells[key].units})
        out.setdefault(key, Wanted(key, "prior" if trained else "method", tuple(seeds), tuple(draws)))
    return list(out.values())


def confirm(
    night: Night, fresh: Mapping[Key, Side], layers: Sequence[Layer], cells: Mapping[Key, Side], metas: Mapping[str, Mapping[str, Any]]
) -> None:
    """Settle every suspicion whose fresh seeds have finished: ``worse`` or ``unconfirmed``. Others stay suspected."""
    pools = Pools(layers, [cells, fresh])
    by_name = {layer.name: layer for layer in layers}
    for f in night.of("suspect"):
        key = (f.task, f.budget, f.variant)
        was, now, new = by_name[f.against].cells[key], cells[key], fresh.get(key)
        m = next(m for m in measures(metas[f.task], was) if m.name == f.metric)
        if new is None or not all(m.name in r["metrics"] and "value" in r["metrics"][m.name] for r in new.units.values()):
            f.why = (f.why + "; " if f.why else "") + "the fresh seeds did not finish"
            continue
        draws = tiers.common_draws(was, now)
        old, tonight, more = (tiers.seed_values(s, m, draws) for s in (was, now, new))
        pool = pools.of(f.task, m, pools.kind(new, f.trained))
        if pool.variance is None:
            pool = Pool.of([Spread.of(old, [*tonight, *more])])
        look, both = (tiers.seeds_against(old, seeds, m, pool) for seeds in (more, [*tonight, *more]))
        f.verdict = "worse" if tiers.confirmed(look, both, night.tests) else "unconfirmed"
        seeds = sorted({p[1] if f.trained != "prior" else p[0][0][1] for p in new.units})
        f.fresh = {"seeds": seeds, "now": look.now, "change": look.change, "gain": look.gain, "p": look.worse, "p_of_all": both.worse}
        f.now, f.change, f.gain, f.se, f.p = both.now, both.change, both.gain, (both.se or 0.0) * m.margin, both.worse
