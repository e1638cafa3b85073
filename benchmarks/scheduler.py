"""What scheduling costs, without running anything: python benchmarks/scheduler.py [UNITS] [--files 1 100 1000 10000] [--slots 1000]

A controller hands UNITS synthetic units to an executor that has SLOTS slots and answers at once, in a store that holds FILES ledger files (one
per worker process that ever wrote). What is left is the controller's own work: plan, claims, looks at the ledger folder, status. Beside it: how
long one look at the ledger takes when another process has written (a second controller on the same store), and how long one heartbeat of
SLOTS claims takes (due every 2 s, each a small file that is read and written anew).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scorebench.harness.claims import Claims
from scorebench.harness.controller import run_units
from scorebench.harness.executors.base import Executor, Job, Result
from scorebench.harness.plan import plan
from scorebench.harness.unit import RunContext
from scorebench.leaderboards.ledger import Store

TASK, METHOD = "generation/gmm2d", "ddim"


class AtOnce(Executor):
    """Answers every job as done, as soon as it is asked."""

    name = "at-once"

    def __init__(self, slots: int) -> None:
        self.slots, self.jobs = slots, []

    jobs: list[Job]

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, timeout: float) -> list[Any]:
        out = [Result(j.id, "ok", 0.0, recorded=True) for j in self.jobs]
        self.jobs = []
        return out

    def close(self) -> None:
        self.jobs = []


def line(k: int) -> bytes:
    """A short record of another task, as another process writes it."""
    record = {"unit_id": f"other{k}", "environment_key": "e", "task": "denoising/x", "method": "m", "variant": "m", "status": "ok"}
    return json.dumps(record).encode() + b"\n"


def one(units: list[Any], files: int, slots: int) -> dict[str, Any]:
    """Run all units through a controller; return units per second and what a look at the ledger costs."""
    with tempfile.TemporaryDirectory() as temporary:
        store = Path(temporary)
        (store / "ledger").mkdir()
        for k in range(files):
            (store / "ledger" / f"w{k:05d}.jsonl").write_bytes(line(k))
        Store(store).done()  # the index is there, as in a store that was used before
        start, cpu = time.perf_counter(), time.process_time()
        summary = run_units(units, RunContext(store), AtOnce(slots))
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        assert summary.ok == len(units)
        reader = Store(store)
        reader.done()
        with (store / "ledger" / "w00000.jsonl").open("ab") as f:
            f.write(line(files))
        look = time.perf_counter()
        reader.done()
        look = time.perf_counter() - look
    return {
        "files": files, "units": len(units), "s": round(wall, 2), "cpu_s": round(cpu, 2), "units_per_s": round(len(units) / wall),
        "units_per_cpu_s": round(len(units) / cpu), "look_s": round(look, 4),
    }  # fmt: skip


def heartbeat(held: int, seconds: float = 3.0) -> dict[str, Any]:
    """Return how long one round of heartbeats takes for ``held`` claims."""
    with tempfile.TemporaryDirectory() as temporary:
        claims = Claims(Path(temporary), beat=1e-6)
        claims._start_beating = lambda: None  # type: ignore[method-assign]
        for k in range(held):
            claims.take(f"unit{k}")
        del claims._start_beating
        start, cpu = time.perf_counter(), time.process_time()
        claims._start_beating()
        time.sleep(seconds)
        claims._stop.set()
        assert claims._thread is not None
        claims._thread.join()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        rounds = json.loads((Path(temporary) / f"unit{held - 1}").read_text())["beat"]
        claims._thread = None
        claims.close()
    return {"held": held, "round_s": round(wall / rounds, 4), "round_cpu_s": round(cpu / rounds, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("units", nargs="?", type=int, default=5000)
    parser.add_argument("--files", nargs="+", type=int, default=[1, 100, 1000, 10000])
    parser.add_argument("--slots", type=int, default=1000)
    o = parser.parse_args()
    tracks = len(plan([TASK], [METHOD]))
    units = plan([TASK], [METHOD], seeds=range(-(-o.units // tracks)))
    out = []
    for files in o.files:
        out.append(one(units if files < 10000 else units[: len(units) // 10], files, o.slots))
        print(json.dumps(out[-1]), file=sys.stderr)
    out.append(heartbeat(o.slots))
    print(json.dumps(out[-1]), file=sys.stderr)
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
