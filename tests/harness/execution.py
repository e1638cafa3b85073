"""What the tests of plan, executors and faults share: the trouble plug-in, quick units of a real task, a look into a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scorebench.baselines import card, components
from scorebench.harness.controller import Status
from scorebench.harness.plan import plan
from scorebench.harness.unit import RunContext, Unit
from scorebench.leaderboards.ledger import Store
from scorebench.tasks import registry

TROUBLE = Path(__file__).resolve().parent / "trouble"
TASK = "classification/digits"


@contextmanager
def included(folder: Path = TROUBLE) -> Iterator[Path]:
    """Make a plug-in folder known, and forget it again."""
    before = list(card._FOLDERS), list(registry._EXTRA), list(components._FOLDERS)
    card.include(folder)
    try:
        yield folder
    finally:
        card._FOLDERS[:], registry._EXTRA[:], components._FOLDERS[:] = before
        for cached in (card.cards, registry.specs, registry.get, components.priors):
            cached.cache_clear()


def units(method: str = "trouble", seeds: int = 1, limit: int | None = None, task: str = TASK, **hparams: Any) -> list[Unit]:
    """Plan units of the trouble plug-in on a small real task (0.05 s each)."""
    return plan([task], [method], seeds=list(range(seeds)), overrides=hparams, limit=limit)


def context(store: Path, **changes: Any) -> RunContext:
    return RunContext(store, include=(TROUBLE,)).with_(**changes)


def counts(store: Path) -> Counter[tuple[str, str]]:
    """Return how many ledger lines each unit has, by status; lines that are no records are not counted."""
    import json

    found: Counter[tuple[str, str]] = Counter()
    for file in sorted((store / "ledger").glob("*.jsonl")):
        for line in file.read_bytes().split(b"\n")[:-1]:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            found[record["unit_id"], record["status"]] += 1
    return found


def failed(store: Path) -> list[dict[str, Any]]:
    return [r for r in Store(store).records() if r["status"] == "failed"]


class Heard(list[Status]):
    """Keeps every status."""

    def __call__(self, status: Status) -> None:
        self.append(status)

    def outcomes(self) -> Counter[str]:
        return Counter(s.outcome for s in self if s.kind == "finished")
