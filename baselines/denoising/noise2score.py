"""Noise2Score (Kim and Ye 2021, arXiv:2106.07009): learn the score of noisy pictures, then apply Tweedie's formula of the noise's family."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import DataSpec
from .selfsup import SelfSupervised, crops, parameter

CANDIDATES = {
    "gaussian": torch.linspace(5, 55, 50) / 255,
    "poisson": torch.linspace(0.005, 0.1, 100),
    "gamma": torch.linspace(40, 120, 80),
}
"""What the blind sweep tries, as the published code does: standard deviations, values of one count, shapes."""


def ar_dae(score: Callable[[torch.Tensor], torch.Tensor], y: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
    """Return the loss of the amortised residual denoising auto-encoder: mean |sigma S(y + sigma u) + u|^2, u ~ N(0, I).

    Its minimiser tends to S = grad log p(y) as sigma -> 0. Written without a division by sigma, which would blow up on the way.
    """
    u = torch.randn_like(y)
    return (sigma * score(y + sigma * u) + u).square().mean()


def tweedie(family: str, y: torch.Tensor, score: torch.Tensor, value: torch.Tensor | float) -> torch.Tensor:
    """Return the denoised picture from y, the score of p at y, and the noise's parameter. ``score`` is grad_y log p(y) throughout.

    gaussian: y + sigma^2 s, the posterior mean. poisson, y = eta k: (y + eta / 2) exp(eta s), where eta s is the score of the counts;
    k / eta having been continued to the real line, it is the posterior mean at half a count below. gamma of shape a:
    a y / ((a - 1) - y s) = 1 / E[1 / x | y]; the denominator is kept above a tenth of a - 1.
    """
    if family == "gaussian":
        return y + value**2 * score
    if family == "poisson":
        return (y + value / 2) * torch.exp(value * score)
    least = 0.1 * (torch.as_tensor(value).to(y) - 1)
    return value * y / torch.maximum(value - 1 - y * score, least)


def penalty(family: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the quality penalty of candidates x (B, C, H, W) for y, (B,): total variation, plus the fit to y where the noise is not additive.

    Weights and terms as in the published code: TV; 0.1 TV + x - y log x; TV + log x + y / x + (y / x)^2, means over pixels.
    """
    tv = (x[..., 1:, :] - x[..., :-1, :]).abs().flatten(1).mean(1) + (x[..., :, 1:] - x[..., :, :-1]).abs().flatten(1).mean(1)
    if family == "gaussian":
        return tv
    x = x.clamp_min(1e-3)
    if family == "poisson":
        return 0.1 * tv + (x - y * x.log()).flatten(1).mean(1)
    return tv + (x.log() + y / x + (y / x).square()).flatten(1).mean(1)


class Noise2Score(SelfSupervised):
    """The network gives the score, S(y) = (f(y) - y) / ``scale``^2 with f the DnCNN: with ``scale`` near the noise level its residual is of
    the size at which it was set up to learn. No noise level enters it.

    The noise of the auto-encoder falls linearly from ``sigma_max`` to ``sigma_min`` over the first ``anneal`` of the training; for Poisson
    noise from ``count_max`` to ``count_min``, in counts. ``level`` ``given``: Tweedie's formula takes the parameter given. ``swept``: it is
    looked for among `CANDIDATES`, picture by picture, by the least `penalty`; nothing but the noise's family is read then.
    """

    def __init__(
        self,
        data: DataSpec,
        level: str = "given",
        sigma_max: float = 0.05,
        sigma_min: float = 0.001,
        count_max: float = 1.0,
        count_min: float = 0.5,
        anneal: float = 1.0,
        scale: float = 0.1,
        lr: float = 4e-3,
        batch_size: int = 4,
    ) -> None:
        super().__init__(data, lr, batch_size)
        if level not in ("given", "swept"):
            raise RequestError(f"level is {level!r}; accepted: given, swept.")
        self.level, self.anneal, self.scale = level, anneal, scale
        self.sigmas, self.counts = (sigma_max, sigma_min), (count_max, count_min)

    def score(self, y: torch.Tensor) -> torch.Tensor:
        """Return the learned grad log p(y) at noisy pictures (B, C, H, W), in units of 1 / intensity."""
        return (self.network(y) - y) / self.scale**2

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        y = crops(batch)
        family, unit = parameter(batch, y) if self.level == "given" else ("", torch.ones(()))
        high, low = self.counts if family == "poisson" else self.sigmas
        part = min(1.0, self.progress() / self.anneal)
        sigma = high * (1 - part) + low * part
        if family != "poisson":
            return ar_dae(self.score, y, sigma)
        return ar_dae(lambda k: unit * self.score(unit * k), y / unit, sigma)  # the same network as a score of counts

    def denoise(self, request: Request) -> torch.Tensor:
        y = request.noisy
        score = self.score(y)
        if self.level == "given":
            family, value = parameter(request, y)
            return tweedie(family, y, score, value)
        family = str(request.noise_model).removesuffix("-blind")
        if family not in CANDIDATES:
            raise RequestError(f"the sweep of noise levels knows the families {', '.join(CANDIDATES)}, not {family!r}.")
        best, least = y, torch.full((len(y),), torch.inf, device=y.device)
        for value in CANDIDATES[family]:
            x = tweedie(family, y, score, value.to(y))
            cost = penalty(family, x, y)
            better = cost < least
            best, least = torch.where(better[:, None, None, None], x, best), torch.where(better, cost, least)
        return best
