"""Feature networks: the small ones that are shipped, and the Inception network of clean-fid's TorchScript file.

An extractor takes images (B, C, H, W) in [0, 1] and returns float32 rows (B, d). Metrics share extractors, and the last batch's rows are
remembered, so FID, KID and precision on one batch run the network once.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...configs.errors import RequestError, RunError
from .base import checked
from .resize import bicubic
from .weights import SHIPPED, file_sha256

SIDE = 299
"""Images enter the Inception network with this side."""


class Extractor:
    """A feature network under a name and the hash of its weights; ``id`` goes into metric identities."""

    mode = ""
    """How images enter the network, where there is more than one way."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path, self.hash = name, path, file_sha256(path)
        self._last: tuple[Any, int, torch.Tensor] | None = None

    @property
    def id(self) -> str:
        """Name and hash, e.g. ``digits@3f2a9c0d11aa``."""
        return f"{self.name}@{self.hash[:12]}"

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of one batch; images float32 (B, C, H, W) in [0, 1]."""
        raise AssertionError("abstract")

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return `embed` of the batch, remembered for as long as this very tensor stays unchanged."""
        tracked = not images.is_inference()  # inference tensors keep no count of in-place changes
        if tracked and self._last is not None and self._last[0]() is images and self._last[1] == images._version:
            return self._last[2]
        checked(self.name, images, rank=4)
        with torch.no_grad():
            rows = self.embed(images.float()).float()
        self._last = (weakref.ref(images), images._version, rows) if tracked else None
        return rows


class SmallNet(nn.Module):
    """Three 3x3 convolutions and a linear layer of ``width`` features, with a linear classifier on top for its training.

    Strides halve the image until 4 x 4 is left, so that features still know where things are.
    """

    def __init__(self, channels: int, side: int, classes: int, width: int, base: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, base, 3, padding=1), nn.SiLU()]
        planes = base
        while side > 4:
            layers += [nn.Conv2d(planes, planes + base // 2, 3, stride=2, padding=1), nn.SiLU()]
            planes, side = planes + base // 2, side // 2
        layers += [nn.Conv2d(planes, planes, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(planes * side * side, width)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, width) that metrics use: before the nonlinearity, so that they are close to Gaussian."""
        return self.body(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes), of several attributes side by side."""
        return self.head(torch.nn.functional.silu(self.features(x)))


SHAPES = {"digits": (1, 8), "shapes": (3, 32)}
"""Shipped networks: channels and side of the images they take."""


class Shipped(Extractor):
    """A `SmallNet` from a safetensors file."""

    def __init__(self, name: str, path: Path | None = None) -> None:
        from safetensors.torch import load_file

        super().__init__(name, path or SHIPPED / f"{name}.safetensors")
        self.channels, self.side = SHAPES[name]
        state = load_file(self.path)
        self.net = SmallNet(self.channels, self.side, *state["head.weight"].shape).eval().requires_grad_(False)
        self.net.load_state_dict({k: v.float() for k, v in state.items()})

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        if tuple(images.shape[1:]) != (self.channels, self.side, self.side):
            raise RunError(
                f"the {self.name} features take images of shape {(self.channels, self.side, self.side)}, not {tuple(images.shape[1:])}.",
                "wrong-output",
            )
        self.net.to(images.device)
        return self.net.features(images)


def eight_bit(images: torch.Tensor) -> torch.Tensor:
    """Return images in [0, 1] as the whole numbers 0 ... 255 that a PNG file would hold (rounded, not truncated), with three channels."""
    if images.shape[1] not in (1, 3):
        raise RunError(f"Inception features take images of 1 or 3 channels, not {images.shape[1]}.", "wrong-output")
    return (images.clamp(0, 1) * 255).round().expand(-1, 3, -1, -1)


class Inception(Extractor):
    """A TorchScript network with the interface of NVIDIA's ``inception-2015-12-05.pt``, which clean-fid uses.

    ``layers(x)`` maps (B, 3, 299, 299) in [-1, 1) to the pooled features; calling the module maps 0 ... 255 images of any size (which it
    resizes itself, as TensorFlow did) to features (``return_features=True``) or class probabilities. ``mode``: ``clean`` resizes with
    an antialiased bicubic filter like PIL's before the network; ``legacy`` leaves the resizing to the network.
    """

    def __init__(self, name: str, path: Path, mode: str) -> None:
        super().__init__(name, path)
        self.mode = mode
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # the published file is TorchScript, deprecated or not
                self.net: Any = torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError as e:
            raise RequestError(f"{path} is not a TorchScript file that torch can load: {str(e).strip().splitlines()[0]}") from None
        self._embed: Callable[[torch.Tensor], torch.Tensor]
        if mode == "probabilities":
            self._embed = lambda x: self.net(x, no_output_bias=True)
        elif mode == "legacy":
            self._embed = lambda x: self.net(x, return_features=True)
        else:
            self._embed = lambda x: self.net.layers((bicubic(x, (SIDE, SIDE)).clamp(0, 255) - 128) / 128)

    @property
    def id(self) -> str:
        return f"{super().id}|{self.mode}"

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        self.net.to(images.device)
        return self._embed(eight_bit(images)).reshape(len(images), -1)


@cache
def shipped(name: str) -> Shipped:
    """Return the shipped network ``name``, loaded once."""
    return Shipped(name)


@cache
def _inception(name: str, path: Path, mode: str, sha256: str) -> Inception:
    return Inception(name, path, mode)


def inception(name: str, path: Path, mode: str = "clean") -> Inception:
    """Return the TorchScript network at ``path``, loaded once per content."""
    return _inception(name, path, mode, file_sha256(path))
