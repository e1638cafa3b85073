"""Labelled and large picture sets read from ``$SCOREBENCH_DATA``: MNIST and its kin, CIFAR-10, CelebA, ImageNet."""

from __future__ import annotations

import gzip
import hashlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..configs.errors import DataMissing
from .base import Sample, as_image
from .keys import rank
from .local_base import LocalDataset, expect, listed, read_image, stamp

if TYPE_CHECKING:
    import numpy as np


def read_idx(path: Path) -> np.ndarray:
    """Read an idx file (gzip or plain) of unsigned bytes, the format of MNIST; DataMissing when it is damaged."""
    return _read_idx(path, stamp(path))


@lru_cache(maxsize=4)
def _read_idx(path: Path, mark: tuple[int, int]) -> np.ndarray:
    import numpy as np

    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if data[:3] != b"\x00\x00\x08":
            raise ValueError("no idx header of unsigned bytes")
        shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3]))
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    except (OSError, EOFError, ValueError) as e:
        raise DataMissing(f"{path} is not a readable idx file ({e}); get it again.") from None


class Idx(LocalDataset):
    """Base of the idx sets: ``image`` float32 (1, 28, 28), ``label`` int. Cluster: the picture (writers are not identified).

    Official split: test is the 10,000; dev the last 5,000 of the 60,000 training pictures, train the rest.
    """

    kind = "image"
    classes = 10
    shape = (1, 28, 28)
    parts: ClassVar[dict[str, tuple[str, int]]] = {"train": ("train", 60000), "test": ("t10k", 10000)}

    def _file(self, root: Path, part: str, what: str) -> Path | None:
        name = f"{self.parts[part][0]}-{'images-idx3' if what == 'images' else 'labels-idx1'}-ubyte"
        choices = [folder / (name + end) for folder in (root / "raw", root) for end in ("", ".gz")]
        return next((p for p in choices if p.is_file()), None)

    def _own_files(self, root: Path) -> list[Path]:
        found = [self._file(root, part, what) for part in self.parts for what in ("images", "labels")]
        return [p for p in found if p is not None]

    def _check(self, root: Path) -> str | None:
        absent = [f"{self.parts[p][0]}-{w}" for p in self.parts for w in ("images", "labels") if self._file(root, p, w) is None]
        return f"the idx file(s) {', '.join(absent)} not found (plain or .gz, in raw/)" if absent else None

    def _arrays(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        root, expected = self.here(), self.parts[part][1]
        files = [self._file(root, part, what) for what in ("images", "labels")]
        if None in files:
            self.require()
        images, labels = (read_idx(f) for f in files if f is not None)
        if images.shape != (expected, 28, 28) or labels.shape != (expected,):
            raise DataMissing(
                f"dataset {self.id!r} in {root}: {part} holds pictures {images.shape} and labels {labels.shape}, expected "
                f"({expected}, 28, 28) and ({expected},); get it from {self.get}."
            )
        return images, labels

    def _compute_own_hash(self) -> str:
        digest = hashlib.sha256()  # pixels and labels, not files: packed and unpacked copies are the same dataset
        for part in self.parts:
            for array in self._arrays(part):
                digest.update(f"{part}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()

    def _indices(self, split: str) -> tuple[str, list[int]]:
        """Return the part of the files a split lies in, and the positions there."""
        cut = self.parts["train"][1] - 5000
        return {
            "train": ("train", list(range(cut))),
            "dev": ("train", list(range(cut, cut + 5000))),
            "test": ("test", list(range(self.parts["test"][1]))),
        }[split]

    def _ids(self, split: str) -> list[str]:
        return [f"{i:05d}" for i in self._indices(split)[1]]

    def _load(self, split: str, sample_id: str) -> Sample:
        images, labels = self._arrays("test" if split == "test" or "train" not in self.parts else "train")
        i = int(sample_id)
        return Sample(sample_id, sample_id, {"image": as_image(images[i]), "label": int(labels[i])})


_MNIST_BIB = """@article{lecun1998gradient,
  author = {LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  title = {Gradient-based learning applied to document recognition},
  journal = {Proceedings of the IEEE},
  volume = {86},
  number = {11},
  pages = {2278--2324},
  year = {1998}
}"""


class MNIST(Idx):
    """MNIST with its official split; needs all four idx files."""

    id, folder = "mnist", "mnist"
    title = "MNIST: handwritten digits 28x28"
    licence, pixels = "CC-BY-SA-3.0", "redistribute"
    get = "https://ossci-datasets.s3.amazonaws.com/mnist/ (four .gz files, into raw/)"
    source, citation = "LeCun, Cortes, Burges: the MNIST database", _MNIST_BIB


class MNIST10k(Idx):
    """The 10,000 MNIST test digits alone, split 8,000 / 1,000 / 1,000 by hash of the position: no number compares with MNIST's own."""

    id, folder = "mnist-10k", "mnist"
    title = "MNIST's 10,000 test digits, divided into train, dev and test"
    licence, pixels = "CC-BY-SA-3.0", "redistribute"
    get = "https://ossci-datasets.s3.amazonaws.com/mnist/ (the two t10k .gz files, into raw/)"
    source, citation = "LeCun, Cortes, Burges: the MNIST database (t10k files)", _MNIST_BIB
    parts: ClassVar[dict[str, tuple[str, int]]] = {"test": ("t10k", 10000)}
    known = "410ad1a3fbffcd5c6ed59cbbf15bd5ea969ca4090fb206395fa5bac0537c7fc3"

    @cached_property
    def _order(self) -> list[int]:
        return sorted(range(10000), key=lambda i: rank("mnist-10k", self.version, i))

    def _indices(self, split: str) -> tuple[str, list[int]]:
        cut = {"test": (0, 1000), "dev": (1000, 2000), "train": (2000, 10000)}[split]
        return "test", self._order[cut[0] : cut[1]]


class FashionMNIST(Idx):
    """Fashion-MNIST with its official split."""

    id, folder = "fashion-mnist", "fashion-mnist"
    title = "Fashion-MNIST: clothing 28x28"
    licence, pixels = "MIT", "redistribute"
    get = source = "github.com/zalandoresearch/fashion-mnist, folder data/fashion (four .gz files, into raw/)"
    citation = """@article{xiao2017fashion,
  author = {Xiao, Han and Rasul, Kashif and Vollgraf, Roland},
  title = {{Fashion-MNIST}: a novel image dataset for benchmarking machine learning algorithms},
  journal = {arXiv:1708.07747},
  year = {2017}
}"""


class CIFAR10(LocalDataset):
    """``image`` float32 (3, 32, 32), ``label`` int. Train is batches 1 to 4 and half of 5, dev the other half, test the test batch.

    Reads the *binary* version: the Python version is a pickle, which runs code when it is opened.
    """

    id, folder, kind = "cifar10", "cifar10", "image"
    title = "CIFAR-10: objects 32x32"
    licence, pixels = "none stated; research use", "display"
    classes, shape = 10, (3, 32, 32)
    get = source = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz (unpacked: data_batch_1.bin to _5.bin, test_batch.bin)"
    citation = """@techreport{krizhevsky2009learning,
  author = {Krizhevsky, Alex},
  title = {Learning multiple layers of features from tiny images},
  institution = {University of Toronto},
  year = {2009}
}"""
    names = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
    size = 10000 * 3073

    def _own_files(self, root: Path) -> list[Path]:
        inside = root / "cifar-10-batches-bin"
        return [(inside if inside.is_dir() else root) / name for name in self.names]

    def _check(self, root: Path) -> str | None:
        wrong = [p.name for p in self._own_files(root) if not p.is_file() or p.stat().st_size != self.size]
        return f"{', '.join(wrong)} absent or not {self.size} bytes" if wrong else None

    def _ids(self, split: str) -> list[str]:
        spans = {"train": range(45000), "dev": range(45000, 50000), "test": range(50000, 60000)}
        return [f"{i:05d}" for i in spans[split]]

    def _load(self, split: str, sample_id: str) -> Sample:
        import numpy as np

        batch, row = divmod(int(sample_id), 10000)
        path = self._own_files(self.here())[batch]
        record = _batch(path, stamp(path))[row]
        pixels = np.moveaxis(record[1:].reshape(3, 32, 32), 0, -1)
        return Sample(sample_id, sample_id, {"image": as_image(pixels), "label": int(record[0])})


@lru_cache(maxsize=6)
def _batch(path: Path, mark: tuple[int, int]) -> np.ndarray:
    import numpy as np

    return np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 3073)


class CelebA(LocalDataset):
    """Aligned faces. ``image``: float32 (3, 218, 178). Official split (list_eval_partition.txt). Cluster: the picture."""

    id, folder, kind = "celeba", "celeba", "image"
    title = "CelebA: aligned faces 218x178"
    licence, pixels = "non-commercial research; pictures may not be redistributed", "never"
    get = source = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (img_align_celeba/ and list_eval_partition.txt)"
    shape = (3, 218, 178)
    count: ClassVar[int] = 202599
    citation = """@inproceedings{liu2015deep,
  author = {Liu, Ziwei and Luo, Ping and Wang, Xiaogang and Tang, Xiaoou},
  title = {Deep learning face attributes in the wild},
  booktitle = {ICCV},
  year = {2015}
}"""

    def _own_files(self, root: Path) -> list[Path]:
        return [root / "list_eval_partition.txt", *listed(root / "img_align_celeba", (".jpg", ".png"))]

    def _check(self, root: Path) -> str | None:
        if not (root / "list_eval_partition.txt").is_file():
            return "list_eval_partition.txt not found"
        return expect(len(self._own_files(root)) - 1, self.count, "pictures in img_align_celeba/")

    @cached_property
    def _partition(self) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
        for line in (self.here() / "list_eval_partition.txt").read_text().splitlines():
            name, part = line.split()
            out[("train", "dev", "test")[int(part)]].append(name)
        return out

    def _ids(self, split: str) -> list[str]:
        return list(self._partition[split])

    def _load(self, split: str, sample_id: str) -> Sample:
        path = self.here() / "img_align_celeba" / sample_id
        return Sample(sample_id, sample_id, {"image": as_image(read_image(path, "RGB"))})


class ImageNet(LocalDataset):
    """The ImageNet-1k validation pictures, one folder a class. ``image`` float32 (3, H, W), ``label`` int (classes in order of their names).

    ``all`` is the 50,000 pictures; ``dev`` is 2,000 of them by hash, ``test`` the others. Nothing of the training set is read.
    """

    id, folder, kind = "imagenet", "imagenet", "image"
    title = "ImageNet-1k validation: 50,000 pictures"
    licence, pixels = "non-commercial research; pictures may not be redistributed", "never"
    splits = ("dev", "test", "all")
    classes, count = 1000, 50000
    get = source = "https://image-net.org (ILSVRC2012 validation set, sorted into val/<class>/*.JPEG)"
    citation = """@article{russakovsky2015imagenet,
  author = {Russakovsky, Olga and Deng, Jia and Su, Hao and others},
  title = {{ImageNet} large scale visual recognition challenge},
  journal = {IJCV},
  volume = {115},
  number = {3},
  year = {2015}
}"""

    def _own_files(self, root: Path) -> list[Path]:
        return listed(root / "val", (".jpeg", ".jpg"), deep=True)

    def _check(self, root: Path) -> str | None:
        files = self._own_files(root)
        folders = len({p.parent.name for p in files})
        return expect(folders, self.classes, "class folders in val/") or expect(len(files), self.count, "pictures in val/")

    @cached_property
    def _index(self) -> tuple[dict[str, Path], dict[str, int]]:
        files = {p.stem: p for p in self._own_files(self.here())}
        labels = {name: i for i, name in enumerate(sorted({p.parent.name for p in files.values()}))}
        return files, labels

    def _ids(self, split: str) -> list[str]:
        order = sorted(self._index[0], key=lambda i: rank("imagenet", self.version, i))
        return sorted({"dev": order[:2000], "test": order[2000:], "all": order}[split])

    def _load(self, split: str, sample_id: str) -> Sample:
        files, labels = self._index
        path = files[sample_id]
        return Sample(sample_id, sample_id, {"image": as_image(read_image(path, "RGB")), "label": labels[path.parent.name]})
