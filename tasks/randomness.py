"""Keyed randomness: every random number is a pure function of a written key, never of call order, batch size, workers or device.

Two kinds. `keyed` makes a NumPy generator from any key: observations and datasets draw from it. `Rng` is what a method is handed: one
stream per (sample, name), drawn on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..datasets.keys import key_bytes as key_bytes
from ..datasets.keys import keyed as keyed  # both are also datasets' own; tasks and methods import them from here

_MASK = np.uint64(0xFFFFFFFFFFFFFFFF)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: a bijection of uint64 whose output bits all depend on all input bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Rng:
    """The random numbers of one batch of requests: independent streams, one per (sample, name).

    ``rng.at("x_T").normal(shape)`` returns ``(B, *shape)``; ``rng.at("step", k)`` is the stream of step k; ``rng[mask]`` is the same streams
    for part of the batch. Asking for a stream again goes on where it stopped, separately for every sample, so what one sample draws never
    shifts another's numbers. Streams are seeded from ``seeds`` (one 64-bit integer per sample, made by the runner from unit and sample).

    A stream named by one word keeps its generators alive, so in a loop ``noise = rng.at("noise")`` and ``noise.normal(shape)`` a step costs
    a third of ``rng.at("noise", k)``, whose generators are seeded at every draw; use the second where a step must not depend on the
    number of steps before it.

    torch's CPU generator takes 32 bits of a seed: of n samples, two share a stream's numbers with probability about n^2 / 2^33 (1e-4 for
    1,000 samples, 1 % for 10,000). That moves no average that can be measured, but two of 50,000 samples may be twins.
    """

    def __init__(self, seeds: Sequence[int] | np.ndarray, device: str | torch.device = "cpu") -> None:
        self._seeds = np.asarray(seeds, dtype=np.uint64)
        self._index = np.arange(len(self._seeds))
        self._counts: dict[tuple[Any, ...], np.ndarray] = {}
        self._generators: dict[tuple[Any, ...], torch.Generator] = {}
        self.device = torch.device(device)

    @classmethod
    def for_samples(cls, sample_ids: Sequence[str], *key: Any, device: str | torch.device = "cpu") -> Rng:
        """Make the streams of ``sample_ids`` under ``key`` (what the runner does for a unit)."""
        seeds = [int.from_bytes(key_bytes(*key, sample_id)[:8], "little") for sample_id in sample_ids]
        return cls(np.array(seeds, dtype=np.uint64), device)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Any) -> Rng:
        """Return the streams of part of the batch (mask, slice, list of positions); counters stay shared with the whole."""
        if isinstance(index, torch.Tensor):
            index = index.detach().cpu().numpy()
        if isinstance(index, int):
            index = [index]
        part = object.__new__(Rng)
        part._seeds, part._counts, part._generators, part.device = self._seeds, self._counts, self._generators, self.device
        part._index = self._index[index]
        return part

    def at(self, *name: Any) -> Stream:
        """Return the stream ``name`` (any strings and integers, e.g. ``("step", 3)``)."""
        return Stream(self, name)

    def _draw_seeds(self, name: tuple[Any, ...]) -> np.ndarray:
        """Return one fresh 64-bit seed per sample of this part: f(sample seed, stream name, number of earlier draws)."""
        counts = self._counts.setdefault(name, np.zeros(len(self._seeds), dtype=np.uint64))
        salt = np.uint64(int.from_bytes(key_bytes(*name)[:8], "little"))
        with np.errstate(over="ignore"):
            base = _mix(self._seeds[self._index] ^ salt)
            out = _mix(base + (counts[self._index] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) & _MASK)
        counts[self._index] += np.uint64(1)
        return out

    def _each(self, name: tuple[Any, ...]) -> list[torch.Generator]:
        """Return one generator per sample of this part, ready for the next draw of stream ``name``."""
        positions = self._index.tolist()
        alive = len(name) == 1  # numbered streams would keep 5 kB per sample and step
        keys = [(p, *name) if alive else (p,) for p in positions]
        if alive and all(k in self._generators for k in keys):
            return [self._generators[k] for k in keys]
        fresh = [not alive or k not in self._generators for k in keys]
        out = []
        seeds = iter(self[np.array(fresh)]._draw_seeds(name).tolist() if not all(fresh) else self._draw_seeds(name).tolist())
        for key, new in zip(keys, fresh, strict=True):
            generator = self._generators.setdefault(key, torch.Generator())
            if new:
                generator.manual_seed(next(seeds))
            out.append(generator)
        return out


class Stream:
    """One named stream for every sample of an `Rng`; every draw returns a tensor whose first dimension is the batch."""

    def __init__(self, rng: Rng, name: tuple[Any, ...]) -> None:
        self._rng, self._name = rng, name

    def _each(self) -> list[torch.Generator]:
        return self._rng._each(self._name)

    def generators(self) -> list[torch.Generator]:
        """Return one freshly seeded CPU generator per sample, for code that wants generators (diffusers, deepinv)."""
        return [torch.Generator().manual_seed(int(seed)) for seed in self._rng._draw_seeds(self._name).tolist()]

    def normal(self, shape: Sequence[int] = (), dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Draw standard normals of ``shape`` per sample: (B, *shape) on the rng's device, made on the CPU."""
        out = torch.empty((len(self._rng), *shape), dtype=dtype)
        for row, generator in zip(out, self._each(), strict=True):
            row.normal_(generator=generator)
        return out.to(self._rng.device)

    def uniform(self, shape: Sequence[int] = (), low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Draw uniforms in [low, high) of ``shape`` per sample: float32 (B, *shape)."""
        out = torch.empty((len(self._rng), *shape))
        for row, generator in zip(out, self._each(), strict=True):
            row.uniform_(low, high, generator=generator)
        return out.to(self._rng.device)

    def integers(self, low: int, high: int, shape: Sequence[int] = ()) -> torch.Tensor:
        """Draw integers in [low, high) of ``shape`` per sample: int64 (B, *shape)."""
        rows = [torch.randint(low, high, tuple(shape), generator=g) for g in self._each()]
        return torch.stack(rows).to(self._rng.device)

    def permutation(self, n: int) -> torch.Tensor:
        """Draw one permutation of range(n) per sample: int64 (B, n)."""
        return torch.stack([torch.randperm(n, generator=g) for g in self._each()]).to(self._rng.device)

    def rademacher(self, shape: Sequence[int] = ()) -> torch.Tensor:
        """Draw signs -1 or +1 of ``shape`` per sample: float32 (B, *shape)."""
        return self.integers(0, 2, shape).float() * 2 - 1
