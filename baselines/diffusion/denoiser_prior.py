"""The denoiser of photographs as a prior in EDM form: it estimates E[x_0 | x_0 + sigma eps], and Tweedie's formula makes that a score.

    grad log p_sigma(x) = (D(x, sigma) - x) / sigma^2           (Robbins 1956, Miyasawa 1961)

Exact for a denoiser of least mean squared error. The shared DRUNet is trained with an L1 loss, so D lies nearer to the median, and what
follows is an approximate score. The network is told the level; `DenoiserPrior.blind` uses it where nobody knows the level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..denoising.drunet import DRUNetDenoiser
from .prior import Prior
from .schedule import EDM, along


class DenoiserPrior(Prior, DRUNetDenoiser):
    """A `DRUNetDenoiser` (same network, same training, same weights) behind the prior interface, on the VE path x_t = x_0 + t eps.

    States are pictures in [0, 1] plus noise, (B, C, H, W) of any size; ``shape`` is that of states drawn from noise. Levels run from
    ``sigma_min`` to ``max_sigma`` (8-bit steps), the largest it is trained for. That is far below pure noise: it scores and restores pictures,
    and cannot generate them.
    """

    counted = ("network",)
    parameterisation = "data"

    def __init__(
        self,
        channels: int = 1,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 2,
        max_sigma: float = 55.0,
        sigma_min: float = 1.0,
        size: int = 64,
        lr: float = 2e-3,
        batch_size: int = 4,
    ) -> None:
        super().__init__(channels, widths, blocks, max_sigma, lr, batch_size)
        self.schedule = EDM(t_max=max_sigma / 255, t_min=sigma_min / 255)
        self.shape, self.span = (channels, size, size), (0.0, 1.0)

    def raw(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return self(x, t.to(x.device, x.dtype))

    def blind(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (E[x_0 | x], sigma) with the level of each state estimated from it (`noise_level`), kept inside the schedule's range."""
        sigma = noise_level(x).clamp(self.schedule.t_min, self.schedule.t_max)
        return self.raw(x, sigma, None), sigma

    def blind_score(self, x: Tensor) -> Tensor:
        """Return the score at the estimated levels, (D(x, sigma) - x) / sigma^2."""
        data, sigma = self.blind(x)
        return (data - x) / along(sigma, x) ** 2


def noise_level(x: Tensor) -> Tensor:
    """Return the standard deviation of white Gaussian noise in pictures (B, C, H, W), (B,), from the median of the finest diagonal detail.

    Donoho and Johnstone (Biometrika 1994): the Haar wavelet's diagonal coefficients of a photograph are nearly all noise; their median absolute
    value is 0.6745 of the deviation. Texture and edges push the estimate up.
    """
    haar = torch.tensor([[0.5, -0.5], [-0.5, 0.5]], dtype=x.dtype, device=x.device).expand(x.shape[1], 1, 2, 2)
    detail = F.conv2d(x, haar, stride=2, groups=x.shape[1])
    return detail.abs().flatten(1).median(1).values / 0.6744897501960817
