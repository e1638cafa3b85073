"""Training with Stein's unbiased risk estimate (Metzler et al. 2018, arXiv:1805.10531), its divergence by Monte Carlo (Ramani et al. 2008)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from ..method import DataSpec
from .selfsup import SelfSupervised, crops, parameter


def risk(
    f: Callable[[torch.Tensor], torch.Tensor], y: torch.Tensor, variance: torch.Tensor, direction: torch.Tensor, step: float | torch.Tensor
) -> torch.Tensor:
    """Return the estimate of mean |f(y) - x|^2 for every sample, (B,), from the noisy picture alone.

    |f(y) - y|^2 - v + 2 v b (f(y + e b) - f(y)) / e, averaged over pixels, with b = ``direction`` (independent entries of mean 0 and
    variance 1) and e = ``step``. Gaussian noise: v = sigma^2, and the estimate is unbiased as e -> 0. Poisson noise: v = y / peak, an
    unbiased estimate of the variance, and the divergence is weighted with it (Le Montagner et al., IEEE TIP 2014, to first order in 1 / peak).
    """
    x = f(y)
    divergence = direction * (f(y + step * direction) - x) / step
    return ((x - y).square() - variance + 2 * variance * divergence).flatten(1).mean(1)


class Sure(SelfSupervised):
    """Minimises the risk estimated by `risk`: two evaluations of the network a step. The noise and its level must be known.

    ``step`` is e over the standard deviation of the noise (root mean square over the picture). It cannot be tiny: the derivative of a network
    of ReLUs is constant between kinks, so the gradient of an infinitesimal difference does not see that weights move the kinks; and it cannot
    be large, since the bias of the difference then rewards the identity (both seen on the dev split, see the card).
    """

    def __init__(self, data: DataSpec, step: float = 0.15, lr: float = 4e-3, batch_size: int = 4) -> None:
        super().__init__(data, lr, batch_size)
        self.step = step

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        y = crops(batch)
        family, value = parameter(batch, y)
        variance = value * y if family == "poisson" else value**2
        step = self.step * variance.flatten(1).mean(1).clamp(min=1e-8).sqrt().reshape(-1, 1, 1, 1)
        return risk(self.network, y, variance, torch.randn_like(y), step).mean()
