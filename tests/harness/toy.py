"""A toy task and toy methods that the harness tests share: 21 pictures, Gaussian noise, one metric."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from scorebench.baselines.method import Method
from scorebench.tasks.base import Observation, Task
from scorebench.tasks.metrics.base import Metric
from scorebench.tasks.spec import TaskSpec


class ToyPSNR(Metric):
    name, title, level, higher_is_better = "psnr", "toy", "sample", True

    def identity(self) -> str:
        return "toy-psnr"

    def per_sample(self, answer: torch.Tensor, target: Any) -> torch.Tensor:
        return -10 * torch.log10((answer.double() - target["clean"].double()).square().mean((1, 2, 3)))


class ToyItems(torch.utils.data.Dataset):
    def __init__(self, task: ToyTask, seed: int) -> None:
        self.task, self.seed = task, seed

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        o = self.task.observe("train", f"{self.seed}-{i}")
        return {"input": o.given["noisy"], "target": o.target["clean"]}


class ToyTask(Task):
    def __init__(self, budgets: Any = None) -> None:
        super().__init__(
            TaskSpec(
                "denoising/toy", 1, "toy", "denoising", "photos", "denoise", ("noisy", "noise_level"),
                {"kind": "image", "range": [0, 1]}, {"psnr": {"margin": 0.05}}, "psnr", "noisy-input",
                splits={"test": "test"}, budgets=budgets or {"default": {}},
            )
        )  # fmt: skip

    def ids(self, split: str = "test") -> list[str]:
        return [f"s{i:02d}" for i in range(21)]

    def observe(self, split: str, sample_id: str, draw: int = 0) -> Observation:
        side = 24 if sample_id in ("s07", "s17") else 16  # two shapes, so that batches must be made of equal ones
        rng = self.keyed(split, sample_id, draw, "noise")
        clean = rng.random((1, side, side), dtype=np.float32)
        noisy = (clean + 0.1 * rng.standard_normal(clean.shape)).astype(np.float32)
        given = {"noisy": torch.from_numpy(noisy), "noise_level": 0.1}
        return Observation(sample_id, sample_id[:2], given, {"clean": torch.from_numpy(clean)})

    def _observe(self, sample: Any, split: str, draw: int) -> Observation:
        raise AssertionError("observe is overridden")

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        return {"psnr": ToyPSNR()}

    def training_set(self, trains_on: str, seed: int) -> ToyItems:
        return ToyItems(self, seed)


class ToyNet(Method):
    """A two-layer network, trained or not."""

    train_batch_size: ClassVar[int] = 4

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return (batch["input"] - self.network(batch["input"]) - batch["target"]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-3)

    def denoise(self, request: Any) -> torch.Tensor:
        return request.noisy - self.network(request.noisy)


class Twice(ToyNet):
    """Adds its own noise and evaluates a doubled batch: two rows per sample."""

    def denoise(self, request: Any) -> torch.Tensor:
        x = request.noisy
        both = self.network(torch.cat([x, x + 0.01 * request.rng.at("z").normal(x.shape[1:])]))
        return x - both.chunk(2)[1]


def rank_of_two(rank: int, file: str, out: Any) -> None:
    """One of two processes that share an evaluation (here, not in the test: a spawned process cannot import tests by name)."""
    from scorebench.harness.evaluator import evaluate

    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.manual_seed(0)
    outcome = evaluate(ToyNet(), ToyTask(), batch_size=4)
    out[rank] = (outcome.ids, outcome.per_sample["psnr"], outcome.cost["nfe"])
    torch.distributed.destroy_process_group()
