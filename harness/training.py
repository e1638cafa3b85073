"""Fits a method or a prior to a task's training data, under the track's training budget (training samples x FLOPs)."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch.utils.data import DataLoader, Dataset, Sampler

from ..baselines.method import Method
from ..configs.errors import RequestError, RunError
from ..tasks.base import Task
from ..tasks.training_data import NOMINAL_LENGTH
from . import cost
from .checkpoint import Checkpoint


@dataclass
class Report:
    """What a fit took: seconds, training samples, GFLOPs (forward and backward), steps, the loss curve (step, loss); ``train_nfe`` is how many
    rows a method's `learn` had the networks of its roles evaluate (a search costs, too)."""

    train_s: float = 0.0
    train_samples: int = 0
    train_gflops: float = 0.0
    steps: int = 0
    params: int = 0
    train_nfe: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)


class IndexOrder(Sampler[int]):
    """Item numbers in training order: 0, 1, 2, ... for made-on-the-fly sets, keyed permutations of a finite set otherwise.

    Made-on-the-fly sets have the nominal length `NOMINAL_LENGTH`, and their items are random already. ``skip``: how many were seen before a
    training was interrupted.
    """

    def __init__(self, size: int, total: int, seed: int) -> None:
        self.size, self.total, self.seed, self.skip = size, total, seed, 0

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        return islice(self._all(), self.skip, None)

    def _all(self) -> Iterator[int]:
        if self.size >= NOMINAL_LENGTH:
            yield from (i % self.size for i in range(self.total))
            return
        done = epoch = 0
        while done < self.total:
            order = np.random.Generator(np.random.Philox(key=[self.seed, epoch])).permutation(self.size)
            yield from order[: self.total - done].tolist()
            done += self.size
            epoch += 1


class _Watch(lightning.Callback):
    """Records the loss curve, stops on NaN, reports progress."""

    def __init__(self, report: Report, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.report, self.total, self.progress = report, total, progress
        self.every = max(1, total // 100)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step % self.every and step != self.total:
            return
        value = outputs["loss"] if isinstance(outputs, dict) else outputs
        loss = float(value)
        if not math.isfinite(loss):
            raise RunError(f"training diverged: the loss was {loss} at step {step} of {self.total}.", "not-finite")
        self.report.losses.append((step, loss))
        if self.progress:
            self.progress(step, self.total)


def flops_per_step(module: Any, batch: Any) -> float:
    """Return the FLOPs of one forward and backward pass of ``training_step``, counted on a copy that is thrown away."""
    probe = copy.deepcopy(module).train()
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with cost.FlopCount() as counter:
            out = probe.training_step(batch, 0)
            loss = out["loss"] if isinstance(out, dict) else out
            loss.backward()
    return float(counter.total)


def fit(
    build: Callable[[], Any],
    task: Task,
    trains_on: str,
    *,
    gflops: float,
    seed: int,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    data: Dataset | None = None,
    logger: Any = False,
    callbacks: Sequence[lightning.Callback] = (),
    checkpoint: Path | None = None,
) -> tuple[Any, Report]:
    """Build a module under ``seed`` and fit it to the task's training data with a budget of ``gflops``.

    ``trains_on`` decides what the items hold. Returns the fitted module in eval mode and the report. ``logger`` and ``callbacks`` are
    Lightning's, and may only watch. ``checkpoint``: where a long training is saved from time to time, and taken up from.
    RunError (not-finite) when training diverges; RequestError when the budget does not buy a single step.
    """
    lightning.seed_everything(seed, verbose=False)
    module = build()
    items: Any = data if data is not None or trains_on == "none" else task.training_set(trains_on, seed)
    start = time.perf_counter()
    if isinstance(module, Method) and type(module).learn is not Method.learn:
        report = Report(train_samples=0 if items is None else len(items))
        with cost.RowCounter(module.networks()) as rows:
            module.learn(items)
        report.train_nfe = rows.forward
        report.train_s, report.params = time.perf_counter() - start, cost.parameters([module])
        return module.eval(), report
    if items is None:
        raise RequestError(f"{type(module).__name__} is fitted without data (trains_on: none), and has no learn(); declare what it trains on.")
    size = int(getattr(module, "train_batch_size", 32))
    first = next(iter(DataLoader(items, batch_size=size, sampler=IndexOrder(len(items), size, seed))))
    per_step = flops_per_step(module, first)
    if per_step <= 0:
        raise RequestError(f"no FLOPs were counted in {type(module).__name__}.training_step, so its training budget cannot be kept.")
    steps = int(gflops * 1e9 / per_step)
    if steps < 1:
        raise RequestError(
            f"a training budget of {gflops} GFLOPs does not buy one step of {type(module).__name__} ({per_step / 1e9:.1f} GFLOPs); "
            "make the network or train_batch_size smaller, or raise the task's train.gflops."
        )
    lightning.seed_everything(seed, verbose=False)  # the probe above must not matter
    module.total_steps = steps
    report = Report(steps=steps, train_samples=steps * size, train_gflops=steps * per_step / 1e9, params=cost.parameters([module]))
    order = IndexOrder(len(items), steps * size, seed)
    loader = DataLoader(items, batch_size=size, sampler=order, num_workers=0)
    saver = [] if checkpoint is None else [Checkpoint(checkpoint, order, report, size)]
    with quiet():
        trainer = lightning.Trainer(
            max_steps=steps,
            max_epochs=-1,
            accelerator="gpu" if device.startswith("cuda") else "cpu",
            devices=1,
            logger=logger,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=getattr(module, "gradient_clip", None),
            plugins=[LightningEnvironment()],
            callbacks=[_Watch(report, steps, progress), *saver, *callbacks],
        )
        try:
            trainer.fit(module, loader, ckpt_path=saver[0].found() if saver else None, weights_only=True)
        except SystemExit as e:  # Lightning turns Ctrl-C into SystemExit
            raise KeyboardInterrupt from e
    if trainer.interrupted:
        raise KeyboardInterrupt
    module.trainer = None
    report.train_s = saver[0].seconds() if saver else time.perf_counter() - start
    return module.to("cpu").eval(), report


class quiet(warnings.catch_warnings):
    """Silence Lightning's hints about loaders, GPUs and steps, which do not concern a benchmark's user."""

    def __enter__(self) -> Any:
        import logging

        self._loggers = [(logging.getLogger(n), logging.getLogger(n).level) for n in ("lightning.pytorch", "lightning.fabric", "lightning")]
        for logger, _ in self._loggers:
            logger.setLevel(logging.ERROR)
        out = super().__enter__()
        warnings.simplefilter("ignore")
        return out

    def __exit__(self, *exc: Any) -> None:
        for logger, level in self._loggers:
            logger.setLevel(level)
        super().__exit__(*exc)
