"""PSNR after the answer's brightness has been fitted to the clean frame: what papers on extreme low-light RAW report."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .base import check
from .paired import PSNR


def corrected(answer: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Return one answer, clipped to [0, 1], times the factor that brings it nearest to ``clean`` where that is not saturated, clipped again.

    Both are of one shape and float64. The factor is <answer, clean> / <answer, answer> over the values of ``clean`` below 1; it is 1 where
    no factor exists (an answer that is zero there, or a frame saturated everywhere).
    """
    answer = answer.clamp(0, 1)
    below = clean < 1
    x, y = answer[below], clean[below]
    energy = torch.dot(x, x)
    return (answer * (torch.dot(x, y) / energy)).clamp(0, 1) if energy > 0 else answer


class IlluminancePSNR(PSNR):
    """PSNR of the answer times one factor an image that fits it to the clean frame. Beside `psnr`, never in its place: it forgives a wrong
    brightness of the whole image, which `psnr` does not."""

    name = "psnr-illuminance"
    title = "PSNR after illuminance correction"
    protocol = """The answer is clipped to [0, 1], multiplied by one factor an image, <answer, clean> / <answer, answer> over the values of
        the clean frame that are below 1 (saturated ones are left out), and clipped again; then PSNR as `psnr` has it, float64, the mean over
        images. The factor is fitted to the clean frame: it measures what is wrong besides the overall brightness. Never lower than
        `psnr` on frames without saturated values. An answer that is zero everywhere is left as it is."""
    paper = "Wei, Fu, Zheng, Yang, Physics-based Noise Modeling for Extreme Low-light Photography, arXiv:2108.02158, 2021 (evaluation code)."

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        check(self.name, answer)  # here, since clipping would hide what is infinite
        errors = []
        for x, y in self.pairs(answer, target):
            y = y.double()
            errors.append(((corrected(x.double(), y) - y) ** 2).mean())
        return -10 * torch.log10(self.finite(torch.stack(errors), answer, target).clamp(min=1e-10))
