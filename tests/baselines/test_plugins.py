"""Plug-ins of installed packages: found by their entry point, and remembered until an installation changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CARD = 'id: installed-one\ntitle: Installed\ntarget: "my_pack.method:M"\nabilities: [denoise]\n'
PROGRAM = "import sys; from scorebench.baselines.card import cards; print('installed-one' in cards(), 'importlib.metadata' in sys.modules)"


def ask(site: Path, home: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "SCOREBENCH_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, cwd=home)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def install(site: Path, module: str = "my_pack") -> None:
    info = site / "my_pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[scorebench.plugins]\nmine = {module}\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site" / "my_pack"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "card.yaml").write_text(CARD)
    (tmp_path / "home").mkdir()
    return tmp_path / "site"


def test_installing_and_removing_a_plugin_is_noticed(site: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert ask(site, home) == ["False", "True"]
    assert ask(site, home) == ["False", "False"]  # remembered: importlib.metadata is not even imported
    install(site)
    assert ask(site, home) == ["True", "True"]
    assert ask(site, home) == ["True", "False"]
    for path in (site / "my_pack-1.0.dist-info").iterdir():
        path.unlink()
    (site / "my_pack-1.0.dist-info").rmdir()
    assert ask(site, home) == ["False", "True"]


def test_an_entry_point_that_leads_nowhere_is_one_sentence(site: Path, tmp_path: Path) -> None:
    install(site, "gone_pack.inner")
    environment = {**os.environ, "PYTHONPATH": str(site), "SCOREBENCH_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "scorebench", "list", "methods"], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 2 and "'mine'" in done.stderr and len(done.stderr.strip().splitlines()) == 1
