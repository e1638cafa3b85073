"""The gate on real re-runs of which none changed anything: python benchmarks/gate_reruns.py [--suite smoke] [--runs 20] --work DIR

The suite runs once and becomes a reference of its own; then it runs again and again in fresh stores, under conditions that must not matter:
other batch sizes, one or two threads, in this process or in workers. Printed: what the gate said of each run, and the largest relative
difference of any per-sample or set value from the reference's. Goal: no alarm, no cell even "moved".
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from scorebench.harness import nightly, suites
from scorebench.harness.cli.board import meta_of
from scorebench.harness.controller import default_executor, records_of, run_units
from scorebench.harness.plan import plan
from scorebench.harness.unit import RunContext
from scorebench.leaderboards import reference
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.sources import Gathered, StoreSource
from scorebench.tasks.registry import get_spec

CONDITIONS: list[dict[str, Any]] = [
    {"batch": batch, "threads": threads, "executor": executor}
    for executor in ("inline", "process") for batch in (None, 5, 7, 16, 64) for threads in (1, 2)
]  # fmt: skip


def one(suite: Any, store: Path, folder: Path, batch: int | None, threads: int, executor: str) -> Any:
    """Run one night in a fresh store and return it."""
    nightly.plan = functools.partial(plan, threads=threads)  # type: ignore[attr-defined]

    def run(units: Any) -> list[dict[str, Any]]:
        made = default_executor(executor, 1, threads, store)
        try:
            run_units(units, RunContext(store), made)
        finally:
            made.close()
        return [r for r in records_of(units, Store(store)) if r]

    options = nightly.Options(batch_size=batch, rerun=True, reference=folder)
    return nightly.night(suite, options, store, run, lambda t: meta_of(get_spec(t)), lambda text: print(text, file=sys.stderr))


def largest(a: Path, b: Path) -> float:
    """Return the largest relative difference between the values of two stores' units."""
    first, second = Store(a), Store(b)
    other = {r["spec_id"]: r for r in second.records()}
    worst = 0.0
    for r in first.records():
        twin = other[r["spec_id"]]
        x, y = first.samples(r), second.samples(twin)
        for name in (n for n in x if n.startswith("metric/")):
            scale = np.maximum(np.abs(x[name]), np.median(np.abs(x[name])))
            worst = max(worst, float((np.abs(x[name] - y[name]) / np.where(scale > 0, scale, 1)).max()))
        for name, entry in r["metrics"].items():
            if entry.get("value"):
                worst = max(worst, abs(twin["metrics"][name]["value"] / entry["value"] - 1))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="smoke")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--work", type=Path, required=True)
    o = parser.parse_args()
    suite, folder, first = suites.get(o.suite), o.work / "reference", o.work / "run00"
    shipped = one(suite, first, reference.HERE, None, 1, "inline")
    print(f"against the shipped reference: {shipped.headline()} {shipped.counts()}", file=sys.stderr)
    gathered = Gathered([StoreSource(first)])
    folder.mkdir(parents=True, exist_ok=True)
    reference.accept(gathered.samples, gathered.records(), folder)
    rows = []
    for k in range(o.runs):
        condition = CONDITIONS[k % len(CONDITIONS)]
        store, start = o.work / f"run{k + 1:02d}", time.perf_counter()
        night = one(suite, store, folder, condition["batch"], condition["threads"], condition["executor"])
        rows.append({
            "run": k + 1, **condition, "alarms": len(night.alarms()), **night.counts(), "largest": largest(first, store),
            "s": round(time.perf_counter() - start, 1),
        })  # fmt: skip
        print(json.dumps(rows[-1]), file=sys.stderr)
    print(json.dumps({"runs": len(rows), "alarms": sum(r["alarms"] for r in rows), "largest": max(r["largest"] for r in rows)}))


if __name__ == "__main__":
    main()
