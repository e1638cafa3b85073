"""Faster Diffusion: encoder features of a U-Net carried over several steps (Li et al., NeurIPS 2024, arXiv:2312.09608), with DDIM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from ...configs.errors import RequestError
from ..diffusion.conversions import convert
from ..diffusion.grids import Grid
from ..diffusion.prior import NULL, Prior
from ..diffusion.sampling import begin
from ..diffusion.trained import TrainedPrior
from ..method import Method, Request

KEYS = (0, 1, 2, 3, 5, 10, 15, 25, 35)
"""The key steps of 50, counted from the noise (section 4.1): dense early, sparse late."""


class Decoder(nn.Module):
    """The second half of the network as a module of its own, so that its rows are counted: every pass of it is one evaluation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, h: Tensor, kept: list[Tensor], e: Tensor, words: Tensor | None) -> Tensor:
        return self.network.decode(h, kept, e, words)  # type: ignore[operator]


class FasterDiffusion(Method):
    """At a key step the whole network runs; until the next key step the encoder's features stay, and the decoder alone is run on them with the
    embedding of the current time (section 4.1, encoder propagation). What the decoder says then does not depend on x_t, so all passes up
    to the next key step are one batch (parallel denoising), and DDIM's updates follow one after the other.

    A step counts as one network evaluation whether or not its encoder ran, so the saving is in FLOPs and seconds, not in the budget;
    ``method/encoder-share`` is the share of steps whose encoder ran. ``inject``: prior noise injection, x_t <- x_t + inject x_T in the second
    half of the walk (section 4.2), against lost texture.
    """

    def __init__(
        self,
        prior: Prior,
        keys: Literal["paper", "uniform", "all"] = "paper",
        every: int = 4,
        inject: float = 0.003,
        grid: Grid = "uniform-t",
        steps: int = 50,
        guidance: float = 1.0,
    ) -> None:
        """``keys``: the paper's list stretched to the number of steps, each ``every``-th step, or all (plain DDIM)."""
        super().__init__()
        if keys not in ("paper", "uniform", "all"):
            raise ValueError(f"keys is {keys!r}; accepted: paper, uniform, all")
        if not isinstance(prior, TrainedPrior) or not hasattr(prior.network, "encode"):
            raise RequestError("faster-diffusion needs a prior whose network is a U-Net made here (encoder, middle and decoder apart).")
        self.prior: TrainedPrior = prior
        self.keys, self.every, self.inject, self.grid, self.steps, self.guidance = keys, every, inject, grid, steps, guidance
        self.decoder = Decoder(prior.network)

    def networks(self) -> Iterator[nn.Module]:
        yield self.decoder

    def key_steps(self, count: int) -> list[int]:
        """Return the numbers of the steps whose encoder runs, of ``count``; the first is always one."""
        if self.keys == "all":
            return list(range(count))
        if self.keys == "uniform":
            return list(range(0, count, self.every))
        return sorted({round(k * count / 50) for k in KEYS if round(k * count / 50) < count})

    def sample(self, request: Request) -> Tensor:
        walk = begin(request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance)
        schedule, x, steps = self.prior.schedule, walk.x, walk.steps()
        first, cond, guided = x, walk.cond, walk.prior is not self.prior and walk.prior.evaluations > 1
        if guided and cond is not None:  # both halves side by side, in this order
            cond = torch.cat([torch.full_like(cond, NULL), cond])
        keys = self.key_steps(len(steps))
        for key, following in zip(keys, [*keys[1:], len(steps)], strict=True):
            block = steps[key:following]
            raw = self.block(torch.cat([x, x]) if guided else x, [t for t, _ in block], cond)
            for (t, s), v in zip(block, raw, strict=True):
                if guided:
                    without, with_ = v.chunk(2)
                    v = without + self.guidance * (with_ - without)
                if self.inject and t < schedule.t_max / 2:
                    x = x + self.inject * first
                data = convert(v, x, t, schedule, self.prior.parameterisation, "data")
                x = schedule.alpha(s) * data + schedule.sigma(s) * convert(data, x, t, schedule, "data", "noise")
        self.diagnose("encoder-share", len(keys) / len(steps))
        return self.prior.decode(x)

    def block(self, x: Tensor, times: list[Tensor], cond: Tensor | None) -> list[Tensor]:
        """Return the network's prediction at each of ``times`` from the encoder's features at (x, times[0]), decoded as one batch."""
        network, n, k = self.prior.network, len(x), len(times)
        told = [network.told(self.prior.level(t, n).to(x.device, x.dtype), cond, n) for t in times]  # type: ignore[operator]
        h, kept = network.encode(x, *told[0])  # type: ignore[operator]
        e, words = torch.cat([e for e, _ in told]), None if told[0][1] is None else torch.cat([w for _, w in told])
        out = self.decoder(h.repeat(k, 1, 1, 1), [f.repeat(k, 1, 1, 1) for f in kept], e, words)
        return list(out.chunk(k))
