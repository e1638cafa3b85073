"""ScoreDVI: variational inference on one picture, with scores of blind Gaussian denoisers (Cheng et al., ICCV 2023, arXiv:2308.04682)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...tasks.randomness import Rng
from ...tasks.requests import Request
from ..method import DataSpec
from ..nets.blindspot import apart, whole
from .blind_gaussian import BlindDenoiser
from .single_image import SingleImage, adam_step, renew
from .wavelets import estimate_sigma

LOW, HIGH = math.log(1e-8), math.log(1e4)


class _Score(torch.autograd.Function):
    """Returns z; its gradient is that of log p(z) by Tweedie's formula, (D(z) - z) / s^2: log p itself is never evaluated (eq. 5)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        ctx.save_for_backward(z, mean, variance)
        return z.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        z, mean, variance = ctx.saved_tensors
        return grad * (mean - z) / variance, None, None


class Hourglass(nn.Module):
    """A U-Net of two scales with batch norm: the means and log variances of the clean picture's posterior."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()

        def block(a: int, b: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.LeakyReLU(0.2))

        self.top, self.down = nn.Sequential(block(inputs, width), block(width, width)), block(width, 2 * width, 2)
        self.deep, self.merge = block(2 * width, 2 * width), block(3 * width, width)
        self.out = nn.Conv2d(width, outputs, 1)

    def forward(self, y: Tensor) -> Tensor:
        top = self.top(y)
        deep = F.interpolate(self.deep(self.down(top)), size=top.shape[-2:], mode="bilinear", align_corners=False)
        return self.out(self.merge(torch.cat([top, deep], 1)))


def plain(inputs: int, outputs: int, width: int, depth: int) -> nn.Sequential:
    """A stack of 3x3 convolutions with ReLU between them, as for the noise's precision, the assignments and their weights."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
    for _ in range(depth - 2):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, outputs, 3, padding=1))


class ScoreDVI(SingleImage):
    """y ~ sum_k pi_k N(x_k, 1 / phi_k) per pixel, phi_k ~ Gamma(a0, b0), pi ~ Dirichlet(1), x_k ~ the picture prior of denoiser D_k.

    Networks that see y give q: x_k ~ N(mu_k, s_k^2), phi_k ~ Gamma(a_k, b_k), the assignment r and Dirichlet(d). Adam minimises minus the
    evidence bound (eq. 11), the prior's part weighted by ``weight`` below, 1 between and 1 / ``weight`` above noise of 10 and 25 / 255. The
    answer is the exponential average of sum_k r_k mu_k. Where the posterior stays wider
    than ``retry`` (mean s; 0: never) it is run a second time, as in the official code (0.05).
    """

    def __init__(
        self, denoiser1: BlindDenoiser, denoiser2: BlindDenoiser, denoiser3: BlindDenoiser, data: DataSpec,
        steps: int = 200, samples: int = 1, lr: float = 3e-3, a0: float = 1.0, b0: float = 0.02,
        weight: float = 0.5, average: float = 0.9, width: int = 16, depth: int = 4, retry: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.denoisers = nn.ModuleList([denoiser1, denoiser2, denoiser3])
        self.denoiser1, self.denoiser2, self.denoiser3 = denoiser1, denoiser2, denoiser3
        c, k = data.channels, len(self.denoisers)
        self.x_net = Hourglass(c, 2 * k * c, width)
        self.phi_net = plain(c, 2 * k * c, width, depth)
        self.z_net, self.omega_net = plain(c, k * c, width, depth), plain(c, k * c, width, depth)
        self.steps, self.samples, self.lr, self.average, self.weight = steps, samples, lr, average, weight
        self.a0, self.b0, self.retry = a0, b0, retry

    def denoise(self, request: Request) -> Tensor:
        return torch.cat([self._one(y[None], request.rng[k]) for k, y in enumerate(request.noisy)])

    def _one(self, y: Tensor, rng: Rng) -> Tensor:
        lam = self.prior_weight(y)
        for attempt in range(2):
            optimiser = torch.optim.Adam(renew(rng, self.x_net, self.phi_net, self.z_net, self.omega_net), lr=self.lr)
            answer = y
            for step in range(self.steps):
                loss, mean, spread = self.loss(y, lam, lambda shape: rng.at("posterior").normal(shape)[0])
                adam_step(optimiser, loss)
                answer = self.average * answer + (1 - self.average) * mean
                if attempt == 0 and (step + 1) % 10 == 0:
                    self.offer("steps", answer)
            if not self.retry or spread <= self.retry:
                break
        self.diagnose("posterior_std", torch.tensor([spread]))
        self.diagnose("runs", torch.tensor([attempt + 1.0]))
        return answer

    def prior_weight(self, y: Tensor) -> float:
        """Return lambda from the noise level of the 16 sub-pictures of every fourth pixel, in which correlated noise is nearly white.

        The level is cut to a whole number before it is compared, as in the official code: 10.9 counts as 10.
        """
        parts = apart(whole(y, 4), 4).double().cpu().numpy()
        level = int(255 * math.sqrt(float(np.mean([estimate_sigma(p) ** 2 for p in parts]))))
        return self.weight if level <= 10 else 1.0 if level <= 25 else 1 / self.weight

    def loss(self, y: Tensor, lam: float, normal: Any) -> tuple[Tensor, Tensor, float]:
        """Return the loss, the current estimate sum_k r_k mu_k (1, C, H, W) without gradient, and the mean posterior deviation."""
        k, shape = len(self.denoisers), (len(self.denoisers), -1, *y.shape[-2:])
        mu, log_s2 = self.x_net(y)[0].reshape(shape).chunk(2, 1)
        s2 = log_s2.clamp(LOW, HIGH).exp()
        log_s2 = log_s2.clamp(LOW, HIGH)
        r = self.z_net(y)[0].reshape(shape).softmax(0)
        d = self.omega_net(y)[0].reshape(shape).clamp(LOW, HIGH).exp()
        log_a, log_b = self.phi_net(y)[0].clamp(LOW, HIGH).reshape(shape).chunk(2, 1)
        a, precision = log_a.exp(), (log_a - log_b).exp()

        rec = -(r * 0.5 * (torch.digamma(a) - log_b - ((mu - y) ** 2 + s2) * precision)).sum(0).mean()  # eq. 12
        z = mu + s2.sqrt() * normal((self.samples, *mu.shape))  # (samples, K, C, H, W), eq. 13
        with torch.no_grad():
            scored = torch.stack([self.denoisers[j](z[:, j]) for j in range(k)], 1)
        prior = (r * (-0.5 * log_s2 - _Score.apply(z, scored, s2.detach()).mean(0))).sum(0).mean()  # type: ignore[no-untyped-call]
        phi = (r * gamma_kl(a, log_a, log_b, self.a0, self.b0)).sum(0).mean()  # eq. 14
        expected = torch.digamma(d) - torch.digamma(d.sum(0, keepdim=True))
        assign = (r * ((r + 1e-8).log() - expected)).sum(0).mean()  # eq. 15
        omega = dirichlet_kl(d, expected).mean()  # eq. 16
        return rec + lam * prior + phi + assign + omega, (r * mu).sum(0)[None].detach(), float(s2.detach().sqrt().mean())


def gamma_kl(a: Tensor, log_a: Tensor, log_b: Tensor, a0: float, b0: float) -> Tensor:
    """Return KL(Gamma(a, b) || Gamma(a0, b0)) of shapes a and rates b."""
    return (a - a0) * torch.digamma(a) + math.lgamma(a0) - torch.lgamma(a) + a0 * (log_b - math.log(b0)) + b0 * (log_a - log_b).exp() - a


def dirichlet_kl(d: Tensor, expected: Tensor) -> Tensor:
    """Return KL(Dir(d) || Dir(1, ..., 1)) over the first axis; ``expected`` is psi(d_k) - psi(sum d)."""
    norm = torch.lgamma(d.sum(0)) - torch.lgamma(d).sum(0) - math.lgamma(len(d))
    return norm + ((d - 1) * expected).sum(0)
