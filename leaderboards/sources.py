"""Where a board's records come from: stores of runs and the accepted records that ship with the package, seen as one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.errors import RunError
from ..configs.loader import write_atomic
from . import record as rec
from .arrays import BAD_ARCHIVE, pack, unpack
from .ledger import Store, load_samples
from .record import Record

HERE = Path(__file__).resolve().parent / "reference"

Table = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Sample ids (N,), clusters (N,) and values (R, N): one row per record, one column per sample."""


class Source:
    """Records, and the per-sample values behind them, of one store or of the accepted records."""

    name = "run"

    def records(self, task: str | None = None) -> list[Record]:
        """Return the records of a task, or all."""
        raise AssertionError("abstract")

    def problems(self) -> list[str]:
        """Return, in words, what could not be read."""
        return []

    def values(self, records: Sequence[Record], metric: str) -> Table:
        """Return ids, clusters and per-sample values of ``metric``; RunError when they are gone or do not fit each other."""
        raise AssertionError("abstract")

    def samples(self, record: Record) -> dict[str, np.ndarray]:
        """Return all arrays of a record's samples, previews included."""
        raise AssertionError("abstract")


def stack(parts: Sequence[Mapping[str, np.ndarray]], metric: str) -> Table:
    """Return (ids, clusters, values) of several records' samples, columns in the order of the first's ids; RunError when ids differ."""
    ids, clusters = parts[0]["ids"], parts[0]["clusters"]
    rows = []
    for part in parts:
        values = part.get(f"metric/{metric}")
        if values is None:
            raise RunError(f"A samples file has no values of {metric!r}; run the unit again.")
        rows.append(aligned(part["ids"], values, ids))
    return ids, clusters, np.asarray(rows, dtype=np.float64)


def aligned(ids: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return values (..., N) of samples ``ids`` in the order ``wanted``; RunError when these are other samples."""
    if ids is wanted or (len(ids) == len(wanted) and not (ids != wanted).any()):
        return values
    position = {i: k for k, i in enumerate(ids.tolist())}
    if set(position) != set(wanted.tolist()):
        raise RunError(f"Records of one board have different samples ({len(position)} and {len(wanted)}); run the units again.")
    return values[..., [position[i] for i in wanted.tolist()]]


def _numbers(name: str) -> bool:
    """Whether an array of a samples file holds per-sample values, or says of which samples."""
    return name in ("ids", "clusters") or name.startswith("metric/")


class StoreSource(Source):
    """The records of a store. Per-sample values are packed per metric into a cache, so that a large board opens one file, not hundreds."""

    def __init__(self, store: Store | Path | str) -> None:
        self.store = store if isinstance(store, Store) else Store(store)
        self._packs: dict[str, dict[str, np.ndarray]] = {}
        self._positions: dict[str, dict[str, int]] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def records(self, task: str | None = None) -> list[Record]:
        found = self.store.records(task)
        for r in found:
            r["source"] = "run"
        return found

    def problems(self) -> list[str]:
        return [str(p) for p in self.store.problems]

    def samples(self, record: Record) -> dict[str, np.ndarray]:
        return self.store.samples(record)

    def values(self, records: Sequence[Record], metric: str) -> Table:
        keys = [str((r.get("samples") or {}).get("sha256", "")) for r in records]
        pack_, position = self._pack(records[0], metric)
        if not all(k in position for k in keys):
            self._extend(records[0], metric, [r for r, k in zip(records, keys, strict=True) if k not in position])
            pack_, position = self._pack(records[0], metric)
        if all(k in position for k in keys):
            return pack_["ids"], pack_["clusters"], pack_["values"][[position[k] for k in keys]]
        return stack([load_samples(self.store.path, r, _numbers) for r in records], metric)  # other samples than most of the task's

    def _file(self, record: Record, metric: str) -> str:
        key = (record["task"], record["task_version"], record["split"], metric)
        if key not in self._names:
            self._names[key] = f"values-{hashlib.sha256('|'.join(map(str, key)).encode()).hexdigest()[:24]}.npz"
        return self._names[key]

    def _pack(self, record: Record, metric: str) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Return the packed values of a metric (keys, ids, clusters, values; empty when there are none) and the row of each key."""
        name = self._file(record, metric)
        if name not in self._packs:
            try:
                got = unpack((self.store.path / "index" / name).read_bytes())
                fits = got["values"].shape == (len(got["keys"]), len(got["ids"])) and len(got["clusters"]) == len(got["ids"])
            except (OSError, KeyError, *BAD_ARCHIVE):
                got, fits = {}, True
            self._hold(name, got if fits else {})
        return self._packs[name], self._positions[name]

    def _hold(self, name: str, pack_: dict[str, np.ndarray]) -> None:
        self._packs[name] = pack_
        self._positions[name] = {k: i for i, k in enumerate(pack_["keys"].tolist())} if pack_ else {}

    def _extend(self, first: Record, metric: str, new: Sequence[Record]) -> None:
        """Add the values of ``new`` to the packs of ``metric`` and, since their files are read anyway, of all their other metrics."""
        parts: dict[str, dict[str, np.ndarray]] = {}
        for r in new:
            key = r["samples"]["sha256"] if r.get("samples") else ""
            if key not in parts:
                parts[key] = load_samples(self.store.path, r, _numbers)  # checks the sha256, which is then the key
        for name in sorted({n for part in parts.values() for n in part if n.startswith("metric/")}):
            self._add(first, name.removeprefix("metric/"), parts)

    def _add(self, first: Record, metric: str, parts: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Add to one metric's pack the values of those ``parts`` that have the samples of the others."""
        pack_, position = self._pack(first, metric)
        have = {k: p for k, p in parts.items() if k not in position and f"metric/{metric}" in p}
        if not have:
            return
        # a part in front, so that the new columns are put in the order of the old
        lead = next(iter(have.values()))
        if pack_:
            lead = {"ids": pack_["ids"], "clusters": pack_["clusters"], f"metric/{metric}": pack_["values"][0]}
        ids, known = lead["ids"], set(lead["ids"].tolist())
        have = {k: p for k, p in have.items() if np.array_equal(p["ids"], ids) or set(p["ids"].tolist()) == known}
        got_ids, clusters, values = stack([lead, *have.values()], metric)
        values = np.concatenate([pack_["values"], values[1:]]) if pack_ else values[1:]
        name = self._file(first, metric)
        self._hold(name, {"keys": np.array([*position, *have]), "ids": got_ids, "clusters": clusters, "values": values})
        try:
            write_atomic(self.store.path / "index" / name, pack(self._packs[name], compress=False))
        except OSError:
            return  # a store that may only be read is read without a cache


class Gathered:
    """The records of several sources as one: a unit measured twice in one environment counts once, the earlier source's first."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources = list(sources)
        self._of: dict[tuple[str, str, str, str], Source] = {}

    def records(self, task: str | None = None) -> list[Record]:
        """Return the records of a task (or all), each unit and environment once; ``source`` says where each is from: run or reference."""
        out: dict[tuple[str, ...], Record] = {}
        for source in self.sources:
            for r in source.records(task):
                key = rec.key(r)
                if key in out and (out[key]["status"] == "ok" or r["status"] != "ok"):
                    continue
                out[key] = r
                self._of[(*key, r["status"])] = source
        return list(out.values())

    def source(self, record: Record) -> Source:
        """Return where a record of `records` came from."""
        return self._of[(*rec.key(record), record["status"])]

    def values(self, records: Sequence[Record], metric: str) -> Table:
        """Return ids, clusters and per-sample values (R, N) of ``records``, whatever their sources."""
        if len(self.sources) == 1:
            return self.sources[0].values(records, metric)
        by: dict[int, list[int]] = {}
        sources = [self.source(r) for r in records]
        for i, s in enumerate(sources):
            by.setdefault(id(s), []).append(i)
        if len(by) == 1:
            return sources[0].values(records, metric)
        tables = [(at, sources[at[0]].values([records[i] for i in at], metric)) for at in by.values()]
        first = next(table for at, table in tables if at[0] == 0)
        out = np.empty((len(records), len(first[0])))
        for at, (ids, _, values) in tables:
            out[at] = aligned(ids, values, first[0])
        return first[0], first[1], out

    def samples(self, record: Record) -> dict[str, np.ndarray]:
        """Return all arrays of a record's samples."""
        return self.source(record).samples(record)

    def problems(self) -> list[str]:
        """Return, in words, what could not be read."""
        return [p for s in self.sources for p in s.problems()]


def gather(stores: Iterable[Store | Path | str] = (), reference: bool = True, folder: Path | None = None) -> Gathered:
    """Return the records of ``stores`` (those that exist) and, with ``reference``, the accepted ones that ship with the package."""
    from .reference import ReferenceSource

    found: list[Source] = [StoreSource(s) for s in stores]
    return Gathered([*found, *([ReferenceSource(folder or HERE)] if reference else [])])


def plain(record: Record) -> dict[str, Any]:
    """Return a record without the mark of its source: as it stands in the ledger."""
    return {k: v for k, v in record.items() if k != "source"}
