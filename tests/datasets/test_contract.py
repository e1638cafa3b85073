"""What holds for every dataset: cheap import, stable ids, documented arrays, disjoint splits, pinned fingerprints."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from scorebench.configs.errors import RequestError
from scorebench.datasets import registry
from scorebench.datasets.cache import versions

EMBEDDED = ("photos", "photos-grey", "digits", "gmm2d", "gmm2d-uneven", "gauss-lin", "phantom", "shapes", "pages")
FINGERPRINTS = {
    "photos": "b07feb06eb08e1764f831203737be8f1240797ca740b1b27a6ef23541302b4f7",
    "photos-grey": "3e16ef179f253a18ce0c9acbefa87b55a6225cfc27a7202e17a8a52081e85166",
    "digits": "b53f5ad448530f8dccde96cafc32c461bbe72ad3778ed88e8a25d81b12276d3a",
    "gmm2d": "7fda4f9dab4a40301b51e74b84e09e193f1e5a6a9c91ea21dea1402792226a86",
    "gmm2d-uneven": "db7ef9303fa32a9daefc7f957b36bd069e06ab278ad87a85bf898c819deb59d1",
    "gauss-lin": "9ee4c4b8343170138b0460521621d515fd964846da22c40d9a4f68a54a3ab36d",
    "phantom": "358d35bbe2a72b93874a9720de060be2142b85016f9d212c7f28714a24466842",
    "shapes": "643be930dfd062200fce1d82f7b55509eb13dfee9e8802dfaea993fd814c14fb",
    "pages": "25cdaa91b0089a712ebedbdc434664f32432f9b1b19b41ab6772b2ce32f824ee",
}


@pytest.mark.parametrize("name", EMBEDDED)
def test_fingerprint_is_pinned(name: str) -> None:
    dataset = registry.get(name)
    found = dataset.content_hash()
    assert found == FINGERPRINTS[name], (
        f"the content of {name}@{dataset.version} changed (now {found}). If its code changed on purpose, raise its version and pin the new "
        f"value; otherwise a library changed it: {versions(dataset.libraries)}."
    )


def test_cached_fingerprint_is_the_computed_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path))
    from scorebench.datasets.digits import Digits

    first, second = Digits(), Digits()
    assert first.fingerprint() == first.content_hash()
    second.content_hash = lambda: pytest.fail("computed again although it is cached")  # type: ignore[method-assign,assignment]
    assert second.fingerprint() == first.fingerprint()


def test_fingerprint_follows_the_content(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    from PIL import Image

    from scorebench.datasets.local import folder_dataset

    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", (4, 4), 10).save(folder / "a.png")
    before = folder_dataset(str(folder)).fingerprint()
    Image.new("L", (4, 4), 11).save(folder / "a.png")
    assert folder_dataset(str(folder)).fingerprint() != before


@pytest.mark.parametrize("name", EMBEDDED)
def test_samples(name: str) -> None:
    dataset = registry.get(name)
    seen: set[str] = set()
    for split in dataset.splits:
        ids = dataset.ids(split)
        assert ids and len(ids) == len(set(ids)) and ids == dataset.ids(split)
        for sample_id in ids[:3]:
            sample = dataset.sample(split, sample_id)
            assert sample.sample_id == sample_id and sample.cluster
            signal = sample["x" if dataset.kind == "points" else "image"]
            assert signal.dtype == np.float32 and np.isfinite(signal).all()
            if dataset.kind == "image" and name != "gauss-lin":
                assert signal.ndim == 3 and signal.min() >= 0 and signal.max() <= 1
            again = dataset.sample(split, sample_id)
            assert np.array_equal(again["x" if dataset.kind == "points" else "image"], signal)
            seen.add(signal.tobytes())
    assert len(seen) == 3 * len(dataset.splits), "splits share samples"
    assert dataset.licence and dataset.source and dataset.title and dataset.pixels in ("redistribute", "display", "never")


def test_unknown_names_are_refused_in_one_sentence() -> None:
    with pytest.raises(RequestError, match="did you mean digits"):
        registry.get("digts")
    with pytest.raises(RequestError, match="no split 'val'; accepted: train, dev, test"):
        registry.get("digits").ids("val")


def test_importing_every_dataset_module_loads_nothing_heavy() -> None:
    code = (
        "import sys, scorebench.datasets.registry as r\n"
        "[r.get(n).title for n in r.known() if n != 'speech']\n"
        "print([m for m in ('torch', 'scipy', 'skimage', 'sklearn', 'matplotlib', 'PIL', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
