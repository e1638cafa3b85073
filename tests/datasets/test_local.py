"""Datasets read from $SCOREBENCH_DATA: small synthetic copies of every layout, and the real ones where they are present."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat, wavfile

from scorebench.configs.errors import DataMissing, RequestError
from scorebench.datasets import registry
from scorebench.datasets.local import LOCAL, folder_dataset, local_dataset
from scorebench.datasets.local_labelled import CelebA, ImageNet

REAL = os.environ.get("SCOREBENCH_DATA", "")


@pytest.fixture
def data(tmp_path: Path, monkeypatch) -> Path:
    """An empty data folder."""
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCOREBENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (8, 6), grey: bool = False) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 1 if grey else 3), dtype=np.uint8)
    Image.fromarray(pixels[..., 0] if grey else pixels).save(path, **({"quality": 95} if path.suffix.lower() == ".jpg" else {}))
    return pixels


@pytest.mark.parametrize("name", list(LOCAL))
def test_missing_data_are_one_sentence(name: str, data: Path) -> None:
    sentence = local_dataset(name).missing()
    assert sentence is not None and "\n" not in sentence and f"put it in $SCOREBENCH_DATA/{LOCAL[name].folder}" in sentence
    with pytest.raises(DataMissing, match="get it from"):
        local_dataset(name).ids("test" if "test" in LOCAL[name].splits else "train")


def test_missing_variable_is_said(monkeypatch) -> None:
    monkeypatch.delenv("SCOREBENCH_DATA", raising=False)
    assert "the variable is not set" in str(local_dataset("bsd68").missing())


def test_wrong_count_and_wrong_content_are_told_apart(data: Path) -> None:
    for i in range(11):
        picture(data / f"set12/{i:02d}.png", i, grey=True)
    assert "11 pictures found, 12 expected" in str(local_dataset("set12").missing())
    picture(data / "set12/11.png", 11, grey=True)
    assert local_dataset("set12").missing() is None
    with pytest.raises(DataMissing, match="other content than expected"):
        local_dataset("set12").ids("test")


def test_the_first_of_several_folders_counts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCOREBENCH_DATA", os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")]))
    for i in range(24):
        picture(tmp_path / f"b/kodak24/kodim{i + 1:02d}.png", i)
    kodak = local_dataset("kodak24")
    assert kodak.missing() is None and len(kodak.ids("test")) == 24
    assert kodak.sample("test", "kodim01")["image"].shape == (3, 8, 6)


def test_benchmark_is_the_pixels_not_the_files(data: Path) -> None:
    for i in range(24):
        picture(data / f"kodak24/k{i:02d}.png", i)
    first = local_dataset("kodak24").fingerprint()
    for path in list((data / "kodak24").iterdir()):
        with Image.open(path) as image:
            image.save(path.with_suffix(".bmp"))
        path.unlink()
    assert local_dataset("kodak24").fingerprint() == first
    assert local_dataset("kodak24").ids("dev") == registry.get("photos").ids("dev")


def test_polyu_splits_by_scene(data: Path) -> None:
    for i in range(100):
        for part in ("real", "mean"):
            picture(data / f"polyu/Cam{i // 30}_5_100_800_scene{i // 5}_{i % 5}_{part}.JPG", i + (part == "real"))
    polyu = local_dataset("polyu")
    assert polyu.missing() is None
    parts = {s: {polyu.scene(i) for i in type(polyu)._ids(polyu, s)} for s in polyu.splits}
    assert not parts["train"] & parts["test"] and not parts["dev"] & (parts["train"] | parts["test"])
    assert parts["all"] == parts["train"] | parts["dev"] | parts["test"] and len(type(polyu)._ids(polyu, "all")) == 100
    sample = polyu._load("all", "Cam0_5_100_800_scene0_0")
    assert sample["image"].shape == sample["noisy"].shape == (3, 8, 6) and sample.cluster == "Cam0_5_100_800_scene0"


def test_sidd_blocks(data: Path, monkeypatch) -> None:
    from scorebench.datasets import local_images

    blocks = np.random.default_rng(0).integers(0, 256, (40, 32, 2, 2, 3), dtype=np.uint8)
    (data / "sidd").mkdir()
    for name in ("ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"):
        savemat(data / f"sidd/{name}.mat", {name: blocks})
    sidd = local_dataset("sidd")
    parts = {split: {i[:2] for i in sidd.ids(split)} for split in ("train", "dev", "test")}
    assert [len(sidd.ids(s)) for s in ("train", "dev", "test", "all")] == [640, 128, 512, 1280]
    assert len(set.union(*parts.values())) == sum(len(p) for p in parts.values()) == 40
    with pytest.raises(DataMissing, match=r"expected \(40, 32, 256, 256, 3\)"):
        sidd.sample("all", "03-05")
    monkeypatch.setattr(local_images, "_mat", lambda path, name, mark: blocks)
    assert np.array_equal(sidd.sample("all", "03-05")["image"][0] * 255, blocks[3, 5, ..., 0])


def test_sidd_as_pictures(data: Path) -> None:
    """Without the .mat files: two folders, blocks in the order of the numbers in their names (2 after 1, not after 19)."""
    saved = {}
    for i in range(1280):
        for part, kept in (("noisy", i == 37), ("clean", i in (37, 1279))):
            pixels = picture(data / f"sidd/{part}/{i // 32}_{i % 32}.png", i + (part == "clean"), (2, 3))
            if kept:
                saved[part, i] = pixels
    sidd = local_dataset("sidd")
    assert sidd.missing() is None
    sample = sidd.sample("all", "01-05")
    for name, part in (("noisy", "noisy"), ("image", "clean")):
        assert np.array_equal(sample[name].transpose(1, 2, 0) * np.float32(255), saved[part, 37])
    assert np.array_equal(sidd.sample("all", "39-31")["image"].transpose(1, 2, 0) * np.float32(255), saved["clean", 1279])
    (data / "sidd/clean/3_7.png").unlink()
    assert "different names" in str(local_dataset("sidd").missing())
    (data / "sidd/noisy/3_7.png").unlink()
    assert "1279 pairs of pictures found, 1280 expected" in str(local_dataset("sidd").missing())


def test_mcmaster_is_read(data: Path) -> None:
    for i in range(18):
        pixels = picture(data / f"mcmaster/{i + 1}.tif", i, (10, 12))
    mcmaster = local_dataset("mcmaster")
    assert mcmaster.missing() is None and len(mcmaster.ids("test")) == 18
    assert np.array_equal(mcmaster.sample("test", "18")["image"].transpose(1, 2, 0) * np.float32(255), pixels)


def idx(path: Path, array: np.ndarray, packed: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content, 1) if packed else content)


def test_idx_sets(data: Path) -> None:
    rng = np.random.default_rng(0)
    images = {"train": rng.integers(0, 256, (60000, 28, 28), dtype=np.uint8), "t10k": rng.integers(0, 256, (10000, 28, 28), dtype=np.uint8)}
    labels = {k: rng.integers(0, 10, len(v), dtype=np.uint8) for k, v in images.items()}
    for k in images:
        idx(data / f"fashion-mnist/raw/{k}-images-idx3-ubyte", images[k], packed=False)
        idx(data / f"fashion-mnist/raw/{k}-labels-idx1-ubyte.gz", labels[k], packed=True)
    fashion = local_dataset("fashion-mnist")
    assert [len(fashion.ids(s)) for s in ("train", "dev", "test")] == [55000, 5000, 10000]
    sample = fashion.sample("dev", fashion.ids("dev")[0])
    assert np.array_equal(sample["image"][0] * 255, images["train"][55000]) and sample["label"] == labels["train"][55000]
    sample = fashion.sample("test", "00007")
    assert np.array_equal(sample["image"][0] * 255, images["t10k"][7]) and sample["label"] == labels["t10k"][7]
    idx(data / "fashion-mnist/raw/t10k-images-idx3-ubyte", images["t10k"][:5], packed=False)
    with pytest.raises(DataMissing, match=r"holds pictures \(5, 28, 28\)"):
        local_dataset("fashion-mnist").sample("test", "00000")


def test_cifar_reads_the_binary_version(data: Path) -> None:
    folder = data / "cifar10/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    records = np.random.default_rng(0).integers(0, 256, (10000, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    for i in range(1, 6):
        (folder / f"data_batch_{i}.bin").write_bytes(records.tobytes())
    assert "test_batch.bin absent" in str(local_dataset("cifar10").missing())
    (folder / "test_batch.bin").write_bytes(records[::-1].tobytes())
    cifar = local_dataset("cifar10")
    assert [len(cifar.ids(s)) for s in ("train", "dev", "test")] == [45000, 5000, 10000]
    sample = cifar.sample("test", "50000")
    assert sample["label"] == records[-1, 0] and np.array_equal(sample["image"].ravel() * 255, records[-1, 1:])


def test_celeba_and_imagenet_layouts(data: Path, monkeypatch) -> None:
    monkeypatch.setattr(CelebA, "count", 3)
    for i in range(3):
        picture(data / f"celeba/img_align_celeba/{i:06d}.jpg", i, (218, 178))
    (data / "celeba/list_eval_partition.txt").write_text("000000.jpg 0\n000001.jpg 1\n000002.jpg 2\n")
    celeba = local_dataset("celeba")
    assert [celeba.ids(s) for s in ("train", "dev", "test")] == [["000000.jpg"], ["000001.jpg"], ["000002.jpg"]]
    assert celeba.sample("test", "000002.jpg")["image"].shape == (3, 218, 178)
    monkeypatch.setattr(ImageNet, "count", 4)
    monkeypatch.setattr(ImageNet, "classes", 2)
    for i in range(4):
        picture(data / f"imagenet/val/n{i % 2:08d}/ILSVRC2012_val_{i:08d}.JPEG", i)
    net = local_dataset("imagenet")
    assert net.missing() is None and sorted(net.ids("all")) == [f"ILSVRC2012_val_{i:08d}" for i in range(4)]
    assert net.sample("all", "ILSVRC2012_val_00000003")["label"] == 1


def test_voicebank_demand_is_brought_to_16_khz(data: Path, monkeypatch) -> None:
    from scorebench.datasets.local_audio import VoiceBankDemand

    monkeypatch.setattr(VoiceBankDemand, "counts", {"trainset_28spk_wav": 2, "testset_wav": 1})
    t = np.arange(48000) / 48000
    tone = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
    for folder, names in {"trainset_28spk_wav": ("p226_001", "p230_001"), "testset_wav": ("p232_001",)}.items():
        for kind in ("clean", "noisy"):
            (data / f"voicebank-demand/{kind}_{folder}").mkdir(parents=True)
            for name in names:
                wavfile.write(data / f"voicebank-demand/{kind}_{folder}/{name}.wav", 48000, tone)
    voices = local_dataset("voicebank-demand")
    assert [voices.ids(s) for s in ("train", "dev", "test")] == [["p230_001"], ["p226_001"], ["p232_001"]]
    sample = voices.sample("test", "p232_001")
    expected = 8000 / 32768 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert sample["audio"].shape == (1, 16000) and sample.cluster == "p232"
    assert np.abs(sample["audio"][0, 500:-500] - expected[500:-500]).max() < 1e-3


def test_any_folder_of_pictures(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    clean = picture(tmp_path / "p/deep/one.png", 1)
    picture(tmp_path / "p/deep/one_noisy.png", 2)
    picture(tmp_path / "p/two.png", 3, grey=True)
    folder = registry.get(f"folder:{tmp_path / 'p'}")
    assert folder.ids("test") == ["deep/one", "two"] and folder.splits == ("test",)
    sample = folder.sample("test", "deep/one")
    assert np.array_equal(np.moveaxis(sample["image"], 0, -1) * 255, clean) and sample["noisy"].shape == (3, 8, 6)
    assert folder.sample("test", "two")["image"].shape == (1, 8, 6)
    with pytest.raises(RequestError, match="no split 'train'"):
        folder.ids("train")
    picture(tmp_path / "q/train/a.png")
    picture(tmp_path / "q/test/b.png")
    assert folder_dataset(str(tmp_path / "q")).splits == ("train", "test")
    picture(tmp_path / "q/test/b.jpg")
    with pytest.raises(DataMissing, match="have the same name"):
        folder_dataset(str(tmp_path / "q")).ids("test")


def test_any_folder_of_recordings_and_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    wavfile.write(tmp_path / "a/x.wav", 8000, np.array([0, 16384, -32768], dtype=np.int16))
    folder = folder_dataset(str(tmp_path / "a"))
    assert folder.kind == "audio" and folder.sample("test", "x")["audio"].tolist() == [[0, 0.5, -1]]
    (tmp_path / "a/y.wav").write_bytes(b"no sound")
    with pytest.raises(DataMissing, match="not a readable wav"):
        folder_dataset(str(tmp_path / "a")).sample("test", "y")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x.png").write_bytes(b"no picture")
    with pytest.raises(DataMissing, match="not a readable picture"):
        folder_dataset(str(tmp_path / "b")).sample("test", "x")
    with pytest.raises(DataMissing, match="not a folder"):
        folder_dataset(str(tmp_path / "nowhere"))
    (tmp_path / "c").mkdir()
    with pytest.raises(DataMissing, match="holds no picture"):
        folder_dataset(str(tmp_path / "c"))


HERE = {
    "bsd68": {"test": 68}, "bsd400": {"train": 400}, "set12": {"test": 12}, "cbsd68": {"test": 68}, "polyu": {"all": 100},
    "mnist-10k": {"train": 8000, "dev": 1000, "test": 1000}, "fsdd": {"train": 2400, "dev": 300, "test": 300},
    "voicebank-mini": {"dev": 2, "test": 4},
}  # fmt: skip


@pytest.mark.parametrize("name", list(HERE))
def test_real_copies(name: str) -> None:
    dataset = local_dataset(name)
    if not REAL or dataset.root() is None:
        pytest.skip(f"{name} is not in $SCOREBENCH_DATA")
    for split, count in HERE[name].items():
        ids = dataset.ids(split)  # checks the content against the known sha256
        assert len(ids) == count
        sample = dataset.sample(split, ids[-1])
        signal = sample["image" if dataset.kind == "image" else "audio"]
        assert signal.dtype == np.float32 and np.abs(signal).max() <= 1 and signal.shape[0] in (1, 3)
