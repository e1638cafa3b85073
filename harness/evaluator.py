"""Asks a method every question of a task split and scores the answers, sample by sample."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch.utils.data import DataLoader, IterableDataset

from ..baselines.method import Method
from ..configs.errors import RunError
from ..tasks.base import Observation, Task
from ..tasks.randomness import Rng
from ..tasks.requests import Budget
from . import cost
from .training import quiet


class Questions(IterableDataset):
    """Batches of observations of equal shape, made one sample at a time on the CPU."""

    def __init__(self, task: Task, split: str, ids: Sequence[str], draw: int, batch_size: int) -> None:
        self.task, self.split, self.ids, self.draw, self.batch_size = task, split, list(ids), draw, batch_size

    def __iter__(self) -> Iterator[list[Observation]]:
        waiting: dict[Any, list[Observation]] = {}
        for sample_id in self.ids:
            observation = self.task.observe(self.split, sample_id, self.draw)
            shapes = tuple((k, tuple(v.shape)) for k, v in observation.given.items() if isinstance(v, torch.Tensor))
            bucket = waiting.setdefault((shapes, self.task.answer_shape(observation)), [])
            bucket.append(observation)
            if len(bucket) == self.batch_size:
                yield bucket[:]
                bucket.clear()
        for bucket in waiting.values():
            if bucket:
                yield bucket


@dataclass
class Outcome:
    """Everything one evaluation found: per sample (by id) and as a whole."""

    ids: list[str]
    clusters: list[str]
    per_sample: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    diagnostics: dict[str, Any]
    offered: dict[str, np.ndarray]
    answers: dict[str, np.ndarray]
    observation_hashes: dict[str, str]
    cost: dict[str, Any]


@dataclass
class _Seen:
    cluster: str
    hash: str
    values: dict[str, float] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    diagnostics: dict[str, float] = field(default_factory=dict)
    offered: dict[str, list[float]] = field(default_factory=dict)
    answer: np.ndarray | None = None


class Evaluator(lightning.LightningModule):
    """Wraps a method; each `predict_step` asks one request and keeps what came back, by sample id."""

    def __init__(
        self,
        method: Method,
        task: Task,
        *,
        split: str,
        seed: int,
        draw: int,
        budget: Budget,
        keep: Callable[[str], bool],
        progress: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        self.method, self.task = method, task
        self.split, self.seed, self.draw, self.budget = split, seed, draw, budget
        self.keep, self.progress = keep, progress
        self.seen: dict[str, _Seen] = {}
        self.notes: dict[str, list[float]] = {}
        self.flops_per_sample: float | None = None
        self.stopwatch = cost.Stopwatch(torch.device("cpu"))
        self.counter = cost.RowCounter(method.networks())
        self.scored = {n: m for n, m in task.metrics.items() if m.unavailable() is None}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave observations on the CPU; the request is what moves to the device."""
        return batch

    def predict_step(self, observations: list[Observation], batch_idx: int) -> None:
        """Ask one request and score its answers."""
        ids = [o.sample_id for o in observations]
        rng = Rng.for_samples(ids, "inference", self.task.id, self.task.version, self.split, self.seed, self.draw)
        request = self.task.request(observations, rng, self.budget)
        if self.device.type != "cpu":
            request = request.to(self.device)
        self.stopwatch.device = self.device
        counting = cost.FlopCount() if self.flops_per_sample is None else contextlib.nullcontext()
        seeded = _seeded(ids[0], self.seed) if self.method.one_at_a_time else contextlib.nullcontext()
        with (
            torch.set_grad_enabled(self.method.needs_grad),
            seeded,
            counting as counter,
            self.counter,
            self.stopwatch.request(len(ids)),
        ):
            answer = self.task.ask(self.method, request, observations)
        if counter is not None:
            self.flops_per_sample = counter.total / len(ids)
        # a precision belongs to the method: metrics keep theirs, whatever Lightning's autocast says
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast(self.device.type, enabled=False):
            self._score(observations, self.task.accept(answer, request, observations))
            self._take_notes(observations, request)
        if self.budget.nfe is not None and self.counter.forward > self.budget.nfe * len(self.seen):
            raise RunError(
                f"{self.counter.forward / len(self.seen):.4g} network evaluations per sample exceed the budget {self.budget.name} "
                f"({self.budget.nfe}).",
                "over-budget",
            )
        if self.progress:
            self.progress(len(self.seen))

    def _score(self, observations: list[Observation], answer: torch.Tensor) -> None:
        for o in observations:
            self.seen[o.sample_id] = _Seen(o.cluster, o.hash())
        target = self.task.target(observations)
        for name, metric in self.scored.items():
            if metric.level == "sample":
                for o, value in zip(observations, metric.per_sample(answer, target).tolist(), strict=True):
                    self.seen[o.sample_id].values[name] = value
            else:
                rows = metric.features(answer, target).detach().cpu().numpy().astype(np.float32)
                for o, row in zip(observations, rows, strict=True):
                    self.seen[o.sample_id].features[name] = row
        for o, a in zip(observations, answer, strict=True):
            if self.keep(o.sample_id):
                self.seen[o.sample_id].answer = _compact(a, self.task.spec.returns["kind"])

    def _take_notes(self, observations: list[Observation], request: Any) -> None:
        diagnostics, offered = self.method.take_notes()
        for name, values in diagnostics.items():
            for value in values:
                if isinstance(value, torch.Tensor) and value.ndim == 1 and len(value) == len(observations):
                    for o, v in zip(observations, value.tolist(), strict=True):
                        self.seen[o.sample_id].diagnostics[name] = v
                else:
                    self.notes.setdefault(name, []).append(float(value))
        primary = self.scored.get(self.task.spec.primary)
        if primary is None or primary.level != "sample":
            return
        target = self.task.target(observations)
        for name, answers in offered.items():
            for intermediate in answers:
                values = primary.per_sample(self.task.accept(intermediate, request, observations), target).tolist()
                for o, v in zip(observations, values, strict=True):
                    self.seen[o.sample_id].offered.setdefault(name, []).append(v)


@contextlib.contextmanager
def _seeded(sample_id: str, seed: int) -> Iterator[None]:
    """Fork the global generators and seed them for one sample, for methods built on libraries that draw from them."""
    from ..tasks.randomness import key_bytes

    value = int.from_bytes(key_bytes("global", sample_id, seed)[:4], "little")
    python, numpy_state = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(value)
        np.random.seed(value)
        random.seed(value)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)


def _compact(answer: torch.Tensor, kind: str) -> np.ndarray:
    """Return an answer small enough to keep: images rounded to 8 bits, everything else as float16."""
    if kind == "image":
        return (answer.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return answer.numpy().astype(np.float16)


def evaluate(
    method: Method,
    task: Task,
    *,
    split: str = "test",
    seed: int = 0,
    draw: int = 0,
    budget: Budget | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    precision: str = "32",
    ids: Sequence[str] | None = None,
    keep: Callable[[str], bool] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Ask ``method`` every question of ``task`` (or those of ``ids``) and return the outcome.

    Under torch.distributed every rank takes ``ids[rank::world]`` and all ranks return the whole outcome: each sample counts once on any
    number of devices. ``keep`` says of which samples the answer is kept. Raises RunError for a wrong shape, NaN or an exceeded budget.
    """
    ids = list(task.ids(split) if ids is None else ids)
    rank, world = 0, 1
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed:
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    size = 1 if method.one_at_a_time else (batch_size or task.spec.batch_size)
    lightning.seed_everything(seed, verbose=False)
    method.eval()
    evaluator = Evaluator(
        method, task, split=split, seed=seed, draw=draw, budget=budget or Budget(), keep=keep or (lambda _: False), progress=progress
    )
    questions = Questions(task, split, ids[rank::world], draw, size)
    memory = cost.PeakMemory(torch.device(device))
    with quiet():
        trainer = lightning.Trainer(
            accelerator="gpu" if device.startswith("cuda") else "cpu",
            devices=[int(device.partition(":")[2] or 0)] if device.startswith("cuda") else 1,
            precision=precision,  # type: ignore[arg-type]
            inference_mode=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[LightningEnvironment()],
        )
        try:
            trainer.predict(evaluator, DataLoader(questions, batch_size=None, num_workers=0), return_predictions=False)
        except SystemExit as e:  # Lightning turns Ctrl-C into SystemExit
            raise KeyboardInterrupt from e
    if trainer.interrupted:
        raise KeyboardInterrupt
    seen, counter = evaluator.seen, evaluator.counter
    rows = [counter.forward, counter.backward]
    if distributed:
        gathered: list[Any] = [None] * world
        torch.distributed.all_gather_object(gathered, (seen, rows, evaluator.notes))
        seen = {k: v for part, _, _ in gathered for k, v in part.items()}
        rows = [sum(part[1][i] for part in gathered) for i in (0, 1)]
    if set(seen) != set(ids):
        lost = [i for i in ids if i not in seen]
        raise RunError(f"{len(lost)} of {len(ids)} samples have no answer (first: {lost[0] if lost else 'unexpected extra'}).", "wrong-output")
    networks = list({id(n): n for n in method.networks()}.values())
    summary = {
        "nfe": rows[0] / len(ids) if counter.counts else None,
        "backward": rows[1] / len(ids) if counter.counts else None,
        "params": cost.parameters(networks) if networks else 0,
        "flops_per_sample": evaluator.flops_per_sample,
        **evaluator.stopwatch.summary(),
        "peak_mb": memory.read(),
        "batch_size": size,
    }
    return _outcome(ids, seen, evaluator, summary)


def _outcome(ids: list[str], seen: dict[str, _Seen], evaluator: Evaluator, summary: dict[str, Any]) -> Outcome:
    first = seen[ids[0]]
    nan = float("nan")
    diagnostics: dict[str, Any] = {n: float(np.mean(v)) for n, v in evaluator.notes.items()}
    diagnostics |= {n: np.array([seen[i].diagnostics.get(n, nan) for i in ids]) for n in first.diagnostics}
    return Outcome(
        ids=ids,
        clusters=[seen[i].cluster for i in ids],
        per_sample={n: np.array([seen[i].values[n] for i in ids]) for n in first.values},
        features={n: np.stack([seen[i].features[n] for i in ids]) for n in first.features},
        diagnostics=diagnostics,
        offered={n: np.array([seen[i].offered[n] for i in ids]) for n in first.offered},
        answers={i: a for i in ids if (a := seen[i].answer) is not None},
        observation_hashes={i: seen[i].hash for i in ids},
        cost=summary,
    )
