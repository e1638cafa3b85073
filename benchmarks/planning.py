"""How long planning and resuming take: python benchmarks/planning.py [UNITS] [--store DIR]

Plans UNITS (default 100,000) synthetic units of a real task, with real cards, data fingerprints and code hashes; writes a ledger in which all
of them are done (records of a real run's size, several writers); then times what a second start of the same sweep does: plan, read the
ledger (first without, then with its index), drop what is done, and go through the controller to its end (which says of each unit that it is
done already). The goal is 10 s for planning and resuming 100,000 finished units without an index.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scorebench.harness.controller import run_units
from scorebench.harness.environment import environment, environment_key
from scorebench.harness.executors.inline import InlineExecutor
from scorebench.harness.plan import plan, undone
from scorebench.harness.unit import RunContext, Unit
from scorebench.leaderboards.ledger import Store

WRITERS = 16
TASK, METHOD = "generation/gmm2d", "ddim"


@contextmanager
def timed(what: str, out: dict[str, float]) -> Iterator[None]:
    start, cpu = time.perf_counter(), time.process_time()
    yield
    out[what], out[f"{what}, of the processor"] = round(time.perf_counter() - start, 3), round(time.process_time() - cpu, 3)
    print(f"{what:<52} {out[what]:8.2f} s, {out[f'{what}, of the processor']:.2f} s of the processor", file=sys.stderr)


def write(units: list[Unit], store: Path) -> int:
    """Write one finished record a unit, without its samples; return the bytes written."""
    env = environment()
    record = {
        "schema": 1, "split": "test", "status": "ok", "error": None, "partial": False, "environment": env, "preset": "default",
        "environment_key": environment_key(env), "metrics": {m: {"value": 0.5, "n": 2048, "identity": f"{m}|n=2048|ref=0123456789ab",
        "level": "set", "se": 0.01, "higher_is_better": False, "unit": ""} for m in ("sliced-wasserstein", "mode-coverage")},
        "cost": dict.fromkeys(("nfe", "params", "flops_per_sample", "sample_s_median", "sample_s_p95", "peak_mb"), 1.5), "facts": {},
        "provenance": {"git": {"commit": "0" * 40, "dirty": False}, "host": "host", "cpu": "cpu", "command": "scorebench run", "pid": 1},
        "observation_hash": "0" * 64, "data_fingerprint": "0" * 64, "selection": "last", "configurations_tried": 1, "diagnostics": {},
    }  # fmt: skip
    (store / "ledger").mkdir(parents=True)
    size = 0
    for writer in range(WRITERS):
        with (store / "ledger" / f"writer-{writer:02d}.jsonl").open("w") as f:
            for number, unit in enumerate(units[writer::WRITERS]):
                line = {
                    **record, "unit_id": unit.unit_id, "spec_id": unit.spec_id, "task": unit.task, "task_version": 1, "budget": unit.budget,
                    "method": unit.variant.method, "variant": str(unit.variant), "seed": unit.seed, "draw": unit.draw, "code": unit.code,
                    "hparams": unit.hparams, "written": f"2026-01-01T00:00:00.{number:06d}Z",
                    "samples": {"file": f"samples/{unit.unit_id}.npz", "sha256": "0" * 64},
                }  # fmt: skip
                size += f.write(json.dumps(line, separators=(",", ":")) + "\n")
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("units", nargs="?", type=int, default=100_000)
    parser.add_argument("--store", type=Path, help="keep the synthetic store here (default: a temporary folder)")
    options = parser.parse_args()
    plan([TASK], [METHOD])  # torch, cards, fingerprints and code hashes are loaded once a process: seconds that do not grow with the plan
    tracks = len(plan([TASK], [METHOD]))
    seeds = range(-(-options.units // tracks))
    out: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        store = options.store or Path(temporary) / "store"
        with timed("plan", out):
            units = plan([TASK], [METHOD], seeds=seeds)
        with timed("find the done ones in an empty store", out):
            todo, _ = undone(units, Store(store))
        assert len(todo) == len(units)
        size = write(units, store)
        for what in ("ledger read in full", "ledger read by its index"):
            with timed(f"find the done ones ({what})", out):
                todo, done = undone(units, Store(store))
            assert not todo and len(done) == len(units)
        out["index_mb"] = round((store / "index" / "ledger.json").stat().st_size / 1e6, 1)
        with timed("controller to its end (ledger read by its index)", out):
            summary = run_units(units, RunContext(store), InlineExecutor(1))
        assert summary.cached == len(units)
    out["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    stages = ("plan", "find the done ones (ledger read in full)")
    total, cpu = (round(sum(out[f"{stage}{what}"] for stage in stages), 2) for what in ("", ", of the processor"))
    about = {"units": len(units), "ledger_mb": round(size / 1e6, 1), **out}
    print(json.dumps({**about, "plan and resume": total, "plan and resume, of the processor": cpu}, indent=1))


if __name__ == "__main__":
    main()
