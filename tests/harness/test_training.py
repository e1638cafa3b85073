"""Training: the budget is kept, the order is keyed, divergence is a failure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from toy import ToyNet, ToyTask

from scorebench.configs.errors import RequestError, RunError
from scorebench.harness.evaluator import evaluate
from scorebench.harness.training import IndexOrder, fit


def test_budget_is_kept_and_training_helps() -> None:
    net, report = fit(ToyNet, ToyTask(), "paired", gflops=0.6, seed=0)
    per_step = report.train_gflops / report.steps
    assert 0.6 - per_step < report.train_gflops <= 0.6
    assert report.train_samples == report.steps * 4 and report.losses[-1][0] == report.steps
    torch.manual_seed(1)
    assert evaluate(net, ToyTask()).per_sample["psnr"].mean() > evaluate(ToyNet(), ToyTask()).per_sample["psnr"].mean()


def test_same_seed_same_weights() -> None:
    a, b, c = (fit(ToyNet, ToyTask(), "paired", gflops=0.05, seed=s)[0] for s in (3, 3, 4))
    for (name, x), y, z in zip(a.state_dict().items(), b.state_dict().values(), c.state_dict().values(), strict=True):
        assert torch.equal(x, y), name
        assert not torch.equal(x, z), name


def test_divergence_is_a_failure() -> None:
    class Diverges(ToyNet):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step(batch, batch_idx) * float("inf")

    with pytest.raises(RunError, match="diverged") as e:
        fit(Diverges, ToyTask(), "paired", gflops=0.05, seed=0)
    assert e.value.kind == "not-finite"


def test_a_budget_too_small_for_one_step_is_refused() -> None:
    with pytest.raises(RequestError, match="does not buy one step"):
        fit(ToyNet, ToyTask(), "paired", gflops=1e-9, seed=0)


@given(size=st.integers(1, 30), total=st.integers(1, 100), seed=st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_index_order(size: int, total: int, seed: int) -> None:
    order = list(IndexOrder(size, total, seed))
    assert len(order) == len(list(IndexOrder(size, total, seed))) == total and order == list(IndexOrder(size, total, seed))
    assert len(set(order)) == min(size, total)
    for start in range(0, total - size + 1, size):
        assert sorted(order[start : start + size]) == list(range(size))


def test_a_finite_set_is_shuffled_even_when_the_budget_buys_less_than_one_pass() -> None:
    orders = [list(IndexOrder(1000, 50, seed)) for seed in (0, 1)]
    assert orders[0] != orders[1] and max(orders[0]) > 500
    assert list(IndexOrder(1_000_000, 5, 7)) == [0, 1, 2, 3, 4]  # made on the fly: item i is random already
