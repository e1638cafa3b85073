"""Every claim of every card is well formed, and names tasks, budgets, metrics and variants that exist."""

from __future__ import annotations

import pytest

from scorebench.baselines.card import cards
from scorebench.harness.cli.claims import declared, metas

CARDS = {c.id: c for c in cards().values() if c.claims}


@pytest.fixture(scope="module")
def tasks():
    return metas()


@pytest.mark.parametrize("method", sorted(CARDS))
def test_claims_of(method, tasks):
    found = declared([CARDS[method]], tasks)
    assert len(found) == len(CARDS[method].claims)
    for claim, resolved in found:
        assert claim.statement and (resolved or claim.check or claim.unchecked)


def test_cards_make_claims():
    assert len(CARDS) >= 10
