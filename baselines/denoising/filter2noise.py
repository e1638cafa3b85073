"""Filter2Noise: bilateral filters whose widths a tiny attention network sets, fitted to one picture (Sun et al. 2025, arXiv:2504.13519)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ...tasks.randomness import Rng
from ...tasks.requests import Request
from ..method import DataSpec
from ..nets.padding import pad_to_multiple
from .single_image import SingleImage, adam_step, diagonal_pair, reflected, renew

SIDE = 8
"""Side of the patches that get one set of widths each."""


class Widths(nn.Module):
    """Predicts (sigma_x, sigma_y, sigma_r) of every ``SIDE`` x ``SIDE`` patch: two self-attentions of width 8 over the patches, layer norm, a
    linear map, and min(softplus, 6) + 1e-6; (B, C, H, W) to (B, 3, H, W), equal within a patch."""

    def __init__(self, channels: int, hidden: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(channels * SIDE**2, 3 * hidden)
        self.second = nn.Linear(hidden, 3 * hidden)
        self.norm, self.out = nn.LayerNorm(hidden), nn.Linear(hidden, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, _, h, w = x.shape
        tokens = F.unfold(x, SIDE, stride=SIDE).transpose(1, 2)
        for layer in (self.first, self.second):
            q, k, v = layer(tokens).chunk(3, -1)
            tokens = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        sigma = F.softplus(self.out(self.norm(tokens))).clamp(max=6.0) + 1e-6
        return F.interpolate(sigma.transpose(1, 2).reshape(b, 3, h // SIDE, w // SIDE), scale_factor=float(SIDE), mode="nearest")


class AGBF(nn.Module):
    """Attention-guided bilateral filter; sides must be divisible by ``SIDE``. About 1.8 k parameters for grey pictures."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widths = Widths(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return bilateral(x, self.widths(x))


def bilateral(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Return the bilateral filter of (B, C, H, W) with widths (B, 3, H, W) of every pixel: sigma_x, sigma_y (pixels), sigma_r (intensity).

    Weights exp(-dx^2 / 2 sx^2 - dy^2 / 2 sy^2 - |I_p - I_q|^2 / 2 sr^2) over a window of 2 ceil(max(sx, sy)) + 1 pixels, normalised;
    distances in colour are summed over channels. The window's size is a number of the data, and no gradient passes through it.
    """
    b, c, h, w = x.shape
    reach = math.ceil(float(sigma[:, :2].detach().max()))
    size = 2 * reach + 1
    around = F.unfold(reflected(x, reach), size).reshape(b, c, size * size, h, w)
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    dy, dx = (o.reshape(1, -1, 1, 1) for o in torch.meshgrid(offsets, offsets, indexing="ij"))
    sx, sy, sr = (s[:, None] for s in (2 * sigma**2).unbind(1))
    exponent = dx**2 / sx + dy**2 / sy + (around - x[:, :, None]).square().sum(1) / sr
    weights = torch.exp(-exponent)
    return (around * (weights / (weights.sum(1, keepdim=True) + 1e-8))[:, None]).sum(2)


def local_shuffle(x: torch.Tensor) -> torch.Tensor:
    """Euclidean local shuffle (ELS): in every 2 x 2 cell of (B, C, H, W), sides even, swap the two pixels nearest to each other in colour."""
    b, c, h, w = x.shape
    flat = F.pixel_unshuffle(x, 2).reshape(b, c, 4, h // 2, w // 2)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    swaps = torch.tensor([[j if k == i else i if k == j else k for k in range(4)] for i, j in pairs], device=x.device)
    distance = torch.stack([(flat[:, :, i] - flat[:, :, j]).square().sum(1) for i, j in pairs], 1)
    order = swaps[distance.argmin(1)].permute(0, 3, 1, 2)[:, None].expand_as(flat)
    return F.pixel_shuffle(flat.gather(2, order).reshape(b, 4 * c, h // 2, w // 2), 2)


def difference_of_gaussians(size: int = 7, narrow: float = 9.0, wide: float = 10.0) -> torch.Tensor:
    """Return the (size, size) kernel G of the regulariser: each Gaussian sums to 1 over the window, so G sums to 0."""
    at = torch.arange(size, dtype=torch.float32) - size // 2
    squares = at[:, None] ** 2 + at[None] ** 2
    a, b = (torch.exp(-squares / (2 * s**2)) for s in (narrow, wide))
    return a / a.sum() - b / b.sum()


class Filter2Noise(SingleImage):
    """A cascade F of ``stages`` filters, fitted to one picture y by L_rec + ``strength`` L_reg; the answer is F(y).

    With D1, D2 the two diagonals of y at half size, a_i = F(ELS(D_i(y))) and b_i = D_i(F(y)):
    L_rec = 1/3 (|a_1 - a_2| + |a_1 - b_1| + |a_2 - b_2| + |b_1 - b_2|); L_reg = | |G * y| - |G * F(y)| | with G a difference of Gaussians.
    AdamW with weight decay 0.01 and the one-cycle schedule.
    """

    network: nn.Sequential
    kernel: torch.Tensor

    def __init__(self, data: DataSpec, stages: int = 2, steps: int = 500, strength: float = 350.0, lr: float = 1e-3) -> None:
        super().__init__()
        self.network = nn.Sequential(*(AGBF(data.channels) for _ in range(stages)))
        self.steps, self.strength, self.lr = steps, strength, lr
        self.register_buffer("kernel", difference_of_gaussians().expand(data.channels, 1, 7, 7).clone())

    def denoise(self, request: Request) -> torch.Tensor:
        return torch.cat([self._one(y[None], request.rng[k]) for k, y in enumerate(request.noisy)])

    def _one(self, y: torch.Tensor, rng: Rng) -> torch.Tensor:
        height, width = y.shape[-2:]
        y = pad_to_multiple(y, 2 * SIDE)  # patches at full and at half size
        optimiser = torch.optim.AdamW(renew(rng, self.network), lr=self.lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, total_steps=max(2, self.steps))
        for _ in range(self.steps):
            adam_step(optimiser, self.loss(y), [schedule])
        with torch.no_grad():
            answer = y
            for number, stage in enumerate(self.network):
                sigma = stage.widths(answer)  # type: ignore[operator, union-attr]
                answer = bilateral(answer, sigma)
                for name, value in zip(("sigma_x", "sigma_y", "sigma_r"), sigma.mean((0, 2, 3)), strict=True):
                    self.diagnose(f"{name}_{number + 1}", value[None])
        return answer[..., :height, :width]

    def loss(self, y: torch.Tensor) -> torch.Tensor:
        """Return the whole loss of one picture (1, C, H, W), sides divisible by 2 ``SIDE``."""
        answer = self.network(y)
        b1, b2 = diagonal_pair(answer)
        a1, a2 = (self.network(local_shuffle(d)) for d in diagonal_pair(y))
        rec = (F.l1_loss(a1, a2) + F.l1_loss(a1, b1) + F.l1_loss(a2, b2) + F.l1_loss(b1, b2)) / 3
        before, after = (F.conv2d(i, self.kernel, padding=3, groups=i.shape[1]).abs() for i in (y, answer))
        return rec + self.strength * F.l1_loss(after, before)
