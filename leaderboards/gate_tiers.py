"""How one cell of the gate is judged: frozen weights sample by sample, retrained ones seed against seed.

Frozen: nothing random separates tonight from the reference, so values must be equal to 1e-4. Where they are not, the mean's change counts:
beyond the metric's margin always, and beyond a fifth of it when the change is consistent over clusters (one-sided t, 1 %), so that 0.02 dB
on a margin of 0.05 dB is seen and one flipped label is not. A method that draws noise at inference, and whose outputs differ as if by
another seed, was `redrawn`: its random numbers changed.

Retrained: seeds are unpaired; the difference of means over seeds must exceed the margin, and is tested one-sidedly with the family's variance
(`gate_statistics`), Holm over the night's cells. The first look is generous (20 %, and the more telling of two variances: the family's, and
the cell's drawn towards it), because it only decides what is run again; what it suspects is an alarm when fresh seeds say so alone, and
together with tonight's more than all cells of the night could show by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .gate_cells import Measure, Place, Side
from .gate_statistics import Pool, Spread, upper_tail

EQUAL = 1e-4
"""Relative difference up to which two values of frozen weights are the same number."""
FROZEN_SHARE = 0.2
"""Share of the margin by which a frozen cell's mean may change, when the change is consistent over clusters."""
FROZEN_LEVEL = 0.01
REDRAWN = 0.1
"""Outputs that differ by this share of what another seed would change were drawn with other random numbers."""
SCREEN = 0.2
"""Of the first look: about the chance that it suspects anything on a night where nothing changed. Its cost is a few trainings."""
CONFIRM = 0.005
"""Of the night: tonight's and fresh seeds together must be significant at this level over the number of cells tested (Bonferroni). The
reference's few seeds are in both looks, so that a small second level alone would not protect many cells."""
AGREE = 0.01
"""Of the fresh seeds alone."""
LEVEL = 0.05
"""Of the night, for "better", which nothing confirms."""
SHOWN = 5
"""Samples named in a finding."""


@dataclass
class Look:
    """What one metric of one cell shows. ``change`` is tonight - reference in the metric's unit; ``gain`` the same in margins, positive better.

    ``worse`` and ``better``: one-sided p-values (None: cannot be told); ``screen`` the generous one of the first look. ``samples``: (id, was,
    now) of those that moved most, ``moved`` of ``n`` in all.
    """

    tier: str
    was: float
    now: float
    gain: float
    verdict: str = ""
    worse: float | None = None
    better: float | None = None
    screen: float | None = None
    se: float | None = None
    seeds: tuple[int, int] = (0, 0)
    moved: int = 0
    n: int = 0
    samples: list[tuple[str, float, float]] = field(default_factory=list)

    @property
    def change(self) -> float:
        return self.now - self.was


def _aligned(was: Side, now: Side, places: Sequence[Place], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Return ids, clusters and both tables (units, N); None when the samples are not the same."""
    ids, clusters, old = was.table(places, metric)
    ids_new, _, new = now.table(places, metric)
    if len(ids) != len(ids_new) or (ids != ids_new).any():
        position = {i: k for k, i in enumerate(ids_new.tolist())}
        if set(position) != set(ids.tolist()):
            return None
        new = new[:, [position[i] for i in ids.tolist()]]
    return ids, clusters, old, new


def frozen(was: Side, now: Side, places: Sequence[Place], m: Measure, stochastic: str) -> Look:
    """Judge a metric of frozen weights over the units of ``places``. A look with tier ``redrawn`` is still to be judged by `retrained`."""
    look, rms = (_frozen_set if m.level == "set" else _frozen_samples)(was, now, places, m)
    if look.verdict == "moved" and stochastic == "inference":
        other = _between_seeds(was, places, m)
        if other is not None and rms > REDRAWN * other:
            look.tier = "redrawn"
    return look


def _frozen_samples(was: Side, now: Side, places: Sequence[Place], m: Measure) -> tuple[Look, float]:
    got = _aligned(was, now, places, m.name)
    if got is None:
        return Look("frozen", math.nan, math.nan, math.nan, "protocol"), 0.0
    ids, clusters, old, new = got
    difference = new - old
    scale = np.maximum(np.abs(old), np.median(np.abs(old)))
    moved = (np.abs(difference) > EQUAL * scale).any(0)
    look = Look("frozen", float(old.mean()), float(new.mean()), m.sign * float(difference.mean()) / m.margin)
    look.n, look.moved = len(ids), int(moved.sum())
    name_samples(look, ids, old.mean(0), new.mean(0))
    by_cluster = difference.mean(0)
    index = np.unique(clusters, return_inverse=True)[1]
    counts = np.bincount(index)
    _judge_frozen(look, m.sign * np.bincount(index, by_cluster) / counts / m.margin, counts / counts.sum())
    return look, float(np.sqrt((difference**2).mean()))


def _frozen_set(was: Side, now: Side, places: Sequence[Place], m: Measure) -> tuple[Look, float]:
    old = np.array([was.value(p, m.name) for p in places], dtype=float)
    new = np.array([now.value(p, m.name) for p in places], dtype=float)
    difference = new - old
    moved = np.abs(difference) > EQUAL * np.maximum(np.abs(old), np.median(np.abs(old)))
    look = Look("frozen", float(old.mean()), float(new.mean()), m.sign * float(difference.mean()) / m.margin)
    look.n, look.moved = len(old), int(moved.sum())
    _judge_frozen(look, m.sign * difference / m.margin, np.full(len(old), 1 / len(old)))
    return look, float(np.sqrt((difference**2).mean()))


def _judge_frozen(look: Look, gains: np.ndarray, weights: np.ndarray) -> None:
    """Set the verdict from the gains (in margins) of each cluster, or of each unit of a set-level metric."""
    if not look.moved:
        look.verdict = "equal"
        return
    look.verdict = "moved"
    c = len(gains)
    if c > 2:
        variance = float((weights**2 * (gains - look.gain) ** 2).sum()) * c / (c - 1)
        t = look.gain / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, look.gain)
        look.se, look.worse, look.better = math.sqrt(variance), upper_tail(-t, c - 1), upper_tail(t, c - 1)
    for verdict, gain, p in (("worse", -look.gain, look.worse), ("better", look.gain, look.better)):
        if gain > 1 or (gain > FROZEN_SHARE and p is not None and p <= FROZEN_LEVEL):
            look.verdict = verdict


def _between_seeds(side: Side, places: Sequence[Place], m: Measure) -> float | None:
    """Return the root mean square difference that another seed makes (per sample, or of a set's value); None with one seed."""
    groups: dict[Any, list[Place]] = {}
    for place in side.units:
        if side.value(place, m.name) is not None:
            groups.setdefault((place[0], place[2]), []).append(place)
    out = []
    for members in groups.values():
        if len(members) < 2 or not any(p in places for p in members):
            continue
        if m.level == "set":
            out.append(2 * float(np.var([float(side.value(p, m.name) or 0.0) for p in members], ddof=1)))
        else:
            out.append(2 * float(side.table(members, m.name)[2].var(0, ddof=1).mean()))
    return math.sqrt(float(np.mean(out))) if out else None


def name_samples(look: Look, ids: np.ndarray, old: np.ndarray, new: np.ndarray) -> None:
    """Name the samples that moved most."""
    order = np.argsort(-np.abs(new - old), kind="stable")[:SHOWN]
    look.samples = [(str(ids[k]), float(old[k]), float(new[k])) for k in order if new[k] != old[k]]


# ---------------------------------------------------------------------- retrained
def seed_values(side: Side, m: Measure, draws: Sequence[int]) -> list[float]:
    """Return the value of each seed (mean over ``draws``) in margins, positive better."""
    return [m.sign * v / m.margin for v in side.by_seed(m.name, draws).values()]


def common_draws(was: Side, now: Side) -> list[int]:
    """Return the noise keys both sides have."""
    return sorted({p[2] for p in was.units} & {p[2] for p in now.units})


def retrained(was: Side, now: Side, m: Measure, pool: Pool, tier: str = "retrained") -> Look:
    """Compare seeds with seeds, the verdict left open (`settle` sets it when the whole night is known).

    ``pool``: the family's variance of one seed, in squared margins.
    """
    draws = common_draws(was, now)
    look = seeds_against(seed_values(was, m, draws), seed_values(now, m, draws), m, pool, tier)
    if m.level == "sample":
        _samples_of_seeds(look, was, now, m, draws)
    return look


def seeds_against(old: Sequence[float], new: Sequence[float], m: Measure, pool: Pool, tier: str = "retrained") -> Look:
    """Compare the seeds' values (in margins, positive better) of the reference with those of tonight."""
    a, b = (float(np.mean(x)) for x in (old, new))
    look = Look(tier, m.sign * a * m.margin, m.sign * b * m.margin, b - a, seeds=(len(old), len(new)))
    found = pool.of_cell(Spread.of(old, new))
    if found is not None:
        per = 1 / len(old) + 1 / len(new)
        look.se = math.sqrt(found[0] * per)
        look.worse, look.better = (upper_tail(_t(d, found[0] * per), found[1]) for d in (a - b, b - a))
        look.screen = min(look.worse, upper_tail(_t(a - b, pool.plain * per), pool.seen))
    return look


def _t(difference: float, variance: float) -> float:
    if variance > 0:
        return difference / math.sqrt(variance)
    return math.copysign(math.inf, difference) if difference else 0.0


def _samples_of_seeds(look: Look, was: Side, now: Side, m: Measure, draws: Sequence[int]) -> None:
    """Name the samples whose mean over seeds moved most."""
    tables = []
    for side in (was, now):
        places = [p for p in side.units if p[2] in draws and side.value(p, m.name) is not None]
        ids, _, values = side.table(places, m.name)
        tables.append((ids, values.mean(0)))
    (ids, old), (ids_new, new) = tables
    if len(ids) == len(ids_new) and (ids == ids_new).all():
        look.n = len(ids)
        name_samples(look, ids, old, new)


def settle(looks: Sequence[Look], screens: Sequence[float], better: Sequence[float]) -> None:
    """Set the verdicts of a night's retrained looks from their Holm-adjusted p-values.

    A change must exceed the margin and be significant. Without any variance of seeds, one beyond the margin is suspected: fresh seeds decide.
    """
    for look, down, up in zip(looks, screens, better, strict=True):
        unknown = look.worse is None
        if look.gain < -1 and (unknown or down <= SCREEN):
            look.verdict = "suspect"
        elif look.gain > 1 and not unknown and up <= LEVEL:
            look.verdict = "better"
        elif look.tier == "redrawn":
            look.verdict = "redrawn"
        else:
            look.verdict = "unclear" if abs(look.gain) > 1 else "equal"


def confirmed(fresh: Look, both: Look, tests: int) -> bool:
    """Whether a suspicion is an alarm: ``fresh`` seeds alone and ``both`` (tonight's and fresh) are worse, the latter over ``tests`` cells."""
    if fresh.worse is None or both.worse is None:
        return False
    return fresh.worse <= AGREE and both.worse <= CONFIRM / max(1, tests) and both.gain < -1
