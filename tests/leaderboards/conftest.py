"""Simulated records and stores: `make.py` beside the tests, loaded once (tests are imported by path, not as a package)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def make():
    spec = importlib.util.spec_from_file_location("leaderboards_make", Path(__file__).with_name("make.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
