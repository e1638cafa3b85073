"""`scorebench nightly` for real, on quick methods: what must be caught is caught, and what changed nothing is not."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import call, good, wrong
from execution import included

from scorebench.configs.loader import read
from scorebench.harness import evaluator, suites
from scorebench.leaderboards import gate_alert, reference, sources
from scorebench.tasks import base
from scorebench.tasks.metrics.paired import PSNR
from scorebench.tasks.randomness import Rng

GATED = Path(__file__).resolve().parent / "gated"
SUITE = """\
id: small
title: Small
cells:
  - tasks: [denoising/photos-gaussian25]
    variants: [box]
  - tasks: [classification/digits]
    variants: [guess, means]
    seeds: [0, 1, 2]
"""


class Place:
    """A package of its own: a reference, a suite, a plug-in that can be edited, and a new store every night."""

    def __init__(self, root: Path) -> None:
        self.root, self.nights = root, 0
        self.folder = root / "gated"
        shutil.copytree(GATED, self.folder, ignore=shutil.ignore_patterns("__pycache__"))

    def edit(self, old: str, new: str) -> None:
        """Change the plug-in's code; it lives in a new folder, since a process imports a file once."""
        before, self.folder = self.folder, self.root / f"edit{self.nights}" / "gated"
        shutil.copytree(before, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        text = (self.folder / "gated.py").read_text()
        assert old in text
        (self.folder / "gated.py").write_text(text.replace(old, new))

    def store(self) -> Path:
        return self.root / f"night{self.nights}"

    def night(self, *words: str, code: int | None = 0) -> dict[str, Any]:
        self.nights += 1
        with included(self.folder):
            where = ("--store", str(self.store()), "--include", str(self.folder), "--executor", "inline")
            result = call("nightly", "small", *where, "--json", *words)
        wanted = (0, 1) if code is None else (code,)
        assert result.exit_code in wanted, (result.exit_code, result.output[-3000:], result.exception)
        return json.loads(result.stdout)

    def accept(self, *words: str) -> str:
        with included(self.folder):
            tasks = ("denoising/photos-gaussian25", "classification/digits")
            return good("accept", *tasks, "--reason", "a test", "--store", str(self.store()), "--include", str(self.folder), *words)


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference that holds the small suite as it is, made once."""
    root = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        settings(patch, root)
        place = Place(root)
        first = place.night()
        assert first["counts"] == {"new": 3} and "no accepted records" in " ".join(first["notes"])
        place.accept("--release")
        return root


def settings(patch: pytest.MonkeyPatch, root: Path) -> None:
    (root / "small.yaml").write_text(SUITE)
    patch.setattr(suites, "_documents", lambda: {"small": read(root / "small.yaml")})
    for module in (reference, sources):
        patch.setattr(module, "HERE", root / "package" / "reference")
    patch.setenv("SCOREBENCH_HOME", str(root / "home"))
    patch.chdir(root)


@pytest.fixture
def place(accepted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    shutil.copytree(accepted / "package", tmp_path / "package")
    settings(monkeypatch, tmp_path)
    monkeypatch.setenv("SCOREBENCH_HOME", str(accepted / "home"))  # trained fits are taken from there
    return Place(tmp_path)


def verdicts(night: dict[str, Any], variant: str) -> set[str]:
    return {f["verdict"] for f in night["findings"] if f["variant"] == variant}


SAME = {"cached", "equal"}


def test_what_did_not_change_is_not_run_again(place: Place) -> None:
    night = place.night()
    assert night["counts"] == {"cached": 3} and night["facts"]["run"] == 0 and not night["alarm"]
    again = place.night("--rerun")
    assert again["facts"]["run"] == 7 and not again["alarm"] and set(again["counts"]) <= {"cached", "equal"}


def test_a_method_made_worse_is_caught_and_its_samples_are_named(place: Place) -> None:
    place.edit("BLEND = 0.6", "BLEND = 0.58")
    night = place.night("--md", "night.md", "--junit", "night.xml", code=1)
    found = {f["metric"]: f for f in night["findings"] if f["variant"] == "box"}
    psnr = found["psnr"]
    assert psnr["tier"] == "frozen" and psnr["moved"] == psnr["n"] == 24 and len(psnr["samples"]) == 5
    assert psnr["verdict"] == found["ssim"]["verdict"] == "worse" and psnr["change"] == pytest.approx(-0.16, abs=0.03)
    assert verdicts(night, "guess") <= SAME and verdicts(night, "means") <= SAME
    text = (place.root / "night.md").read_text()
    assert text.startswith("# small: ") and "worse" in text and "most moved" in text and psnr["samples"][0][0].split("/")[0] in text
    suite = ElementTree.parse(place.root / "night.xml").getroot()
    failed = [c.get("name") for c in suite.iter("testcase") if c.find("failure") is not None]
    assert any(name and name.startswith("box") for name in failed)
    kept = gate_alert.last(place.store())
    assert kept is not None and kept.failed() and kept.data()["counts"] == night["counts"]


def test_a_method_made_worse_when_trained_is_caught_by_fresh_seeds(place: Place) -> None:
    place.edit("HARM = 0.0", "HARM = 0.5")
    night = place.night(code=1)
    f = next(f for f in night["findings"] if f["verdict"] == "worse" and f["variant"] == "means" and f["against"] == "last accepted")
    assert f["tier"] == "retrained" and f["seeds"] == [3, 3] and f["fresh"]["seeds"] == [100, 101, 102, 103, 104]
    assert f["fresh"]["p"] < 0.01 and f["change"] * (1 if f["metric"] == "accuracy" else -1) < 0


def test_another_training_of_the_same_quality_is_no_alarm(place: Place) -> None:
    place.edit("chosen = torch.randperm(len(data))[:SUBSET]", "chosen = torch.randperm(len(data)).flip(0)[:SUBSET]")
    night = place.night()
    means = [f for f in night["findings"] if f["variant"] == "means" and f["metric"]]
    assert means and {f["tier"] for f in means} == {"retrained"}
    assert {f["verdict"] for f in means} <= {"equal", "unclear", "unconfirmed"}


def test_noise_from_the_wrong_key_is_caught(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    right: Callable[..., Rng] = Rng.for_samples

    class Wrong(Rng):
        @classmethod
        def for_samples(cls, ids: Any, *key: Any, device: Any = "cpu") -> Rng:
            return right([i.upper() + "x" for i in ids], *key, device=device)

    monkeypatch.setattr(evaluator, "Rng", Wrong)
    night = place.night("--rerun", code=1)
    guess = {f["verdict"] for f in night["findings"] if f["variant"] == "guess" and f["against"] == "last accepted"}
    assert "redrawn" in guess and verdicts(night, "means") <= SAME


def test_observations_from_the_wrong_key_are_caught(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    right = base.keyed
    monkeypatch.setattr(base, "keyed", lambda *key: right(*key, "and more"))
    night = place.night("--rerun", code=1)
    (box,) = [f for f in night["findings"] if f["variant"] == "box"]
    assert box["verdict"] == "protocol" and "other observations in draw 0" in box["why"]


def test_a_metric_with_a_shifted_pixel_is_caught(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    right = PSNR.per_sample
    monkeypatch.setattr(PSNR, "per_sample", lambda self, answer, target: right(self, torch.roll(answer, 1, -1), target))
    night = place.night("--rerun", code=1)
    found = {f["metric"]: f for f in night["findings"] if f["variant"] == "box" and f["metric"]}
    assert found["psnr"]["verdict"] == "worse" and found["ssim"]["verdict"] == "equal"


def test_a_method_that_breaks_is_missing_and_the_others_are_compared(place: Place) -> None:
    place.edit("return DRAW *", "raise ValueError('it broke') or DRAW *")
    night = place.night(code=1)
    guess = next(f for f in night["findings"] if f["variant"] == "guess")
    assert guess["verdict"] == "missing" and "it broke" in guess["why"] and guess["units"] == 3
    assert verdicts(night, "box") <= SAME and verdicts(night, "means") <= SAME


def test_a_file_that_cannot_be_imported_is_missing(place: Place) -> None:
    place.edit("BLEND = 0.6", "import no_such_module_at_all\nBLEND = 0.6")
    night = place.night(code=1)
    assert {f["verdict"] for f in night["findings"]} == {"missing"} and "no_such_module_at_all" in night["findings"][0]["why"]


def test_small_losses_accepted_one_by_one_are_seen_against_the_release(place: Place) -> None:
    noticed = None
    for step in range(1, 5):
        place.edit(f"BLEND = {0.6 - (step - 1) * 0.0004:.4g}", f"BLEND = {0.6 - step * 0.0004:.4g}")
        night = place.night(code=None)
        found = [f for f in night["findings"] if f["alarm"]]
        if found:
            noticed = found
            break
        place.accept()
    assert noticed and {f["against"] for f in noticed} == {"release"}, noticed


def test_nightly_refuses(place: Place) -> None:
    assert "Unknown suite 'smal'; did you mean small?" in wrong("nightly", "smal")
    assert "there is no folder" in wrong("nightly", "small", "--include", str(place.folder), "--md", str(place.root / "no" / "night.md"))
