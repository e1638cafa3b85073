"""Whether bf16 and channels-last pay: forward time of the shipped networks in four arrangements, and how far the answers move.

    python benchmarks/precision.py [--device cpu] [--repeats 15]

float32 in contiguous layout is the unit. Each repeat times all arrangements, in turning order; printed are the medians of the ratios of one
repeat (below 1: quicker), and the relative root-mean-square change of the network's answer. CPU seconds of this thread are counted, so that
other programs disturb less. `scorebench run --precision bf16-mixed` is the switch; what it does to a metric is seen by running both.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from solvers import build  # type: ignore[import-not-found]  # benchmarks/solvers.py: the shipped sizes
from torch import Tensor, nn

from scorebench.baselines.nets.dncnn import DnCNN
from scorebench.baselines.nets.nafnet import NAFNet

ARRANGEMENTS = ("float32", "float32 channels-last", "bf16", "bf16 channels-last")


def networks() -> dict[str, tuple[nn.Module, Callable[[str, str], tuple[Any, ...]]]]:
    """Return the networks and how to make their inputs on a device in a layout."""

    def pictures(shape: tuple[int, ...]) -> Callable[[str, str], tuple[Any, ...]]:
        return lambda device, layout: (laid(torch.rand(shape, device=device), layout),)

    def states(size: str, batch: int, shape: tuple[int, ...]) -> Callable[[str, str], tuple[Any, ...]]:
        return lambda device, layout: (
            laid(torch.randn(batch, *shape, device=device), layout), torch.full((batch,), 0.3, device=device), None,
        )  # fmt: skip

    out: dict[str, tuple[nn.Module, Callable[[str, str], tuple[Any, ...]]]] = {}
    for size in ("digits", "shapes"):
        prior, batch = build(size)
        out[f"prior {size}, {batch}"] = (prior.network, states(size, batch, tuple(prior.shape)))  # type: ignore[arg-type]
    out["dncnn 8x32, 8 of 96x96"] = (DnCNN(1, depth=8, width=32, norm=False, bias=True), pictures((8, 1, 96, 96)))
    out["nafnet-small, 4 of 96x96"] = (NAFNet(1, width=16, encoder=(1, 1, 1), middle=1, decoder=(1, 1, 1)), pictures((4, 1, 96, 96)))
    return out


def laid(x: Tensor, layout: str) -> Tensor:
    """Return a picture batch in the layout named; other tensors as they are."""
    return x.contiguous(memory_format=torch.channels_last) if layout == "channels-last" and x.ndim == 4 else x


def measure(name: str, network: nn.Module, make: Callable[[str, str], tuple[Any, ...]], device: str, repeats: int) -> list[str]:
    """Return one line for each arrangement."""
    network = network.to(device).eval()
    with torch.no_grad():
        for p in network.parameters():  # last layers that start at zero would answer nothing
            p.add_(0.02 * torch.randn_like(p))
    calls: dict[str, Callable[[], Tensor]] = {}
    torch.manual_seed(0)
    base = make(device, "contiguous")
    for arrangement in ARRANGEMENTS:
        layout = "channels-last" if "channels" in arrangement else "contiguous"
        inputs = tuple(laid(v, layout) if isinstance(v, Tensor) else v for v in base)
        twin = load_copy(network, layout)

        def call(twin: nn.Module = twin, inputs: tuple[Any, ...] = inputs, half: bool = arrangement.startswith("bf16")) -> Tensor:
            with torch.no_grad(), torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=half):
                out: Tensor = twin(*inputs)
            if device != "cpu":
                torch.cuda.synchronize()
            return out.float()

        calls[arrangement] = call
    answers = {k: call() for k, call in calls.items()}
    taken: dict[str, list[float]] = {k: [] for k in calls}
    for r in range(repeats):
        for k in (*ARRANGEMENTS[r % 4 :], *ARRANGEMENTS[: r % 4]):
            start = time.perf_counter() if device != "cpu" else time.thread_time()
            calls[k]()
            taken[k].append((time.perf_counter() if device != "cpu" else time.thread_time()) - start)
    unit, lines = answers["float32"], []
    for k in ARRANGEMENTS:
        ratio = statistics.median(a / b for a, b in zip(taken[k], taken["float32"], strict=True))
        change = float((answers[k] - unit).square().mean().sqrt() / unit.square().mean().sqrt())
        lines.append(f"{name:28s} {k:24s} time {ratio:5.2f}   answer moves {change:.1e}   ({1e3 * statistics.median(taken[k]):.1f} ms)")
    return lines


def load_copy(network: nn.Module, layout: str) -> nn.Module:
    """Return a copy of the network with its weights in the layout named."""
    twin = copy.deepcopy(network)
    return twin.to(memory_format=torch.channels_last) if layout == "channels-last" else twin  # type: ignore[call-overload, no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name, (network, make) in networks().items():
        print("\n".join(measure(name, network, make, args.device, args.repeats)), flush=True)


if __name__ == "__main__":
    main()
