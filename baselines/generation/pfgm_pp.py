"""PFGM++ (Xu et al., ICML 2023, arXiv:2302.04265): electric fields in N + D dimensions; D = inf is the diffusion model of EDM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from ..diffusion.learning import Averaged, network_of
from ..diffusion.schedule import along
from ..method import DataSpec, Request


class PFGMpp(Averaged):
    """Data y in N dimensions are charges on the plane z = 0 of N + D dimensions, of which only r = |z| matters. The perturbation kernel is

        p_r(x | y) ~ (|x - y|^2 + r^2)^(-(N + D)/2)          (eq. 6),

    a multivariate t-distribution with D degrees of freedom: x = y + r u / |w| with u ~ N(0, I_N) and w ~ N(0, I_D). With r = sigma sqrt(D)
    (eq. 9) it tends to N(y, sigma^2 I) as D grows, and everything else is EDM's (Karras et al. 2022, table 1): ln sigma ~ N(-1.2, 1.2^2), the
    loss w(sigma) |D_theta(x, sigma) - y|^2, preconditioning with ``sigma_data``, and the ODE dx/dsigma = (x - D_theta(x, sigma)) / sigma by
    Heun's method from the kernel at sigma_max about 0 (not a Gaussian) down to 0.

    ``noise``: the robustness test of section 5.3, noise of deviation ``noise`` sigma_i added to the state before each step.
    """

    def __init__(
        self,
        data: DataSpec,
        dimension: int | None = 128,
        sigma_data: float = 0.5,
        sigma_max: float = 80.0,
        sigma_min: float = 0.002,
        learning_rate: float = 2e-3,
        batch_size: int = 128,
        noise: float = 0.0,
        steps: int = 18,
        network_options: Mapping[str, Any] | None = None,
    ) -> None:
        """``dimension`` is D, None for infinitely many; ``steps`` counts where the budget does not bound evaluations (n steps take 2n - 1)."""
        super().__init__()
        if dimension is not None and (not isinstance(dimension, int) or dimension < 1):
            raise ValueError(f"dimension is {dimension!r}; accepted: a whole number of at least 1, or null for infinitely many")
        assert data.shape is not None
        self.shape, self.image = tuple(data.shape), data.kind == "image"
        self.dimension = math.inf if dimension is None else dimension
        self.sigma_data, self.sigma_max, self.sigma_min = sigma_data, sigma_max, sigma_min
        self.learning_rate, self.train_batch_size, self.noise, self.steps = learning_rate, batch_size, noise, steps
        self.network = network_of(self.shape, network_options)

    # ------------------------------------------------------------------ the kernel
    def perturbation(self, u: Tensor, w2: Tensor) -> Tensor:
        """Return (x - y) / sigma, (B, *shape), from normal ``u`` and w2 = |w|^2 (B,), float64 chi-square with D degrees of freedom.

        The share |u|^2 / (|u|^2 + |w|^2), which is Beta(N/2, D/2), is kept below 0.999, as the authors' code does, against single huge draws at
        small D. (Theirs also keeps it above 0.001, which would spoil the limit of large D where N is small.)
        """
        if math.isinf(self.dimension):
            return u
        size = u.flatten(1).double().square().sum(1)
        share = (size / (size + w2)).clamp_max(1 - 1e-3)
        radius = math.sqrt(self.dimension) * (share / (1 - share)).sqrt()
        return u * along((radius / size.sqrt()).to(u.dtype), u)

    # ------------------------------------------------------------------ training
    def denoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return E[y | x, r] by EDM's preconditioning: c_skip x + c_out F(c_in x, ln(sigma)/4); sigma is (B,)."""
        s = along(sigma, x)
        total = (s**2 + self.sigma_data**2).sqrt()
        inside = self.network(x / total, sigma.log() / 4, None)
        return self.sigma_data**2 / total**2 * x + s * self.sigma_data / total * inside

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        y = self.encoded(batch["target"])
        sigma = torch.exp(1.2 * torch.randn(len(y), device=y.device) - 1.2)
        w2 = torch.ones(len(y), dtype=torch.float64, device=y.device)
        if math.isfinite(self.dimension):  # a chi-square variable is twice a gamma variable of half the degrees of freedom
            w2 = 2 * torch._standard_gamma(0.5 * self.dimension * w2)
        x = y + along(sigma, y) * self.perturbation(torch.randn_like(y), w2)
        weight = (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2
        return (along(weight, y) * (self.denoised(x, sigma) - y) ** 2).mean()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return self.optimiser(self.learning_rate)

    # ------------------------------------------------------------------ sampling
    def sample(self, request: Request) -> Tensor:
        count = self.steps if request.budget.nfe is None else (request.budget.nfe + 1) // 2
        k = torch.arange(count, dtype=torch.float64) / max(1, count - 1)
        top, bottom = self.sigma_max ** (1 / 7), self.sigma_min ** (1 / 7)
        grid = [*((top + k * (bottom - top)) ** 7).tolist(), 0.0]  # EDM, eq. 5, rho = 7
        u = request.rng.at("x_T").normal(self.shape)
        w2 = torch.ones(len(u), dtype=torch.float64)
        if math.isfinite(self.dimension):
            w2 = request.rng.at("w").normal((int(self.dimension),)).double().square().sum(1)
        x, kick = self.sigma_max * self.perturbation(u, w2), request.rng.at("kick")

        def slope(x: Tensor, s: float) -> Tensor:
            return (x - self.denoised(x, torch.full((len(x),), s, device=x.device))) / s

        for s, following in pairwise(grid):
            if self.noise:
                x = x + self.noise * s * kick.normal(self.shape)
            d = slope(x, s)
            moved = x + (following - s) * d
            x = moved if following == 0 else x + (following - s) * 0.5 * (d + slope(moved, following))
        return self.decoded(x)
