"""`scorebench submit` and `scorebench audit`: a good bundle passes; what was tampered with, swapped, leaked or peeked at is caught."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import call, good, wrong

from scorebench.baselines import card, components
from scorebench.datasets import registry as datasets
from scorebench.harness import poison
from scorebench.leaderboards.arrays import pack, unpack
from scorebench.tasks import registry

PLUGIN = Path(__file__).parent / "audited"


@pytest.fixture(autouse=True)
def own_plugins(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every command line here starts without the plug-ins of the one before."""
    yield
    forget()


def forget() -> None:
    for folders in (card._FOLDERS, components._FOLDERS, registry._EXTRA):
        folders[:] = [f for f in folders if f.name != "audited"]
    for cached in (card.cards, components.priors, registry.specs, registry.get):
        cached.cache_clear()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("audit") / "runs"
    methods = [w for m in ("halves", "learner-of-noise", "peeker", "parrot", "secret-learner") for w in ("-m", m)]
    common = ("--include", str(PLUGIN), "--store", str(where), "--executor", "inline")
    good("run", "-t", "denoising/audit-small", *methods, *common)
    good("run", "-t", "denoising/audit-leak", "-m", "halves", *common)
    forget()
    return where


def submit(store: Path, out: Path, *words: str) -> Path:
    text = good("submit", *words, "--store", str(store), "--include", str(PLUGIN), "--out", str(out))
    assert f"scorebench audit {out}" in text
    forget()
    return out


@pytest.fixture
def bundle(store: Path, tmp_path: Path) -> Path:
    return submit(store, tmp_path / "bundle", "denoising/audit-small", "-m", "halves")


def audit(folder: Path, *words: str) -> tuple[int, dict[str, list[str]], list[dict[str, str]]]:
    """Return the exit code, the outcomes of each check by its name, and all checks."""
    done = call("audit", str(folder), *words, "--json")
    assert done.exit_code in (0, 1), (done.output, done.stderr, done.exception)
    checks = json.loads(done.stdout)["checks"]
    by: dict[str, list[str]] = {}
    for c in checks:
        by.setdefault(c["name"], []).append(c["outcome"])
    forget()
    return done.exit_code, by, checks


def reseal(folder: Path) -> None:
    """Write a manifest that fits what is in the folder now, as somebody who cheats would."""
    path = folder / "manifest.json"
    m = json.loads(path.read_text())
    m["files"] = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in m["files"]}
    path.write_text(json.dumps(m))


def change(folder: Path, edit: Any) -> None:
    """Change the first record and its per-sample values, so that they fit each other and the manifest."""
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines()
    record = json.loads(lines[0])
    file = folder / record["samples"]["file"]
    arrays = unpack(file.read_bytes())
    edit(record, arrays)
    content = pack(arrays)
    file.write_bytes(content)
    record["samples"]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text("\n".join([json.dumps(record), *lines[1:]]) + "\n")
    reseal(folder)


# ------------------------------------------------------------------ bundles
def test_a_bundle_holds_numbers_and_the_plugin_and_no_pixels(bundle: Path) -> None:
    names = {str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file()}
    assert {"manifest.json", "records.jsonl", "plugin/audited/audited.py", "plugin/audited/halves.yaml"} <= names
    (samples,) = [n for n in names if n.startswith("samples/")]
    arrays = unpack((bundle / samples).read_bytes())
    assert set(arrays) == {"ids", "clusters", "metric/psnr", "metric/ssim"}
    text = (bundle / "records.jsonl").read_text() + (bundle / "manifest.json").read_text()
    provenance = json.loads(text.splitlines()[0])["provenance"]
    assert not {"host", "pid", "command"} & set(provenance) and str(Path.home()) not in text
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["plugins"] == ["audited"] and manifest["units"] == 1
    assert {e["libraries"]["torch"] is not None for e in manifest["environments"].values()} == {True}


def test_a_good_bundle_passes(store: Path, tmp_path: Path) -> None:
    folder = submit(store, tmp_path / "b", "denoising/audit-small", "-m", "halves", "-m", "learner-of-noise")
    code, by, _ = audit(folder, "--fresh-draw", "77")
    assert code == 0 and set(by) == {"files", "record", "overlap", "rescore", "poison", "fresh noise"}
    assert {o for outcomes in by.values() for o in outcomes} == {"passed"} and len(by["rescore"]) == 2
    assert "0 failed" in good("audit", str(folder), "--no-run")


def test_settings_of_a_variant_are_taken_up_again(store: Path, tmp_path: Path) -> None:
    where = tmp_path / "runs"
    good("run", "-t", "denoising/audit-small", "-m", "halves", "--set", "share=0.25", "--include", str(PLUGIN), "--store", str(where),
         "--executor", "inline")  # fmt: skip
    forget()
    code, by, checks = audit(submit(where, tmp_path / "b"))
    assert code == 0 and by["rescore"] == ["passed"], checks
    assert any("halves[share=0.25]" in c["about"] for c in checks)


# ------------------------------------------------------------------ what is caught
def test_a_changed_file_is_caught_before_anything_runs(bundle: Path) -> None:
    text = (bundle / "records.jsonl").read_text()
    (bundle / "records.jsonl").write_text(text.replace('"seed":0', '"seed":3'))
    code, by, checks = audit(bundle)
    assert code == 1 and by == {"files": ["failed"]} and "records.jsonl" in checks[0]["says"]


def test_a_file_that_the_manifest_does_not_name_is_caught(bundle: Path) -> None:
    (bundle / "plugin" / "audited" / "more.py").write_text("x = 1\n")
    assert audit(bundle)[1] == {"files": ["failed"]}


def test_a_mean_that_is_not_its_samples_is_caught(bundle: Path) -> None:
    change(bundle, lambda r, a: r["metrics"]["psnr"].update(value=r["metrics"]["psnr"]["value"] + 0.2))
    code, by, checks = audit(bundle, "--no-run")
    assert code == 1 and by["record"] == ["failed"] and "mean" in checks[1]["says"]


def test_better_values_everywhere_are_caught_by_rescoring(bundle: Path) -> None:
    def better(r: dict[str, Any], a: dict[str, np.ndarray]) -> None:
        a["metric/psnr"] = a["metric/psnr"] + 0.2
        r["metrics"]["psnr"]["value"] = float(np.mean(a["metric/psnr"]))

    change(bundle, better)
    code, by, checks = audit(bundle)
    assert code == 1 and by["files"] == by["record"] == ["passed"] and by["rescore"] == ["failed"]
    assert "psnr is 24.0" in next(c["says"] for c in checks if c["name"] == "rescore")


def test_a_swapped_method_is_caught(bundle: Path) -> None:
    file = bundle / "plugin" / "audited" / "audited.py"
    file.write_text(file.read_text().replace("self.share * request.noisy", "0.9 * self.share * request.noisy"))
    reseal(bundle)
    code, by, _ = audit(bundle)
    assert code == 1 and by["rescore"] == ["failed"] and by["code"] == ["note"]


def test_facts_that_are_not_the_cards_are_caught(bundle: Path) -> None:
    change(bundle, lambda r, a: r["facts"].clear())
    code, by, _ = audit(bundle, "--no-run")
    assert code == 1 and by["facts"] == ["failed"]


def test_a_card_that_hides_what_it_learns_from_is_caught(bundle: Path) -> None:
    cards = bundle / "plugin" / "audited" / "halves.yaml"
    cards.write_text(cards.read_text().replace("trains_on: none", "trains_on: paired"))
    reseal(bundle)
    code, by, checks = audit(bundle, "--no-run")
    assert code == 1 and by["facts"] == ["failed"] and "does not say that it uses clean images" in " ".join(c["says"] for c in checks)


def test_other_observations_are_caught(bundle: Path) -> None:
    change(bundle, lambda r, a: r.update(observation_hash="0" * 64))
    assert audit(bundle, "--no-run")[1]["observations"] == ["failed"]


def test_a_training_set_that_overlaps_the_test_set_is_caught(store: Path, tmp_path: Path) -> None:
    code, by, checks = audit(submit(store, tmp_path / "b", "denoising/audit-leak"), "--no-run")
    assert code == 1 and by["overlap"] == ["failed"]
    assert "test samples are in the training data" in checks[-1]["says"]


@pytest.mark.parametrize(
    ("method", "failed"),
    [("peeker", {"poison"}), ("parrot", {"poison", "fresh noise"}), ("secret-learner", {"poison"})],
)
def test_methods_that_see_what_they_must_not_are_caught(method: str, failed: set[str], store: Path, tmp_path: Path) -> None:
    code, by, checks = audit(submit(store, tmp_path / "b", "denoising/audit-small", "-m", method))
    assert code == 1 and {n for n, o in by.items() if "failed" in o} == failed
    assert by["rescore"] == ["passed"], "its numbers are what it says; how it got them is the point"
    assert "it sees data it must not see" in " ".join(c["says"] for c in checks)


# ------------------------------------------------------------------ the poisoned world
def test_poison_is_everywhere_but_where_the_harness_asks() -> None:
    name = "denoising/photos-gaussian25"
    task = registry.get(name)
    i = task.ids("dev")[0]
    true, clean = task.observe("dev", i), datasets.get("photos-grey").sample("dev", i)["image"]
    items = task.training_set("clean", 0)[0]["target"]
    with poison.poisoned(frozenset({"noisy"})):
        there = registry.get(name)
        seen = there.observe("dev", i)
        assert seen.hash() == true.hash() and not seen.target["clean"].equal(true.target["clean"])
        assert there.target([seen])["clean"][0].equal(true.target["clean"])
        assert not np.allclose(datasets.get("photos-grey").sample("dev", i)["image"], clean)
        assert there.training_set("noisy", 0)[0]["input"].equal(task.training_set("noisy", 0)[0]["input"])
        assert not there.training_set("clean", 0)[0]["target"].equal(items)
    assert registry.get(name).observe("dev", i).target["clean"].equal(true.target["clean"])
    assert np.array_equal(datasets.get("photos-grey").sample("dev", i)["image"], clean)


# ------------------------------------------------------------------ refusals
def test_refusals(store: Path, bundle: Path, tmp_path: Path) -> None:
    assert "is no store" in wrong("submit", "--store", str(tmp_path / "none"), "--out", str(tmp_path / "x"))
    assert "holds no whole record of 'dncnn'" in wrong("submit", "-m", "dncnn", "--store", str(store), "--out", str(tmp_path / "x"))
    again = wrong("submit", "-m", "halves", "--store", str(store), "--include", str(PLUGIN), "--out", str(bundle))
    assert "exists and is not empty" in again
    assert "cannot be read" in wrong("audit", str(tmp_path / "none"))
    assert "own draws" in wrong("audit", str(bundle), "--fresh-draw", "0")
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    (damaged / "manifest.json").write_text("{")
    assert "is not valid" in wrong("audit", str(damaged))
    m = json.loads((bundle / "manifest.json").read_text())
    (damaged / "manifest.json").write_text(json.dumps({**m, "plugins": ["../../elsewhere"]}))
    assert "lies outside" in wrong("audit", str(damaged))
