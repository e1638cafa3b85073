"""Recorrupted-to-Recorrupted (Pang et al., CVPR 2021), and its extension to Poisson and Gamma noise (Monroy et al. 2025, GR2R)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn import functional as F

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import DataSpec
from .selfsup import SelfSupervised, crops, parameter

Draw = Callable[[torch.Tensor, torch.Tensor, torch.Generator | None], torch.Tensor]


def recorrupted(
    y: torch.Tensor, family: str, value: torch.Tensor, alpha: float, generators: Sequence[torch.Generator] | None = None
) -> torch.Tensor:
    """Return y1 (B, C, H, W), noisier than y, such that y2 = (y - (1 - alpha) y1) / alpha has noise independent of its own.

    Gaussian (Pang et al., with D = sigma I; their alpha is (alpha / (1 - alpha))^(1/2)): y1 = y + (alpha / (1 - alpha))^(1/2) sigma z.
    Poisson, y = eta k: w ~ Binomial(k, alpha), y1 = eta (k - w) / (1 - alpha): thinning. Gamma of shape l: w ~ Beta(l alpha, l (1 - alpha)),
    y1 = y (1 - w) / (1 - alpha). The means of y1 and y2 are x in all three. ``generators``: one per sample; None: the global one.
    """

    def gaussian(y: torch.Tensor, sigma: torch.Tensor, g: torch.Generator | None) -> torch.Tensor:
        return y + (alpha / (1 - alpha)) ** 0.5 * sigma * torch.randn(y.shape, generator=g).to(y)

    def poisson(y: torch.Tensor, eta: torch.Tensor, g: torch.Generator | None) -> torch.Tensor:
        counts = (y / eta).round().clamp_min(0)
        kept = counts - torch.binomial(counts, torch.full_like(counts, alpha), generator=g)
        return eta * kept / (1 - alpha)

    def gamma(y: torch.Tensor, shape: torch.Tensor, g: torch.Generator | None) -> torch.Tensor:
        ones = torch.ones_like(y)
        a = torch._standard_gamma(alpha * shape * ones, generator=g)
        b = torch._standard_gamma((1 - alpha) * shape * ones, generator=g)
        return y * (b / (a + b)) / (1 - alpha)

    draw: Draw = {"gaussian": gaussian, "poisson": poisson, "gamma": gamma}[family]
    if generators is None:
        return draw(y, value, None)
    rows = [draw(row.cpu(), v.cpu(), g) for row, v, g in zip(y, value, generators, strict=True)]
    return torch.stack(rows).to(y.device)


class R2R(SelfSupervised):
    """min E |f(y1) - y2|^2, which has the minimiser of clean targets at the noise of y1. The answer is the mean of f over
    ``draws`` recorruptions of the picture; alpha = 0.2 is Pang et al.'s 0.5 for Gaussian noise."""

    def __init__(self, data: DataSpec, alpha: float = 0.2, draws: int = 10, lr: float = 4e-3, batch_size: int = 4) -> None:
        super().__init__(data, lr, batch_size)
        if not 0 < alpha < 1 or draws < 1:
            raise RequestError(f"alpha is {alpha} and draws {draws}; alpha must lie between 0 and 1, and draws be at least 1.")
        self.alpha, self.draws = alpha, draws

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        y = crops(batch)
        y1 = recorrupted(y, *parameter(batch, y), self.alpha)
        return F.mse_loss(self.network(y1), (y - (1 - self.alpha) * y1) / self.alpha)

    def denoise(self, request: Request) -> torch.Tensor:
        y = request.noisy
        noise = parameter(request, y)
        out = torch.zeros_like(y)
        for k in range(self.draws):
            out += self.network(recorrupted(y, *noise, self.alpha, request.rng.at("recorruption", k).generators()))
        return out / self.draws
