"""Checkpoints of a training: a job that is preempted, or runs out of time, goes on where it was, and ends with exactly the same weights."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

EVERY = 60.0
"""Seconds of training between two checkpoints ($SCOREBENCH_CHECKPOINT_S replaces it); a shorter training writes none."""
_PLAIN = (int, float, bool)


def _attributes(module: Any) -> dict[str, Any]:
    """Return what a module keeps beside parameters and buffers (running averages, counters): tensors, lists of tensors, numbers."""
    own = vars(lightning.LightningModule())
    out = {}
    for name, value in vars(module).items():
        many = isinstance(value, (list, tuple)) and value and all(isinstance(v, torch.Tensor) for v in value)
        if name not in own and (many or isinstance(value, (torch.Tensor, *_PLAIN))):
            out[name] = list(value) if many else value
    return out


def _random() -> dict[str, Any]:
    """Return the state of every global generator, as tensors and plain values."""
    state: Any = np.random.get_state()
    name, keys, *rest = state
    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), *(float(r) for r in rest)],
        "python": [version, list(numbers), gauss],
    }  # fmt: skip


def _set_random(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, place, has, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), int(place), int(has), cached))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))


class Checkpoint(lightning.Callback):
    """Saves a training to ``path`` every `EVERY` seconds, and takes up the one it finds there.

    ``order`` is the sampler, which skips what was seen; ``report`` the training's report. Saving happens when a step begins, since by then
    everything of the step before is done, the module's own hooks too.
    """

    def __init__(self, path: Path, order: Any, report: Any, batch: int) -> None:
        self.path, self.order, self.report, self.batch = path, order, report, batch
        self.every = float(os.environ.get("SCOREBENCH_CHECKPOINT_S", EVERY))
        self._last = self._began = time.monotonic()
        self._restored: dict[str, Any] | None = None
        self._extra: dict[str, Any] = {}

    def found(self) -> Path | None:
        """Return the checkpoint to go on from, None when there is none that can be read."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            steps = int(state["global_step"])
        except FileNotFoundError:
            return None
        except Exception:  # torn by a full disk or an older version: the training begins anew, as without it
            self.path.unlink(missing_ok=True)
            return None
        self.order.skip = steps * self.batch
        return self.path

    def state_dict(self) -> dict[str, Any]:
        return {**self._extra, "random": _random(), "losses": list(self.report.losses), "seconds": self.seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict

    def seconds(self) -> float:
        """Return the seconds trained in all, before an interruption and after."""
        return self.report.train_s + time.monotonic() - self._began

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._restored is not None:
            state, self._restored = self._restored, None
            for name, value in state["attributes"].items():
                setattr(pl_module, name, [v.to(pl_module.device) for v in value] if isinstance(value, list) else value)
            self.report.losses[:] = [(int(s), float(v)) for s, v in state["losses"]]
            self.report.train_s = float(state["seconds"])
            self._began = time.monotonic()
            _set_random(state["random"])
        elif time.monotonic() - self._last >= self.every:
            self._extra = {"attributes": _attributes(pl_module)}
            temporary = self.path.with_suffix(f".{os.getpid()}.part")
            with suppress(OSError):  # a full disk costs the checkpoint, not the training
                trainer.save_checkpoint(temporary)
                temporary.replace(self.path)
            temporary.unlink(missing_ok=True)
            self._last = time.monotonic()
