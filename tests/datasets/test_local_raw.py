"""RAW pairs from a user's folder: every file layout, splits by scene, sentences for what is missing, and the tasks on them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scorebench.configs.errors import DataMissing
from scorebench.datasets.local_raw import SIDSony, read_raw
from scorebench.tasks import raw, registry, training_data

HEADER = "id,scene,noisy,clean,iso,amplification"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCOREBENCH_DATA", str(tmp_path))
    (tmp_path / "sid-sony").mkdir()
    training_data.pictures.cache_clear()
    yield tmp_path / "sid-sony"
    training_data.pictures.cache_clear()


def filled(folder: Path, scenes: int = 10) -> np.ndarray:
    """Write scenes whose short exposures are an even 512 + 5 codes and whose long ones 512 + 1000."""
    lines = [HEADER]
    for k in range(scenes):
        np.save(folder / f"s{k}.npy", np.full((96, 80), 517, dtype=np.uint16))
        np.savez(folder / f"l{k}.npz", np.full((96, 80), 1512, dtype=np.uint16))
        lines.append(f"p{k},scene{k},s{k}.npy,l{k}.npz,1600,200")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return np.full((4, 48, 40), 1000 / (16383 - 512), dtype=np.float32)


def test_every_layout_is_read_alike(tmp_path: Path):
    codes = np.random.default_rng(0).integers(0, 16384, (6, 8), dtype=np.uint16)
    np.save(tmp_path / "a.npy", codes)
    np.savez(tmp_path / "a.npz", codes)
    Image.fromarray(codes.astype(np.int32)).convert("I;16").save(tmp_path / "a.png")
    packed = np.stack([codes[0::2, 0::2], codes[0::2, 1::2], codes[1::2, 0::2], codes[1::2, 1::2]])
    np.save(tmp_path / "b.npy", packed)
    for name in ("a.npy", "a.npz", "a.png", "b.npy"):
        assert np.array_equal(read_raw(tmp_path / name), packed), name
    np.save(tmp_path / "c.npy", codes[None, None])
    with pytest.raises(DataMissing, match="expected a mosaic"):
        read_raw(tmp_path / "c.npy")


@pytest.mark.skipif(find_spec("rawpy") is not None, reason="rawpy is installed")
def test_camera_files_without_rawpy_are_one_sentence(tmp_path: Path):
    (tmp_path / "x.ARW").write_bytes(b"raw")
    with pytest.raises(DataMissing, match="needs rawpy"):
        read_raw(tmp_path / "x.ARW")


def test_samples_are_amplified_and_split_by_scene(folder: Path):
    clean = filled(folder)
    data = SIDSony()
    assert data.missing() is None
    parts = {s: data.ids(s) for s in data.splits}
    assert sorted(map(len, parts.values())) == [1, 4, 5] and len({i for ids in parts.values() for i in ids}) == 10
    sample = data.sample("test", parts["test"][0])
    assert np.allclose(sample["image"], clean) and sample["iso"] == 1600
    assert np.allclose(sample["noisy"], clean, atol=1e-6), "5 codes x 200 are 1000"


def test_what_is_missing_is_said(folder: Path):
    assert "pairs.csv not found" in str(SIDSony().missing())
    (folder / "pairs.csv").write_text("id,scene\n1,2\n")
    assert "no column 'noisy'" in str(SIDSony().missing())
    (folder / "pairs.csv").write_text(HEADER + "\np,s,a.ARW,b.ARW,800,100\n")
    assert "a.ARW not found" in str(SIDSony().missing())


def test_the_task_runs_on_them(folder: Path, monkeypatch):
    clean = filled(folder)
    data = SIDSony()
    monkeypatch.setattr("scorebench.datasets.registry.get", lambda _: data)
    task = raw.RawTask(registry.get_spec("denoising/sid-sony"))
    o = task.observe("test", task.ids()[0])
    assert o.given["noisy"].shape == (4, 48, 40) and o.given["amplification"] == 200
    assert torch.allclose(o.target["clean"], torch.from_numpy(clean))
    pair = task.training_set("paired", 0)[0]
    assert torch.allclose(pair["input"], pair["target"], atol=1e-6) and pair["input"].shape == (4, 32, 32)
    assert set(task.training_set("clean", 0)[0]) == {"target"}
