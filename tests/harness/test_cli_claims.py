"""`scorebench claims`, and the claims in `scorebench show method`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import data, good, process, wrong

from scorebench.baselines.card import cards

KEYS = {"method", "claim", "statement", "verdict", "scale", "parity", "effect", "low", "high"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_claims_of_one_method_from_the_accepted_records() -> None:
    (v,) = data("claims", "nlm", "--accepted")
    assert set(v) >= KEYS and (v["method"], v["claim"], v["scale"], v["parity"]) == ("nlm", "above-wavelets", "embedded", "none")
    assert v["verdict"] == "supported" and 0 < v["low"] < v["effect"] < v["high"] and len(v["records"]) == 6
    text = good("claims", "nlm", "--accepted")
    for said in ("nlm/above-wavelets  supported: +0.5", "tested: nlm > wavelet-shrinkage (psnr)", "1 claim: 1 supported."):
        assert said in text


def test_claims_of_all_and_the_filter() -> None:
    everything = data("claims", "--accepted")
    assert {"nlm", "dpir", "tv-fista"} <= {v["method"] for v in everything}
    assert not any(v["verdict"] == "contradicted" and v["scale"] == "embedded" and v["parity"] == "none" for v in everything)
    supported = data("claims", "--accepted", "--verdict", "supported")
    assert [v["claim"] for v in supported] == [v["claim"] for v in everything if v["verdict"] == "supported"]
    assert good("claims", "nlm", "--accepted", "--verdict", "not-run") == "No claim of nlm is not-run.\n"
    assert good("claims", "bicubic") == "No claim of bicubic.\n"


def test_show_method_shows_its_claims() -> None:
    assert "supported: +0.5" in " ".join(good("show", "method", "nlm").split())
    assert data("show", "nlm")["verdicts"][0]["verdict"] == "supported"


def test_wrong_requests(tmp_path: Path, forget: None) -> None:
    assert "did you mean" in wrong("claims", "nlmm")
    assert "no such folder" in wrong("claims", "--store", "nowhere")
    assert "is not one of" in wrong("claims", "--verdict", "true")
    folder = tmp_path / "mine"
    folder.mkdir()
    card = folder / "mine.yaml"
    card.write_text(
        "id: mine\ntitle: Mine\ntarget: mine:Mine\nabilities: [denoise]\nclaims:\n"
        "  - {id: a, statement: s, task: denoising/photos-gaussian25, left: mine, op: '>', right: nml}\n"
    )
    message = wrong("claims", "mine", "--include", str(folder))
    assert message.startswith(f"{card}:6: claim 'a': Unknown method 'nml'; did you mean nlm")
    card.write_text(card.read_text().replace("right: nml", "right: 'nlm[slow]'"))
    cards.cache_clear()
    assert "has no preset 'slow'" in wrong("claims", "mine", "--include", str(folder))


def test_claims_do_not_import_torch() -> None:
    code = "import sys; from scorebench.harness.cli.main import cli; cli.main(['claims', '--accepted'], standalone_mode=False)"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "False", done.stderr
    assert process("claims", "--help").returncode == 0
