"""Pairs of a short and a long exposure in RAW, read from ``$SCOREBENCH_DATA``: SID and ELD of the Sony A7S2.

Any folder laid out alike can take their place.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..configs.errors import DataMissing
from .base import Sample
from .keys import rank
from .local_base import LocalDataset, stamp

if TYPE_CHECKING:
    import numpy as np

COLUMNS = ("id", "scene", "noisy", "clean", "iso", "amplification")
PLAIN = (".npy", ".npz", ".png")
SHARES = {"train": 0.5, "dev": 0.6, "test": 1.0}
"""Where the splits of the ordered scenes end, when the list names no split."""


def read_raw(path: Path) -> np.ndarray:
    """Return the codes of a RAW file as packed planes R, G, G, B, uint16 or float32 (4, H/2, W/2).

    ``.npy`` and ``.npz`` (its first array) hold a mosaic (H, W), RGGB, or packed planes (4, h, w); ``.png`` a mosaic in 16 bits; anything
    else is read by rawpy. DataMissing when the file cannot be read, or rawpy is not installed.
    """
    import numpy as np

    try:
        if path.suffix.lower() == ".npy":
            codes = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                codes = file[file.files[0]]
        elif path.suffix.lower() == ".png":
            from PIL import Image

            with Image.open(path) as image:
                codes = np.asarray(image).astype(np.uint16)
        else:
            codes = _camera_file(path)
    except (OSError, ValueError, SyntaxError) as e:
        raise DataMissing(f"{path} is not a readable RAW file ({type(e).__name__}); get it again.") from None
    if codes.ndim == 3 and codes.shape[0] == 4:
        return codes
    if codes.ndim != 2:
        raise DataMissing(f"{path} holds an array of shape {codes.shape}; expected a mosaic (H, W) or packed planes (4, h, w).")
    codes = codes[: codes.shape[0] // 2 * 2, : codes.shape[1] // 2 * 2]
    return np.stack([codes[0::2, 0::2], codes[0::2, 1::2], codes[1::2, 0::2], codes[1::2, 1::2]])


def _camera_file(path: Path) -> np.ndarray:
    if find_spec("rawpy") is None:
        raise DataMissing(
            f"{path} is a camera's RAW file, which needs rawpy (`pip install rawpy`); or store the mosaic as .npy, .npz or 16-bit .png."
        )
    import rawpy  # type: ignore[import-not-found]

    with rawpy.imread(str(path)) as raw:
        return raw.raw_image_visible.copy()


class RawPairs(LocalDataset):
    """``image``: the long exposure, float32 (4, h, w) in [0, 1]; ``noisy``: the short one, amplified, not clipped; ``amplification``, ``iso``,
    ``white_level``, ``black_level``. Cluster: the scene.

    The folder holds ``pairs.csv`` with the columns id, scene, noisy, clean (paths in the folder), iso, amplification, and, where wanted, split
    (train, dev or test), white and black (default 16383 and 512). Without splits, scenes are divided 50 : 10 : 40.
    """

    kind = "image"
    splits = ("train", "dev", "test")
    libraries = ("numpy", "pillow", "scipy")
    white: ClassVar[int] = 16383
    black: ClassVar[int] = 512

    def rows(self) -> list[dict[str, str]]:
        """Return the lines of the list."""
        path = self.here() / "pairs.csv"
        return list(_rows(path, stamp(path)))

    def _check(self, root: Path) -> str | None:
        path = root / "pairs.csv"
        if not path.is_file():
            return f"pairs.csv not found (columns {', '.join(COLUMNS)})"
        rows = _rows(path, stamp(path))
        if not rows:
            return "pairs.csv lists no pair"
        lacking = [c for c in COLUMNS if c not in rows[0]]
        if lacking:
            return f"pairs.csv has no column {lacking[0]!r} (columns {', '.join(COLUMNS)})"
        absent = [r[k] for r in rows for k in ("noisy", "clean") if not (root / r[k]).is_file()]
        return f"{absent[0]} not found ({len(absent)} files of pairs.csv are missing)" if absent else None

    def _own_files(self, root: Path) -> list[Path]:
        rows = _rows(root / "pairs.csv", stamp(root / "pairs.csv"))
        return [root / "pairs.csv", *sorted({root / r[k] for r in rows for k in ("noisy", "clean")})]

    def _ids(self, split: str) -> list[str]:
        rows = self.rows()
        if rows[0].get("split"):
            return [r["id"] for r in rows if r["split"] == split]
        scenes = sorted({r["scene"] for r in rows}, key=lambda s: rank(self.id, self.version, s))
        names = list(SHARES)
        first = 0.0 if split == names[0] else SHARES[names[names.index(split) - 1]]
        chosen = set(scenes[round(first * len(scenes)) : round(SHARES[split] * len(scenes))])
        return [r["id"] for r in rows if r["scene"] in chosen]

    def _load(self, split: str, sample_id: str) -> Sample:
        import numpy as np

        row, root = next(r for r in self.rows() if r["id"] == sample_id), self.here()
        white, black = int(row.get("white") or self.white), int(row.get("black") or self.black)
        amplification = float(row["amplification"])
        clean, noisy = ((read_raw(root / row[k]).astype(np.float32) - black) / np.float32(white - black) for k in ("clean", "noisy"))
        data: dict[str, Any] = {
            "image": np.clip(clean, 0, 1), "noisy": noisy * np.float32(amplification), "amplification": amplification,
            "iso": int(row["iso"]), "white_level": white, "black_level": black,
        }  # fmt: skip
        return Sample(sample_id, row["scene"], data)


@lru_cache(maxsize=4)
def _rows(path: Path, mark: tuple[int, int]) -> tuple[dict[str, str], ...]:
    with path.open(newline="") as file:
        return tuple(csv.DictReader(file))


class SIDSony(RawPairs):
    """See-in-the-Dark, Sony A7S2."""

    id, folder = "sid-sony", "sid-sony"
    title = "SID: short and long exposures of the Sony A7S2, RAW"
    licence, pixels = "MIT (the authors' repository)", "display"
    get = source = "github.com/cchen156/Learning-to-See-in-the-Dark, with a list pairs.csv (id, scene, noisy, clean, iso, amplification)"
    citation = """@inproceedings{chen2018learning,
  author = {Chen, Chen and Chen, Qifeng and Xu, Jia and Koltun, Vladlen},
  title = {Learning to see in the dark},
  booktitle = {CVPR},
  year = {2018}
}"""


class ELDSony(RawPairs):
    """ELD, Sony A7S2."""

    id, folder = "eld-sony", "eld-sony"
    title = "ELD: ten scenes in extreme low light of the Sony A7S2, RAW"
    licence, pixels = "research use", "display"
    get = source = "github.com/Vandermode/ELD, with a list pairs.csv (id, scene, noisy, clean, iso, amplification)"
    citation = """@article{wei2021physics,
  author = {Wei, Kaixuan and Fu, Ying and Zheng, Yinqiang and Yang, Jiaolong},
  title = {Physics-based noise modeling for extreme low-light photography},
  journal = {IEEE TPAMI},
  year = {2021}
}"""
