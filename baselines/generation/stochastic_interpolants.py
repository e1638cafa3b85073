"""Stochastic interpolants (Albergo, Boffi and Vanden-Eijnden, JMLR 2025, arXiv:2303.08797), from Gaussian noise to data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from ..diffusion.learning import Averaged, network_of
from ..diffusion.schedule import along
from ..method import DataSpec, Request

Fields = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""``fields(x, t)`` returns (v, eta) = E[dI/dt | x_t = x], E[z | x_t = x]."""
TINY = 1e-3
"""Times are kept in [TINY, 1 - TINY]: beyond, E[z | x] cannot be learned."""


class Interpolant:
    """x_t = I(t, x_0, x_1) + gamma(t) z with z ~ N(0, I) and x_1 a data sample, t from 0 (noise) to 1 (data).

    linear, trig: one-sided (definition 11), I = b(t) x_1 and gamma = a(t), (a, b) = (1 - t, t) or (cos, sin)(pi t / 2).
    bridge: I = (1 - t) x_0 + t x_1 with x_0 ~ N(0, I) of its own, gamma = sqrt(t (1 - t)) (section 4.1).
    The drift is b = v + gamma' eta and the score s = -eta / gamma (eq. 2.14, 2.15).
    """

    def __init__(self, kind: str) -> None:
        if kind not in ("linear", "trig", "bridge"):
            raise ValueError(f"interpolant is {kind!r}; accepted: linear, trig, bridge")
        self.kind = kind

    def gamma(self, t: Tensor) -> Tensor:
        return {"linear": 1 - t, "trig": torch.cos(math.pi * t / 2), "bridge": (t * (1 - t)).clamp_min(0).sqrt()}[self.kind]

    def d_gamma(self, t: Tensor) -> Tensor:
        if self.kind == "bridge":
            return (1 - 2 * t) / (2 * self.gamma(t))
        return -torch.ones_like(t) if self.kind == "linear" else -math.pi / 2 * torch.sin(math.pi * t / 2)

    def weights(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the factors of x_0 and x_1 in I and in dI/dt."""
        if self.kind == "trig":
            return torch.zeros_like(t), torch.sin(math.pi * t / 2), torch.zeros_like(t), math.pi / 2 * torch.cos(math.pi * t / 2)
        one, zero = torch.ones_like(t), torch.zeros_like(t)
        return (1 - t, t, -one, one) if self.kind == "bridge" else (zero, t, zero, one)

    def clean(self, x: Tensor, t: Tensor, v: Tensor, eta: Tensor) -> Tensor:
        """Return E[x_1 | x_t = x] from E[I | x] = x - gamma eta and E[dI/dt | x] = v, both linear in E[x_0 | x] and E[x_1 | x]."""
        i0, i1, d0, d1 = self.weights(t)
        middle = x - self.gamma(t) * eta
        if self.kind == "bridge":
            return (d0 * middle - i0 * v) / (d0 * i1 - i0 * d1)
        return (i1 * middle + d1 * v) / (i1**2 + d1**2)  # x_0 is not there: two readings of one quantity


def integrate(fields: Fields, path: Interpolant, x: Tensor, steps: int, noise: float, normal: Callable[[], Tensor]) -> Tensor:
    """Carry x from t = TINY to the data in ``steps`` evaluations: Euler(-Maruyama) steps, the last one to E[x_1 | x].

    dX = (b + eps s) dt + sqrt(2 eps) dW with eps(t) = ``noise`` gamma(t) (eq. 2.34), so that eps s = -noise eta stays finite at the end; noise
    0 is the ODE. Times are equally spaced (in the square of a cosine for the bridge, whose fields are steep at both ends).
    """
    times = torch.linspace(TINY, 1 - TINY, steps + 1, dtype=torch.float64)
    if path.kind == "bridge":
        times = 0.5 - 0.5 * torch.cos(math.pi * torch.linspace(0, 1, steps + 1, dtype=torch.float64)).clamp(-1 + 2 * TINY, 1 - 2 * TINY)
    for k, (t, s) in enumerate(pairwise(times)):
        v, eta = fields(x, float(t))
        if k == steps - 1:
            return path.clean(x, t, v, eta)
        x = x + (s - t) * (v + (path.d_gamma(t) - noise) * eta)
        if noise:
            x = x + (2 * noise * path.gamma(t) * (s - t)).sqrt() * normal()
    raise AssertionError("at least one step is taken")


class StochasticInterpolants(Averaged):
    """Learns v and eta of an `Interpolant` by least squares with one network of two outputs (equal to the paper's L_v + L_eta up to
    constants and a factor; both targets are bounded, unlike b and s, so no antithetic pairs are needed)

        L = E |v(t, x_t) - dI/dt|^2 + E |eta(t, x_t) - z|^2,

    and samples by the ODE or, for ``noise`` > 0, by the SDE, which has the same marginals. ``linear`` with the ODE is flow matching.
    """

    def __init__(
        self,
        data: DataSpec,
        interpolant: Literal["linear", "trig", "bridge"] = "linear",
        noise: float = 0.0,
        learning_rate: float = 2e-3,
        batch_size: int = 128,
        steps: int = 50,
        network_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        assert data.shape is not None
        self.path = Interpolant(interpolant)
        self.shape, self.image = tuple(data.shape), data.kind == "image"
        self.noise, self.learning_rate, self.train_batch_size, self.steps = noise, learning_rate, batch_size, steps
        self.network = network_of(self.shape, network_options, outputs=2)

    def fields(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (v, eta), each like x (B, *shape), at times (B,); the network is told 4 t - 2."""
        v, eta = self.network(x, 4 * t - 2, None).chunk(2, 1)
        return v, eta

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        x1 = self.encoded(batch["target"])
        n = len(x1)
        t = TINY + (1 - 2 * TINY) * (torch.randperm(n, device=x1.device) + torch.rand(n, device=x1.device)) / n
        z, x0, time = torch.randn_like(x1), torch.randn_like(x1), along(t, x1)
        i0, i1, d0, d1 = self.path.weights(time)
        v, eta = self.fields(i0 * x0 + i1 * x1 + self.path.gamma(time) * z, t)
        return (v - d0 * x0 - d1 * x1).square().mean() + (eta - z).square().mean()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return self.optimiser(self.learning_rate)

    def sample(self, request: Request) -> Tensor:
        steps = self.steps if request.budget.nfe is None else request.budget.nfe
        x = request.rng.at("x_T").normal(self.shape)
        kick = request.rng.at("noise")

        def told(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
            return self.fields(x, torch.full((len(x),), t, device=x.device))

        return self.decoded(integrate(told, self.path, x, steps, self.noise, lambda: kick.normal(self.shape)))
