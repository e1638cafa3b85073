"""`scorebench paper`, on the accepted records and the example that ships."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import good, wrong

import scorebench

EXAMPLE = str(Path(scorebench.__file__).parent / "examples" / "paper" / "denoising.yaml")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_format_and_the_file_ending(tmp_path: Path) -> None:
    latex = good("paper", EXAMPLE, "--accepted")
    assert "\\begin{tabular}{lrrrr}" in latex and "29.23$^{\\dagger}$" in latex
    for form, sign in (("md", "| Method |"), ("csv", "method,variant"), ("html", "<table>")):
        text = good("paper", EXAMPLE, "--accepted", "--format", form)
        assert sign in text
        good("paper", EXAMPLE, "--accepted", "--out", f"t.{form}")
        assert (tmp_path / f"t.{form}").read_text().split() == text.split()
    assert "\\textbf" not in good("paper", EXAMPLE, "--accepted", "--bold", "none")


def test_wrong_requests(tmp_path: Path) -> None:
    assert "cannot be read" in wrong("paper", "absent.yaml")
    assert "no such folder" in wrong("paper", EXAMPLE, "--store", "nowhere")
    (tmp_path / "bad.yaml").write_text(Path(EXAMPLE).read_text().replace("variant: nlm", "variant: nml"))
    assert wrong("paper", "bad.yaml").startswith("bad.yaml:19: Unknown method 'nml'; did you mean nlm")
    (tmp_path / "bad.yaml").write_text("title: [")
    assert "not valid YAML" in wrong("paper", "bad.yaml")
    assert "is not one of" in wrong("paper", EXAMPLE, "--format", "pdf")


def test_no_torch() -> None:
    code = f"import sys; from scorebench.harness.cli.main import cli; cli.main(['paper', {EXAMPLE!r}, '--accepted'], standalone_mode=False)"
    done = subprocess.run([sys.executable, "-c", code + "; print('torch' in sys.modules)"], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
