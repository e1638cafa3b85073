"""Geometry-adaptive harmonic bases: a blind, bias-free denoiser, its basis, and two of them compared (Kadkhodaie, Guth, Simoncelli and
Mallat 2023, arXiv:2310.02557)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ...tasks.requests import Request
from ..method import DataSpec, Method
from ..nets.bias_free import BiasFreeUNet
from ..nets.optimise import adamw

Denoiser = Callable[[torch.Tensor], torch.Tensor]


class GAHBDenoiser(Method):
    """f(y) = y - r(y) with a bias-free network r that is told no noise level; trained at sigma = u^2 ``sigma_max``, u uniform, on the squared
    error.

    With ``images`` N > 0 the paper's first experiment is run instead of training on all pictures: two networks are trained side by side on two
    disjoint sets of N pictures each. The answers are the first one's, and diagnostics say how alike samples of both from the same noise are
    (``agreement``; start and steps share it), how close the first one's sample is to its nearest training picture (``nearest``), cosines of
    pictures about their own mean, and what it reaches on one of its training pictures, drawn for every sample, at the level of the request's
    noise (``train-psnr``). Samples take at most ``draw_steps`` steps. ``norm``: see `BiasFreeUNet`.
    """

    network: BiasFreeUNet
    total_steps: int
    learned: torch.Tensor

    def __init__(
        self,
        data: DataSpec,
        width: int = 24,
        levels: int = 2,
        images: int = 0,
        sigma_max: float = 1.0,
        draw_steps: int = 400,
        norm: bool = False,
        lr: float = 1e-3,
        batch_size: int = 4,
    ) -> None:
        super().__init__()
        self.network = BiasFreeUNet(data.channels, width, levels, norm)
        self.second = BiasFreeUNet(data.channels, width, levels, norm) if images else None
        shape = data.shape or (data.channels, 32, 32)
        self.register_buffer("learned", torch.zeros((images, *shape), dtype=torch.float16))
        self.draw_steps = draw_steps
        self.images, self.sigma_max, self.lr, self.train_batch_size = images, sigma_max, lr, batch_size * (2 if images else 1)
        self.pools: list[torch.Tensor] = []

    # ------------------------------------------------------------------ training
    def on_train_start(self) -> None:
        """Set the two sets apart: the first N pictures of the training data, and the next N."""
        if self.images:
            items = self.trainer.train_dataloader.dataset  # type: ignore[union-attr]
            pictures = torch.stack([items[i]["target"] for i in range(2 * self.images)])
            self.pools = list(pictures.to(self.device).split(self.images))
            self.learned.copy_(self.pools[0])

    def on_train_end(self) -> None:
        self.pools = []

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        if self.second is None:
            return self.loss(self.network, batch["target"])
        parts = list(batch["target"].chunk(2))
        if self.pools:  # pictures are drawn anew from each set; small sets are met again and again
            parts = [pool[torch.randint(len(pool), (len(p),), device=p.device)] for pool, p in zip(self.pools, parts, strict=True)]
        return self.loss(self.network, parts[0]) + self.loss(self.second, parts[1])

    def loss(self, network: BiasFreeUNet, clean: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of the residual at levels drawn by a quadratic law (more small ones)."""
        sigma = self.sigma_max * torch.rand(len(clean), 1, 1, 1, device=clean.device).square()
        noise = sigma * torch.randn_like(clean)
        return (network(clean + noise) - noise).square().mean()

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps)

    # ------------------------------------------------------------------ answers
    def denoise(self, request: Request) -> torch.Tensor:
        if self.second is not None:
            self.compare(request)
        return request.noisy - self.network(request.noisy)

    def compare(self, request: Request) -> None:
        """Record what the first experiment is about, one sample for every question."""
        start = 0.5 + request.rng.at("start").normal(request.noisy.shape[1:])
        drawn: dict[int, torch.Tensor] = {}  # a stream asked again goes on: both chains must be handed the one noise of a step

        def normal(k: int) -> torch.Tensor:
            if k not in drawn:
                drawn[k] = request.rng.at("step", k).normal(start.shape[1:])
            return drawn[k]

        draws = [sample(self.denoiser(net), start, normal, most=self.draw_steps) for net in (self.network, self.second)]
        learned = self.learned.float()
        self.diagnose("agreement", cosine(*draws))
        self.diagnose("nearest", torch.stack([cosine(x[None], learned).max() for x in draws[0]]))
        seen = learned[request.rng.at("train picture").integers(0, len(learned))]
        noise = float(torch.as_tensor(request.noise_level).flatten()[0]) * request.rng.at("train noise").normal(seen.shape[1:])
        error = (self.denoiser(self.network)(seen + noise).clamp(0, 1) - seen).square().flatten(1).mean(1)
        self.diagnose("train-psnr", -10 * error.log10())

    @staticmethod
    def denoiser(network: Any) -> Denoiser:
        return lambda y: y - network(y)


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the cosine of pictures (B, C, H, W) about their own means, (B,); one side may have a single picture."""
    a, b = (v.flatten(1) - v.flatten(1).mean(1, keepdim=True) for v in (a, b))
    return torch.nn.functional.cosine_similarity(a, b, dim=1, eps=1e-6)


def sample(
    f: Denoiser,
    start: torch.Tensor,
    normal: Callable[[int], torch.Tensor],
    h0: float = 0.01,
    beta: float = 0.1,
    until: float = 0.01,
    most: int = 400,
) -> torch.Tensor:
    """Return samples of the prior that is in a denoiser (Kadkhodaie and Simoncelli 2021, algorithm 1), like ``start`` (B, C, H, W).

    y <- y - h d + gamma z with d = y - f(y), sigma = ||d|| / sqrt(n), h = h0 t / (1 + h0 (t - 1)) and gamma^2 = ((1 - beta h)^2 - (1 - h)^2)
    sigma^2,
    until sigma is below ``until``, for every sample by itself; ``normal(t)`` draws z. The denoiser is applied once more at the end.
    """
    y = start
    for t in range(1, most + 1):
        d = y - f(y)
        sigma = d.flatten(1).square().mean(1).sqrt().reshape(-1, 1, 1, 1)
        going = sigma > until
        if not going.any():
            break
        h = h0 * t / (1 + h0 * (t - 1))
        gamma = ((1 - beta * h) ** 2 - (1 - h) ** 2) ** 0.5 * sigma
        y = torch.where(going, y - h * d + gamma * normal(t), y)
    return f(y)
