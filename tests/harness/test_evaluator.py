"""The evaluator: every sample asked once, batch-independent, counted, and wrong answers refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).parent))
from toy import ToyNet, ToyTask, Twice, rank_of_two

from scorebench.configs.errors import RunError
from scorebench.harness.evaluator import evaluate
from scorebench.tasks.requests import Budget


def build(cls: type = ToyNet) -> Any:
    torch.manual_seed(0)
    return cls()


@pytest.mark.parametrize("cls", [ToyNet, Twice])
def test_batch_size_does_not_matter(cls: type) -> None:
    one, eight = (evaluate(build(cls), ToyTask(), batch_size=b) for b in (1, 8))
    assert one.ids == eight.ids == ToyTask().ids()
    assert one.observation_hashes == eight.observation_hashes
    np.testing.assert_allclose(one.per_sample["psnr"], eight.per_sample["psnr"], atol=1e-3)
    again = evaluate(build(cls), ToyTask(), batch_size=8)
    np.testing.assert_array_equal(again.per_sample["psnr"], eight.per_sample["psnr"])


def test_rows_are_counted_where_the_network_is() -> None:
    assert evaluate(build(), ToyTask(), batch_size=8).cost["nfe"] == 1
    out = evaluate(build(Twice), ToyTask(), batch_size=8)
    assert out.cost["nfe"] == 2 and out.cost["backward"] == 0
    assert out.cost["params"] == 8 * 9 + 8 + 8 * 9 + 1
    side = 16  # the first request's pictures
    assert out.cost["flops_per_sample"] == 2 * 2 * side * side * 2 * 8 * 9  # multiply and add, two layers, two rows


def test_over_budget_fails() -> None:
    evaluate(build(Twice), ToyTask(), budget=Budget("nfe2", 2))
    with pytest.raises(RunError, match="exceed the budget nfe1") as e:
        evaluate(build(Twice), ToyTask(), budget=Budget("nfe1", 1))
    assert e.value.kind == "over-budget"


def wrong(answer: Any) -> Any:
    class Wrong(ToyNet):
        def denoise(self, request: Any) -> Any:
            return answer(request)

    return build(Wrong)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda r: r.noisy * float("nan"), "not-finite", "NaN"),
        (lambda r: r.noisy[..., :-1], "wrong-output", "expects"),
        (lambda r: r.noisy.numpy(), "wrong-output", "expects a tensor"),
        (lambda r: r.clean, "error", "does not give 'clean'"),
    ],
)
def test_wrong_answers_are_refused(answer: Any, kind: str, words: str) -> None:
    with pytest.raises(RunError, match=words) as e:
        evaluate(wrong(answer), ToyTask())
    assert e.value.kind == kind


def test_gradients_are_off_unless_needed() -> None:
    class Grad(ToyNet):
        needs_grad = True

        def denoise(self, request: Any) -> torch.Tensor:
            x = request.noisy.requires_grad_(True)
            (g,) = torch.autograd.grad(self.network(x).square().sum(), x)
            return x - 0.01 * g

    class Off(ToyNet):
        def denoise(self, request: Any) -> torch.Tensor:
            assert not torch.is_grad_enabled()
            return request.noisy

    out = evaluate(build(Grad), ToyTask(), batch_size=8)
    assert out.cost["nfe"] == 1 and out.cost["backward"] == 1
    evaluate(build(Off), ToyTask())


def test_one_at_a_time_methods_may_use_the_global_generator() -> None:
    class Library(ToyNet):
        one_at_a_time = True

        def denoise(self, request: Any) -> torch.Tensor:
            assert request.n == 1
            return request.noisy + 0.1 * torch.randn_like(request.noisy)

    a = evaluate(build(Library), ToyTask()).per_sample["psnr"]
    few = ToyTask().ids()[5:9]
    b = evaluate(build(Library), ToyTask(), ids=few).per_sample["psnr"]
    np.testing.assert_array_equal(a[5:9], b)


def test_diagnostics_and_intermediates_are_scored_by_the_harness() -> None:
    class Notes(ToyNet):
        def denoise(self, request: Any) -> torch.Tensor:
            for scale in (1.0, 0.9, 0.5):
                self.offer("path", request.noisy * scale)
            self.diagnose("residual", request.noisy.mean((1, 2, 3)))
            self.diagnose("rate", 0.5)
            return request.noisy

    out = evaluate(build(Notes), ToyTask(), batch_size=8)
    assert out.offered["path"].shape == (21, 3)
    np.testing.assert_allclose(out.offered["path"][:, 0], out.per_sample["psnr"])
    assert out.diagnostics["residual"].shape == (21,) and out.diagnostics["rate"] == 0.5


@pytest.mark.slow
def test_two_processes_count_21_samples_not_22(tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    with context.Manager() as manager:
        out = manager.dict()
        processes = [context.Process(target=rank_of_two, args=(r, str(tmp_path / "sync"), out)) for r in (0, 1)]
        for p in processes:
            p.start()
        for p in processes:
            p.join(120)
        results = dict(out)
    alone = evaluate(build(), ToyTask(), batch_size=4)
    for rank in (0, 1):
        ids, values, nfe = results[rank]
        assert ids == alone.ids and len(values) == 21 and nfe == 1
        np.testing.assert_allclose(values, alone.per_sample["psnr"], atol=1e-3)
