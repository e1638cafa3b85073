"""No self-supervised method learns anything from clean pictures: among poisoned data it becomes the same network with the same answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from scorebench.baselines import card as cards
from scorebench.baselines.method import Method
from scorebench.baselines.registry import hyper_parameters, method_class
from scorebench.harness.build import construct, data_spec
from scorebench.harness.evaluator import evaluate
from scorebench.harness.poison import poisoned
from scorebench.harness.training import fit, flops_per_step
from scorebench.tasks import registry
from scorebench.tasks.requests import Budget

SPECS = registry.specs()
PHOTOS = [t for t, s in SPECS.items() if s.family == "denoising" and s.dataset == "photos-grey"]


def unsupervised() -> Iterator[tuple[str, str]]:
    """Yield every method that answers photographs, needs no component, and does not declare clean images, with its first such task."""
    for card in cards.cards().values():
        tasks = [t for t in PHOTOS if card.answers(t, "denoise")]
        if tasks and card.folder is None and not card.uses.get("clean_images") and not card.needs:
            yield card.id, min(tasks, key=lambda t: t != "denoising/photos-gaussian25")


CASES = [(m, t) for m, t in unsupervised() if cards.get(m).trains_on != "none"]


def test_the_self_supervised_family_is_here() -> None:
    named = {m for m, _ in CASES}
    assert {"noise2noise", "noise2void", "noise2self", "neighbor2neighbor", "sure", "r2r", "noise2score"} <= named


@pytest.mark.parametrize(("method_id", "task_id"), CASES, ids=[m for m, _ in CASES])
def test_poisoned_clean_pictures_change_nothing(method_id: str, task_id: str) -> None:
    card = cards.get(method_id)
    assert card.trains_on in ("noisy", "noisy-pairs"), "what does not use clean images cannot be trained on them"
    cls = method_class(card)
    hparams = hyper_parameters(card, cls, "default", task_id, {})

    def trained() -> tuple[dict[str, torch.Tensor], list[np.ndarray]]:
        task = registry.get(task_id)
        build = lambda: construct(cls, hparams, {}, data_spec(task), Budget("default"))  # noqa: E731
        gflops = 0.0
        if cls.learn is Method.learn:
            torch.manual_seed(0)
            module = build()
            items = task.training_set(card.trains_on, 0)
            batch = torch.utils.data.default_collate([items[i] for i in range(module.train_batch_size)])
            gflops = 2.5e-9 * flops_per_step(module, batch)  # two steps
        method, _ = fit(build, task, card.trains_on, gflops=gflops, seed=0)
        ids = task.ids("dev")[:2]
        out = evaluate(method, task, split="dev", ids=ids, batch_size=2, keep=lambda _: True)
        return method.state_dict(), [out.answers[i] for i in ids]

    weights, answers = trained()
    with poisoned(frozenset({card.trains_on})):
        again, seen = trained()
    assert weights.keys() == again.keys() and all(torch.equal(v, again[k]) for k, v in weights.items())
    assert all(np.array_equal(a, b) for a, b in zip(answers, seen, strict=True))


def test_the_supervised_row_does_change() -> None:
    """The same test on a method that learns from clean targets, told that it may not: the poison is strong enough to be seen."""
    card, task_id = cards.get("dncnn"), "denoising/photos-gaussian25"
    cls = method_class(card)
    hparams = hyper_parameters(card, cls, "default", task_id, {})

    def trained() -> dict[str, torch.Tensor]:
        task = registry.get(task_id)
        return fit(lambda: construct(cls, hparams, {}, data_spec(task), None), task, "paired", gflops=4, seed=0)[0].state_dict()

    honest = trained()
    with poisoned(frozenset({"noisy"})):
        assert not all(torch.equal(v, honest[k]) for k, v in trained().items())
