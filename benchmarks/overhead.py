"""What the harness costs: evaluating a DnCNN through scorebench against a bare loop over the same network, images and metrics.

    python benchmarks/overhead.py [--task denoising/set12-gaussian25] [--pairs 5] [--threads 2]

Prints the ratio harness / bare of each pair of runs (alternating order, in one process) and the median. The network is the published
17-layer DnCNN with random weights: time does not depend on the weights.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from scorebench.baselines.method import Method
from scorebench.baselines.nets.dncnn import DnCNN
from scorebench.harness.evaluator import evaluate
from scorebench.tasks import registry


class Denoiser(Method):
    """The same network as a method."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network: torch.nn.Module = network

    def denoise(self, request):  # type: ignore[no-untyped-def]
        return self.network(request.noisy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="denoising/photos-gaussian25")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    task = registry.get(args.task)
    network = DnCNN(channels=1, depth=17, width=64).eval()
    metrics = {n: m for n, m in task.metrics.items() if m.unavailable() is None and m.level == "sample"}
    ids = task.ids("test")

    def bare() -> float:
        start = time.perf_counter()
        values = []
        with torch.no_grad():
            for sample_id in ids:
                o = task.observe("test", sample_id)
                noisy, clean = o.given["noisy"][None], o.target["clean"][None]
                answer = network(noisy).clamp(0, 1)
                values.append([float(m.per_sample(answer, {"clean": clean})) for m in metrics.values()])
        return time.perf_counter() - start

    def harness() -> float:
        start = time.perf_counter()
        evaluate(Denoiser(network), task, batch_size=1)
        return time.perf_counter() - start

    bare()
    ratios = []
    for k in range(args.pairs):
        first, second = (bare, harness) if k % 2 else (harness, bare)
        a, b = first(), second()
        ratio = a / b if first is harness else b / a
        ratios.append(ratio)
        print(f"pair {k + 1}: harness / bare = {ratio:.4f} (bare {b if first is harness else a:.2f} s)")
    print(f"{args.task}, {len(ids)} images, {args.threads} threads: median overhead {100 * (statistics.median(ratios) - 1):+.2f} %")


if __name__ == "__main__":
    main()
