"""How long a board of ten feed-forward denoisers takes on BSD68 at sigma 25 (68 pictures), on the cores this machine has.

    python benchmarks/denoising.py [--smoke] [--workers 2] [--keep DIR]

Runs `scorebench run` once, as a user does, in a fresh store and home, so that what must be trained is trained; prints, per method, the
seconds of its training, of its answers (a picture's median times the pictures) and its PSNR, then the wall time of all of it and the bar:
15 minutes on two cores. ``--smoke``: four embedded photographs and no training, in some seconds. Exit code 1: over the bar, or a method failed.
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

TASK = "denoising/bsd68-gaussian25"
METHODS = ["gaussian-filter", "bilateral", "tv", "nlm", "wavelet-shrinkage", "dncnn", "dncnn-b", "ffdnet", "drunet", "nafnet-small"]
SMOKE = ["gaussian-filter", "tv", "wavelet-shrinkage"]
BAR = 15 * 60.0


def run(task: str, methods: list[str], folder: Path, workers: int, *more: str) -> tuple[float, list[dict[str, Any]]]:
    """Return the wall time of ``scorebench run`` in seconds, and its records."""
    command = [sys.executable, "-m", "scorebench", "run", "-t", task, *(w for m in methods for w in ("-m", m)), "--json"]
    command += ["--store", str(folder / "store"), "--executor", "process", "--workers", str(workers), *more]
    environment = {**os.environ, "SCOREBENCH_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    seconds = time.perf_counter() - start
    if not done.stdout.strip():
        raise SystemExit(f"scorebench run ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return seconds, json.loads(done.stdout)


def table(records: list[dict[str, Any]]) -> str:
    """Return one line a record: method, status, PSNR, seconds of training and of answers, peak memory."""
    lines = [f"{'method':<20}{'status':<8}{'PSNR':>8}{'training s':>12}{'answers s':>12}{'peak MB':>9}"]
    for r in sorted(records, key=lambda r: -(r["metrics"].get("psnr", {}).get("value") or 0)):
        psnr, cost = r["metrics"].get("psnr", {}), r["cost"]
        answers = (cost.get("sample_s_median") or 0) * (psnr.get("n") or 0)
        value = f"{psnr['value']:.2f}" if "value" in psnr else "-"
        lines.append(
            f"{r['variant']:<20}{r['status']:<8}{value:>8}{cost.get('train_s') or 0:>12.1f}{answers:>12.1f}{cost.get('peak_mb') or 0:>9.0f}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="four embedded photographs, three filters")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of one thread each (default 2)")
    parser.add_argument("--keep", type=Path, help="folder for store and home; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if options.smoke:
            seconds, records = run("denoising/photos-gaussian25", SMOKE, folder, options.workers, "--limit", "4")
        else:
            seconds, records = run(TASK, METHODS, folder, options.workers)
    print(table(records))
    failed = [r["variant"] for r in records if r["status"] != "ok"]
    wanted = len(SMOKE if options.smoke else METHODS)
    print(f"{len(records)} of {wanted} methods in {seconds:.0f} s of wall time with {options.workers} workers; the bar is {BAR:.0f} s.")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed) or len(records) < wanted or seconds > BAR)


if __name__ == "__main__":
    raise SystemExit(main())
