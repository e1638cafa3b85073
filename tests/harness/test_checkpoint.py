"""A training that is interrupted and taken up again ends with exactly the weights of one that was not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy import ToyNet, ToyTask

from scorebench.harness import training


class Averaging(ToyNet):
    """Everything a training may keep: global noise in its steps, momentum, a schedule, a running average outside of the state, a counter."""

    def on_train_start(self) -> None:
        self.average = [p.detach().clone() for p in self.parameters()]
        self.steps_seen = 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        noisy = {**batch, "input": batch["input"] + 0.05 * torch.randn_like(batch["input"])}
        return super().training_step(noisy, batch_idx)

    def on_train_batch_end(self, *args: Any) -> None:
        self.steps_seen += 1
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters()], 1 / (1 + self.steps_seen))

    def on_train_end(self) -> None:
        with torch.no_grad():
            for p, a in zip(self.parameters(), self.average, strict=True):
                p.copy_(a)

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.Adam(self.parameters(), 1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.total_steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Killed(Exception):
    """The job was preempted."""


class Preemption(lightning.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            raise Killed


def fit(checkpoint: Path | None, *stops: int) -> tuple[Any, Any]:
    for stop in stops:
        with pytest.raises(Killed):
            training.fit(
                Averaging, ToyTask(), "paired", gflops=0.02, seed=3, checkpoint=checkpoint, callbacks=[Preemption(stop)]
            )
        assert checkpoint is not None and checkpoint.exists()
    return training.fit(Averaging, ToyTask(), "paired", gflops=0.02, seed=3, checkpoint=checkpoint)


def test_taken_up_twice_ends_with_exactly_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREBENCH_CHECKPOINT_S", "0")
    calm, report = fit(None)
    assert report.steps > 20
    module, resumed = fit(tmp_path / "c.ckpt", 7, 15)
    assert module.steps_seen == calm.steps_seen == report.steps
    for (name, one), other in zip(module.state_dict().items(), calm.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert resumed.losses == report.losses and resumed.train_s > 0


def test_without_the_checkpoint_the_weights_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above could not fail if stopping changed nothing: a start from the checkpoint's weights alone ends elsewhere."""
    monkeypatch.setenv("SCOREBENCH_CHECKPOINT_S", "0")
    monkeypatch.setattr("scorebench.harness.checkpoint._set_random", lambda state: None)
    calm, _ = fit(None)
    module, _ = fit(tmp_path / "c.ckpt", 7)
    assert not all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), calm.state_dict().values(), strict=True))


def test_a_damaged_checkpoint_is_left_and_a_short_training_writes_none(tmp_path: Path) -> None:
    path = tmp_path / "c.ckpt"
    path.write_bytes(b"torn")
    module, _ = fit(path)
    assert not path.exists() and not list(tmp_path.iterdir())
    calm, _ = fit(None)
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), calm.state_dict().values(), strict=True))
