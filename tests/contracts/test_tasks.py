"""Every declared task: its references exist, its observations are keyed and locked, its splits are apart, its metrics can be made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

from scorebench.baselines import card as cards
from scorebench.baselines.card import parse_variant
from scorebench.configs.loader import HERE
from scorebench.tasks import registry
from scorebench.tasks.requests import ABILITIES

TASKS = sorted(registry.specs())
LOCK = HERE / "tasks" / "observations.lock"
COMPLETE = 40
"""Up to this many samples a split's hash is recomputed in full by the default tests; larger ones by the slow test."""


def here(task_id: str):  # type: ignore[no-untyped-def]
    task = registry.get(task_id)
    if (why := task.dataset.missing()) is not None:
        pytest.skip(why)
    return task


@pytest.mark.parametrize("task_id", TASKS)
def test_declaration(task_id: str) -> None:
    spec = registry.get_spec(task_id)
    assert spec.ability in ABILITIES and spec.version >= 1
    assert set(spec.splits) == {"test", "dev"} and spec.splits["test"] != spec.splits["dev"]
    for role, text in (("do_nothing", spec.do_nothing), ("reference", spec.reference)):
        if text is not None:
            variant = parse_variant(text)
            card = cards.get(variant.method)
            card.preset(variant.preset, task_id)
            assert card.answers(task_id, spec.ability), f"{role} {text} cannot answer {task_id}"
    for name, metric in registry.get(task_id).metrics.items():
        assert registry.get(task_id).margin(name) is not None, f"{name} has no margin"
        assert metric.identity().startswith(name.split("-")[0])


@pytest.mark.parametrize("task_id", TASKS)
def test_observations_are_keyed(task_id: str) -> None:
    task = here(task_id)
    first = task.ids("test")[:3]
    assert not set(task.ids("test")) & set(task.ids("dev")) or task.family == "generation"
    backwards = {i: task.observe("test", i, 0).hash() for i in reversed(first)}
    torch.manual_seed(1)
    np.random.seed(1)
    assert backwards == {i: task.observe("test", i, 0).hash() for i in first}
    observation = task.observe("test", first[0], 0)
    unknown = [g for g in task.spec.gives if g not in observation.given and g not in observation.shared]
    assert not unknown, f"`gives` names {unknown}, which observations lack"
    for name, value in observation.given.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            assert value.dtype == torch.float32 and torch.isfinite(value).all(), name
    if "clean" in observation.target and task.spec.returns["kind"] == "image":
        clean = observation.target["clean"]
        assert clean.dtype == torch.float32 and clean.min() >= 0 and clean.max() <= 1


def locked() -> dict:
    return yaml.safe_load(LOCK.read_text())


@pytest.mark.parametrize("task_id", TASKS)
def test_lock(task_id: str) -> None:
    """The lock holds the hash of every embedded task's observations; a library upgrade that changes one is noticed here."""
    spec = registry.get_spec(task_id)
    entry = locked()["tasks"].get(f"{task_id}@{spec.version}")
    task = here(task_id)
    assert entry is not None, f"{task_id}@{spec.version} is not in {LOCK.name}; run `scorebench lock`"
    for split in ("dev", "test"):
        ids = task.ids(split)
        if len(ids) <= COMPLETE:
            got, expected = task.observation_hash(split, 0), entry[split]
        else:
            got, expected = task.observation_hash(split, 0, ids[:4]), entry[f"{split}-first4"]
        assert got == expected, f"observations of {task_id} ({split}) changed; made with {locked()['versions']}"


@pytest.mark.slow
@pytest.mark.parametrize("task_id", TASKS)
def test_lock_in_full(task_id: str) -> None:
    task = here(task_id)
    entry = locked()["tasks"][f"{task_id}@{task.version}"]
    for split in ("dev", "test"):
        assert task.observation_hash(split, 0) == entry[split]


def test_all_six_families_are_there() -> None:
    assert {registry.get_spec(t).family for t in TASKS} == {name.split(':')[0] for name in registry.CLASSES}
