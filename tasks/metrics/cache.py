"""Feature rows of reference sets, kept on disk: a set is embedded once per machine and extractor, in O(batch) memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...configs.loader import home, write_atomic
from .base import Hashed

if TYPE_CHECKING:
    import torch

BLOCK = 8192
"""Rows taken into memory at a time."""


@dataclass(frozen=True)
class Rows:
    """Feature rows float32 (n, d), possibly a view of a file, and the hash of the samples they came from."""

    array: np.ndarray
    hash: str

    def blocks(self) -> Iterable[np.ndarray]:
        """Yield the rows in blocks that fit in memory."""
        for start in range(0, len(self.array), BLOCK):
            yield np.asarray(self.array[start : start + BLOCK])


@lru_cache(maxsize=1)
def _code() -> str:
    """Return what else decides a row: the code that resizes and embeds, and torch's version."""
    import torch

    here = Path(__file__).parent
    digest = hashlib.sha256(torch.__version__.encode())
    for name in ("cache.py", "extractors.py", "resize.py"):
        digest.update((here / name).read_bytes())
    return digest.hexdigest()[:16]


def embed(network: Callable[[torch.Tensor], torch.Tensor], batches: Iterable[Mapping[str, torch.Tensor]]) -> Rows:
    """Return the rows of a set, in memory."""
    hashed = Hashed(batches)
    rows = [network(batch["answer"]).cpu().numpy() for batch in hashed]
    return Rows(np.concatenate(rows), hashed.hash())


def rows(
    extractor: str,
    key: str,
    network: Callable[[torch.Tensor], torch.Tensor],
    batches: Callable[[], Iterable[Mapping[str, torch.Tensor]]],
) -> Rows:
    """Return the rows of the set ``key`` under the network named ``extractor`` (name and hash), from disk when they are there.

    Written beside the final name and renamed, so a crash leaves no half file, and two processes at once write the same. Where the home
    cannot be written, the rows stay in memory.
    """
    extractor = f"{extractor}|{_code()}"
    name = hashlib.sha256(json.dumps([extractor, key]).encode()).hexdigest()[:40]
    file, facts = (home() / "features" / f"{name}.{kind}" for kind in ("f32", "json"))
    with suppress(OSError, ValueError, KeyError):  # absent or torn: embed again
        known = json.loads(facts.read_text())
        if known["extractor"] == extractor and file.stat().st_size == 4 * known["shape"][0] * known["shape"][1]:
            return Rows(np.memmap(file, dtype=np.float32, mode="r", shape=tuple(known["shape"])), known["hash"])
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = temporary.open("wb")
    except OSError:
        return embed(network, batches())
    hashed, n, d = Hashed(batches()), 0, 0
    try:
        with handle:
            for batch in hashed:
                part = np.ascontiguousarray(network(batch["answer"]).cpu().numpy(), dtype=np.float32)
                n, d = n + len(part), part.shape[1]
                handle.write(part.tobytes())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    write_atomic(facts, json.dumps({"extractor": extractor, "key": key, "shape": [n, d], "hash": hashed.hash()}).encode())
    return Rows(np.memmap(file, dtype=np.float32, mode="r", shape=(n, d)), hashed.hash())
