"""How long a board takes with 19,000 records in the store (190 variants x 20 tasks x 5 seeds).

    python benchmarks/boards.py [--draws 1] [--keep DIR]

Prints the time to fill the store (once), then, each in a fresh interpreter: the first board (index and per-sample values are read and
cached), the board again (warm), and, in one interpreter, all 20 boards with intervals of every metric.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from scorebench.leaderboards import record as R
from scorebench.leaderboards.arrays import pack
from scorebench.leaderboards.ledger import Store

META = {
    "version": 1, "title": "simulated", "family": "denoising", "primary": "psnr", "reference": "m000", "do_nothing": "m001",
    "metrics": {"psnr": {"margin": 0.05}, "ssim": {"margin": 0.001}, "lpips": {"margin": 0.003}}, "budgets": {"default": {}}, "pixels": "never",
}  # fmt: skip
SAMPLES = 68

ONE = """
import sys, time
start = time.perf_counter()
from scorebench.leaderboards.board import build
from scorebench.leaderboards.index import paused
from scorebench.leaderboards.sources import gather
from scorebench.leaderboards import render_terminal, render_json
meta, store = {meta!r}, {store!r}
if {every!r}:
    gathered = gather([store], reference=False)
    with paused():
        boards = [build({{**meta, "id": f"denoising/sim{{k:02d}}"}}, gathered) for k in range(20)]
        assert all(r["metrics"]["ssim"]["low"] is not None for b in boards for r in render_json.board_data(b)["rows"])
else:
    text = render_terminal.render([build({{**meta, "id": "denoising/sim07"}}, gather([store], reference=False))])
    assert len(text.splitlines()) > 190
print(time.perf_counter() - start, time.process_time())
"""


def fill(root: Path, draws: int) -> int:
    """Write the simulated records, four writers; the lines are written directly, since 19,000 fsyncs are not what is measured."""
    rng = np.random.default_rng(0)
    store = Store(root)
    store.prepare()
    files = [(root / "ledger" / f"host-{w}-0000000{w}.jsonl").open("w") for w in range(4)]
    environment = {"python": "3.11.9", "libraries": {f"library{k}": "1.2.3" for k in range(14)}, "machine": "x86_64", "dtype": "float32"}
    ids, clusters = np.array([f"photo{k:03d}" for k in range(SAMPLES)]), np.array([f"photo{k:03d}" for k in range(SAMPLES)])
    count = 0
    for task in range(20):
        scene = rng.normal(0, 2, SAMPLES)
        for m in range(190):
            level = rng.normal(28, 1)
            for seed in range(5):
                for draw in range(draws):
                    psnr = level + scene + rng.normal(0, 0.05) + rng.normal(0, 0.1, SAMPLES)
                    values = {"psnr": psnr, "ssim": 0.8 + 0.002 * psnr, "lpips": 0.3 - 0.002 * psnr}
                    samples = {"ids": ids, "clusters": clusters, **{f"metric/{k}": v for k, v in values.items()}}
                    unit = f"{task:02d}{m:03d}{seed}{draw:02d}".ljust(64, "0")
                    content = pack(samples, compress=False)
                    digest = hashlib.sha256(content).hexdigest()
                    name = f"samples/{unit}.{digest[:12]}.npz"
                    (root / name).write_bytes(content)
                    record = R.blank(
                        unit_id=unit, spec_id=unit[::-1], task=f"denoising/sim{task:02d}", task_version=1, method=f"m{m:03d}",
                        variant=f"m{m:03d}", seed=seed, draw=draw, environment_key="e" * 16, observation_hash=f"{draw}" * 64, code="c" * 64,
                        environment=environment, hparams={f"option{k}": k for k in range(8)}, data_fingerprint="d" * 64,
                        facts={"clean_images": m % 3 == 0}, provenance={"host": "h", "git": {"commit": "a" * 40, "dirty": False}},
                    )  # fmt: skip
                    metrics = {
                        k: R.metric(v.mean(), SAMPLES, f"{k}|grey|crop=0|range=1|per-image", "sample", higher_is_better=k != "lpips")
                        for k, v in values.items()
                    }
                    done = R.succeed(record, metrics, {"nfe": 1.0, "sample_s_median": 0.01, "exclusive": True})
                    done |= {"samples": {"file": name, "sha256": digest}, "written": f"2026-01-01T00:00:{count % 60:02d}.{count:06d}Z"}
                    files[count % 4].write(json.dumps(done, separators=(",", ":")) + "\n")
                    count += 1
    for f in files:
        f.close()
    return count


def timed(root: Path, every: bool = False) -> tuple[float, float, float]:
    """Return seconds (inside, of the whole process, of processor time) of one board, or of all, in a fresh interpreter."""
    start = time.perf_counter()
    code = ONE.format(meta=META, store=str(root), every=every)
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return float(out[0]), time.perf_counter() - start, float(out[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="fill this folder, or use it where it is filled")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        if not (root / "ledger").is_dir():
            start = time.perf_counter()
            print(f"filled the store with {fill(root, options.draws):,} records in {time.perf_counter() - start:.1f} s")
        shown = "{:.2f} s ({:.2f} s with the interpreter, {:.2f} s of processor)"
        print("first board, nothing cached: ", shown.format(*timed(root)))
        print("same board again:            ", shown.format(*min(timed(root) for _ in range(5))))
        print("all 20 boards, all metrics:  ", shown.format(*timed(root, every=True)))
        print("all 20 boards again:         ", shown.format(*min(timed(root, every=True) for _ in range(3))))


if __name__ == "__main__":
    main()
