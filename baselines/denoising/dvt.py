"""Denoising Vision Transformers (Yang et al., ECCV 2024, arXiv:2401.02957): feature maps without what depends on the place in the token grid.

A token of a view is split (the paper's factorisation) into

    ViT(x) = F(semantics) + G(position) + h(x, position):

F is a field over the picture, the same for all views; G a map over the token grid, the same for all pictures; h what neither explains. Stage 1
finds the three from many views of one picture, stage 2 is a transformer block that learns to answer like stage 1 from one map.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import DataSpec, Method
from ..nets.transformer import Block
from .single_image import SingleImage, adam_step

ANSWERS = ("residual", "map", "field")


def corners(places: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the four cells (T, 4) of a ``side`` x ``side`` grid around places (2, T) in [0, 1] and their bilinear weights (T, 4).

    Values stand at the cells' centres and go on unchanged beyond the outermost.
    """
    t = (places * side - 0.5).clamp(0, side - 1)
    low = t.floor().clamp(max=side - 2)
    part = t - low
    x, y = low.long()
    wx, wy = part
    index = torch.stack([y * side + x, y * side + x + 1, (y + 1) * side + x, (y + 1) * side + x + 1], 1)
    return index, torch.stack([(1 - wy) * (1 - wx), (1 - wy) * wx, wy * (1 - wx), wy * wx], 1)


def centres(height: int, width: int) -> Tensor:
    """Return the places (2, H, W), x then y, of the tokens of the picture itself."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([x, y])


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared error plus one minus the mean cosine of feature rows (T, C)."""
    return F.mse_loss(a, b) + 1 - F.cosine_similarity(a, b, dim=-1).mean()


@dataclass(frozen=True)
class Parts:
    """What stage 1 finds, all (C, H, W), on the map of the whole picture: F, G (mean zero in each channel) and h."""

    field: Tensor
    artefact: Tensor
    residual: Tensor


class Factors(nn.Module):
    """F (a table over ``side`` x ``side`` cells, read bilinearly), G and h; ``forward`` returns the loss of a batch of tokens."""

    def __init__(self, channels: int, tokens: int, side: int) -> None:
        super().__init__()
        self.field = nn.Parameter(torch.zeros(side * side, channels))
        self.artefact = nn.Parameter(0.02 * torch.randn(tokens, channels))
        hidden = max(channels // 4, 1)
        self.residual = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def at(self, index: Tensor, weight: Tensor) -> Tensor:
        """Return F (T, C) at places given by their cells and weights."""
        return F.embedding_bag(index, self.field, per_sample_weights=weight, mode="sum")

    def forward(self, raw: Tensor, index: Tensor, weight: Tensor, token: Tensor, second: bool) -> Tensor:
        """``raw`` (T, C), its cells and weights (T, 4), its number in the token grid (T,); ``second``: h learns, and G does not."""
        both = self.at(index, weight) + (self.artefact.detach() if second else self.artefact)[token]
        if not second:
            return distance(both, raw)
        h = self.residual(raw)
        # h is detached where it helps to explain the features: it learns what the rest leaves, and would explain everything otherwise
        return distance(both + h.detach(), raw) + 0.1 * F.mse_loss(h, (raw - both).detach()) + 0.02 * h.abs().mean()


def stage1(
    noisy: Tensor, views: Tensor, places: Tensor, draw: Callable[[int, int], Tensor],
    steps: int = 1000, batch: int = 1024, side: int = 32, lr: float = 0.1, lr_h: float = 0.01,
) -> Parts:  # fmt: skip
    """Split the map of a picture (C, H, W), of which ``views`` (N, C, H, W) show ``places`` (N, 2, H, W).

    ``draw(n, k)`` returns k numbers below n; weights are drawn from the global generator. The whole picture is one view more, as in the
    official code. G is known up to a constant, which is given to F. Rates end at a tenth of ``lr`` (of F and G) and ``lr_h``.
    """
    c, h, w = noisy.shape
    raw = torch.cat([views, noisy[None]]).flatten(2).transpose(1, 2).reshape(-1, c)
    whole = centres(h, w).to(places)
    index, weight = corners(torch.cat([places, whole[None]]).flatten(2).transpose(0, 1).reshape(2, -1), side)
    token = torch.arange(h * w, device=raw.device).repeat(len(views) + 1)
    with torch.enable_grad():
        parts = Factors(c, h * w, side).to(raw)
        groups = [{"params": [parts.field, parts.artefact], "lr": lr}, {"params": list(parts.residual.parameters()), "lr": lr_h}]
        optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, weight_decay=1e-5)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: rate(k / steps, 0.1))
        for step in range(steps):
            pick = draw(len(raw), batch)
            second = step >= steps // 2
            adam_step(optimiser, parts(raw[pick], index[pick], weight[pick], token[pick], second), [schedule])
    with torch.no_grad():
        at = slice(-h * w, None)
        shift = parts.artefact.mean(0)
        rows = (parts.at(index[at], weight[at]) + shift, parts.artefact - shift, parts.residual(raw[at]))
    field, artefact, residual = (v.T.reshape(c, h, w) for v in rows)
    return Parts(field, artefact, residual)


def rate(done: float, low: float, warm: float = 0.1) -> float:
    """Return the learning rate's factor: up in a line over the share ``warm`` of the steps, then down to ``low`` along a cosine."""
    if done < warm:
        return (done + 1e-3) / (warm + 1e-3)
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


def cleaned(noisy: Tensor, parts: Parts, answer: str) -> Tensor:
    """Return the clean map: ``residual``: f - G - h; ``map``: f - G; ``field``: F where the tokens of the picture lie."""
    if answer == "field":
        return parts.field
    return noisy - parts.artefact - (parts.residual if answer == "residual" else 0)


def checked_answer(answer: str) -> str:
    """Return ``answer``; RequestError when it is none of `ANSWERS`."""
    if answer not in ANSWERS:
        raise RequestError(f"answer is {answer!r}; accepted: {', '.join(ANSWERS)}.")
    return answer


class DVT(SingleImage):
    """Stage 1, picture by picture. ``answer`` says what of it is handed back (`cleaned`); the rest are `stage1`'s."""

    def __init__(self, answer: str = "residual", steps: int = 1000, batch: int = 1024, side: int = 32, lr: float = 0.1) -> None:
        super().__init__()
        self.answer, self.settings = checked_answer(answer), {"steps": steps, "batch": batch, "side": side, "lr": lr}

    def enhance(self, request: Request) -> Tensor:
        tokens = request.rng.at("tokens")
        draw = lambda n, k: tokens.integers(0, n, (k,))[0]  # noqa: E731
        torch.manual_seed(request.rng.at("weights").generators()[0].initial_seed())  # layers draw their first weights from the global one
        parts = stage1(request.noisy[0], request.views[0], request.places[0], draw, **self.settings)  # type: ignore[arg-type]
        for name in ("artefact", "residual"):
            self.diagnose(f"{name}_rms", getattr(parts, name).square().mean().sqrt()[None])
        return cleaned(request.noisy[0], parts, self.answer)[None]


class Denoiser(nn.Module):
    """Stage 2's network: a transformer block on maps (B, C, H, W) with positions of its own added to them."""

    def __init__(self, shape: tuple[int, ...], heads: int) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(1, shape[1] * shape[2], shape[0]))
        self.block = Block(shape[0], heads, 4 * shape[0])
        self.block.feed[1] = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x.flatten(2).transpose(1, 2) + self.position).transpose(1, 2).reshape(x.shape)


class DVTStage2(Method):
    """Stage 1 on ``scenes`` training scenes, then the block, trained for ``steps`` steps to answer the same from the picture's map alone."""

    network: Denoiser

    def __init__(
        self, data: DataSpec, scenes: int = 64, heads: int = 1, steps: int = 1500, batch: int = 16, lr: float = 1e-3, answer: str = "residual",
        stage1_steps: int = 1000, stage1_batch: int = 1024, side: int = 32,
    ) -> None:  # fmt: skip
        super().__init__()
        assert data.shape is not None
        self.network = Denoiser(data.shape, heads)
        self.scenes, self.steps, self.batch, self.lr, self.answer = scenes, steps, batch, lr, checked_answer(answer)
        self.settings = {"steps": stage1_steps, "batch": stage1_batch, "side": side}

    def learn(self, data: Any) -> None:
        draw = lambda n, k: torch.randint(n, (k,))  # noqa: E731
        raw, clean = [], []
        for i in range(min(self.scenes, len(data))):
            item = data[i]
            parts = stage1(item["input"], item["views"], item["places"], draw, **self.settings)  # type: ignore[arg-type]
            raw.append(item["input"])
            clean.append(cleaned(item["input"], parts, self.answer))
        inputs, targets = torch.stack(raw), torch.stack(clean)
        optimiser = torch.optim.AdamW(self.network.parameters(), self.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: rate(k / self.steps, 0.01))
        with torch.enable_grad():
            for _ in range(self.steps):
                pick = draw(len(inputs), self.batch)
                answer, target = (v.flatten(2).transpose(1, 2).flatten(0, 1) for v in (self.network(inputs[pick]), targets[pick]))
                adam_step(optimiser, distance(answer, target), [schedule])

    def enhance(self, request: Request) -> Tensor:
        return self.network(request.noisy)
