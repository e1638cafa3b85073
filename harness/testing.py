"""For the tests of a method in a folder of its own: run it on a few samples, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..baselines import card, components
from ..leaderboards.ledger import Store
from ..tasks import registry
from .controller import default_executor, records_of, run_units
from .plan import plan
from .unit import RunContext


def run_method(
    folder: Path | str,
    method: str,
    task: str,
    *,
    store: Path | str,
    limit: int | None = 2,
    split: str = "dev",
    seed: int = 0,
    batch_size: int | None = None,
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run ``method`` (of the plug-in in ``folder``) on the first ``limit`` samples of a task's split and return its record.

    ``record["status"]`` is ``ok`` or ``failed``; then ``record["error"]`` says the kind and one sentence. A mistake in card, module or task
    raises RequestError. What is recorded in ``store`` already is not run again, except where ``limit`` makes the record partial.
    """
    folder, store = Path(folder).resolve(), Path(store)
    for registered in (card, components, registry):
        registered.include(folder)
    units = plan([task], [method], seeds=[seed], split=split, limit=limit, batch_size=batch_size, overrides=settings)
    executor = default_executor("inline", store=store)
    try:
        run_units(units[:1], RunContext(store=store, include=(folder,)), executor)
    finally:
        executor.close()
    record = records_of(units[:1], Store(store))[0]
    assert record is not None
    return record
