"""How often the nightly gate cries wolf, and what it sees: python benchmarks/gate.py [--nights 300] [--cells 100] [--json FILE]

Simulated nights go through the gate itself (records, pairing, tiers, Holm, fresh seeds), nothing of it is replaced. A cell has 24 pictures in
12 clusters and three seeds a side; seeds spread as measured on the accepted boards (dncnn: 0.025 dB), either alike in all cells or very
unlike (the spread of a cell between a half and three times that). Frozen cells differ from the reference by rounding (2e-3 dB a picture).

    false      nothing changed: the share of nights with an alarm (goal: at most 1 %)
    retrained  one cell of a night lost 0.1 dB when trained again: how often it is an alarm (goal: 0.9)
    frozen     one cell of a night lost 0.02 dB with frozen weights (goal: 0.99)
    ratchet    every release, a cell loses 0.03 dB (frozen: 0.008 dB) five times, each accepted: how often the release reference notices
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scorebench.leaderboards import record as rec
from scorebench.leaderboards.gate import LAST, RELEASE, Tonight, compare
from scorebench.leaderboards.gate_cells import Layer, sides
from scorebench.leaderboards.gate_confirm import confirm, wanted
from scorebench.leaderboards.gate_night import Night
from scorebench.leaderboards.sources import Gathered, Source, stack

SAMPLES, CLUSTERS, SEEDS = 24, 12, 3
SPREAD = 0.025
ROUNDING = 2e-3
FAMILIES = 5
IDS = np.array([f"p{k:02d}" for k in range(SAMPLES)])
NAMES = np.array([f"c{k % CLUSTERS:02d}" for k in range(SAMPLES)])
METRICS = {"psnr": {"margin": 0.05}}


class Memory(Source):
    """Records and per-sample values in memory."""

    def __init__(self) -> None:
        self.all: list[rec.Record] = []
        self.arrays: dict[str, dict[str, np.ndarray]] = {}

    def add(self, record: rec.Record, psnr: np.ndarray) -> None:
        self.all.append(record)
        self.arrays[record["unit_id"]] = {"ids": IDS, "clusters": NAMES, "metric/psnr": psnr}

    def records(self, task: str | None = None) -> list[rec.Record]:
        return [{**r, "source": "run"} for r in self.all if task is None or r["task"] == task]

    def samples(self, record: rec.Record) -> dict[str, np.ndarray]:
        return self.arrays[record["unit_id"]]

    def values(self, records: Sequence[rec.Record], metric: str) -> Any:
        return stack([self.samples(r) for r in records], metric)


@dataclass
class World:
    """The cells of a night: their levels, their spreads over seeds, and which of them have frozen weights."""

    rng: np.random.Generator
    cells: int
    frozen: int = 0
    unlike: bool = False
    spread: np.ndarray = field(init=False)
    pictures: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        factor = np.exp(self.rng.uniform(np.log(0.5), np.log(3), self.cells)) if self.unlike else np.ones(self.cells)
        self.spread = SPREAD * factor
        self.pictures = 30 + self.rng.normal(0, 2, (self.cells, SAMPLES))

    def task(self, cell: int) -> str:
        return f"family{cell % FAMILIES}/task{cell:03d}"

    def metas(self) -> dict[str, Any]:
        return {self.task(c): {"id": self.task(c), "primary": "psnr", "metrics": METRICS} for c in range(self.cells)}

    def train(self, what: str, change: np.ndarray, seeds: Sequence[int], base: dict[int, np.ndarray] | None = None) -> Memory:
        """Return the records of one night: ``change`` (cells,) dB is what the code now does. ``base``: the same weights, moved by rounding."""
        out = Memory()
        for c in range(self.cells):
            for seed in seeds if c >= self.frozen else (0,):
                if c < self.frozen:
                    values = self.pictures[c] + change[c] + self.rng.normal(0, ROUNDING, SAMPLES)
                    weights = "same"
                else:
                    values = self.pictures[c] + change[c] + self.rng.normal(0, self.spread[c]) + self.rng.normal(0, 0.02, SAMPLES)
                    weights = f"{what}-{seed}"
                unit = f"{what}-{c}-{seed}"
                record = rec.blank(
                    unit_id=unit, spec_id=f"{c}-{seed}", task=self.task(c), task_version=1, method="net", variant="net", seed=seed, draw=0,
                    environment_key="here", observation_hash="o", data_fingerprint="d", stochastic="fit",
                    artifacts={"fit": {"sha256": weights, "seed": seed}},
                )  # fmt: skip
                entry = rec.metric(values.mean(), SAMPLES, "psnr|rgb", "sample", higher_is_better=True, unit="dB")
                out.add(rec.succeed(record, {"psnr": entry}), values)
        return out


def night(world: World, last: Memory, release: Memory | None, change: np.ndarray, name: str) -> Night:
    """Run one night through the gate, its second look included."""
    layers = [Layer.of(LAST, Gathered([last]))] + ([Layer.of(RELEASE, Gathered([release]))] if release is not None else [])
    now = Gathered([world.train(name, change, range(SEEDS))])
    records = now.records()
    found = compare(Tonight(records, now), layers, world.metas())
    cells = sides(records, now)
    asked = wanted(found, layers, cells)
    if asked:
        fresh = Gathered([world.train(f"{name}-fresh", change, asked[0].seeds)])
        keys = {w.key for w in asked}
        second = {k: v for k, v in sides(fresh.records(), fresh).items() if k in keys}
        confirm(found, second, layers, cells, world.metas())
    return found


def false_alarms(nights: int, cells: int, unlike: bool, seed: int) -> dict[str, Any]:
    """Nothing changed. Half of the cells are frozen; every night has its own reference, and a release of its own."""
    rng = np.random.default_rng(seed)
    alarms = suspected = 0
    for k in range(nights):
        world = World(rng, cells, frozen=cells // 2 if k % 2 else 0, unlike=unlike)
        none = np.zeros(cells)
        found = night(world, world.train("last", none, range(SEEDS)), world.train("release", none, range(SEEDS)), none, f"n{k}")
        alarms += found.failed()
        suspected += bool(found.of("suspect") or found.of("unconfirmed") or found.of("worse"))
    return {"nights": nights, "cells": cells, "alarms": alarms, "suspected at first look": suspected, "rate": alarms / nights}


def power(nights: int, cells: int, loss: float, frozen: bool, unlike: bool, seed: int) -> dict[str, Any]:
    """One cell lost ``loss`` dB; how often exactly that cell is an alarm."""
    rng = np.random.default_rng(seed)
    found = wrong = 0
    for k in range(nights):
        world = World(rng, cells, frozen=cells // 2, unlike=unlike)
        cell = 0 if frozen else cells - 1
        change = np.zeros(cells)
        change[cell] = -loss
        if not frozen:
            world.spread[cell] = SPREAD
        last = world.train("last", np.zeros(cells), range(SEEDS))
        alarms = {f.task for f in night(world, last, None, change, f"n{k}").alarms()}
        found += world.task(cell) in alarms
        wrong += bool(alarms - {world.task(cell)})
    return {"nights": nights, "loss_db": loss, "found": found, "power": found / nights, "nights with another alarm": wrong}


def ratchet(nights: int, cells: int, step: float, frozen: bool, seed: int) -> dict[str, Any]:
    """Five small losses, each accepted before the next: how often the gate noticed, and against which layer."""
    rng = np.random.default_rng(seed)
    counts = {LAST: 0, RELEASE: 0}
    noticed = 0
    for k in range(nights):
        world = World(rng, cells, frozen=cells // 2)
        cell = 0 if frozen else cells - 1
        release = last = world.train("release", np.zeros(cells), range(SEEDS))
        seen: set[str] = set()
        for times in range(1, 6):
            change = np.zeros(cells)
            change[cell] = -step * times
            seen |= {f.against for f in night(world, last, release, change, f"n{k}-{times}").alarms() if f.task == world.task(cell)}
            last = world.train(f"accepted{times}", change, range(SEEDS))
        noticed += bool(seen)
        for name in seen:
            counts[name] += 1
    return {"runs": nights, "step_db": step, "noticed": noticed / nights, **{f"against {k}": v / nights for k, v in counts.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=300)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--json", type=Path)
    o = parser.parse_args()
    studies: dict[str, Callable[[], dict[str, Any]]] = {
        "false alarms, cells alike": lambda: false_alarms(o.nights, o.cells, False, o.seed),
        "false alarms, cells unlike": lambda: false_alarms(o.nights, o.cells, True, o.seed + 1),
        "0.1 dB retrained": lambda: power(o.nights, o.cells, 0.1, False, False, o.seed + 2),
        "0.1 dB retrained, cells unlike": lambda: power(o.nights, o.cells, 0.1, False, True, o.seed + 3),
        "0.02 dB frozen": lambda: power(o.nights, o.cells, 0.02, True, False, o.seed + 4),
        "ratchet retrained": lambda: ratchet(max(1, o.nights // 10), o.cells, 0.03, False, o.seed + 5),
        "ratchet frozen": lambda: ratchet(max(1, o.nights // 10), o.cells, 0.008, True, o.seed + 6),
    }
    out = {}
    for name, study in studies.items():
        start = time.perf_counter()
        out[name] = study()
        print(f"{name:<32} {json.dumps(out[name])} ({time.perf_counter() - start:.0f} s)", file=sys.stderr)
    text = json.dumps(out, indent=1)
    print(text)
    if o.json:
        o.json.write_text(text)


if __name__ == "__main__":
    main()
