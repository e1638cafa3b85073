"""Milliseconds per draw of standard normals for 256 digits (1, 8, 8): streams kept alive against numbered streams.

    python benchmarks/rng.py [--samples 256] [--draws 50] [--repeats 5]

Prints the median over repeats of each way of drawing, and the plain ``torch.randn`` of the same size for scale.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from scorebench.tasks.randomness import Rng

SHAPE = (1, 8, 8)


def milliseconds(work: Callable[[Rng], None], samples: int, draws: int, repeats: int) -> float:
    """Return the median milliseconds per draw; generators are made anew for every repeat, as for a new unit."""
    ids, out = [f"sample-{i:04d}" for i in range(samples)], []
    for repeat in range(repeats + 1):
        rng = Rng.for_samples(ids, "benchmark", repeat)
        start = time.perf_counter()
        work(rng)
        out.append((time.perf_counter() - start) / draws * 1e3)
    return statistics.median(out[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)

    def alive(rng: Rng) -> None:
        noise = rng.at("noise")
        for _ in range(options.draws):
            noise.normal(SHAPE)

    def numbered(rng: Rng) -> None:
        for k in range(options.draws):
            rng.at("noise", k).normal(SHAPE)

    def plain(rng: Rng) -> None:
        for _ in range(options.draws):
            torch.randn(len(rng), *SHAPE)

    sizes = (options.samples, options.draws, options.repeats)
    times = {name: milliseconds(work, *sizes) for name, work in {"alive": alive, "numbered": numbered, "torch.randn": plain}.items()}
    print(f"{options.samples} samples of shape {SHAPE}, {options.draws} draws, median of {options.repeats} repeats, one thread")
    for name, value in times.items():
        print(f"  {name:12} {value:7.3f} ms per draw")
    print(f"  numbered / alive = {times['numbered'] / times['alive']:.1f}")


if __name__ == "__main__":
    main()
