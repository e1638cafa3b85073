"""The registry of datasets read from ``$SCOREBENCH_DATA``, and any folder of pictures or recordings as a dataset."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

from ..configs.errors import DataMissing
from .base import Dataset, Sample, as_image
from .local_audio import FSDD, VoiceBankDemand, VoiceBankMini
from .local_base import IMAGES, LocalDataset, hash_files, listed, read_image, read_wav, roots
from .local_images import BSD68, BSD400, CBSD68, SIDD, Kodak24, McMaster, PolyU, Set12, Set14, Urban100
from .local_labelled import CIFAR10, MNIST, CelebA, FashionMNIST, ImageNet, MNIST10k
from .local_raw import ELDSony, SIDSony

LOCAL: dict[str, type[LocalDataset]] = {
    c.id: c
    for c in (
        BSD68, BSD400, Set12, CBSD68, Kodak24, McMaster, Set14, Urban100, PolyU, SIDD, MNIST, MNIST10k, FashionMNIST, CIFAR10, CelebA,
        ImageNet, VoiceBankDemand, VoiceBankMini, FSDD, SIDSony, ELDSony,
    )
}  # fmt: skip
"""Dataset id to class."""

AUDIO = (".wav",)


def local_dataset(dataset_id: str) -> Dataset:
    """Return the local dataset ``dataset_id`` (one of `LOCAL`)."""
    return LOCAL[dataset_id]()


class Folder(Dataset):
    """Any folder of pictures (``image`` float32 (3 or 1, H, W)) or mono wav files (``audio`` float32 (1, T), ``sample_rate``).

    Sub-folders ``train``, ``dev``, ``test`` are its splits; without them every file is in ``test``. Files of a pair share a name and an
    ending: ``NAME.png`` with ``NAME_noisy.png`` gives ``image`` and ``noisy``. Cluster: the file.
    """

    embedded = False
    licence = "the user's own"
    pixels = "never"
    libraries = ("numpy", "pillow", "scipy")

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()
        self.id = f"folder:{path}"  # type: ignore[misc]
        self.title = f"Files in {path}"  # type: ignore[misc]
        self.source = str(path)  # type: ignore[misc]
        self.kind = "audio" if not self._found(IMAGES) and self._found(AUDIO) else "image"  # type: ignore[misc]
        here = tuple(s for s in ("train", "dev", "test") if (self.path / s).is_dir())
        self.splits = here or ("test",)  # type: ignore[misc]
        self._flat = not here

    def _found(self, suffixes: tuple[str, ...]) -> list[Path]:
        return listed(self.path, suffixes, deep=True)

    def files(self) -> list[Path]:
        """Return every file of the folder's kind, in all splits."""
        return self._found(AUDIO if self.kind == "audio" else IMAGES)

    def missing(self) -> str | None:
        """Return None when the folder holds pictures or wav files, else one sentence."""
        if not self.path.is_dir():
            return f"{self.path} is not a folder; give folder:PATH with the path of a folder of pictures or wav files."
        if not self.files():
            return f"{self.path} holds no picture ({', '.join(IMAGES)}) and no wav file; put some there, or in train/, dev/, test/ below it."
        return None

    def _compute(self) -> str:
        return hash_files(self.files(), self.path)

    def content_hash(self) -> str:
        """Compute the fingerprint: the names and contents of the files (not where the folder lies)."""
        self.require()
        return hashlib.sha256(f"folder@{self.version}|{self._compute()}".encode()).hexdigest()

    @cached_property
    def _by_split(self) -> dict[str, dict[str, Path]]:
        out = {}
        for split in self.splits:
            base = self.path if self._flat else self.path / split
            suffixes = AUDIO if self.kind == "audio" else IMAGES
            files = listed(base, suffixes, deep=True)
            named: dict[str, Path] = {}
            for p in files:
                name = p.relative_to(base).with_suffix("").as_posix()
                if name in named:
                    raise DataMissing(f"{p} and {named[name]} have the same name; rename one, since the name is the sample's id.")
                named[name] = p
            out[split] = named
        return out

    def _ids(self, split: str) -> list[str]:
        named = self._by_split[split]
        return [n for n in named if not (n.endswith("_noisy") and n.removesuffix("_noisy") in named)]

    def _load(self, split: str, sample_id: str) -> Sample:
        named = self._by_split[split]
        data = self._read(named[sample_id])
        if (noisy := named.get(f"{sample_id}_noisy")) is not None:
            data["noisy"] = self._read(noisy)[self.kind]
        return Sample(sample_id, sample_id, data)

    def _read(self, path: Path) -> dict:
        if self.kind == "audio":
            audio, rate = read_wav(path)
            return {"audio": audio, "sample_rate": rate}
        from PIL import Image

        try:
            with Image.open(path) as image:
                grey = image.mode in ("1", "L", "LA", "I;16")
        except OSError:
            raise DataMissing(f"{path} is not a readable picture; remove it or get it again.") from None
        return {"image": as_image(read_image(path, "L" if grey else "RGB"))}


class OwnFolder(Folder):
    """The user's own pictures under ``$SCOREBENCH_DATA/folder``: what a task on ``folder`` reads until it is pointed at another place."""

    id = "folder"
    title = "Your own pictures ($SCOREBENCH_DATA/folder, or any folder:PATH)"
    kind = "image"
    source = "the user"

    def __init__(self) -> None:
        place = next((p for r in roots() if (p := r / "folder").is_dir()), Path("$SCOREBENCH_DATA") / "folder")
        super().__init__(place)
        self.id, self.title, self.source, self.kind = OwnFolder.id, OwnFolder.title, OwnFolder.source, "image"  # type: ignore[misc]

    def missing(self) -> str | None:
        """Return None when the folder holds pictures, else where to put them and how to name another folder."""
        if super().missing() is None:
            return None
        return (
            "dataset 'folder' is not on this machine; put pictures into $SCOREBENCH_DATA/folder (in train/, dev/, test/), or point the task at "
            "a folder of yours: -t generation/folder:PATH."
        )


def folder_dataset(path: str) -> Dataset:
    """Return the dataset of the files in ``path`` (what ``folder:PATH`` names); DataMissing when there is nothing to read."""
    dataset = Folder(Path(path))
    dataset.require()
    return dataset
