"""Where the weights of feature networks lie on this machine, what they must be, and what to say when they are absent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...configs.errors import RequestError
from ...configs.loader import home
from .base import Unavailable

SHIPPED = Path(__file__).resolve().parent / "weights"
"""The small feature networks that come with the package."""


@dataclass(frozen=True)
class WeightFile:
    """One file of published weights: its name, where it comes from, and its sha256 (or the first 8 digits of it, where only those are
    published)."""

    id: str
    file: str
    url: str
    sha256: str
    folder: Path | None = None

    @property
    def path(self) -> Path:
        """Where the file is looked for: ``$SCOREBENCH_HOME/weights``, unless it has a folder of its own."""
        return (self.folder or home() / "weights") / self.file

    def missing(self, metric: str) -> Unavailable | None:
        """Return None when the file is here and is the right one, else why not and what to do."""
        remedy = (
            f"Run `scorebench data fetch weights:{self.id}` on a connected machine, or put {self.file} (sha256 {self.sha256}"
            f"{'...' if len(self.sha256) < 64 else ''}, from {self.url}) into {self.path.parent}."
        )
        if not self.path.is_file():
            return Unavailable(f"{metric} needs {self.file}, which is not in {self.path.parent}.", remedy)
        found = file_sha256(self.path)
        if not found.startswith(self.sha256):
            return Unavailable(
                f"{self.path} has sha256 {found[:16]}..., not {self.sha256[:16]}..., so it is not the file {metric} needs.", remedy
            )
        return None


WEIGHTS: dict[str, WeightFile] = {
    w.id: w
    for w in (
        WeightFile(
            "inception",
            "inception-2015-12-05.pt",
            "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
            "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        ),
        # torchvision publishes the first 8 digits of the sha256 in the file's name
        WeightFile("alex", "alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "7be5be79"),
        WeightFile("vgg", "vgg16-397923af.pth", "https://download.pytorch.org/models/vgg16-397923af.pth", "397923af"),
        WeightFile("squeeze", "squeezenet1_1-b8a52dc0.pth", "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth", "b8a52dc0"),
    )
}
"""Weights that are not shipped, by the id that ``scorebench data fetch weights:ID`` takes."""


@cache
def _digest(path: str, mtime: int, size: int) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, computed once per (path, mtime, size)."""
    stat = path.stat()
    return _digest(str(path), stat.st_mtime_ns, stat.st_size)


def user_file(metric: str, path: str) -> Path:
    """Return the path of a user's own weights; RequestError when there is no such file."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise RequestError(f"metric {metric} was given the weights {path!r}, and there is no such file; give the path of a TorchScript file.")
    return file
