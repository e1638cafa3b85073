"""What a sweep costs beside its units: python benchmarks/sweep.py [--finished N] [--keep DIR]

1. 60 units (5 solvers x 4 budgets x 3 seeds, one shared digits prior, everything trained from scratch): how often the prior is trained; wall
   time with one and with two worker processes of one thread each, prior already there: parallel efficiency = time(1) / (2 time(2)).
2. A finished sweep of N units (default 1,000), started again from the command line: seconds until it says that everything is done.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

SWEEP = """\
method: grid
parameters:
  task: {{value: generation/digits}}
  method: {{values: {methods}}}
  budget: {{values: {budgets}}}
  seed: {{min: 0, max: {last}}}
  split: {{value: test}}
"""
SOLVERS = '[ddpm, ddim, "ddim[uniform-t]", "ddim[quadratic]", "ddim[eta=1]"]'
BUDGETS = "[nfe5, nfe10, nfe20, nfe50]"


def scorebench(*words: str, **env: str) -> tuple[float, str]:
    """Run a command line as a user does; return (seconds, output)."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "scorebench", *words], capture_output=True, text=True, env={**os.environ, **env}, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"scorebench {' '.join(words)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return seconds, done.stdout


def working(store: Path) -> float:
    """Return the seconds from the first record of a store to its last, which leaves out the start of the processes."""
    from datetime import datetime

    from scorebench.leaderboards.ledger import Store

    written = sorted(datetime.fromisoformat(r["written"]) for r in Store(store).records())
    return (written[-1] - written[0]).total_seconds()


def sixty(folder: Path) -> dict[str, Any]:
    sweep = folder / "sixty.yaml"
    sweep.write_text(SWEEP.format(methods=SOLVERS, budgets=BUDGETS, last=2))
    home = str(folder / "home")
    out: dict[str, Any] = {}
    _, text = scorebench("sweep", str(sweep), "--no-pins", "--store", str(folder / "cold"), "--workers", "2", SCOREBENCH_HOME=home)
    out["units"] = sum(line.startswith("done ") and "trained" not in line for line in text.splitlines())
    out["times the prior was trained"] = sum("trained prior" in line for line in text.splitlines())
    for workers in (1, 2):
        store = folder / f"workers-{workers}"
        wall, _ = scorebench("sweep", str(sweep), "--no-pins", "--store", str(store), "--workers", str(workers), SCOREBENCH_HOME=home)
        out[f"wall s, {workers} worker(s)"], out[f"working s, {workers} worker(s)"] = round(wall, 1), round(working(store), 1)
    out["efficiency, wall"] = round(out["wall s, 1 worker(s)"] / (2 * out["wall s, 2 worker(s)"]), 2)
    out["efficiency, working"] = round(out["working s, 1 worker(s)"] / (2 * out["working s, 2 worker(s)"]), 2)
    return out


def finished(folder: Path, count: int) -> dict[str, Any]:
    from planning import write

    from scorebench.harness import sweeps
    from scorebench.harness.sweep_plan import plan_sweep

    sweep = folder / "finished.yaml"
    sweep.write_text(SWEEP.format(methods=SOLVERS, budgets=BUDGETS, last=-(-count // 20) - 1))
    found = sweeps.get(str(sweep))
    start = time.perf_counter()
    units = plan_sweep(found, found.configurations())
    planned = time.perf_counter() - start
    store = folder / "finished"
    write(units, store)
    words = ("sweep", str(sweep), "--store", str(store), "--json")
    scorebench(*words)  # writes the indexes
    times = [scorebench(*words)[0] for _ in range(3)]
    return {"units": len(units), "planned in this process, s": round(planned, 2), "started again, s": [round(t, 2) for t in sorted(times)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", type=int, default=1000)
    parser.add_argument("--only", choices=("sixty", "finished"))
    options = parser.parse_args()
    out = {}
    with tempfile.TemporaryDirectory() as temporary:
        if options.only != "finished":
            out["sixty"] = sixty(Path(temporary))
        if options.only != "sixty":
            out["finished"] = finished(Path(temporary), options.finished)
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
