"""Learned paired distances: LPIPS, with the heads of the lpips package on torchvision's backbones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...configs.errors import RunError
from .base import Metric, Unavailable, checked, choice, signed
from .weights import WEIGHTS, file_sha256


@cache
def _backbone(net: str, path: Path, sha256: str) -> nn.Module:
    """Return torchvision's feature layers of ``net`` with the weights at ``path``."""
    from torchvision import models

    build = {"alex": models.alexnet, "vgg": models.vgg16, "squeeze": models.squeezenet1_1}[net]
    model = build(weights=None)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.features.eval().requires_grad_(False)


@cache
def _lpips(net: str, path: Path, sha256: str) -> nn.Module:
    """Return the lpips package's network with v0.1 heads on the backbone at ``path``."""
    import lpips

    # pnet_rand keeps the package from downloading a backbone; its layers are then filled from ours
    model: Any = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    source = dict(_backbone(net, path, sha256).named_parameters())
    with torch.no_grad():
        for key, parameter in model.net.named_parameters():
            # lpips keeps torchvision's layer numbers inside its slices: "slice2.3.weight" is "features.3.weight"
            parameter.copy_(source[key.split(".", 1)[1]])
    return model.eval().requires_grad_(False)


class LPIPS(Metric):
    """Learned perceptual image patch similarity, v0.1 heads."""

    name = "lpips"
    title = "Learned perceptual image patch similarity"
    level = "sample"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    protocol = """Weighted squared distance of unit-normalised activations of five (squeeze: seven) layers of an ImageNet network, with the
        v0.1 linear heads of the lpips package; images scaled from [0, 1] to [-1, 1], grey ones repeated to three channels; no resize. net:
        alex (the authors' choice for reporting), vgg or squeeze. float32 network; one value per image."""
    paper = "Zhang, Isola, Efros, Shechtman and Wang, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018."

    def __init__(self, net: str = "alex") -> None:
        self.net = choice(self.name, "net", net, ("alex", "vgg", "squeeze"))

    def identity(self) -> str:
        return signed(self.name, self.net, "v0.1", f"backbone@{WEIGHTS[self.net].sha256[:12]}", "range=[-1,1]", "per-image")

    def unavailable(self) -> Unavailable | None:
        return WEIGHTS[self.net].missing(self.name)

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        clean = target["clean"].to(answer.device)
        if answer.shape != clean.shape or answer.ndim != 4 or answer.shape[1] not in (1, 3):
            raise RunError(f"metric lpips got an answer of shape {tuple(answer.shape)} for a target of {tuple(clean.shape)}.", "wrong-output")
        x, y = (2 * checked(self.name, v).float().expand(-1, 3, -1, -1) - 1 for v in (answer, clean))
        path = WEIGHTS[self.net].path
        model = _lpips(self.net, path, file_sha256(path)).to(answer.device)
        with torch.no_grad():
            return model(x, y).double().reshape(-1)
