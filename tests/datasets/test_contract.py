"""What holds for every dataset: cheap import, stable ids, documented arrays, disjoint splits, pinned fingerprints."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from scorebench.configs.errors import RequestError
from scorebench.datasets import registry
from scorebench.datasets.cache import versions

EMBEDDED = (
    "photos", "photos-grey", "photos-scenes", "photos-frames", "digits", "gmm2d", "gmm2d-uneven", "gauss-lin", "phantom", "shapes", "pages",
    "cubes", "eeg", "c-alpha1", "c-alpha2", "c-alpha4",
)  # fmt: skip
FINGERPRINTS = {
    "photos": "b07feb06eb08e1764f831203737be8f1240797ca740b1b27a6ef23541302b4f7",
    "photos-grey": "3e16ef179f253a18ce0c9acbefa87b55a6225cfc27a7202e17a8a52081e85166",
    "photos-scenes": "278774fa5c4692ee554b2ba618082aeaefecac80b68dc1465fed6fdb4407b7ec",
    "photos-frames": "728ac91b9018bf5b68bf1731982bfd9d24505f26cbed0a07378fceb8444c9fb4",
    "digits": "b53f5ad448530f8dccde96cafc32c461bbe72ad3778ed88e8a25d81b12276d3a",
    "gmm2d": "f4d57413dbd051fc794bb7d4f46933a49fa26f9e0759d133e18b9abbe80134a3",
    "gmm2d-uneven": "cc3e0513483ea128087b5736297f8ace1c4865d0088b6afa3f2d8c5774812898",
    "gauss-lin": "3cdd4d7beccbd2f0236d2169093f7bc62a299ebb4e3e4ba4be020a5d45042582",
    "phantom": "14d3144a80b5550c483107ea436421ab5fd068bfd181a0249d5dc4c679257470",
    "shapes": "489462f8c1e446ce5ef7532acf001a1e7b4a4d8afcd51a8928fd15e89bcda34c",
    "pages": "c91192df56b949bb9310848bb254e999a21ee7c059ac6cd3ab2f288301a6de44",
    "cubes": "1d2d443b78c89781a684d5a99c544d4d06b9989c8585f4f5f05e5bbac78ea053",
    "eeg": "1c3754b73d86dd7fa3ed26630015e6113d8c4494c52dc11f8fad6a4b7346c468",
    "c-alpha1": "e79d39e269a3abe8bf9cd6d153cafffaccb812d32246b051b183fa3d505ec347",
    "c-alpha2": "13a580f9548b97efaef23bd34f1bf1cd135b1291ddce4f500e94cf9428027076",
    "c-alpha4": "ff883b24e78a17c536433dcb65a5f95b3dfec5e0f1a048728b8cb4d544ac7db5",
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
    seen: set[bytes] = set()
    assert len({i for s in dataset.splits for i in dataset.ids(s)}) == sum(len(dataset.ids(s)) for s in dataset.splits), "splits share ids"
    for split in dataset.splits:
        ids = dataset.ids(split)
        assert ids and len(ids) == len(set(ids)) and ids == dataset.ids(split)
        for sample_id in ids[:3]:
            sample = dataset.sample(split, sample_id)
            assert sample.sample_id == sample_id and sample.cluster
            name_of = {"points": "x", "signal": "signal"}.get(dataset.kind, "image")
            signal = sample[name_of]
            assert signal.dtype == np.float32 and np.isfinite(signal).all()
            if dataset.kind == "image" and name != "gauss-lin":
                assert signal.ndim == 3 and signal.min() >= 0 and signal.max() <= 1
            again = dataset.sample(split, sample_id)
            assert np.array_equal(again[name_of], signal)
            seen.add(signal.tobytes())
    assert len(seen) == sum(len(dataset.ids(s)[:3]) for s in dataset.splits), "splits share samples"
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
