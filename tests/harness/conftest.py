"""Fixtures of the harness's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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


FAULTS: list[Any] = []
"""(fault, times injected, units, lost, recorded twice, what was compared): what the slow fault tests found, printed as one table at the end."""


@pytest.fixture
def faults() -> list[Any]:
    return FAULTS


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not FAULTS:
        return
    terminalreporter.section("faults")
    header = ("FAULT", "TIMES", "UNITS", "LOST", "TWICE", "AFTERWARDS")
    rows = [header, *(tuple(map(str, row)) for row in FAULTS)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for row in rows:
        terminalreporter.write_line("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
