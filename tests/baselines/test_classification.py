"""Classifiers against scikit-learn, closed forms and the claims of their cards at the embedded scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Sklearn

from scorebench.baselines.classification.logistic_regression import LogisticRegression
from scorebench.baselines.classification.majority_class import MajorityClass
from scorebench.baselines.classification.plain_cnn import PlainCNN, small_cnn
from scorebench.baselines.method import DataSpec
from scorebench.harness.evaluator import evaluate
from scorebench.harness.training import fit
from scorebench.tasks import registry
from scorebench.tasks.finite import FiniteSet
from scorebench.tasks.randomness import Rng
from scorebench.tasks.requests import Request, Returns

DIGITS = DataSpec("image", 1, (1, 8, 8), 10)


def request(image: torch.Tensor, classes: int) -> Request:
    n = len(image)
    return Request("logits", {"image": image}, n=n, rng=Rng(range(n)), returns=Returns("logits", (classes,)))


def test_majority_class_answers_the_shares() -> None:
    label = torch.tensor([2] * 6 + [0] * 3)
    method = MajorityClass(DataSpec("image", 1, (1, 2, 2), 3))
    method.learn(FiniteSet({"input": torch.zeros(9, 1, 2, 2), "label": label}))
    out = method.logits(request(torch.zeros(4, 1, 2, 2), 3))
    assert out.shape == (4, 3) and (out.argmax(1) == 2).all()
    assert torch.allclose(out[0].exp(), torch.tensor([4.0, 1.0, 7.0]) / 12)  # one added to each count
    assert torch.allclose(out.exp().sum(1), torch.ones(4))


@pytest.mark.parametrize("c", [0.1, 1.0])
def test_logistic_regression_finds_scikit_learns_optimum(c: float) -> None:
    data = registry.get("classification/digits").training_set("paired", 0)
    x, y = data.columns["input"][:400], data.columns["label"][:400]  # type: ignore[attr-defined]
    method = LogisticRegression(DIGITS, inverse_penalty=c)
    method.learn(FiniteSet({"input": x, "label": y}))
    flat = x.flatten(1).double()
    scaled = ((flat - flat.mean(0)) / flat.std(0).clamp_min(1e-3)).numpy()
    theirs = Sklearn(C=c, tol=1e-8, max_iter=2000).fit(scaled, y.numpy())
    ours = method.logits(request(x, 10)).double()
    probabilities = torch.softmax(ours, 1).numpy()
    assert np.abs(probabilities - theirs.predict_proba(scaled)).max() < 2e-3
    assert np.abs(method.weight.numpy() - theirs.coef_).max() < 5e-3


def test_logistic_regression_survives_rounding() -> None:
    """Stored weights are float16: accuracy on the test digits must not hang on the digits that are lost."""
    task = registry.get("classification/digits")
    method, report = fit(lambda: LogisticRegression(DIGITS), task, "paired", gflops=1, seed=0)
    assert report.steps == 0 and report.train_samples == 1079
    exact = evaluate(method, task).per_sample["accuracy"]
    method.weight.copy_(method.weight.half().float())
    rounded = evaluate(method, task).per_sample["accuracy"]
    assert exact.mean() > 0.93
    assert np.abs(exact - rounded).sum() <= 1


def test_plain_cnn_is_the_network_of_the_catalogue() -> None:
    net = small_cnn(1, 10)
    widths = [m.out_channels for m in net if isinstance(m, torch.nn.Conv2d)]
    assert widths == [32, 64, 128]
    assert sum(p.numel() for p in net.parameters()) == 9 * (32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + 128 * 10 + 10


def test_plain_cnn_fits_a_separable_toy_problem() -> None:
    """Bright left half against bright right half: solved in a few steps, and the logits do not depend on the batch."""
    g = torch.Generator().manual_seed(0)
    x, y = 0.3 * torch.rand(200, 1, 8, 8, generator=g), torch.arange(200) % 2
    x[y == 0, :, :, :4] += 0.5
    x[y == 1, :, :, 4:] += 0.5
    method, report = fit(
        lambda: PlainCNN(DataSpec("image", 1, (1, 8, 8), 2), width=8), registry.get("classification/digits"), "paired",
        gflops=0.6, seed=0, data=FiniteSet({"input": x, "label": y}),
    )  # fmt: skip
    assert 10 < report.steps < 200
    with torch.no_grad():
        out = method.logits(request(x, 2))
        alone = method.logits(request(x[:1], 2))
    assert (out.argmax(1) == y).float().mean() > 0.95
    assert torch.allclose(out[:1], alone, atol=1e-5)


@pytest.mark.slow
def test_plain_cnn_beats_logistic_regression_and_noise_costs_accuracy() -> None:
    """The catalogue's claim: at least 97 % on digits with clean labels."""
    scores = {}
    for task_id in ("classification/digits", "classification/digits-noisy-labels40"):
        task = registry.get(task_id)
        for make in (PlainCNN, LogisticRegression):
            assert task.spec.train is not None
            method, _ = fit(lambda make=make: make(DIGITS), task, "paired", gflops=task.spec.train["gflops"], seed=0)
            scores[task_id, make] = evaluate(method, task).per_sample["accuracy"].mean()
    assert scores["classification/digits", PlainCNN] >= 0.97
    assert scores["classification/digits", PlainCNN] > scores["classification/digits", LogisticRegression]
    assert scores["classification/digits-noisy-labels40", PlainCNN] < scores["classification/digits", PlainCNN] - 0.03
