"""Picture sets read from ``$SCOREBENCH_DATA``: test benchmarks and pairs of real noise."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from .base import Dataset, Sample, as_image
from .keys import rank
from .local_base import IMAGES, LocalDataset, expect, listed, read_image, stamp
from .photos import Photos, PhotosGrey

if TYPE_CHECKING:
    import numpy as np


class Benchmark(LocalDataset):
    """A flat folder of pictures, all of them in the split `share`. ``image``: float32 (1 or 3, H, W). Cluster: the picture.

    Its ``dev`` split is that of the embedded photographs (grey or colour), since these sets have none and nothing may be chosen on test.
    """

    kind = "image"
    count: ClassVar[int]
    grey: ClassVar[bool] = False
    share: ClassVar[str] = "test"
    splits = ("dev", "test")
    pixels: ClassVar[Literal["redistribute", "display", "never"]] = "display"

    def _dev(self) -> Dataset:
        return PhotosGrey() if self.grey else Photos()

    def _pictures(self, root: Path) -> list[Path]:
        return listed(root, IMAGES)

    _own_files = _pictures

    def _check(self, root: Path) -> str | None:
        return expect(len(self._pictures(root)), self.count, "pictures")

    def _compute_own_hash(self) -> str:
        # pixels, not files: the same pictures in another lossless format are the same dataset
        digest = hashlib.sha256()
        for path in self._pictures(self.here()):
            pixels = read_image(path, "L" if self.grey else "RGB")
            digest.update(f"{path.stem}{pixels.shape}".encode() + pixels.tobytes())
        return digest.hexdigest()

    def content_hash(self) -> str:
        """Compute the fingerprint: id, version, pixels, and the pictures of the dev split."""
        self.require()
        parts = f"{self.id}@{self.version}|{self.own_hash()}|{self._dev().fingerprint()}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def _ids(self, split: str) -> list[str]:
        return self._dev().ids("dev") if split == "dev" else [p.stem for p in self._pictures(self.here())]

    def _load(self, split: str, sample_id: str) -> Sample:
        if split == "dev":
            sample = self._dev().sample("dev", sample_id)
            return Sample(sample_id, sample.cluster, {"image": sample["image"]})
        path = next(p for p in self._pictures(self.here()) if p.stem == sample_id)
        return Sample(sample_id, sample_id, {"image": as_image(read_image(path, "L" if self.grey else "RGB"))})


_BSDS = """@inproceedings{martin2001database,
  author = {Martin, David and Fowlkes, Charless and Tal, Doron and Malik, Jitendra},
  title = {A database of human segmented natural images and its application to evaluating segmentation algorithms},
  booktitle = {ICCV},
  year = {2001}
}"""
_BSDS_LICENCE = "non-commercial research and education (BSDS500, UC Berkeley)"


class BSD68(Benchmark):
    """68 grey test pictures, 321x481."""

    id, folder, count, grey = "bsd68", "bsd68", 68, True
    title = "BSD68: 68 grey pictures 321x481"
    licence, citation = _BSDS_LICENCE, _BSDS
    get = source = "github.com/SaoYan/DnCNN-PyTorch, folder data/Set68"
    known = "17d10e19736ad21abe724ad28398e911a610b4d5ac07f3b9f65828faa0b29987"


class BSD400(Benchmark):
    """400 grey training pictures, 180x180: the usual training set of grey denoisers. Split train."""

    id, folder, count, grey = "bsd400", "bsd400", 400, True
    title = "BSD400: 400 grey training pictures 180x180"
    share, splits = "train", ("train", "dev")
    licence, citation = _BSDS_LICENCE, _BSDS
    get = source = "github.com/SaoYan/DnCNN-PyTorch, folder data/train"
    known = "1f22c6032495ddef6358c82172e2663f7a9214ca8f8a63c4cedf2c46d09742d5"


class Set12(Benchmark):
    """12 grey test pictures, 256x256 and 512x512."""

    id, folder, count, grey = "set12", "set12", 12, True
    title = "Set12: 12 grey pictures"
    licence = "unclear (classic test pictures of several sources); research use"
    get = source = "github.com/SaoYan/DnCNN-PyTorch, folder data/Set12"
    known = "ef971ad63821fa8e254e3937673dbe89f4a270f1543cbf179ead7d9177b1511a"


class CBSD68(Benchmark):
    """68 colour test pictures, 321x481."""

    id, folder, count = "cbsd68", "cbsd68", 68
    title = "CBSD68: 68 colour pictures 321x481"
    licence, citation = _BSDS_LICENCE, _BSDS
    get = source = "github.com/cszn/FFDNet, folder testsets/CBSD68"
    known = "0790b82e4d64ab47bc62ddac678ff7ad40d3446ece5b898e648e5a3037860431"


class Kodak24(Benchmark):
    """24 colour pictures, 768x512."""

    id, folder, count = "kodak24", "kodak24", 24
    title = "Kodak24: 24 colour pictures 768x512"
    licence = "released by Eastman Kodak for unrestricted use"
    pixels = "redistribute"
    get = source = "https://r0k.us/graphics/kodak/ (kodim01.png to kodim24.png)"


class McMaster(Benchmark):
    """18 colour pictures, 500x500."""

    id, folder, count = "mcmaster", "mcmaster", 18
    title = "McMaster: 18 colour pictures 500x500"
    licence = "research use"
    get = source = "https://www4.comp.polyu.edu.hk/~cslzhang/CDM_Dataset.htm"
    citation = """@article{zhang2011color,
  author = {Zhang, Lei and Wu, Xiaolin and Buades, Antoni and Li, Xin},
  title = {Color demosaicking by local directional interpolation and nonlocal adaptive thresholding},
  journal = {Journal of Electronic Imaging},
  volume = {20},
  number = {2},
  year = {2011}
}"""


class Set14(Benchmark):
    """14 colour pictures (some of them grey, read as RGB)."""

    id, folder, count = "set14", "set14", 14
    title = "Set14: 14 pictures for super-resolution"
    licence = "unclear (classic test pictures); research use"
    get = source = "github.com/jbhuang0604/SelfExSR (Set14, high-resolution pictures only)"
    citation = """@inproceedings{zeyde2010single,
  author = {Zeyde, Roman and Elad, Michael and Protter, Matan},
  title = {On single image scale-up using sparse-representations},
  booktitle = {Curves and Surfaces},
  year = {2010}
}"""


class Urban100(Benchmark):
    """100 colour pictures of buildings."""

    id, folder, count = "urban100", "urban100", 100
    title = "Urban100: 100 pictures of buildings"
    licence = "CC-BY (Flickr pictures); research use"
    get = source = "github.com/jbhuang0604/SelfExSR (Urban100, high-resolution pictures only)"
    citation = """@inproceedings{huang2015single,
  author = {Huang, Jia-Bin and Singh, Abhishek and Ahuja, Narendra},
  title = {Single image super-resolution from transformed self-exemplars},
  booktitle = {CVPR},
  year = {2015}
}"""


class PolyU(LocalDataset):
    """Real camera noise. ``image``: mean of many shots, float32 (3, 512, 512); ``noisy``: one shot. Cluster: the scene (camera and object).

    Split ``all`` is the published protocol (100 pairs); ``train``, ``dev`` and ``test`` divide the same pairs by scene.
    """

    id, folder, kind = "polyu", "polyu", "image"
    title = "PolyU: 100 pairs of real noisy photographs 512x512"
    licence, pixels = "research use", "display"
    splits = ("train", "dev", "test", "all")
    get = source = "github.com/csjunxu/PolyU-Real-World-Noisy-Images-Dataset, folder CroppedImages"
    known = "9e1d2600f1e971375376febe77982ac5a52b644db3c7711e938fe384d92530c6"
    citation = """@article{xu2018real,
  author = {Xu, Jun and Li, Hui and Liang, Zhetong and Zhang, David and Zhang, Lei},
  title = {Real-world noisy image denoising: a new benchmark},
  journal = {arXiv:1804.02603},
  year = {2018}
}"""

    def _own_files(self, root: Path) -> list[Path]:
        return listed(root, IMAGES)

    def _check(self, root: Path) -> str | None:
        names = {p.stem for p in self._own_files(root)}
        pairs = [n for n in names if n.endswith("_real") and n.removesuffix("_real") + "_mean" in names]
        return expect(len(pairs), 100, "pairs (*_real.JPG with *_mean.JPG)")

    @staticmethod
    def scene(sample_id: str) -> str:
        """Return the scene of a pair: its name without the crop's number."""
        return re.sub(r"_+\d+$", "", sample_id)

    def _ids(self, split: str) -> list[str]:
        ids = [p.stem.removesuffix("_real") for p in self._own_files(self.here()) if p.stem.endswith("_real")]
        scenes = sorted({self.scene(i) for i in ids}, key=lambda s: rank("polyu", self.version, s))
        a, b = round(0.5 * len(scenes)), round(0.6 * len(scenes))
        part = {"train": scenes[:a], "dev": scenes[a:b], "test": scenes[b:], "all": scenes}[split]
        return [i for i in ids if self.scene(i) in set(part)]

    def _load(self, split: str, sample_id: str) -> Sample:
        by_stem = {p.stem: p for p in self._own_files(self.here())}
        clean, noisy = (as_image(read_image(by_stem[f"{sample_id}_{part}"], "RGB")) for part in ("mean", "real"))
        return Sample(sample_id, self.scene(sample_id), {"image": clean, "noisy": noisy})


class SIDD(LocalDataset):
    """Smartphone noise, the sRGB validation blocks. ``image`` and ``noisy``: float32 (3, 256, 256). Cluster: the photograph (40 of 32 blocks).

    Split ``all`` is the published protocol (1,280 blocks); ``train``, ``dev`` and ``test`` divide the photographs (20, 4, 16). Read from the
    two .mat files, or from two folders of pictures of equal names, whose order by the numbers in the names is that of the blocks.
    """

    id, folder, kind, version = "sidd", "sidd", "image", 2
    title = "SIDD validation: 1,280 pairs of smartphone blocks 256x256"
    licence, pixels = "MIT", "redistribute"
    splits = ("train", "dev", "test", "all")
    get = source = (
        "https://abdokamel.github.io/sidd/ (ValidationNoisyBlocksSrgb.mat and ValidationGtBlocksSrgb.mat, or pictures of the blocks in "
        "noisy/ and clean/)"
    )
    citation = """@inproceedings{abdelhamed2018high,
  author = {Abdelhamed, Abdelrahman and Lin, Stephen and Brown, Michael S.},
  title = {A high-quality denoising dataset for smartphone cameras},
  booktitle = {CVPR},
  year = {2018}
}"""
    names: ClassVar[dict[str, str]] = {"noisy": "ValidationNoisyBlocksSrgb", "image": "ValidationGtBlocksSrgb"}
    folders: ClassVar[dict[str, tuple[str, ...]]] = {"noisy": ("noisy", "input_crops"), "image": ("clean", "target_crops")}

    def _mats(self, root: Path) -> list[Path]:
        return [root / f"{name}.mat" for name in sorted(self.names.values())]

    def _pictures(self, root: Path, part: str) -> list[Path]:
        """Return the blocks of ``noisy`` or ``image`` as files, in the order of the numbers in their names."""
        place = next((root / f for f in self.folders[part] if (root / f).is_dir()), None)
        return sorted(listed(place, IMAGES), key=lambda p: [int(n) for n in re.findall(r"\d+", p.stem)]) if place else []

    def _own_files(self, root: Path) -> list[Path]:
        pictures = self._pictures(root, "noisy") + self._pictures(root, "image")
        return pictures if pictures and not self._mats(root)[0].is_file() else self._mats(root)

    def _check(self, root: Path) -> str | None:
        noisy, clean = (self._pictures(root, part) for part in ("noisy", "image"))
        absent = [p.name for p in self._mats(root) if not p.is_file()]
        if absent and (noisy or clean):
            if [p.stem for p in noisy] != [p.stem for p in clean]:
                return "the pictures in noisy/ and clean/ have different names"
            return expect(len(noisy), 1280, "pairs of pictures")
        return f"{' and '.join(absent)} not found" if absent else None

    def _blocks(self, part: str) -> np.ndarray:
        path = self.here() / f"{self.names[part]}.mat"
        return _mat(path, self.names[part], stamp(path))

    def _ids(self, split: str) -> list[str]:
        order = sorted(range(40), key=lambda i: rank("sidd", self.version, i))
        photos = {"train": order[:20], "dev": order[20:24], "test": order[24:], "all": order}[split]
        return [f"{p:02d}-{b:02d}" for p in sorted(photos) for b in range(32)]

    def _load(self, split: str, sample_id: str) -> Sample:
        photo, block = (int(v) for v in sample_id.split("-"))
        root = self.here()
        if self._mats(root)[0].is_file():
            pair = {part: self._blocks(part)[photo, block] for part in self.names}
        else:
            pair = {part: read_image(self._pictures(root, part)[32 * photo + block], "RGB") for part in self.names}
        return Sample(sample_id, f"{photo:02d}", {part: as_image(pixels) for part, pixels in pair.items()})


@lru_cache(maxsize=2)
def _mat(path: Path, name: str, mark: tuple[int, int]) -> np.ndarray:
    from scipy.io import loadmat

    from ..configs.errors import DataMissing

    blocks = loadmat(path)[name]
    if blocks.shape != (40, 32, 256, 256, 3):
        raise DataMissing(f"{path} holds {name} of shape {blocks.shape}; expected (40, 32, 256, 256, 3); get it again.")
    return blocks
