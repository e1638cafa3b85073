"""Metrics of signals that are no pictures: the spectral angle of cubes; relative error, correlation and SNR gain of multichannel recordings."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from ...configs.errors import RunError
from .base import Metric, check, checked, signed


class SpectralAngle(Metric):
    """Mean angle between the spectra of answer and clean cube."""

    name = "sam"
    title = "Spectral angle"
    level = "sample"
    higher_is_better = False
    unit = "degrees"
    bounds = (0.0, 180.0)
    protocol = """arccos of <a, c> / (||a|| ||c||) between the spectrum a of the answer and c of the clean cube in one pixel, in degrees,
    float64; mean
        over the pixels of a cube, one value per cube. Blind to brightness. A spectrum that is zero in the answer counts 90 degrees; in the
        clean
        cube it is refused."""
    paper = "Kruse et al., The spectral image processing system (SIPS), Remote Sensing of Environment 44(2-3), 1993."

    def identity(self) -> str:
        return signed(self.name, "degrees", "per-cube")

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        a, c = checked(self.name, answer, rank=4), checked(self.name, target["clean"].to(answer.device), "target", rank=4)
        norms = c.norm(dim=1)
        if (norms == 0).any():
            raise RunError("metric sam got a clean cube with a spectrum that is zero in all bands, whose angle is not defined.", "wrong-output")
        # the half-angle form keeps its digits near zero, where arccos loses half of them
        a, c = a / a.norm(dim=1, keepdim=True).clamp(min=1e-300), c / norms[:, None]
        angle = 2 * torch.atan2((a - c).norm(dim=1), (a + c).norm(dim=1))
        return (angle * (180 / math.pi)).flatten(1).mean(1)


class _Recording(Metric):
    """What metrics of a recording (B, C, T) beside the clean one share."""

    level = "sample"

    def identity(self) -> str:
        return signed(self.name, "all-channels", "per-window")

    def pair(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return answer and clean recording as float64 (B, C, T)."""
        clean = target["clean"].to(answer.device)
        if answer.shape != clean.shape:
            raise RunError(
                f"metric {self.name} got an answer of shape {tuple(answer.shape)} for a target of {tuple(clean.shape)}.", "wrong-output"
            )
        check(self.name, answer, rank=3)
        return answer.double(), checked(self.name, clean, "target", rank=3)


class RRMSE(_Recording):
    """Root of the squared error over the squared norm of the clean recording."""

    name = "rrmse"
    title = "Relative root mean squared error"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    protocol = """RMS(answer - clean) / RMS(clean) over all channels and samples of one window, float64; one value per window, the set's value
    is
        their mean. (RRMSE in the time domain, as used for EEG.) Undefined, and refused, where the clean window is zero everywhere."""
    paper = "Zhang et al., EEGdenoiseNet: a benchmark dataset for deep learning solutions of EEG denoising, J. Neural Engineering 18, 2021."

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        a, c = self.pair(answer, target)
        energy = c.flatten(1).square().sum(1)
        if (energy == 0).any():
            raise RunError("metric rrmse got a clean recording that is zero everywhere, for which it is not defined.", "wrong-output")
        return ((a - c).flatten(1).square().sum(1) / energy).sqrt()


class Correlation(_Recording):
    """Pearson's correlation of answer and clean recording, channel by channel."""

    name = "correlation"
    title = "Correlation with the clean recording"
    higher_is_better = True
    bounds = (-1.0 - 1e-9, 1.0 + 1e-9)
    protocol = """Pearson's correlation over time of answer and clean recording, float64; mean over the channels of one window, one value per
    window.
        A channel that is constant in the answer counts 0; one that is constant in the clean recording is refused."""
    paper = "Zhang et al., EEGdenoiseNet: a benchmark dataset for deep learning solutions of EEG denoising, J. Neural Engineering 18, 2021."

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        a, c = (v - v.mean(-1, keepdim=True) for v in self.pair(answer, target))
        power = c.square().sum(-1)
        if (power == 0).any():
            raise RunError("metric correlation got a clean channel that is constant, for which it is not defined.", "wrong-output")
        return ((a * c).sum(-1) / (a.square().sum(-1) * power).sqrt().clamp(min=1e-150)).mean(1)


class SNRGain(_Recording):
    """By how much the answer's signal-to-noise ratio exceeds the observation's."""

    name = "snr-gain"
    title = "Gain in signal-to-noise ratio"
    higher_is_better = True
    unit = "dB"
    bounds = (float("-inf"), 100.0)
    protocol = """10 log10(||noisy - clean||^2 / ||answer - clean||^2) over all channels and samples of one window, float64; one value per
    window, capped
        at 100 dB. The noisy window itself counts 0. Refused where the observation has no error."""

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        a, c = self.pair(answer, target)
        before = (checked(self.name, target["noisy"].to(answer.device), "target", rank=3) - c).flatten(1).square().sum(1)
        if (before == 0).any():
            raise RunError("metric snr-gain got an observation that equals the clean recording, so there is nothing to gain.", "wrong-output")
        after = (a - c).flatten(1).square().sum(1)
        return 10 * torch.log10(before / after.clamp(min=1e-10 * before))
