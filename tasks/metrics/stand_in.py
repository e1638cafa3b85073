"""Stand-ins for weights that are not on a machine: networks of the same interface with random weights, for proofs and tests.

A value computed with one never carries the metric's own name: a stand-in Inception file is given as a user's own extractor, and stand-in
backbones replace the published ones only inside `backbones`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from .weights import WEIGHTS, WeightFile


class Layers(nn.Module):
    """Where Inception's layers would be: (B, 3, 299, 299) in [-1, 1) to (B, d)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 7, stride=8)
        self.out = nn.Linear(16 * 16, d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return d features."""
        h = torch.nn.functional.adaptive_avg_pool2d(torch.tanh(4 * self.conv(x)), (4, 4))
        return torch.relu(self.out(h.flatten(1)))


class StandIn(nn.Module):
    """The interface of inception-2015-12-05.pt."""

    def __init__(self, d: int = 2048, classes: int = 1008) -> None:
        super().__init__()
        self.layers = Layers(d)
        self.output = nn.Linear(d, classes)

    def forward(self, img: torch.Tensor, return_features: bool = False, no_output_bias: bool = False) -> torch.Tensor:
        """Map images 0 ... 255 of any size to features, or to class probabilities."""
        x = torch.nn.functional.interpolate(img.float(), [299, 299], mode="bilinear", align_corners=False)
        features = self.layers((x - 128.0) / 128.0)
        if return_features:
            return features
        logits = torch.matmul(features, self.output.weight.t())
        if not no_output_bias:
            logits = logits + self.output.bias
        return torch.softmax(logits * 20.0, dim=1)


def inception_file(folder: Path, d: int = 2048, name: str = "inception-2015-12-05.pt") -> Path:
    """Write a stand-in TorchScript file into ``folder`` and return its path; the same weights every time."""
    path = folder / name
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the published file is TorchScript, deprecated or not
        torch.manual_seed(0)
        torch.jit.save(torch.jit.script(StandIn(d).eval()), str(path))
    return path


def backbone_state(net: str) -> dict[str, torch.Tensor]:
    """Return random weights for the feature layers of torchvision's ``alex``, ``vgg`` or ``squeeze``, scaled to keep activations alive."""
    from torchvision import models

    build = {"alex": models.alexnet, "vgg": models.vgg16, "squeeze": models.squeezenet1_1}[net]
    with torch.device("meta"):
        layers = build(weights=None).features
    generator = torch.Generator().manual_seed(1)
    out = {}
    for key, value in layers.state_dict().items():
        fan = value[0].numel() if value.ndim > 1 else 100
        out[f"features.{key}"] = torch.randn(value.shape, generator=generator) * (2 / fan) ** 0.5
    return out


@contextmanager
def backbones(folder: Path, nets: tuple[str, ...] = ("alex", "vgg", "squeeze")) -> Iterator[dict[str, Path]]:
    """Put stand-in backbones where the published weights would be, inside the context only; yields their files."""
    files, replaced = {}, {}
    for net in nets:
        content = folder / f"stand-in-{net}.pth"
        torch.save(backbone_state(net), content)
        digest = hashlib.sha256(content.read_bytes()).hexdigest()
        files[net] = content
        replaced[net] = WeightFile(net, content.name, "nowhere: random weights", digest, folder)
    with mock.patch.dict(WEIGHTS, replaced):
        yield files
