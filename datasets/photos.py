"""Real photographs that come with scikit-image and scikit-learn: nothing is downloaded, every file is checked by its sha256.

``photos`` holds the colour photographs; ``photos-grey`` all of them in grey, and the grey ones besides. Both split by photograph, in the
same way (the stereo pair is one scene and stands on one side), so what learns on one never sees a test scene of the other.

Train yields whole photographs; dev and test yield 96 x 96 crops on a centred grid, listed below. JPEG files and the scanned print are
first averaged over ``shrink`` x ``shrink`` pixels, which removes block artefacts and grain. All arithmetic before the division by 255
is in integers, so the pixels depend on the decoder alone. Every dev and test picture may be redistributed; the stereo pair of train
carries no licence, and train pictures never leave the machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .base import Dataset, Sample, as_image

if TYPE_CHECKING:
    import numpy as np

CROP = 96


@dataclass(frozen=True)
class Photo:
    """One file: where it is, what it must be, which side of the split its scene is on, and its crops (row, column of the grid)."""

    file: str
    sha256: str
    split: str
    licence: str
    colour: bool = True
    shrink: int = 1
    scene: str = ""
    crops: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> str:
        return Path(self.file).stem


_CC0 = "CC0-1.0"
_PD = "public domain"
_NKR = "no known copyright restrictions"
_SK, _SL = "skimage/data/", "sklearn/datasets/images/"

PHOTOS: tuple[Photo, ...] = (
    Photo(_SK + "astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5", "test", f"{_PD} (NASA)",
          crops=((1, 2), (3, 1), (1, 4), (4, 3))),
    Photo(_SK + "chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb", "test", f"{_CC0} (Stefan van der Walt)",
          crops=((1, 1), (1, 2), (0, 3), (2, 2))),
    Photo(_SK + "coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7", "test", f"{_CC0} (Rachel Michetti)",
          crops=((0, 3), (2, 3), (1, 1), (3, 4))),
    Photo(_SL + "china.jpg", "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29", "test", "CC-BY-2.0 (danielbuechele)",
          shrink=2, crops=((0, 0), (0, 1), (1, 1), (1, 0))),
    Photo(_SK + "rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c", "test", f"{_PD} (SpaceX)",
          shrink=2, crops=((1, 0), (1, 1), (1, 2), (0, 1))),
    Photo(_SK + "camera.png", "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a", "test", f"{_CC0} (Lav Varshney)",
          colour=False, crops=((0, 2), (1, 3), (3, 2))),
    Photo(_SK + "coins.png", "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba", "test", f"{_NKR} (Brooklyn Museum)",
          colour=False, crops=((0, 2), (1, 3), (2, 1))),
    Photo(_SK + "brick.png", "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf", "test", f"{_CC0} (CC0Textures)",
          colour=False, crops=((0, 1), (2, 3), (4, 0))),
    Photo(_SL + "flower.jpg", "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638", "dev", "CC-BY-2.0 (vultilion)",
          shrink=2, crops=((0, 1), (1, 1), (0, 2), (1, 2))),
    Photo(_SK + "retina.jpg", "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6", "dev", f"{_CC0} (Mikael Häggström)",
          shrink=4, crops=((1, 0), (0, 1), (2, 2), (1, 1))),
    Photo(_SK + "gravel.png", "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12", "dev", f"{_CC0} (CC0Textures)",
          colour=False, crops=((0, 0), (2, 3), (4, 1))),
    Photo(_SK + "motorcycle_left.png", "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179", "train",
          "no licence stated; free for research (Middlebury Stereo 2014)", scene="motorcycle"),
    Photo(_SK + "motorcycle_right.png", "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797", "train",
          "no licence stated; free for research (Middlebury Stereo 2014)", scene="motorcycle"),
    Photo(_SK + "ihc.png", "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef", "train", f"{_NKR} (CMMI)"),
    Photo(_SK + "hubble_deep_field.jpg", "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4", "train",
          f"{_PD} (NASA, ESA)", shrink=2),
    Photo(_SK + "grass.png", "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89", "train", f"{_CC0} (CC0Textures)",
          colour=False),
    Photo(_SK + "moon.png", "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577", "train",
          "no licence stated (scikit-image sample data)", colour=False, shrink=2),
    Photo(_SK + "microaneurysms.png", "a1e1be59aa447f8ce082f7fa809997ab369a2b137cb6c4202abc647c7ccf6456", "train",
          f"{_CC0} (Andreas Maier)", colour=False),
)  # fmt: skip

LEFT_OUT: dict[str, str] = {
    "cell.png": "a phase map computed from a hologram, with banding",
    "chessboard_GRAY.png": "drawn", "chessboard_RGB.png": "drawn", "color.png": "drawn colour wheel", "phantom.png": "drawn",
    "logo.png": "a logo", "horse.png": "a silhouette (binary)",
    "clock_motion.png": "blurred by camera motion, so it is no clean reference",
    "page.png": "scanned print (the dataset `pages` has documents)", "text.png": "handwriting on paper, blurred",
    "lfw_subset.npy": "25 x 25 pixels, faces of named people",
    "multipage.tif": "a file-format test", "multipage_rgb.tif": "a file-format test", "no_time_for_that_tiny.gif": "an animation, 14 x 25",
    "motorcycle_disp.npz": "a disparity map, no photograph",
}  # fmt: skip
"""Pictures in the two packages that are not used, and why."""


def _path(photo: Photo) -> Path | None:
    package, _, inside = photo.file.partition("/")
    spec = find_spec(package)  # finds the folder without importing the package
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / inside
    return path if path.is_file() else None


@lru_cache(maxsize=len(PHOTOS))
def _pixels(photo: Photo) -> np.ndarray:
    """Return the photograph as uint8 (H, W) or (H, W, 3), shrunk by integer area averaging (halves rounded up)."""
    import numpy as np
    from PIL import Image

    path = _path(photo)
    assert path is not None
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB" if photo.colour else "L"))
    f = photo.shrink
    if f > 1:
        h, w = pixels.shape[0] // f, pixels.shape[1] // f
        blocks = pixels[: h * f, : w * f].reshape(h, f, w, f, -1).astype(np.int64).sum((1, 3))
        pixels = ((2 * blocks + f * f) // (2 * f * f)).astype(np.uint8).reshape(h, w, *pixels.shape[2:])
    return pixels


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W) luma of uint8 (H, W, 3): 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded; grey pixels as they are."""
    import numpy as np

    if pixels.ndim == 2:
        return pixels
    r, g, b = (pixels[..., i].astype(np.int64) for i in range(3))
    return ((299 * r + 587 * g + 114 * b + 500) // 1000).astype(np.uint8)


class Photos(Dataset):
    """Colour photographs. ``image``: float32 (3, H, W); ``grey``: its luma, (1, H, W). Cluster: the scene."""

    id = "photos"
    title = "Colour photographs bundled with scikit-image and scikit-learn"
    kind = "image"
    licence = "per picture (CC0, public domain, CC-BY-2.0, no known restrictions; Middlebury stereo pair in train: research), see PHOTOS"
    pixels = "redistribute"
    source = "files in the installed wheels of scikit-image (skimage/data) and scikit-learn (sklearn/datasets/images)"
    libraries = ("numpy", "pillow")
    crops_per_photo = 4

    def _photos(self, split: str) -> list[Photo]:
        return [p for p in PHOTOS if p.split == split and p.colour]

    def files(self) -> list[Path]:
        """Return the picture files."""
        return [path for split in self.splits for p in self._photos(split) if (path := _path(p)) is not None]

    def missing(self) -> str | None:
        """Return None when every file is there with the pixels it should have, else one sentence."""
        if "_missing" not in self.__dict__:
            self.__dict__["_missing"] = self._check()
        return self.__dict__["_missing"]

    def _check(self) -> str | None:
        for photo in (p for split in self.splits for p in self._photos(split)):
            package = "scikit-image" if photo.file.startswith("skimage") else "scikit-learn"
            path = _path(photo)
            if path is None:
                return f"dataset {self.id!r} needs {photo.file} of {package}, which is not here; `pip install {package}` restores it."
            if hashlib.sha256(path.read_bytes()).hexdigest() != photo.sha256:
                return f"{path} is not the photograph that dataset {self.id!r} expects (sha256 differs); reinstall {package}."
        return None

    def _ids(self, split: str) -> list[str]:
        photos = self._photos(split)
        if split == "train":
            return [p.name for p in photos]
        # first crop of every photograph, then the second ones: a shortened list still covers all photographs
        return [f"{p.name}-r{c[0]}c{c[1]}" for k in range(self.crops_per_photo) for p in photos for c in p.crops[k : k + 1]]

    def _load(self, split: str, sample_id: str) -> Sample:
        name, _, cell = sample_id.partition("-r")
        photo = next(p for p in self._photos(split) if p.name == name)
        pixels = _pixels(photo)
        if cell:
            row, column = (int(v) for v in cell.split("c"))
            h, w = pixels.shape[:2]
            top, left = (h % CROP) // 2 + row * CROP, (w % CROP) // 2 + column * CROP
            pixels = pixels[top : top + CROP, left : left + CROP]
        return Sample(sample_id, photo.scene or photo.name, self._data(pixels))

    def _data(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        return {"image": as_image(pixels), "grey": as_image(to_grey(pixels))}


class PhotosGrey(Photos):
    """All photographs in grey. ``image`` and ``grey`` are the same float32 (1, H, W). Cluster: the scene."""

    id = "photos-grey"
    title = "Photographs bundled with scikit-image and scikit-learn, in grey"
    crops_per_photo = 3

    def _photos(self, split: str) -> list[Photo]:
        return [p for p in PHOTOS if p.split == split]

    def _data(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        grey = as_image(to_grey(pixels))
        return {"image": grey, "grey": grey}
