"""Every metric beside an independent implementation or a closed form, and the published table of it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import scorebench
from scorebench.tasks.metrics import proof
from scorebench.tasks.metrics.registry import SPEECH, known

PROOFS = list(proof.proofs())
DOCUMENT = Path(scorebench.__file__).resolve().parent / "docs" / "metrics.md"


@pytest.mark.parametrize("case", [pytest.param(p, id=p.id, marks=[pytest.mark.slow] if p.slow else []) for p in PROOFS])
def test_difference_is_below_the_tolerance(case: proof.Proof) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own deprecation warnings
        assert case.run() <= case.tolerance


def test_every_metric_is_compared_with_something() -> None:
    compared = {p.metric for p in PROOFS}
    assert set(known()) - set(SPEECH) <= compared  # the other speech metrics have tests of their own


def test_a_comparison_can_fail(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = proof.Proof("psnr", "a wrong number", "none", 1e-3, lambda: 0.5)
    monkeypatch.setattr(proof, "proofs", lambda: iter([wrong]))
    assert proof.main([]) == 1
    assert "ABOVE THE TOLERANCE" in capsys.readouterr().out


def test_the_published_table_is_of_these_comparisons_and_protocols() -> None:
    if not DOCUMENT.is_file():
        pytest.skip("docs/metrics.md is not beside the package (an installed wheel)")
    text = DOCUMENT.read_text()
    for p in PROOFS:
        assert f"| {p.metric} | {p.beside} | {p.inputs} |" in text, f"docs/metrics.md lacks {p.id}; run the command it names"
    fresh = proof.table([(p, 0.0) for p in PROOFS])
    assert text[text.index("## Protocols") :] == fresh[fresh.index("## Protocols") :], "docs/metrics.md is not of these protocols"
