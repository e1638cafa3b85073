"""Fixtures of the harness's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scorebench.baselines import card, components
from scorebench.tasks import registry


@pytest.fixture
def forget() -> Iterator[None]:
    """Forget the plug-in folders that a test includes, which a process otherwise remembers."""
    before = [list(folders) for folders in (card._FOLDERS, components._FOLDERS, registry._EXTRA)]
    yield
    for folders, old in zip((card._FOLDERS, components._FOLDERS, registry._EXTRA), before, strict=True):
        folders[:] = old
    for cached in (card.cards, components.priors, registry.specs, registry.get):
        cached.cache_clear()
