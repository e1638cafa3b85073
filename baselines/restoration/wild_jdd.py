"""Joint demosaicking and denoising under uncertain ground truth: a network that answers with a normal-inverse-gamma law per pixel.

Chen, Wen, Chan, "Joint Demosaicking and Denoising in the Wild: The Case of Training Under Ground Truth Uncertainty", AAAI 2021,
arXiv:2101.04442. A training target y is not the clean picture z: z ~ N(y, v / lam0) and v ~ IG(a0, b0), the conjugate prior; the input is
x ~ N(z, v). Training maximises the evidence lower bound of x, in which y stands in the prior alone. a0 and b0 are those of the paper's
source for them, Yue et al., "Variational Denoising Network", NeurIPS 2019, arXiv:1908.11314. The paper was not at hand: the model is that of a
reader's summary of it, and what x is where the mosaic has no sample is a choice made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import Method
from ..nets.optimise import adamw
from .demosaic import bilinear

LOSSES = {"elbo": 4, "target": 4, "nll": 2, "l2": 1, "l1": 1}
"""Losses, and how many maps per colour the network then answers with."""
LOG_2PI = 1.8378770664093453


# ---------------------------------------------------------------------- the normal-inverse-gamma law
def expected_log_likelihood(y: Tensor, mu: Tensor, lam: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return E_q log N(y; z, v) for q = N(z; mu, v / lam) IG(v; a, b)."""
    return -0.5 * LOG_2PI - 0.5 * (b.log() - torch.digamma(a)) - 0.5 * (a / b * (y - mu) ** 2 + 1 / lam)


def divergence(
    mu: Tensor, lam: Tensor, a: Tensor, b: Tensor, mu0: Tensor, lam0: Tensor | float, a0: Tensor | float, b0: Tensor
) -> Tensor:
    """Return KL(q || prior) between two normal-inverse-gamma laws, q = (mu, lam, a, b), prior = (mu0, lam0, a0, b0)."""
    lam0, a0 = torch.as_tensor(lam0).to(mu), torch.as_tensor(a0).to(mu)
    normal = 0.5 * (lam / lam0).log() + lam0 / (2 * lam) - 0.5 + 0.5 * lam0 * (a / b) * (mu - mu0) ** 2
    gamma = (a - a0) * torch.digamma(a) - torch.lgamma(a) + torch.lgamma(a0) + a0 * (b.log() - b0.log()) + a * (b0 - b) / b
    return normal + gamma


def local_mean(x: Tensor, box: int) -> Tensor:
    """Return the mean over ``box`` x ``box`` pixels of (B, C, H, W), borders repeated."""
    half = box // 2
    return F.avg_pool2d(F.pad(x, (half, half, half, half), mode="replicate"), box, 1)


# ---------------------------------------------------------------------- the network
class JDDNet(nn.Module):
    """Residual network on the mosaic folded into four planes, with the noise level as a fifth; ``maps`` outputs per colour at full size.

    ``forward(sparse, level)``: (B, 3, H, W) with even sides, samples at their places; (B,). The first map is added to the bilinear
    interpolation. Returns (B, 3, maps, H, W).
    """

    def __init__(self, maps: int, width: int = 24, blocks: int = 6) -> None:
        super().__init__()
        self.maps = maps
        self.head = nn.Conv2d(5, width, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)) for _ in range(blocks)
        )
        self.tail = nn.Conv2d(width, 12 * maps, 3, padding=1)

    def forward(self, sparse: Tensor, level: Tensor) -> Tensor:
        b, _, h, w = sparse.shape
        x = F.pixel_unshuffle(sparse.sum(1, keepdim=True), 2)
        x = self.head(torch.cat([x - 0.5, (level * 10).reshape(-1, 1, 1, 1).expand(b, 1, *x.shape[2:])], 1))
        for block in self.body:
            x = x + block(x)
        out = F.pixel_shuffle(self.tail(x), 2).reshape(b, 3, self.maps, h, w)
        first = torch.zeros_like(out)
        first[:, :, 0] = bilinear(sparse)
        return out + first


class WildJDD(Method):
    """``loss``: ``elbo`` (the paper), ``nll`` (a Gaussian whose variance is predicted), ``l2``, ``l1``: the same network under other losses.

    ``elbo``: x is the bilinear interpolation of the mosaic, and b0 = (a0 + 1) x (mean of (x - y)^2 in a ``box``, plus ``floor``), so that
    the prior's mode of v is what the input lies off the target around there; a0 = box^2 / 2 - 1, as if the box had been observed. The larger
    ``lam0``, the nearer the prior holds z to y. ``target``: the bound of the target itself, the same prior with b0 = (a0 - 1) x (mean squared
    residual of the answer, plus ``floor``).
    """

    network: JDDNet
    total_steps: int
    """Set by the harness before training."""

    def __init__(
        self, loss: str = "elbo", width: int = 24, blocks: int = 6, lam0: float = 1000.0, a0: float = 23.5, floor: float = 1e-4, box: int = 7,
        lr: float = 2e-3, batch_size: int = 4,
    ) -> None:  # fmt: skip
        super().__init__()
        if loss not in LOSSES:
            raise RequestError(f"loss is {loss!r}; accepted: {', '.join(LOSSES)}.")
        self.loss, self.lam0, self.a0, self.floor, self.box = loss, lam0, a0, floor, box
        self.network = JDDNet(LOSSES[loss], width, blocks)
        self.lr, self.train_batch_size = lr, batch_size

    def law(self, sparse: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return mu, lam, a, b, each (B, 3, H, W). They start near the prior's; a > 1, where v has a mean, b / (a - 1)."""
        mu, *raw = self.network(sparse, level).unbind(2)
        lam, a, b = (r.clamp(-12, 12) for r in raw)
        return mu, self.lam0 * lam.exp(), 1 + (self.a0 - 1) * a.exp(), (b - 4).exp()

    def objective(self, sparse: Tensor, level: Tensor, y: Tensor) -> Tensor:
        """Return the training loss of a batch."""
        if self.loss in ("elbo", "target"):
            mu, lam, a, b = self.law(sparse, level)
            if self.loss == "elbo":
                seen = bilinear(sparse)
                b0 = (self.a0 + 1) * (local_mean((seen - y) ** 2, self.box) + self.floor)
            else:
                seen, b0 = y, (self.a0 - 1) * (local_mean((y - mu).detach() ** 2, self.box) + self.floor)
            return (divergence(mu, lam, a, b, y, self.lam0, self.a0, b0) - expected_log_likelihood(seen, mu, lam, a, b)).mean()
        out = self.network(sparse, level)
        if self.loss == "nll":
            mu, v = out[:, :, 0], F.softplus(out[:, :, 1] - 4) + self.floor
            return 0.5 * ((y - mu) ** 2 / v + v.log()).mean()
        return (F.mse_loss if self.loss == "l2" else F.l1_loss)(out[:, :, 0], y)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        return self.objective(batch["input"], batch["noise_level"], batch["target"])

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps)

    def restore(self, request: Request) -> Tensor:
        level = torch.as_tensor(request.noise_level, dtype=torch.float32, device=self.device).expand(request.n)
        if self.loss in ("elbo", "target"):
            mu, _, a, b = self.law(request.degraded, level)
            self.diagnose("predicted-std", (b / (a - 1)).mean((1, 2, 3)).sqrt())
            return mu
        return self.network(request.degraded, level)[:, :, 0]
