"""What datasets read from ``$SCOREBENCH_DATA`` share: finding the folder, saying what is missing, checking what is there.

``$SCOREBENCH_DATA`` names one or more folders (separated as in PATH); each dataset is looked for in a sub-folder of its own, and the
first folder that has it counts. `missing` checks names and counts, which is quick; the first use also checks the content against the
known sha256, where there is one, and remembers the result until a file changes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..configs.errors import DataMissing
from .base import Dataset
from .cache import fingerprint

if TYPE_CHECKING:
    import numpy as np

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def roots() -> list[Path]:
    """Return the folders that ``$SCOREBENCH_DATA`` names."""
    return [Path(p).expanduser() for p in os.environ.get("SCOREBENCH_DATA", "").split(os.pathsep) if p]


def listed(folder: Path, suffixes: tuple[str, ...], deep: bool = False) -> list[Path]:
    """Return the visible files of ``folder`` with one of ``suffixes`` (any case), sorted by name; of its sub-folders too if ``deep``."""
    found = folder.rglob("*") if deep else folder.glob("*")
    return sorted(p for p in found if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file())


def stamp(path: Path) -> tuple[int, int]:
    """Return time and size of a file: what a cache of its content is keyed by, besides its path."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def read_image(path: Path, mode: str) -> np.ndarray:
    """Decode one picture with Pillow as uint8 in ``mode`` ('L' or 'RGB'); DataMissing when it is damaged."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except (OSError, UnidentifiedImageError, SyntaxError) as e:
        raise DataMissing(f"{path} is not a readable picture ({type(e).__name__}); get it again.") from None


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """Read one mono wav as float32 (1, T) in [-1, 1] and its sample rate; DataMissing when it is damaged."""
    import numpy as np
    from scipy.io import wavfile

    try:
        rate, x = wavfile.read(path)
    except (OSError, ValueError) as e:
        raise DataMissing(f"{path} is not a readable wav file ({e}); get it again.") from None
    if x.ndim > 1:
        x = x[:, 0]
    if x.dtype == np.uint8:
        x = (x.astype(np.float32) - 128) / np.float32(128)
    elif np.issubdtype(x.dtype, np.integer):
        x = x.astype(np.float32) / np.float32(-int(np.iinfo(x.dtype).min))
    return np.ascontiguousarray(x, dtype=np.float32)[None], int(rate)


def hash_files(paths: Iterable[Path], root: Path) -> str:
    """Return the sha256 over the relative names and contents of ``paths``, in order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class LocalDataset(Dataset):
    """Base of the datasets a user brings. Subclasses set `folder`, `get` and implement `_check`, `_own_files`, `_ids`, `_load`."""

    embedded = False
    folder: ClassVar[str]
    """Sub-folder of a data folder."""
    get: ClassVar[str]
    """Where to get it, for the sentence 'get it from ...'."""
    known: ClassVar[str] = ""
    """The sha256 `own_hash` must have, or empty where no copy could be checked."""
    libraries = ("numpy", "pillow", "scipy")

    def root(self) -> Path | None:
        """Return the dataset's folder, or None when no data folder has it."""
        return next((p for r in roots() if (p := r / self.folder).is_dir()), None)

    def missing(self) -> str | None:
        """Return None when the expected files are there, else one sentence."""
        root = self.root()
        if root is None:
            now = os.environ.get("SCOREBENCH_DATA")
            where = f"$SCOREBENCH_DATA/{self.folder} ({f'now {now}' if now else 'the variable is not set'})"
            return f"dataset {self.id!r} is not on this machine; get it from {self.get} and put it in {where}."
        problem = self._check(root)
        return None if problem is None else f"dataset {self.id!r} in {root} is not as expected: {problem}; get it from {self.get}."

    def require(self) -> None:
        """Raise DataMissing unless the data are here and, where their content is known, unchanged."""
        super().require()
        if self.known and "_verified" not in self.__dict__:
            found = self.own_hash()
            if found != self.known:
                raise DataMissing(
                    f"dataset {self.id!r} in {self.root()} has other content than expected (sha256 {found[:16]}, expected {self.known[:16]}); "
                    f"get it from {self.get}."
                )
            self.__dict__["_verified"] = True

    def _check(self, root: Path) -> str | None:
        """Return None when names and counts under ``root`` are right, else what was found and what is expected."""
        raise AssertionError("abstract")

    def _own_files(self, root: Path) -> list[Path]:
        """Return every file under ``root`` that the samples are read from, sorted."""
        raise AssertionError("abstract")

    def here(self) -> Path:
        """Return the dataset's folder; DataMissing when there is none."""
        root = self.root()
        if root is None:
            raise DataMissing(self.missing() or f"dataset {self.id!r} is not on this machine.")
        return root

    def files(self) -> list[Path]:
        """Return the files the samples are read from."""
        return self._own_files(self.here())

    def own_hash(self) -> str:
        """Return the sha256 over the dataset's own files; computed once per content."""
        return fingerprint(f"{self.id}@{self.version}|own", self.libraries, self.files(), self._compute_own_hash)

    def _compute_own_hash(self) -> str:
        root = self.here()
        return hash_files(self._own_files(root), root)

    def content_hash(self) -> str:
        """Compute the fingerprint: id, version and the content of the files (a split's extra samples have their own, see subclasses)."""
        self.require()
        return hashlib.sha256(f"{self.id}@{self.version}|{self.own_hash()}".encode()).hexdigest()


def expect(found: int, expected: int, what: str) -> str | None:
    """Return None when counts agree, else 'N what found, M expected'."""
    return None if found == expected else f"{found} {what} found, {expected} expected"
