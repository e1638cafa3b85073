"""Metrics of an image beside its clean target, from pixel differences: PSNR, MSE, NMSE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from ...configs.errors import RunError
from .base import Metric, check, choice, integer, signed

BT601 = (65.481 / 255, 128.553 / 255, 24.966 / 255)
"""Weights of the luma that MATLAB's rgb2ycbcr computes for RGB in [0, 1] (ITU-R BT.601, studio swing); its offset is 16/255."""


def luma(image: torch.Tensor) -> torch.Tensor:
    """Return the Y channel (1, H, W), in [16/255, 235/255], of RGB (3, H, W) in [0, 1]."""
    r, g, b = image
    return (BT601[0] * r + BT601[1] * g + BT601[2] * b + 16 / 255)[None]


class PairedImage(Metric):
    """What metrics of (answer, clean) image pairs share: checks, channel, border crop and 8-bit rounding.

    ``channel``: ``rgb`` takes all channels as they are (one for grey images), ``y`` the BT.601 luma. ``crop`` pixels are cut from every
    side. ``quantise`` rounds the answer to 8 bits first, as when scores are computed from saved PNG files.
    """

    level = "sample"

    def __init__(self, channel: str = "rgb", crop: int = 0, quantise: bool = False) -> None:
        self.channel = choice(self.name, "channel", channel, ("rgb", "y"))
        self.crop = integer(self.name, "crop", crop, 0)
        self.quantise = choice(self.name, "quantise", quantise, (False, True))

    def identity(self) -> str:
        words = [self.channel, f"crop={self.crop}", *(["quantised"] if self.quantise else []), "range=1", "per-image"]
        return signed(self.name, *words)

    def pairs(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield answer and clean image (C, H, W) in the channel and crop of the protocol, image by image, so that they stay in the cache.

        Both keep their precision where they are not converted; metrics widen to float64 what they square or sum. Where nothing is cropped, NaN
        and infinite values are found in the result (`finite`), which is quicker than looking for them first.
        """
        clean = target["clean"]
        if answer.shape != clean.shape:
            raise RunError(
                f"metric {self.name} got an answer of shape {tuple(answer.shape)} for a target of {tuple(clean.shape)}.", "wrong-output"
            )
        check(self.name, answer, rank=4, finite=self.crop > 0)
        check(self.name, clean, "target", rank=4, finite=self.crop > 0)
        if self.channel == "y" and answer.shape[1] != 3:
            raise RunError(f"metric {self.name} with channel y takes RGB images; these have {answer.shape[1]} channel(s).", "wrong-output")
        if min(answer.shape[-2:]) <= 2 * self.crop:
            raise RunError(
                f"metric {self.name} crops {self.crop} pixels a side; nothing is left of {tuple(answer.shape[-2:])}.", "wrong-output"
            )
        inside = slice(self.crop, -self.crop or None)
        for a, c in zip(answer, clean.to(answer.device), strict=True):
            x, y = a, c
            if self.quantise:
                x = torch.round(x.double().clamp(0, 1) * 255) / 255
            if self.channel == "y":
                x, y = luma(x.double()), luma(y.double())
            yield x[:, inside, inside], y[:, inside, inside]

    def finite(self, values: torch.Tensor, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``values`` when they are finite; RunError (not-finite) that says which input was not."""
        if not torch.isfinite(values.sum()):
            check(self.name, answer)
            check(self.name, target["clean"], "target")
        return values

    def sums(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """Yield the sum of squared differences (float64), the clean image flattened (to be used at once), and the number of its values.

        Two buffers serve all images: making a float64 copy of each would cost more than the arithmetic.
        """
        room: torch.Tensor | None = None
        for x, y in self.pairs(answer, target):
            if room is None:
                room = torch.empty((2, *x.shape), dtype=torch.float64, device=x.device)
            difference, clean = room
            clean.copy_(y)
            difference.copy_(x).sub_(clean)
            d, c = difference.reshape(-1), clean.reshape(-1)
            yield torch.dot(d, d), c, d.numel()

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.finite(torch.stack([self.one(x, y) for x, y in self.pairs(answer, target)]), answer, target)

    def one(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the value of one image, a float64 scalar; answer x and clean image y, both (C, H, W)."""
        raise AssertionError("abstract")


class MSE(PairedImage):
    """Mean of the squared differences over all pixels and channels of one image."""

    name = "mse"
    title = "Mean squared error"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    protocol = """Mean over pixels and channels of (answer - clean)^2, images in [0, 1], float64, one value per image; the value of a set
        is the mean over its images."""

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.finite(torch.stack([error / n for error, _, n in self.sums(answer, target)]), answer, target)


class PSNR(MSE):
    """10 log10(1 / MSE) of one image, capped at 100 dB (an identical image would be infinite, which no record can hold)."""

    name = "psnr"
    title = "Peak signal-to-noise ratio"
    higher_is_better = True
    unit = "dB"
    bounds = (float("-inf"), 100.0)
    protocol = """10 log10(1 / MSE) with data range 1, in float64. The MSE pools the pixels and channels of one image; the value of a set is
        the mean over images of their PSNR, never the PSNR of the pooled error. Channel rgb: all channels as they are; y: luma of BT.601 as
        MATLAB's rgb2ycbcr computes it, not rounded. crop pixels are cut from each side; quantise rounds the answer to 8 bits first.
        Identical images count 100 dB."""
    paper = "Huynh-Thu and Ghanbari, Scope of validity of PSNR in image/video quality assessment, Electronics Letters 44(13), 2008."

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return -10 * torch.log10(super().per_sample(answer, target).clamp(min=1e-10))


class NMSE(PairedImage):
    """Squared error over the squared norm of the clean image."""

    name = "nmse"
    title = "Normalised mean squared error"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    protocol = """||answer - clean||^2 / ||clean||^2 over all pixels and channels of one image, in float64; one value per image, the set's
        value is their mean. (fastMRI's NMSE is this per volume.) Undefined, and refused, where the clean image is zero everywhere."""
    paper = "Zbontar et al., fastMRI: An Open Dataset and Benchmarks for Accelerated MRI, arXiv:1811.08839, 2018, section 5.2."

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        sums = [(error, torch.dot(clean, clean)) for error, clean, _ in self.sums(answer, target)]
        if any(energy == 0 for _, energy in sums):
            raise RunError("metric nmse got a clean image that is zero everywhere, for which it is not defined.", "wrong-output")
        return self.finite(torch.stack([error / energy for error, energy in sums]), answer, target)
