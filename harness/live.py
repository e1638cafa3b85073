"""Live logging of trainings to Weights & Biases (``scorebench run --live``): losses, learning rates, and sample pictures every so often.

The command line puts what is wanted into the environment, and workers find it there. Watching changes no weight: pictures are made by a copy of
the module, with the global generators put back afterwards. They take time, which counts into ``train_s``.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch

from ..configs.errors import ScorebenchError
from ..leaderboards import pictures
from ..leaderboards.wandb_client import Target, environment, start
from ..leaderboards.wandb_plan import RunPlan, slug, tags
from ..tasks.randomness import Rng

if TYPE_CHECKING:
    from ..tasks.base import Task
    from .build import Watch
    from .unit import ArtifactRef

VARIABLE = "SCOREBENCH_LIVE"
LOSSES = 200
"""How many losses a training logs."""
PICTURES = 8
"""How many times a training shows samples."""
SAMPLES = 4


def enable(target: Target) -> None:
    """Ask this process and those it starts to log trainings to ``target``."""
    os.environ[VARIABLE] = json.dumps({**vars(target), "store": str(target.store)})


def watcher() -> Watch | None:
    """Return what watches trainings in this process, None when nobody asked."""
    asked = os.environ.get(VARIABLE)
    if not asked:
        return None
    given = json.loads(asked)
    target = Target(**{**given, "store": Path(given["store"])})
    return lambda ref, task: watch(target, ref, task)


def watch(target: Target, ref: ArtifactRef, task: Task) -> Mapping[str, Any]:
    """Begin the run of a training and return the logger and callbacks for it; nothing, with a word on stderr, when W&B does not take it."""
    from lightning.pytorch.loggers import WandbLogger

    try:
        with environment(target):
            run = start(target, plan(ref, task))
    except Exception as e:  # a training that nobody watches is better than none
        print(f"live logging of {ref} is off: {' '.join(str(e).split())[:300]}", file=sys.stderr)
        return {}
    remember(target.store, run.id)
    return {"logger": WandbLogger(experiment=run), "callbacks": [LiveLog(run, ref, task)]}


def plan(ref: ArtifactRef, task: Task) -> RunPlan:
    """Return the run of a training. `publish` adds the checkpoint to a run of the same id later."""
    config = {"owner": ref.owner, "kind": ref.kind, "seed": ref.seed, "key": ref.key, "task": ref.task, "trains_on": ref.trains_on,
              "hparams": dict(ref.hparams), "gflops": ref.gflops, "dataset": task.spec.dataset}  # fmt: skip
    labels = tags(ref.kind, ref.owner, "live")
    return RunPlan(run_id(ref.key), str(ref), task.id, "train", labels, json.loads(json.dumps(config, default=str)), {})


def run_id(key: str) -> str:
    """Return the id of a component's training run, live or published."""
    return slug(f"train-{key[:16]}")


def remember(store: Path, run: str) -> None:
    """Note that a run has its losses already, so that `publish` does not log them again."""
    path = store / "publish" / "live.txt"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as f:
            f.write(f"{run}\n")


class LiveLog(lightning.Callback):
    """Logs ``loss``, ``lr`` and, where the licence of the data allows, ``samples``: what was given, answered and hidden, side by side."""

    def __init__(self, run: Any, ref: ArtifactRef, task: Task) -> None:
        self.run, self.ref, self.task = run, ref, task
        self.shows = task.dataset.pixels != "never"
        self.every = self.every_picture = 1

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        total = int(trainer.max_steps)
        self.every, self.every_picture = max(1, total // LOSSES), max(1, total // PICTURES)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step % self.every == 0:
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            rates = {f"lr{k or ''}": float(o.param_groups[0]["lr"]) for k, o in enumerate(trainer.optimizers)}
            self._log({"loss": float(loss), **rates}, step)
        if self.shows and step % self.every_picture == 0:
            try:
                with untouched():
                    shown = samples(copy.deepcopy(module).eval(), self.ref, self.task, batch)
            except (ScorebenchError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError) as e:
                self.shows = False  # half-trained, or a module that answers nothing yet; the losses go on
                print(f"live logging of {self.ref} shows no samples: {type(e).__name__}: {' '.join(str(e).split())[:200]}", file=sys.stderr)
                return
            if shown is not None:
                self._log({"samples": shown}, step)

    def _log(self, values: dict[str, Any], step: int) -> None:
        import wandb

        made = {k: wandb.Image(v, caption="given | answer | clean") if isinstance(v, np.ndarray) else v for k, v in values.items()}
        self.run.log(made | {"step": step})

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.run.finish()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self.run.finish(exit_code=1)


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Put the global generators back afterwards, and compute no gradients."""
    python, numpy_state = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)


def samples(module: Any, ref: ArtifactRef, task: Task, batch: Any) -> np.ndarray | None:
    """Return what a module makes of a few samples as one picture (one row a sample), None where there is nothing to be seen.

    A fit answers the task's first dev samples; a prior denoises training samples at the middle of its time.
    """
    rows = list(_denoised(module, batch)) if ref.kind == "prior" else list(_answers(module, task))
    flat = [pictures.pixels(a.numpy(), *pictures.span([a.numpy()])) for row in rows for a in row if a.ndim == 3 and a.shape[0] in (1, 3)]
    if len(flat) < 2 * len(rows) or len({f.shape for f in flat}) > 1:
        return None
    return pictures.montage(flat, len(flat) // len(rows))


def _denoised(prior: Any, batch: Any) -> Iterator[list[torch.Tensor]]:
    x0 = prior.encode(batch["target"][:SAMPLES])
    t = torch.tensor(0.5 * float(prior.schedule.t_max))
    noisy = prior.schedule.alpha(t).to(x0) * x0 + prior.schedule.sigma(t).to(x0) * torch.randn_like(x0)
    answer = prior.decode(prior.denoised(noisy, t))
    for given, out, clean in zip(prior.decode(noisy), answer, prior.decode(x0), strict=True):
        yield [given.detach().cpu().float(), out.detach().cpu().float().clamp(0, 1), clean.detach().cpu().float()]


def _answers(method: Any, task: Task) -> Iterator[list[torch.Tensor]]:
    split = "dev" if "dev" in task.spec.splits else next(iter(task.spec.splits))
    for sample_id in task.ids(split)[:SAMPLES]:
        observation = task.observe(split, sample_id)
        request = task.request([observation], Rng.for_samples([sample_id], "live", task.id), None)
        answer = task.ask(method, request.to(method.device), [observation])
        given = next((v for v in observation.given.values() if isinstance(v, torch.Tensor) and v.ndim == 3), None)
        parts = [given, answer[0].detach().cpu().float(), observation.target.get("clean")]
        yield [p.clamp(0, 1) for p in parts if isinstance(p, torch.Tensor) and p.ndim == 3]
