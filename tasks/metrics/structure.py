"""Structural similarity (Wang et al. 2004) in float64."""

from __future__ import annotations

import torch

from ...configs.errors import RunError
from .base import signed
from .paired import PairedImage

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


def gaussian_taps(window: int = WINDOW, sigma: float = SIGMA) -> list[float]:
    """Return the normalised taps of the separable Gaussian window."""
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    taps = torch.exp(-0.5 * (offsets / sigma).square())
    return (taps / taps.sum()).tolist()


def windowed(maps: torch.Tensor, taps: list[float]) -> torch.Tensor:
    """Filter (..., H, W) with a separable window where it fits inside: (..., H - w + 1, W - w + 1).

    Shifted sums: in float64 on a CPU they cost a fifth of a convolution call.
    """
    for dim in (-1, -2):
        n = maps.shape[dim] - len(taps) + 1
        out = maps.narrow(dim, 0, n) * taps[0]
        for k, tap in enumerate(taps[1:], 1):
            out.add_(maps.narrow(dim, k, n), alpha=tap)
        maps = out
    return maps


def similarity(x: torch.Tensor, y: torch.Tensor, taps: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the means over windows of SSIM and of its contrast-structure part, of one plane (H, W) each, with data range 1."""
    # only the sum of the two variances is needed, so their squares are filtered as one map
    mx, my, power, mxy = windowed(torch.stack([x, y, x * x + y * y, x * y]), taps)
    squares, product = mx * mx + my * my, mx * my
    c1, c2 = K1**2, K2**2
    cs = (2 * (mxy - product) + c2) / (power - squares + c2)  # biased (co)variances under the window, eq. 15 and 16
    ssim = (2 * product + c1) / (squares + c1) * cs  # eq. 13
    return ssim.mean(), cs.mean()


class SSIM(PairedImage):
    """Mean SSIM over the windows that lie inside the image, averaged over channels."""

    name = "ssim"
    title = "Structural similarity"
    higher_is_better = True
    bounds = (-1.0, 1.0)
    protocol = """Wang et al. 2004, eq. 13: Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, data range 1, biased
        variances, float64. The mean runs over windows that lie wholly inside the image (pixels within 5 of a side have no window of
        their own, so no border is made up), then over channels; one value per image. Equal to scikit-image's structural_similarity with
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1. No downsampling before. Channel, crop and quantise
        as for psnr."""
    paper = """Wang, Bovik, Sheikh and Simoncelli, Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP 13(4),
        2004."""

    def identity(self) -> str:
        return signed(super().identity(), "gaussian11", "sigma=1.5", "valid")

    def one(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if min(x.shape[-2:]) < WINDOW:
            raise RunError(f"metric ssim needs images of at least {WINDOW} x {WINDOW} pixels; these are {tuple(x.shape[-2:])}.", "wrong-output")
        taps = gaussian_taps()
        # plane by plane: the filtered maps then stay in the cache
        return torch.stack([similarity(a, b, taps)[0] for a, b in zip(x.double(), y.double(), strict=True)]).mean()


BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang, Simoncelli and Bovik 2003, section 3.2)."""


class MSSSIM(PairedImage):
    """Multi-scale SSIM over five scales."""

    name = "ms-ssim"
    title = "Multi-scale structural similarity"
    higher_is_better = True
    bounds = (0.0, 1.0)
    protocol = """Wang, Simoncelli and Bovik 2003: contrast-structure at scales 1 to 4 and full SSIM at scale 5, each averaged over windows
        that lie wholly inside the image (Gaussian 11 x 11, sigma 1.5, K1 = 0.01, K2 = 0.03, data range 1), a mean below zero set to zero,
        raised to the published exponents and multiplied; 2 x 2 averages between scales (an odd last row or column is dropped). Averaged
        over channels, one value per image, float64. Images need at least 176 pixels a side."""
    paper = "Wang, Simoncelli and Bovik, Multiscale Structural Similarity for Image Quality Assessment, Asilomar 2003."

    def identity(self) -> str:
        return signed(super().identity(), "gaussian11", "sigma=1.5", "valid", "scales=5")

    def one(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        least = WINDOW * 2 ** (len(BETAS) - 1)
        if min(x.shape[-2:]) < least:
            raise RunError(f"metric ms-ssim needs images of at least {least} pixels a side; these are {tuple(x.shape[-2:])}.", "wrong-output")
        return torch.stack([_over_scales(a, b) for a, b in zip(x.double(), y.double(), strict=True)]).mean()


def _over_scales(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the MS-SSIM of one plane (H, W), eq. 7."""
    taps, out = gaussian_taps(), torch.ones((), dtype=x.dtype, device=x.device)
    for scale, beta in enumerate(BETAS, 1):
        ssim, cs = similarity(x, y, taps)
        out = out * (ssim if scale == len(BETAS) else cs).clamp(min=0) ** beta
        if scale < len(BETAS):
            x, y = (torch.nn.functional.avg_pool2d(v[None], 2)[0] for v in (x, y))
    return out
