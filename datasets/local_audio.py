"""Recordings read from ``$SCOREBENCH_DATA``: spoken digits and pairs of clean and noisy speech."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..configs.errors import DataMissing
from .base import Sample
from .local_base import LocalDataset, expect, listed, read_wav

if TYPE_CHECKING:
    import numpy as np


class FSDD(LocalDataset):
    """Spoken digits. ``audio``: float32 (1, T) at 8 kHz; ``label`` int, the digit; ``speaker`` str. Cluster: the speaker.

    Official split: recordings 0 to 4 of each speaker and digit are test. Dev is 5 to 9. So all splits share the six speakers.
    """

    id, folder, kind = "fsdd", "fsdd", "audio"
    title = "Free Spoken Digit Dataset: 3,000 recordings, 6 speakers, 8 kHz"
    licence, pixels = "CC-BY-SA-4.0", "redistribute"
    classes, sample_rate = 10, 8000
    get = source = "github.com/Jakobovski/free-spoken-digit-dataset, folder recordings"
    known = "a2e8a660492f28d9eed6270b290d26cbc5c81d6077ce87d3c0ad5adf4d4ee696"
    citation = """@misc{jackson2018fsdd,
  author = {Jackson, Zohar},
  title = {Free Spoken Digit Dataset},
  year = {2018},
  doi = {10.5281/zenodo.1342401}
}"""

    def _own_files(self, root: Path) -> list[Path]:
        return listed(root, (".wav",))

    def _check(self, root: Path) -> str | None:
        return expect(len(self._own_files(root)), 3000, "recordings")

    def _ids(self, split: str) -> list[str]:
        span = {"test": range(5), "dev": range(5, 10), "train": range(10, 50)}[split]
        return [p.stem for p in self._own_files(self.here()) if int(p.stem.rsplit("_", 1)[1]) in span]

    def _load(self, split: str, sample_id: str) -> Sample:
        audio, rate = read_wav(self.here() / f"{sample_id}.wav")
        if rate != self.sample_rate:
            raise DataMissing(f"{self.here() / sample_id}.wav has {rate} Hz, expected {self.sample_rate}; get it from {self.get}.")
        digit, speaker, _ = sample_id.rsplit("_", 2)
        return Sample(sample_id, speaker, {"audio": audio, "sample_rate": rate, "label": int(digit), "speaker": speaker})


class _Pairs(LocalDataset):
    """Pairs of clean and noisy recordings of one name. ``audio`` (clean) and ``noisy``: float32 (1, T) at 16 kHz. Cluster: the speaker."""

    kind = "audio"
    sample_rate = 16000

    def _folders(self, split: str) -> tuple[str, str]:
        """Return the sub-folders of a split: clean, noisy."""
        raise AssertionError("abstract")

    def _load(self, split: str, sample_id: str) -> Sample:
        root = self.here()
        clean, noisy = (self._read(root / folder / f"{sample_id}.wav") for folder in self._folders(split))
        if clean.shape != noisy.shape:
            raise DataMissing(f"{sample_id}.wav of {root} differs in length between clean and noisy; get it from {self.get}.")
        speaker = sample_id.split("_")[0]
        return Sample(sample_id, speaker, {"audio": clean, "noisy": noisy, "sample_rate": self.sample_rate, "speaker": speaker})

    def _read(self, path: Path) -> np.ndarray:
        import numpy as np

        audio, rate = read_wav(path)
        if rate == 48000:  # as distributed; the enhancement papers work at 16 kHz
            from scipy.signal import resample_poly

            return resample_poly(audio.astype(np.float64), 1, 3, axis=1).astype(np.float32)
        if rate != self.sample_rate:
            raise DataMissing(f"{path} has {rate} Hz, expected 48000 or {self.sample_rate}; get it from {self.get}.")
        return audio


class VoiceBankDemand(_Pairs):
    """VoiceBank-DEMAND, the 28-speaker version. Dev is the speakers p226 and p287 of the training set, as is usual."""

    id, folder = "voicebank-demand", "voicebank-demand"
    title = "VoiceBank-DEMAND: 11,572 training and 824 test pairs, 16 kHz"
    licence, pixels = "CC-BY-4.0", "redistribute"
    get = source = "https://datashare.ed.ac.uk/handle/10283/2791 (clean/noisy_trainset_28spk_wav, clean/noisy_testset_wav)"
    counts: ClassVar[dict[str, int]] = {"trainset_28spk_wav": 11572, "testset_wav": 824}
    held_out = ("p226", "p287")
    citation = """@inproceedings{valentini2016investigating,
  author = {Valentini-Botinhao, Cassia and Wang, Xin and Takaki, Shinji and Yamagishi, Junichi},
  title = {Investigating {RNN}-based speech enhancement methods for noise-robust text-to-speech},
  booktitle = {SSW},
  year = {2016}
}"""

    def _folders(self, split: str) -> tuple[str, str]:
        part = "testset_wav" if split == "test" else "trainset_28spk_wav"
        return f"clean_{part}", f"noisy_{part}"

    def _own_files(self, root: Path) -> list[Path]:
        return [p for split in ("train", "test") for folder in self._folders(split) for p in listed(root / folder, (".wav",))]

    def _check(self, root: Path) -> str | None:
        for split in ("test", "train"):
            for folder in self._folders(split):
                expected = self.counts[folder.split("_", 1)[1]]
                if problem := expect(len(listed(root / folder, (".wav",))), expected, f"recordings in {folder}/"):
                    return problem
        return None

    def _ids(self, split: str) -> list[str]:
        stems = [p.stem for p in listed(self.here() / self._folders(split)[0], (".wav",))]
        if split == "test":
            return stems
        return [s for s in stems if (s.split("_")[0] in self.held_out) == (split == "dev")]


class VoiceBankMini(_Pairs):
    """Six real pairs of VoiceBank-DEMAND (speaker p287): enough to try the path, too few to rank methods. Dev is two of them."""

    id, folder = "voicebank-mini", "voicebank-mini"
    title = "Six pairs of VoiceBank-DEMAND, 16 kHz"
    licence, pixels = "CC-BY-4.0", "redistribute"
    splits = ("dev", "test")
    get = source = "github.com/facebookresearch/denoiser, folder dataset/debug (clean/ and noisy/)"
    known = "e1d70f02bec17e1649619765d230ca7a293ce9f9810fe8b8ff51b684d67d5520"
    citation = VoiceBankDemand.citation

    def _folders(self, split: str) -> tuple[str, str]:
        return "clean", "noisy"

    def _own_files(self, root: Path) -> list[Path]:
        return [p for folder in self._folders("test") for p in listed(root / folder, (".wav",))]

    def _check(self, root: Path) -> str | None:
        clean, noisy = ({p.name for p in listed(root / folder, (".wav",))} for folder in self._folders("test"))
        return expect(len(clean & noisy), 6, "pairs in clean/ and noisy/")

    def _ids(self, split: str) -> list[str]:
        stems = [p.stem for p in listed(self.here() / "clean", (".wav",))]
        return stems[:4] if split == "test" else stems[4:]
