"""Plans that are kept: given back unchanged, dropped when anything they depend on changes, and no torch for a sweep that is finished."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import good

from scorebench.baselines import card as cards
from scorebench.harness import plan_cache, sweeps
from scorebench.harness.sweep_plan import plan_sweep
from scorebench.harness.unit import Unit

SWEEP = (
    "method: grid\nparameters:\n  task: {value: classification/digits}\n  method: {values: [majority-class, logistic-regression]}\n"
    "  seed: {values: [0, 1]}\n"
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home, and no plug-in that an earlier test included: with plug-ins no plan is kept."""
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cards, "_FOLDERS", [])
    cards.cards.cache_clear()
    yield tmp_path / "home"
    monkeypatch.undo()
    cards.cards.cache_clear()


@pytest.mark.parametrize("name", sorted(sweeps.known()))
def test_a_kept_plan_is_the_plan(name: str) -> None:
    s = sweeps.get(name)
    units = plan_sweep(s, s.configurations())
    key = plan_cache.key(s.tasks, "x")
    assert key is not None and plan_cache.kept(key) is None
    plan_cache.keep(key, units)
    found = plan_cache.kept(key)
    assert found is not None and len(found) == len(units)
    for one, other in zip(found, units, strict=True):
        for f in fields(Unit):
            assert getattr(one, f.name) == getattr(other, f.name), f.name
        assert [a.hparams for a in one.artifacts] == [a.hparams for a in other.artifacts]


def test_what_changes_a_key(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, forget: None) -> None:
    tasks = ["classification/digits"]
    first = plan_cache.key(tasks, {"pins": True})
    assert first == plan_cache.key(tasks, {"pins": True})
    assert first != plan_cache.key(tasks, {"pins": False}) and first != plan_cache.key(["generation/digits"], {"pins": True})
    (home / "weights").mkdir(parents=True)
    (home / "weights" / "arrived.pt").write_bytes(b"weights")
    assert plan_cache.key(tasks, {"pins": True}) != first, "weights that arrive make metrics available"
    package = plan_cache._package()
    assert any(f.name == "runner.py" for f in package) and any(f.suffix == ".lock" for f in package)
    monkeypatch.setattr(plan_cache, "_package", lambda: [*package, home / "weights" / "arrived.pt"])
    changed = plan_cache.key(tasks, {"pins": True})
    (home / "weights" / "arrived.pt").write_bytes(b"another")
    assert plan_cache.key(tasks, {"pins": True}) != changed
    monkeypatch.undo()
    from scorebench.baselines import card

    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "m.yaml").write_text("id: mine\ntitle: m\ntarget: m:M\nabilities: [logits]\n")
    card.include(folder)
    assert plan_cache.key(tasks, {"pins": True}) is None, "the code of a plug-in may be anywhere"


def test_plans_that_name_files_are_not_kept(tmp_path: Path) -> None:
    s = sweeps.parse(sweeps.read(_write(tmp_path)))
    units = plan_sweep(s, s.configurations())
    units[0].hparams["checkpoint"] = str(tmp_path / "weights.pt")
    plan_cache.keep("key", units)
    assert plan_cache.kept("key") is None


def _write(folder: Path) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(SWEEP)
    return path


def test_a_finished_sweep_imports_no_torch(tmp_path: Path) -> None:
    words = ["sweep", str(_write(tmp_path)), "--store", str(tmp_path / "store"), "--executor", "inline"]
    assert "2 done" in good(*words), "both answer one way, so one seed of each is run"
    code = (
        "import sys\nfrom scorebench.harness.cli.main import cli\n"
        "try:\n    cli.main(sys.argv[1:])\nexcept SystemExit as e:\n    assert e.code == 0\n"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words[:-2]], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 skipped (already done)" in done.stdout
