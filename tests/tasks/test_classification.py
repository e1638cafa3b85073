"""Classification tasks: pictures as they are, clean labels scored, and one fixed draw of noisy training labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scorebench.configs.errors import RequestError
from scorebench.datasets import registry as datasets
from scorebench.tasks import registry

CLEAN, NOISY = "classification/digits", "classification/digits-noisy-labels40"


def labels(task_id: str, seed: int = 0) -> np.ndarray:
    items = registry.get(task_id).training_set("paired", seed)
    return np.array([int(items[i]["label"]) for i in range(len(items))])  # type: ignore[arg-type]


@pytest.mark.parametrize("task_id", [CLEAN, NOISY])
def test_pictures_are_given_as_they_are_and_labels_scored_are_clean(task_id: str) -> None:
    task, dataset = registry.get(task_id), datasets.get("digits")
    for split in ("test", "dev"):
        for sample_id in task.ids(split)[:50]:
            o, sample = task.observe(split, sample_id), dataset.sample(split, sample_id)
            assert list(o.given) == ["image"] and np.array_equal(o.given["image"].numpy(), sample["image"])
            assert int(o.target["label"]) == sample["label"] and o.cluster == sample.cluster
    assert task.observe("test", task.ids("test")[0], draw=5).hash() == task.observe("test", task.ids("test")[0]).hash()


def test_symmetric_noise_is_what_it_says() -> None:
    clean, noisy = labels(CLEAN), labels(NOISY)
    n, flipped = len(clean), clean != noisy
    assert abs(flipped.mean() - 0.4) < 4 * (0.24 / n) ** 0.5
    # flipped labels are uniform over the nine others, by class and by offset
    offsets = np.bincount((noisy - clean)[flipped] % 10, minlength=10)[1:]
    expected = flipped.sum() / 9
    assert ((offsets - expected) ** 2 / expected).sum() < 27.9  # chi-squared, 8 degrees of freedom, p = 0.0005
    by_class = np.array([flipped[clean == k].mean() for k in range(10)])
    assert (np.abs(by_class - 0.4) < 4 * (0.24 / (n / 10)) ** 0.5).all()


def test_the_noise_is_one_fixed_draw() -> None:
    assert np.array_equal(labels(NOISY, 0), labels(NOISY, 99)), "the seed of a training does not redraw the data set"
    task = registry.get(NOISY)
    other = [task.noisy_label(f"{i:04d}", 3, {"rate": 0.4, "version": 2}) for i in range(200)]  # type: ignore[attr-defined]
    this = [task.noisy_label(f"{i:04d}", 3, {"rate": 0.4, "version": 1}) for i in range(200)]  # type: ignore[attr-defined]
    assert other != this
    more = [task.noisy_label(f"{i:04d}", 3, {"rate": 0.6, "version": 1}) for i in range(200)]  # type: ignore[attr-defined]
    assert all(m == t for t, m in zip(this, more, strict=True) if t != 3), "a higher rate keeps the flips of a lower one"
    assert {task.noisy_label(f"{i}", 3, {"rate": 0.0}) for i in range(50)} == {3}  # type: ignore[attr-defined]
    assert 3 not in {task.noisy_label(f"{i}", 3, {"rate": 1.0}) for i in range(50)}  # type: ignore[attr-defined]


def test_only_labels_differ_between_the_tasks() -> None:
    a, b = (registry.get(t).training_set("paired", 0) for t in (CLEAN, NOISY))
    assert set(a[0]) == {"input", "label"}
    assert all(torch.equal(a[i]["input"], b[i]["input"]) for i in range(0, len(a), 37))  # type: ignore[arg-type]
    keys = [registry.get(t).training_key("paired") for t in (CLEAN, NOISY)]
    assert keys[0] != keys[1], "a fit on noisy labels is never taken for one on clean labels"


@pytest.mark.parametrize("noise", [{"kind": "pairs", "rate": 0.4}, {"kind": "symmetric", "rate": 1.4}])
def test_bad_noise_is_refused(noise: dict) -> None:
    with pytest.raises(RequestError, match="accepted: kind symmetric, rate from 0 to 1"):
        registry.get(NOISY).noisy_label("0001", 3, noise)  # type: ignore[attr-defined]


def test_what_is_not_offered_is_refused() -> None:
    with pytest.raises(RequestError, match="offers labelled pictures"):
        registry.get(CLEAN).training_set("noisy", 0)
