"""One of two processes that score 21 images together; run by test_processes."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import torch
from torch import distributed

from scorebench.tasks.metrics.frechet import Moments
from scorebench.tasks.metrics.registry import make

COUNT = 21
SAMPLE, SET = ("psnr", "ssim", "nmse"), ("fd-digits", "sliced-wasserstein")


def pairs(i: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return image i and its clean version: a function of i alone."""
    g = torch.Generator().manual_seed(i)
    clean = torch.rand(1, 1, 16, 16, generator=g)
    return (clean + 0.1 * torch.randn(clean.shape, generator=g)).clamp(0, 1), clean


def score(ids: range) -> tuple[dict[str, dict[int, float]], dict[str, dict[int, torch.Tensor]], Moments]:
    """Return per-sample values, per-sample feature rows, and the moments of the digits features."""
    values: dict[str, dict[int, float]] = {n: {} for n in SAMPLE}
    rows: dict[str, dict[int, torch.Tensor]] = {n: {} for n in SET}
    moments = Moments()
    for i in ids:
        answer, clean = pairs(i)
        for name in SAMPLE:
            values[name][i] = float(make(name).per_sample(answer, {"clean": clean}))
        for name in SET:
            rows[name][i] = make(name).features(answer[:, :, :8, :8].contiguous(), {})[0]
        moments.add(rows["fd-digits"][i][None].numpy())
    return values, rows, moments


def main(rank: int, folder: Path) -> None:
    """Score every second image, gather, and (as rank 0) write what both have."""
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    parts: list = [None, None]
    distributed.all_gather_object(parts, score(range(COUNT)[rank::2]))
    if rank == 0:
        (folder / "gathered.pkl").write_bytes(pickle.dumps(parts))
    distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), Path(sys.argv[2]))
