"""What the solver loop costs: over the network's own forward time, and against diffusers' pipeline loop with the same network.

    python benchmarks/solvers.py [--repeats 9] [--solvers ddim ...] [--sizes digits shapes]

Networks have the sizes of the shipped priors and random weights: time does not depend on the weights. Each repeat times, in turning order, the
solver's loop, the bare network called as often on states of that shape, and diffusers' loop (its own scheduler, the network behind its
U-Net interface). Printed: medians of the ratios of one repeat; and, less disturbed by other programs, the loop's own time (its network
replaced by one whose answer is ready) over the network's, the shortest of all repeats each. Drawing x_T, which depends on no solver, is timed
apart and shown beside. CPU seconds of this thread are counted, not those of the clock, so that other programs disturb less; run it alone all
the same.
Bars: loop / network at most 1.05; loop / diffusers at most 1.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from scorebench.baselines.diffusion.prior import Prior
from scorebench.baselines.diffusion.trained import TrainedPrior
from scorebench.baselines.method import Method
from scorebench.configs.loader import load_object
from scorebench.tasks.randomness import Rng
from scorebench.tasks.requests import Budget, Request, Returns

SIZES: dict[str, tuple[dict[str, Any], int]] = {
    "digits": (
        {"shape": [1, 8, 8], "classes": 10, "network": "mlp", "network_options": {"width": 256, "depth": 3, "embedding": 64}}, 250,
    ),
    "shapes": (
        {
            "shape": [3, 32, 32], "classes": 4, "network": "unet",
            "network_options": {"widths": [32, 64, 96], "blocks": 1, "embedding": 96, "patch": 2},
        }, 64,
    ),
}  # fmt: skip
"""Constructor arguments of the prior (configs/priors) and the batch size of the task."""
SOLVERS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "ddim": ("ddim:DDIM", {}, "DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("ddpm:DDPM", {"clip": False}, "DDPMScheduler", {"clip_sample": False}),
    "dpm-solver-pp": ("dpm_solver_pp:DPMSolverPP", {"grid": "uniform-t"}, "DPMSolverMultistepScheduler", {}),
    "euler": ("euler:Euler", {}, "EulerDiscreteScheduler", {}),
    "heun": ("heun:Heun", {}, "HeunDiscreteScheduler", {}),
    "unipc": ("unipc:UniPC", {"grid": "uniform-t"}, "UniPCMultistepScheduler", {}),
}
"""Ours and its arguments, diffusers' and its arguments."""
NFE = 20


class Given:
    """Stands for an Rng whose x_T is drawn already; other streams are drawn from one generator, as diffusers does."""

    def __init__(self, x: Tensor, name: str = "") -> None:
        self.x, self.name = x, name

    def at(self, *name: Any) -> Given:
        return Given(self.x, name[0])

    def normal(self, shape: Any = ()) -> Tensor:
        return self.x if self.name == "x_T" else torch.randn_like(self.x)


def build(size: str) -> tuple[Prior, int]:
    """Return a prior of the shipped size with random weights, and the batch size."""
    torch.manual_seed(0)
    options, batch = SIZES[size]
    prior = TrainedPrior(**options, schedule="vp-cosine")
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return prior.eval().requires_grad_(False), batch


def pipeline(scheduler_name: str, options: dict[str, Any], network: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return diffusers' sampling loop as its pipelines write it: scale, network, step. The network is told the step as a noise level."""
    import diffusers  # type: ignore[import-not-found]

    scheduler = getattr(diffusers, scheduler_name)(num_train_timesteps=1000, **options)

    def loop() -> None:
        steps = NFE if scheduler_name != "HeunDiscreteScheduler" else NFE // 2
        scheduler.set_timesteps(steps)
        state = x * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            noise = network(scheduler.scale_model_input(state, t), (t / 1000).to(x.dtype).expand(len(x)), None)
            state = scheduler.step(noise, t, state).prev_sample

    return loop


class Ready(nn.Module):
    """Answers what it was given at the start."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, level: Tensor, label: Any) -> Tensor:
        return self.answer


def seconds(call: Callable[[], Any]) -> float:
    """Return this thread's CPU seconds in ``call``."""
    start = time.thread_time()
    call()
    return time.thread_time() - start


def measure(name: str, size: str, repeats: int) -> str:
    """Return one line of the table."""
    prior, batch = build(size)
    target, options, scheduler, extra = SOLVERS[name]
    method: Method = load_object(f".baselines.generation.{target}")(prior, **options)
    x = torch.randn(batch, *prior.shape)
    given: Any = Given(x)
    asked = Request("sample", {}, n=batch, rng=given, returns=Returns("image", prior.shape), budget=Budget(f"nfe{NFE}", NFE))
    calls = 2 * (NFE // 2) - 1 if name == "heun" else NFE
    level = torch.full((batch,), 0.3)
    network: Any = prior.network
    runs: dict[str, Callable[[], Any]] = {
        "loop": lambda: method.sample(asked),  # type: ignore[operator]
        "network": lambda: [network(x, level, None) for _ in range(calls)],
    }
    with contextlib.suppress(ImportError):  # without diffusers that column is left out
        runs["diffusers"] = pipeline(scheduler, extra, network, x)
    empty = build(size)[0]
    empty.network = Ready(torch.randn_like(x))
    bare: Method = load_object(f".baselines.generation.{target}")(empty, **options)
    runs["own"] = lambda: bare.sample(asked)  # type: ignore[operator]
    taken: dict[str, list[float]] = {k: [] for k in runs}
    order = list(runs)
    with torch.no_grad():
        for call in runs.values():
            call()
        for k in range(repeats):
            for run in order[k % len(order) :] + order[: k % len(order)]:
                taken[run].append(seconds(runs[run]))
        ids = [f"s{i}" for i in range(batch)]
        draw = statistics.median(seconds(lambda: Rng.for_samples(ids, 0).at("x_T").normal(prior.shape)) for _ in range(5))
    over = [a / b - 1 for a, b in zip(taken["loop"], taken["network"], strict=True)]
    line = f"{size:7s} {name:14s} loop over network {100 * statistics.median(over):+6.2f} % [{100 * min(over):+.1f}, {100 * max(over):+.1f}]"
    line += f"   own time / network {100 * min(taken['own']) / min(taken['network']):.2f} %"
    if "diffusers" in runs:
        ratios = [a / b for a, b in zip(taken["loop"], taken["diffusers"], strict=True)]
        line += f"   / diffusers {statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"
    return f"{line}   network {1e3 * statistics.median(taken['network']) / calls:.2f} ms a call; drawing x_T {1e3 * draw:.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--solvers", nargs="*", default=list(SOLVERS), choices=list(SOLVERS), metavar="NAME")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES), metavar="SIZE")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for size in args.sizes:
        for name in args.solvers:
            print(measure(name, size, args.repeats if size == "digits" else max(3, args.repeats // 2)), flush=True)


if __name__ == "__main__":
    main()
