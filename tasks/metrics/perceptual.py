"""Learned paired distances on torchvision's backbones: LPIPS with the heads of the lpips package, DISTS with torchmetrics' weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...configs.errors import RunError
from .base import Metric, Unavailable, checked, choice, signed
from .weights import WEIGHTS, file_sha256


@cache
def _backbone(net: str, path: Path, sha256: str) -> nn.Module:
    """Return torchvision's feature layers of ``net`` with the weights at ``path``; the classifier above them is never built."""
    from torchvision import models

    build = {"alex": models.alexnet, "vgg": models.vgg16, "squeeze": models.squeezenet1_1}[net]
    with torch.device("meta"):
        layers = build(weights=None).features
    state = torch.load(path, map_location="cpu", weights_only=True)
    layers.load_state_dict({k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}, assign=True)
    return layers.eval().requires_grad_(False)


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
        x, y = (2 * v - 1 for v in colour_pair(self.name, answer, target))
        path = WEIGHTS[self.net].path
        model = _lpips(self.net, path, file_sha256(path)).to(answer.device)
        with torch.no_grad():
            return model(x, y).double().reshape(-1)


def colour_pair(name: str, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return answer and clean image as float32 with three channels, checked."""
    clean = target["clean"].to(answer.device)
    if answer.shape != clean.shape or answer.ndim != 4 or answer.shape[1] not in (1, 3):
        raise RunError(f"metric {name} got an answer of shape {tuple(answer.shape)} for a target of {tuple(clean.shape)}.", "wrong-output")
    x, y = (checked(name, v).float().expand(-1, 3, -1, -1) for v in (answer, clean))
    return x, y


class DISTSNet(nn.Module):
    """VGG-16 with its max pooling replaced by L2 pooling, and the learned channel weights; returns one distance per pair."""

    STAGES = ((0, 4), (5, 9), (10, 16), (17, 23), (24, 30))
    CHANNELS = (3, 64, 128, 256, 512, 512)

    def __init__(self, backbone: nn.Module, alpha: torch.Tensor, beta: torch.Tensor) -> None:
        super().__init__()
        layers = list(backbone.children())
        self.stages = nn.ModuleList(nn.Sequential(*layers[a:b]) for a, b in self.STAGES)
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", alpha.reshape(-1) / total)
        self.register_buffer("beta", beta.reshape(-1) / total)
        taps = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", torch.outer(taps, taps)[None, None])
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """L2 pooling with a Hann window of width 3, stride 2 (eq. 2)."""
        window = self.get_buffer("window").expand(x.shape[1], 1, 3, 3)
        return (functional.conv2d(x * x, window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()

    def maps(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the image and the five stages' activations."""
        yield x
        h = (x - self.get_buffer("mean")) / self.get_buffer("std")
        for i, stage in enumerate(self.stages):
            h = stage(self.pool(h) if i else h)
            yield h

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return 1 - sum of alpha x texture + beta x structure similarities, (B,), eq. 6 to 8."""
        alpha, beta = (self.get_buffer(n).split(self.CHANNELS) for n in ("alpha", "beta"))
        out = torch.ones(len(x), dtype=torch.float64, device=x.device)
        for k, (f, g) in enumerate(zip(self.maps(x), self.maps(y), strict=True)):
            f, g = f.flatten(2).double(), g.flatten(2).double()
            mf, mg = f.mean(2), g.mean(2)
            vf, vg, cov = f.var(2, correction=0), g.var(2, correction=0), (f * g).mean(2) - mf * mg
            texture = (2 * mf * mg + 1e-6) / (mf**2 + mg**2 + 1e-6)
            structure = (2 * cov + 1e-6) / (vf + vg + 1e-6)
            out = out - texture @ alpha[k].double() - structure @ beta[k].double()
        return out


@cache
def _dists(path: Path, sha256: str) -> DISTSNet:
    import torchmetrics.functional.image.dists as package

    learned = torch.load(Path(package.__file__).parent / "dists_models" / "weights.pt", map_location="cpu", weights_only=True)
    return DISTSNet(_backbone("vgg", path, sha256), learned["alpha"].data, learned["beta"].data).eval().requires_grad_(False)


class DISTS(Metric):
    """Deep image structure and texture similarity."""

    name = "dists"
    title = "Deep image structure and texture similarity (distance)"
    level = "sample"
    higher_is_better = False
    bounds = (-1e-6, 2.0)
    protocol = """One minus the weighted texture and structure similarities of the image and of five VGG-16 stages with L2 pooling, with the
        authors' learned weights (the file that torchmetrics ships); images in [0, 1], grey ones repeated to three channels, not resized.
        float32 network, float64 statistics; one value per image."""
    paper = "Ding, Ma, Wang and Simoncelli, Image Quality Assessment: Unifying Structure and Texture Similarity, IEEE TPAMI 44(5), 2022."

    def identity(self) -> str:
        return signed(self.name, f"vgg@{WEIGHTS['vgg'].sha256[:12]}", "no-resize", "per-image")

    def unavailable(self) -> Unavailable | None:
        return WEIGHTS["vgg"].missing(self.name)

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        x, y = colour_pair(self.name, answer, target)
        path = WEIGHTS["vgg"].path
        with torch.no_grad():
            return _dists(path, file_sha256(path)).to(answer.device)(x, y)
