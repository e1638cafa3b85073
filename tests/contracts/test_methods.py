"""Every registered method keeps the contract: its card is true, it answers its tasks in the right shape, and batches do not matter."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from scorebench.baselines import card as cards
from scorebench.baselines import components
from scorebench.baselines.method import Method
from scorebench.baselines.registry import hyper_parameters, method_class
from scorebench.configs.loader import load_object
from scorebench.datasets import registry as datasets
from scorebench.harness.build import construct, data_spec
from scorebench.harness.evaluator import evaluate
from scorebench.tasks import registry
from scorebench.tasks.base import Task
from scorebench.tasks.requests import Budget

METHODS = sorted(cards.cards())
SAMPLES = 3


def answerable(method_id: str) -> list[str]:
    card = cards.get(method_id)
    return [t for t, s in registry.specs().items() if card.answers(t, s.ability)]


@cache
def embedded(dataset_id: str) -> bool:
    """Whether a dataset works here with no download; asked without building tasks, whose classes import libraries of their own."""
    dataset = datasets.get(dataset_id)
    return dataset.embedded and dataset.missing() is None


def smallest(method_id: str) -> list[str]:
    """Return one embedded task per ability of the method: what the quick contract test asks."""
    out: dict[str, str] = {}
    for task_id in answerable(method_id):
        spec = registry.get_spec(task_id)
        if spec.ability not in out and embedded(spec.dataset):
            out[spec.ability] = task_id
    return list(out.values())


CASES = [(m, t) for m in METHODS for t in smallest(m)]


def smallest_budget(task: Task) -> Budget:
    """Return the first budget a task declares, unbounded where it names no number of evaluations."""
    name, limits = next(iter(task.spec.budgets.items()))
    return Budget(name, limits.get("nfe"))


def build(method_id: str, task_id: str) -> Method:
    """Build a method with untrained weights: shapes and independence of batches hold before training too."""
    card = cards.get(method_id)
    cls = method_class(card)
    task = registry.get(task_id)
    torch.manual_seed(0)
    roles = {}
    for role, need in card.needs.items():
        prior = components.get(components.resolve(role, need, task.spec, method_id))
        trained_on = registry.get(prior.task) if prior.task else task
        roles[role] = construct(load_object(prior.target, prior.folder), prior.hparams, {}, data_spec(trained_on)).eval().requires_grad_(False)
    preset = "smoke" if "smoke" in card.presets else "default"  # what optimises for minutes at test time has a tiny preset for this
    hparams = hyper_parameters(card, cls, preset, task_id, {})
    method = construct(cls, hparams, roles, data_spec(task), smallest_budget(task))
    if cls.learn is not Method.learn:
        method.learn(None if card.trains_on == "none" else task.training_set(card.trains_on, 0))
    return method.eval()


@pytest.mark.parametrize("method_id", METHODS)
def test_card_is_true(method_id: str) -> None:
    card = cards.get(method_id)
    cls = method_class(card)
    assert card.id == card.path.stem, "a card's file is named after its id"
    assert answerable(method_id), "the method can answer no task"
    trainable = cls.training_step is not Method.training_step or cls.learn is not Method.learn
    fitted = card.trains_on != "none" or card.fit_per is not None  # a search needs no data
    assert trainable == fitted, f"trains_on is {card.trains_on}, and the class {'can' if trainable else 'cannot'} be fitted"
    parameters = inspect.signature(cls.__init__).parameters
    assert set(card.needs) <= set(parameters), "every role is a constructor argument"
    assert set(card.at_inference) <= set(parameters), "at_inference names hyper-parameters"
    for preset in ["default", *card.presets]:
        for task_id in answerable(method_id):
            hyper_parameters(card, cls, preset, task_id, {})
    assert cls.__doc__ and card.title


@pytest.mark.parametrize(("method_id", "task_id"), CASES, ids=[f"{m}-{t.split('/')[0]}" for m, t in CASES])
def test_answers(method_id: str, task_id: str) -> None:
    task = registry.get(task_id)
    method = build(method_id, task_id)
    budget = smallest_budget(task)
    ids = task.ids("dev")[:SAMPLES]

    def run(batch_size: int) -> Any:
        return evaluate(method, task, split="dev", ids=ids, batch_size=batch_size, budget=budget, keep=lambda _: True)

    together = run(SAMPLES)
    alone = run(1)
    assert together.ids == alone.ids == ids
    for sample_id in ids:
        a, b = (o.answers[sample_id].astype(np.float64) for o in (together, alone))
        scale = 255 if together.answers[sample_id].dtype == np.uint8 else 1
        tolerance = 1.01 / 255 if scale == 255 else 2e-3 * max(1.0, np.abs(b).max())
        np.testing.assert_allclose(a / scale, b / scale, atol=tolerance)
    again = run(SAMPLES)
    for sample_id in ids:
        np.testing.assert_array_equal(again.answers[sample_id], together.answers[sample_id])
    if budget.nfe is not None and together.cost["nfe"] is not None:
        assert together.cost["nfe"] <= budget.nfe
