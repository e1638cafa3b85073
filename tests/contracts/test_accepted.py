"""What ships with the package: pinned weights for the quickstart, and accepted boards in which learning pays."""

from __future__ import annotations

import pytest

from scorebench.baselines import card as cards
from scorebench.baselines import components
from scorebench.harness import artifacts, suites, weights
from scorebench.harness.cli.board import build
from scorebench.harness.plan import plan
from scorebench.leaderboards.sources import gather
from scorebench.tasks import registry


def needed() -> dict[str, artifacts.ArtifactRef]:
    refs = {}
    for cell in suites.get("quickstart").cells:
        for unit in plan(cell.tasks, suites.expand(cell), seeds=cell.seeds, draws=cell.draws, skipped=[]):
            refs |= {ref.key: ref for a in unit.artifacts for ref in a.walk()}
    return refs


def test_the_quickstart_trains_nothing() -> None:
    missing = [str(ref) for ref in needed().values() if artifacts.pin_of(ref) is None]
    assert not missing, f"not shipped: {missing}; run `scorebench pin --suite quickstart`"


def test_shipped_weights_are_what_the_package_says_and_small() -> None:
    total = 0
    for pin in artifacts.pins().values():
        path = artifacts.PACKAGE / pin["file"]
        assert weights.sha256(path) == pin["sha256"], pin["name"]
        assert path.stat().st_size <= artifacts.LARGEST and pin["command"].startswith("scorebench pin")
        total += path.stat().st_size
    features = artifacts.PACKAGE / "tasks" / "metrics" / "weights"
    assert total + sum(p.stat().st_size for p in features.glob("*.safetensors")) <= 24 * 2**20
    assert {p.name for p in artifacts.SHIPPED.glob("*.safetensors")} == {p["file"].rpartition("/")[2] for p in artifacts.pins().values()}


def learned(method: str, task_id: str) -> bool:
    card = cards.get(method)
    if method == registry.get_spec(task_id).do_nothing.partition("[")[0]:
        return False
    spec = registry.get_spec(task_id)
    kinds = [components.get(components.resolve(r, n, spec, method)).kind for r, n in card.needs.items()]
    return card.trains_on != "none" or "trained" in kinds


BUILT = {(t, v) for cell in suites.get("embedded").cells for t in cell.tasks for v in suites.expand(cell)}
"""Tasks and variants of the suite `embedded`: each of them beats doing nothing wherever it learned something."""
EMBEDDED = sorted({t for cell in suites.get("embedded").cells for t in cell.tasks})


@pytest.mark.parametrize("task_id", EMBEDDED)
def test_accepted_boards(task_id: str) -> None:
    """Every embedded board has its do-nothing row, nothing failed or refused, and what learned something beats doing nothing."""
    spec = registry.get_spec(task_id)
    for budget in spec.budgets:
        board = build(task_id, gather(), budget)
        rows = {row.variant: row for row in board.rows if not row.unranked}
        assert spec.do_nothing in rows and not board.refused
        sign = 1 if registry.get(task_id).metrics[spec.primary].higher_is_better else -1
        floor = sign * rows[spec.do_nothing].mean(spec.primary)
        values = {v: sign * row.mean(spec.primary) for v, row in rows.items() if learned(row.method, task_id)}
        # a track of few evaluations also shows solvers that were not made for so few (Heun at 5): of those the best must beat doing nothing
        must = {v for v in values if (task_id, v) in BUILT} | {max(values, key=lambda v: values[v])} if values else set()
        for variant in sorted(must):
            assert values[variant] > floor, f"{variant} does not beat {spec.do_nothing} at {budget}"
