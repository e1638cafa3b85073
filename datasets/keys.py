"""Keyed randomness of datasets and observations: a generator is a pure function of a written key, never of call order."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def key_bytes(*key: Any) -> bytes:
    """Return 16 bytes that depend on every part of ``key`` (strings, integers, tuples of them) and on nothing else."""
    return hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()[:16]


def keyed(*key: Any) -> np.random.Generator:
    """Return a counter-based (Philox) generator for ``key``, e.g. ``keyed("phantom", version, "test", 7)``."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=int.from_bytes(key_bytes(*key), "little")))


def rank(*key: Any) -> float:
    """Return a number in [0, 1) that depends on ``key`` alone: what splits by hash sort and cut by."""
    return int.from_bytes(key_bytes(*key)[:8], "little") / 2**64
