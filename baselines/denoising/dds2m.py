"""DDS2M: self-supervised denoising diffusion for hyperspectral cubes (Miao, Zhang, Zhang and Tao 2023, arXiv:2303.06682).

A reverse diffusion in the spectral basis of the degradation (DDRM, Kawar et al. 2022) whose denoiser is an untrained network, fitted to the
chain's own state step by step. No data but the cube itself is used, and where to stop is fixed in advance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...tasks.requests import Request
from ..method import Method
from .vs2m import VS2M


class DDS2M(Method):
    """One network per cube. ``steps``: length T of the chain, with a linear beta from ``beta_first`` to ``beta_last``; the networks are fitted
    in its last ``updates`` steps, ``inner`` Adam steps each. ``eta``, ``eta_b`` are DDRM's; ``average``: weight of the past in the average of
    X.

    Everything runs on [-1, 1], so the noise level is doubled. With ``tv`` the fit adds that multiple of the total variation (eq. 12; 0 as
    released).
    """

    needs_grad = True
    one_at_a_time = True  # the networks are drawn from the global generator

    def __init__(
        self,
        rank: int = 5,
        steps: int = 600,
        updates: int = 400,
        inner: int = 1,
        lr: float = 1e-2,
        average: float = 0.98,
        beta_first: float = 1e-4,
        beta_last: float = 5e-3,
        eta: float = 1.0,
        eta_b: float = 1.0,
        tv: float = 0.0,
        widths: Sequence[int] = (8, 16, 32),
        kernels: Sequence[int] = (5, 3, 3),
        skips: Sequence[int] = (0, 4, 4),
        hidden: Sequence[int] = (64, 128, 64),
    ) -> None:
        super().__init__()
        self.module: dict[str, Any] = {"rank": rank, "widths": widths, "kernels": kernels, "skips": skips, "hidden": hidden}
        self.steps, self.updates, self.inner, self.lr, self.average = steps, min(updates, steps), inner, lr, average
        self.betas = (beta_first, beta_last)
        self.eta, self.eta_b, self.tv = eta, eta_b, tv

    def alphas(self) -> torch.Tensor:
        """Return abar_0 = 1, abar_1, ..., abar_T, float64 (T + 1,): products of 1 - beta, beta linear in t.

        A chain shorter than 2000 steps takes its betas longer by as much, so that abar_T stays where the released schedule ends.
        """
        beta = torch.linspace(*self.betas, self.steps, dtype=torch.float64) * (2000 / min(self.steps, 2000))
        return torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta.clamp(max=0.5)).cumprod(0)])

    def denoise(self, request: Request) -> torch.Tensor:
        """y = x + n: all singular values are one, and the spectral basis is that of the pixels."""
        y = 2 * request.noisy[0] - 1
        sigma0 = 2 * float(torch.as_tensor(request.noise_level).flatten()[0])
        return self.restored(request, y, torch.ones_like(y), sigma0)[None]

    def reconstruct(self, request: Request) -> torch.Tensor:
        """y = m * x + n with a 0/1 mask m, the physics' own: singular values one and zero, the spectral basis that of the entries."""
        s = request.physics.mask.expand_as(request.y)[0]
        return self.restored(request, 2 * request.y[0] - s, s, 2 * float(request.noise_level))[None]

    def restored(self, request: Request, y: torch.Tensor, s: torch.Tensor, sigma0: float) -> torch.Tensor:
        """Return the cube in [0, 1] from y = s x + n, (bands, H, W) in [-1, 1], ``s`` in {0, 1} per entry and n of deviation ``sigma0``."""
        abar = self.alphas()
        sigma = ((1 - abar) / abar).sqrt().tolist()
        with torch.random.fork_rng(devices=[]):  # draws of the networks and of the chain do not shift each other
            network = VS2M(y.shape, **self.module)
        optimiser = torch.optim.Adam(network.parameters(), self.lr)
        # the start is the update rule applied to pure noise at sigma_T
        xbar = self.conditioned(torch.zeros_like(y), torch.zeros_like(y), y, s, sigma0, sigma[-1], self.z(request, self.steps, y))
        mean, x0 = torch.zeros_like(y), y
        for t in range(self.steps, 0, -1):
            root = float(abar[t].sqrt())
            x_t = root * xbar
            if t > self.updates:
                x0 = x_t
                mean = ((x0 + 1) / 2).clamp(0, 1)
            else:
                for _ in range(self.inner):
                    mean = self.average * mean + (1 - self.average) * self.fitted(network, optimiser, x_t, root)
                x0 = 2 * mean.clamp(0, 1) - 1
            eps = (x_t - root * x0) / float((1 - abar[t]).sqrt())
            xbar = self.conditioned(x0, eps, y, s, sigma0, sigma[t - 1], self.z(request, t - 1, y))
            if self.updates >= 8 and t <= self.updates and t % (self.updates // 8) == 0:
                self.offer("chain", ((x0 + 1) / 2)[None])
        self.diagnose("residual", float(((y - s * x0) * s).square().sum().div(s.sum()).sqrt() / sigma0))
        return ((x0 + 1) / 2).clamp(0, 1)

    def fitted(self, network: VS2M, optimiser: torch.optim.Optimizer, x_t: torch.Tensor, root: float) -> torch.Tensor:
        """Take one Adam step on ||sqrt(abar_t) (2 X - 1) - x_t||^2 (the data term of eq. 12); return the X it was computed from."""
        optimiser.zero_grad()
        cube = network()
        scaled = 2 * cube - 1
        loss = (root * scaled - x_t).square().mean()
        if self.tv:
            loss = loss + self.tv * sum(scaled.diff(dim=d).abs().mean() for d in range(3))
        loss.backward()
        optimiser.step()
        return cube.detach()

    def conditioned(
        self, x0: torch.Tensor, eps: torch.Tensor, y: torch.Tensor, s: torch.Tensor, sigma0: float, sigma: float, z: torch.Tensor
    ) -> torch.Tensor:
        """DDRM's update (eq. 13, Kawar et al. eq. 7 and 8) to level ``sigma`` in the variance-exploding scale, entry by entry: s is 0 or 1."""
        keep = (1 - self.eta**2) ** 0.5
        free = x0 + keep * sigma * eps + self.eta * sigma * z
        if sigma > sigma0:
            seen = (1 - self.eta_b) * x0 + self.eta_b * y + max(sigma**2 - (sigma0 * self.eta_b) ** 2, 0.0) ** 0.5 * z
        else:
            seen = x0 + keep * sigma * (y - x0) / max(sigma0, 1e-12) + self.eta * sigma * z
        return torch.where(s > 0, seen, free)

    @staticmethod
    def z(request: Request, t: int, like: torch.Tensor) -> torch.Tensor:
        return request.rng.at("step", t).normal(like.shape)[0]
