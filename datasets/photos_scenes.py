"""The colour photographs of `photos` and one more, split so that six scenes are tested: fewer could decide no comparison.

The installed packages hold eleven colour scenes: the ten of `photos` (scikit-image, scikit-learn) and Grace Hopper's portrait, which comes
with matplotlib. Six are tested on, since five differences of one sign happen by chance once in sixteen times, and four are left to learn
from, the stereo pair being one of them; one remains for dev. The six are the tested ones of `photos` and the portrait: what was trained or
chosen on `photos` may be asked here.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from .photos import PHOTOS, Photo, Photos, _path

SPLIT: dict[str, str] = {
    "astronaut": "test", "chelsea": "test", "coffee": "test", "china": "test", "rocket": "test", "grace_hopper": "test",
    "flower": "dev",
    "motorcycle_left": "train", "motorcycle_right": "train", "ihc": "train", "hubble_deep_field": "train", "retina": "train",
}  # fmt: skip

HOPPER = Photo(
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg", "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130", "test",
    "public domain (US Navy, James S. Davis)", shrink=2, crops=((0, 0), (2, 1), (1, 0), (1, 1)),
)  # fmt: skip

SCENES: tuple[Photo, ...] = tuple(replace(p, split=SPLIT[p.name]) for p in (*PHOTOS, HOPPER) if p.colour)

PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


class PhotosScenes(Photos):
    """Colour photographs. ``image``: float32 (3, 96, 96) in dev and test, (3, H, W) in train; ``grey``: its luma. Cluster: the scene."""

    id = "photos-scenes"
    title = "Colour photographs of scikit-image, scikit-learn and matplotlib, six scenes for testing"
    source = "files in the installed wheels of scikit-image, scikit-learn and matplotlib (mpl-data/sample_data)"

    def _photos(self, split: str) -> list[Photo]:
        return [p for p in SCENES if p.split == split]

    def _check(self) -> str | None:
        for photo in SCENES:
            package, path = PACKAGES[photo.file.partition("/")[0]], _path(photo)
            if path is None:
                return f"dataset {self.id!r} needs {photo.file} of {package}, which is not here; `pip install {package}` restores it."
            if hashlib.sha256(path.read_bytes()).hexdigest() != photo.sha256:
                return f"{path} is not the photograph that dataset {self.id!r} expects (sha256 differs); reinstall {package}."
        return None
