"""The block jackknife: closed forms, short ways beside the long one, and what it says of real repetition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from scorebench.configs.errors import RequestError
from scorebench.tasks.metrics.base import Metric, Reference
from scorebench.tasks.metrics.registry import make
from scorebench.tasks.metrics.uncertainty import block_jackknife, jackknife


def test_of_a_mean_with_a_block_per_sample_it_is_the_standard_error() -> None:
    x = np.random.default_rng(0).standard_normal((37, 1))
    found = block_jackknife(lambda rows: float(rows.mean()), x, blocks=100)
    assert found == pytest.approx(x.std(ddof=1) / math.sqrt(37), rel=1e-12)


def test_of_a_mean_with_equal_blocks_it_is_that_of_the_block_means() -> None:
    x = np.random.default_rng(1).standard_normal((60, 1))
    means = np.array([x[k::20].mean() for k in range(20)])
    found = block_jackknife(lambda rows: float(rows.mean()), x)
    assert found == pytest.approx(means.std(ddof=1) / math.sqrt(20), rel=1e-12)


def test_sets_ordered_by_class_lose_some_of_every_class() -> None:
    label = np.repeat(np.arange(10.0), 20)[:, None]
    seen: list[np.ndarray] = []
    block_jackknife(lambda rows: (seen.append(np.unique(rows)), 0.0)[1], label)
    assert len(seen) == 20 and all(len(kept) == 10 for kept in seen)


def test_it_is_undefined_for_one_sample_and_refused_for_one_block() -> None:
    assert math.isnan(block_jackknife(lambda rows: 0.0, np.zeros((1, 1))))
    with pytest.raises(RequestError, match="at least 2 blocks, not 1"):
        block_jackknife(lambda rows: 0.0, np.zeros((9, 1)), blocks=1)


def long_way(metric: Metric, features: np.ndarray, reference: Any) -> float:
    return block_jackknife(lambda rows: metric.value(rows, reference), features)


@pytest.mark.parametrize("n", [30, 203])  # fewer and more samples than dimensions
def test_merged_moments_give_the_same_as_the_long_way(n: int) -> None:
    g = torch.Generator().manual_seed(0)
    metric = make("fd-digits")
    reference = metric.reference([{"answer": torch.rand(150, 1, 8, 8, generator=g)}])
    features = metric.features(torch.rand(n, 1, 8, 8, generator=g), {}).numpy()
    assert jackknife(metric, features, reference) == pytest.approx(long_way(metric, features, reference), rel=1e-6)


def test_kernel_sums_give_the_same_as_the_long_way() -> None:
    rng = np.random.default_rng(2)
    metric, features = make("kid"), rng.standard_normal((90, 12))
    reference = Reference(rng.standard_normal((70, 12)) + 0.2, 70, "")
    assert jackknife(metric, features, reference) == pytest.approx(long_way(metric, features, reference), rel=1e-9)


def test_kernel_sums_do_not_depend_on_the_blocks_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from scorebench.tasks.metrics import kernel, manifold

    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((50, 5)), rng.standard_normal((41, 5))
    whole, near = kernel.kid(x, y), manifold.radii(x, 3)
    monkeypatch.setattr(kernel, "BLOCK", 7)
    monkeypatch.setattr(manifold, "BLOCK", 7)
    assert kernel.kid(x, y) == pytest.approx(whole, rel=1e-12)
    assert np.allclose(manifold.radii(x, 3), near, rtol=1e-12)


def test_it_says_how_far_repeated_sets_scatter() -> None:
    """Over fresh sets of one Gaussian the jackknife's mean is within 25 % of the standard deviation of the distance."""
    rng = np.random.default_rng(4)
    metric = make("fd-digits")
    from scorebench.tasks.metrics.frechet import Moments

    reference = Reference(Moments.known(np.full(4, 0.5), np.eye(4)), 0, "")
    sets = [rng.standard_normal((400, 4)) for _ in range(60)]
    values = [metric.value(x, reference) for x in sets]
    assert np.mean([jackknife(metric, x, reference) for x in sets]) == pytest.approx(np.std(values, ddof=1), rel=0.25)
