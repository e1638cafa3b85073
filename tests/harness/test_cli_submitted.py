"""`scorebench inputs` and `scorebench score`: another program's answers get the number the harness would have given its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import data, good, wrong

from scorebench.harness import submitted
from scorebench.tasks import registry

TASK = "denoising/photos-gaussian25"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / "dev"
    assert "float32 answers" in good("inputs", TASK, "--out", str(folder), "--split", "dev")
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of the inputs with answers: the noisy pictures themselves, clipped."""
    import shutil

    copy = tmp_path / "work"
    shutil.copytree(written, copy)
    for s in manifest(copy)["samples"]:
        noisy = np.load(copy / s["given"]["noisy"]["file"])
        np.save(copy / "answers" / f"{s['name']}.npy", noisy.clip(0, 1))
    return copy


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def test_the_manifest_describes_everything_and_names_nothing(written: Path) -> None:
    m = manifest(written)
    task = registry.get(TASK)
    ids = task.ids("dev")
    assert m["complete"] and (m["task"], m["version"], m["split"], m["draw"]) == (TASK, task.version, "dev", 0)
    assert m["observation_hash"] == task.observation_hash("dev")
    assert set(m["fields"]) == set(task.spec.gives)
    text = (written / "manifest.json").read_text() + " ".join(p.name for p in written.rglob("*"))
    assert not any(i in text for i in ids)
    for s, i in zip(m["samples"], ids, strict=True):
        observation = task.observe("dev", i)
        array = np.load(written / s["given"]["noisy"]["file"])
        assert array.dtype == np.float32 and np.array_equal(array, observation.given["noisy"].numpy())
        assert tuple(s["answer_shape"]) == tuple(observation.target["clean"].shape)
        assert s["given"]["noise_level"] == pytest.approx(25 / 255)
    assert {p.suffix for p in (written / "inputs").iterdir()} == {".npy"}


def test_inputs_hold_nothing_clean(written: Path) -> None:
    task = registry.get(TASK)
    clean = {task.observe("dev", i).target["clean"].numpy().tobytes() for i in task.ids("dev")}
    assert not any(np.load(p).tobytes() in clean for p in (written / "inputs").glob("*.npy"))


def test_submitted_answers_get_the_number_of_the_method_that_made_them(folder: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "runs")
    record = data("score", TASK, str(folder), "--name", "mine", "--store", store)
    assert record["variant"] == "mine" and record["status"] == "ok" and record["provenance"]["submitted"] is True
    assert all(v is None for v in record["cost"].values())
    (own,) = data("run", "-t", TASK, "-m", "noisy-input", "--split", "dev", "--store", store, "--executor", "inline")
    assert own["observation_hash"] == record["observation_hash"]
    assert record["metrics"]["psnr"]["value"] == pytest.approx(own["metrics"]["psnr"]["value"], abs=1e-6)
    assert record["metrics"]["psnr"]["identity"] == own["metrics"]["psnr"]["identity"]
    board = data("board", TASK, "--split", "dev", "--store", store)
    assert {"mine": True, "noisy-input": False}.items() <= {r["variant"]: r["submitted"] for r in board["rows"]}.items()
    assert "Outputs submitted, not run here" in good("board", TASK, "--split", "dev", "--store", store)
    good("score", TASK, str(folder), "--name", "mine", "--store", store)
    assert data("status", store)["tasks"][0]["ok"] == 2  # the same answers again are the same record


def test_facts_decide_the_track(folder: Path, tmp_path: Path) -> None:
    arguments = ("score", TASK, str(folder), "--name", "m", "--store", str(tmp_path), "--uses")
    record = data(*arguments, "clean_images", "--uses", "external_weights=laion")
    assert record["facts"] == {"clean_images": True, "external_weights": ["laion"]}
    assert "supervised" in record["track"]
    assert "did you mean clean_images" in wrong(*arguments, "clean_image")
    assert "what the weights were trained on" in wrong(*arguments, "external_weights")
    assert "accepted: true, false" in wrong(*arguments, "labels=perhaps")


def spoil(folder: Path, name: str, array: Any) -> None:
    np.save(folder / "answers" / f"{name}.npy", array)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f, s: (f / "answers" / f"{s['name']}.npy").unlink(), "answers are missing"),
        (lambda f, s: spoil(f, "extra", np.zeros(3)), "extra.npy"),
        (lambda f, s: spoil(f, s["name"], np.zeros((2, 2), np.float32)), "has shape (2, 2); expected"),
        (lambda f, s: spoil(f, s["name"], np.full(s["answer_shape"], np.nan, np.float32)), "NaN or infinite"),
        (lambda f, s: spoil(f, s["name"], np.zeros(s["answer_shape"], np.uint8)), "holds uint8; expected float32"),
        (lambda f, s: spoil(f, s["name"], np.zeros(s["answer_shape"], bool)), "holds bool"),
        (lambda f, s: (f / "answers" / f"{s['name']}.npy").write_text("not an array"), "is not a NumPy array file"),
        (lambda f, s: (f / "manifest.json").unlink(), "cannot be read"),
        (lambda f, s: (f / "manifest.json").write_text("{"), "not valid JSON"),
        (lambda f, s: (f / "manifest.json").write_text("{}"), "not a manifest of this version"),
    ],
)
def test_wrong_answers_are_named(folder: Path, tmp_path: Path, change: Any, says: str) -> None:
    change(folder, manifest(folder)["samples"][1])
    assert says in wrong("score", TASK, str(folder), "--name", "mine", "--store", str(tmp_path / "runs"))


def edit(folder: Path, **changes: Any) -> None:
    (folder / "manifest.json").write_text(json.dumps({**manifest(folder), **changes}))


def test_inputs_of_another_task_version_or_observation_are_refused(folder: Path, tmp_path: Path) -> None:
    arguments = (str(folder), "--name", "mine", "--store", str(tmp_path / "runs"))
    assert "holds the inputs of denoising/photos-gaussian25@1, not of" in wrong("score", "denoising/photos-gaussian15", *arguments)
    edit(folder, observation_hash="0" * 64)
    assert "differ from those" in wrong("score", TASK, *arguments)
    edit(folder, complete=False)
    assert "not written to the end" in wrong("score", TASK, *arguments)
    edit(folder, version=99)
    assert "@99" in wrong("score", TASK, *arguments)


def test_names_of_rows(folder: Path, tmp_path: Path) -> None:
    for name in ("nlm", "Has Spaces", "a[b]", ""):
        assert "--name" in wrong("score", TASK, str(folder), "--name", name, "--store", str(tmp_path / "runs"))


def test_inputs_resume_and_refuse(written: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(written, copy)
    next((copy / "inputs").glob("*.npy")).unlink()
    edit(copy, complete=False)
    good("inputs", TASK, "--out", str(copy), "--split", "dev")
    assert manifest(copy) == manifest(written)
    assert {p.name for p in (copy / "inputs").iterdir()} == {p.name for p in (written / "inputs").iterdir()}
    assert "already holds the inputs of" in wrong("inputs", TASK, "--out", str(copy))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    assert "is not empty" in wrong("inputs", TASK, "--out", str(tmp_path / "full"))
    assert "is a file" in wrong("inputs", TASK, "--out", str(tmp_path / "full" / "x"))
    assert "cannot be written" in wrong("inputs", TASK, "--out", str(tmp_path / "full" / "x" / "y"))
    assert "did you mean" in wrong("inputs", "denoising/photos-gaussian26", "--out", str(tmp_path / "new"))


@pytest.mark.parametrize("task", ["inverse/gauss-lin", "inverse/photos-inpaint", "generation/gmm2d", "classification/digits"])
def test_other_families_write_inputs(task: str, tmp_path: Path) -> None:
    m = submitted.write_inputs(task, tmp_path / "x", split="dev")
    assert all(s["answer_shape"] for s in m["samples"])
    if task.startswith("inverse"):
        assert m["shared"]["physics"]["arrays"] or m["shared"]["physics"]["text"]
