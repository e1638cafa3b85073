"""Standard errors of set-level metrics: the block (delete-a-group) jackknife.

Samples of a Frechet distance are never bootstrapped: a resampled set holds doubles, its covariance is too small, and the interval misses
the point it belongs to. Leaving out one block at a time changes n by a few percent only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...configs.errors import RequestError

if TYPE_CHECKING:
    from .base import Metric


def block_jackknife(value_fn: Callable[[np.ndarray], float], features: np.ndarray, blocks: int = 20) -> float:
    """Return the delete-a-group jackknife standard error of ``value_fn(features)``; features (N, d) in sample order.

    Sample i belongs to block i mod ``blocks``, so that sets ordered by class lose some of every class; with fewer samples than blocks, each
    sample is a block. The standard error is sqrt((g - 1) / g sum (v_k - mean v)^2) over the values v_k without block k (Shao and Tu, The
    Jackknife and Bootstrap, 1995, section 2.3). It is that of one fixed set of samples from one trained model: it says nothing of other
    trainings. NaN where it is not defined (fewer than 2 samples, or a value that cannot be computed without a block).
    """
    which = _blocks(len(features), blocks)
    if which is None:
        return float("nan")
    return _spread(np.array([value_fn(features[which != k]) for k in range(int(which.max()) + 1)], dtype=np.float64))


def _blocks(n: int, blocks: int) -> np.ndarray | None:
    """Return the block of each sample, or None where a jackknife is not defined."""
    if blocks < 2:
        raise RequestError(f"a block jackknife needs at least 2 blocks, not {blocks}.")
    return np.arange(n) % min(blocks, n) if n >= 2 else None


def _spread(values: np.ndarray) -> float:
    groups = len(values)
    return float(np.sqrt((groups - 1) / groups * np.square(values - values.mean()).sum()))


def jackknife(metric: Metric, features: np.ndarray, reference: Any = None, blocks: int = 20) -> float:
    """Return the block-jackknife standard error of a set-level metric's value; the reference set is held fixed.

    As `block_jackknife`, but a metric that knows a short way to its values without a block (`Metric.leave_out`) takes it.
    """
    which = _blocks(len(features), blocks)
    return float("nan") if which is None else _spread(metric.leave_out(features, reference, which))
