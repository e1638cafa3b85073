from __future__ import annotations

import numpy as np
import pytest

from scorebench.datasets import photos, photos_scenes, registry
from scorebench.leaderboards.statistics import too_few


def test_a_scene_is_on_one_side_only() -> None:
    sides: dict[str, set[str]] = {}
    for photo in photos.PHOTOS:
        sides.setdefault(photo.scene or photo.name, set()).add(photo.split)
    assert all(len(s) == 1 for s in sides.values())
    assert sides["motorcycle"] == {"train"}


def test_crops_of_one_photograph_do_not_overlap_and_are_inside() -> None:
    grey = registry.get("photos-grey")
    for photo in photos.PHOTOS:
        assert len(set(photo.crops)) == len(photo.crops)
        assert bool(photo.crops) == (photo.split != "train")
    for split, photographs in (("test", 8), ("dev", 3)):
        samples = [grey.sample(split, i) for i in grey.ids(split)]
        assert {s["image"].shape for s in samples} == {(1, 96, 96)}
        assert len({s.cluster for s in samples}) == photographs
        assert len({s.cluster for s in samples[:photographs]}) == photographs, "a shortened list must still cover all photographs"


def test_every_file_of_the_packages_is_used_or_left_out_with_a_reason() -> None:
    from pathlib import Path

    import skimage
    import sklearn

    folders = [Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets/images"]
    endings = {".png", ".jpg", ".tif", ".gif", ".npy", ".npz"}
    found = {p.name for f in folders for p in f.iterdir() if p.suffix in endings}
    used = {p.file.rsplit("/", 1)[1] for p in photos.PHOTOS}
    assert found == used | set(photos.LEFT_OUT) and not used & set(photos.LEFT_OUT)


def test_shrinking_is_area_averaging_and_grey_is_luma() -> None:
    from pathlib import Path

    import sklearn
    from PIL import Image

    with Image.open(Path(sklearn.__file__).parent / "datasets/images/china.jpg") as image:
        full = np.asarray(image.convert("RGB")).astype(float)
    china = next(p for p in photos.PHOTOS if p.name == "china")
    expected = full[:426, :640].reshape(213, 2, 320, 2, 3).mean((1, 3))
    shrunk = photos._pixels(china)
    assert np.abs(shrunk - expected).max() <= 0.5
    luma = shrunk @ np.array([0.299, 0.587, 0.114])
    assert np.abs(photos.to_grey(shrunk) - luma).max() <= 0.5 + 1e-9
    with Image.fromarray(shrunk) as image:  # Pillow's own conversion truncates, so it may differ by one step
        assert np.abs(np.asarray(image.convert("L")).astype(int) - photos.to_grey(shrunk)).max() <= 1


def test_colour_and_grey_show_the_same_crop() -> None:
    colour, grey = registry.get("photos"), registry.get("photos-grey")
    a, b = colour.sample("test", "coffee-r0c3"), grey.sample("test", "coffee-r0c3")
    assert np.array_equal(a["grey"], b["image"]) and a["image"].shape == (3, 96, 96)


def test_a_damaged_file_is_named(monkeypatch, tmp_path) -> None:
    changed = tmp_path / "coffee.png"
    changed.write_bytes(b"not the photograph")
    real = photos._path
    monkeypatch.setattr(photos, "_path", lambda p: changed if p.name == "coffee" else real(p))
    sentence = photos.Photos().missing()
    assert sentence is not None and "coffee.png is not the photograph" in sentence and "reinstall scikit-image" in sentence
    monkeypatch.setattr(photos, "_path", lambda p: None if p.name == "coffee" else real(p))
    sentence = photos.Photos().missing()
    assert sentence is not None and "pip install scikit-image" in sentence


# ---------------------------------------------------------------------- six scenes for testing
@pytest.mark.parametrize("name", ["photos-scenes", "photos-frames"])
def test_the_scenes_tested_are_enough_to_decide_and_are_learned_from_nowhere(name):
    dataset = registry.get(name)
    scenes = {s: {dataset.sample(s, i).cluster for i in dataset.ids(s)} for s in dataset.splits}
    assert len(scenes["test"]) == 6 and not too_few(6) and too_few(5)
    assert len(scenes["train"]) == 4 and scenes["dev"] == {"flower"}
    assert sum(map(len, scenes.values())) == len(set().union(*scenes.values())), "a scene is on one side only"
    for other in ("photos", "photos-grey"):  # what was trained or chosen there may be asked here
        there = registry.get(other)
        assert not scenes["test"] & {there.sample(s, i).cluster for s in ("train", "dev") for i in there.ids(s)}
    first = [dataset.sample("test", i).cluster for i in dataset.ids("test")[:6]]
    assert len(set(first)) == 6, "a shortened list covers all scenes"


def test_scenes_are_the_photographs_of_photos_and_one_more():
    assert {p.name for p in photos_scenes.SCENES} == {p.name for p in photos.PHOTOS if p.colour} | {"grace_hopper"}
    ours, theirs = registry.get("photos-scenes"), registry.get("photos")
    for split, sample_id in (("test", "coffee-r0c3"), ("dev", "flower-r0c1")):
        assert np.array_equal(ours.sample(split, sample_id)["image"], theirs.sample(split, sample_id)["image"])


def test_a_damaged_scene_is_named(monkeypatch, tmp_path):
    real = photos._path
    monkeypatch.setattr(photos_scenes, "_path", lambda p: None if p.name == "grace_hopper" else real(p))
    sentence = photos_scenes.PhotosScenes().missing()
    assert sentence is not None and "pip install matplotlib" in sentence
    (tmp_path / "x").write_bytes(b"another picture")
    monkeypatch.setattr(photos_scenes, "_path", lambda p: tmp_path / "x" if p.name == "coffee" else real(p))
    sentence = photos_scenes.PhotosScenes().missing()
    assert sentence is not None and "reinstall scikit-image" in sentence
