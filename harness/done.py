"""Which units are done: recorded, not failed, of the same unit and environment. Imports no torch, so that a finished plan is seen at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .environment import environment, environment_key
from .unit import Unit

if TYPE_CHECKING:
    from ..leaderboards.ledger import Store


def undone(units: Iterable[Unit], store: Store) -> tuple[list[Unit], list[Unit]]:
    """Split units into (still to run, done): done means recorded as ok under an equal unit_id and environment_key."""
    done = store.done()
    keys: dict[tuple[str, str], str] = {}
    todo: list[Unit] = []
    finished: list[Unit] = []
    for unit in units:
        where = (unit.device, unit.precision)
        if where not in keys:
            keys[where] = environment_key(environment(*where))
        (finished if unit.limit is None and (unit.unit_id, keys[where]) in done else todo).append(unit)
    return todo, finished
