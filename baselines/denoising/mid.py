"""MID: mask, inpaint and denoise, with noise taken from the method's own residuals (arXiv:2503.21377), and its unmasked baseline."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ...tasks.requests import Request
from ..method import DataSpec, Method
from ..nets.nafnet import NAFNet
from ..nets.optimise import cosine


class MaskedDenoiser(nn.Module):
    """f(M y, M): NAFNet on the observed values (less 0.5, zero where masked) beside the mask; (B, C, H, W) and (B, 1, H, W) to (B, C, H, W)."""

    def __init__(self, channels: int, width: int, encoder: Sequence[int], middle: int, decoder: Sequence[int]) -> None:
        super().__init__()
        self.body = NAFNet(channels + 1, width, encoder, middle, decoder)

    def forward(self, y: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.body(torch.cat([mask * (y - 0.5), mask], 1))[:, :-1] + 0.5


class MID(Method):
    """Round k trains f_k on |f(M (x + n), M) - x| with clean crops x, noise n of the set N_k and random masks M hiding a share of the pixels.

    N_0 is white Gaussian noise of many levels. After round k, x_hat = mean over T masks of f_k(M_t y, M_t) for the noisy crops y, and the
    residuals y - x_hat make N_{k+1}; only those of the flatter half of the crops, less their mean, since a residual also holds removed
    texture. The rounds share one training budget in equal parts: every part but the last ends with steps that do not learn but make
    residuals, each about as expensive as one that learns. ``round`` chooses whose network answers.
    """

    network: MaskedDenoiser
    total_steps: int
    """Set by the harness before training."""

    def __init__(
        self, data: DataSpec, rounds: int = 3, round: int = 2, hidden: Sequence[float] = (0.7, 0.5, 0.3), masks: int = 8,
        low: float = 5.0, high: float = 50.0, refine: float = 0.1, side: int = 32, bank: int = 256, width: int = 16,
        encoder: Sequence[int] = (1, 1, 2), middle: int = 2, decoder: Sequence[int] = (1, 1, 1), lr: float = 1e-3, batch_size: int = 8,
    ) -> None:  # fmt: skip
        super().__init__()
        network = MaskedDenoiser(data.channels, width, tuple(encoder), middle, tuple(decoder))
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.after = nn.ModuleList(copy.deepcopy(self.network) for _ in range(rounds))
        self.rounds, self.round, self.hidden, self.masks, self.refine, self.side = rounds, round, tuple(hidden), masks, refine, side
        self.levels, self.lr, self.train_batch_size = (low / 255, high / 255), lr, batch_size
        self.register_buffer("noise", torch.zeros(bank, data.channels, side, side))
        self.register_buffer("texture", torch.zeros(bank))
        self.register_buffer("held", torch.zeros((), dtype=torch.int64))
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))
        self.register_buffer("facts", torch.zeros(rounds, 2))

    noise: torch.Tensor
    """Residuals of the round before, (bank, C, side, side); those of ``texture`` above the median are not drawn."""
    texture: torch.Tensor
    held: torch.Tensor
    taken: torch.Tensor
    facts: torch.Tensor
    """Standard deviation and lag-1 correlation of N_k, per round."""

    # ------------------------------------------------------------------ training
    def place(self, step: int) -> tuple[int, int, int]:
        """Return the round of a step, the step within it, and how many steps of the round learn."""
        part = max(1, self.total_steps // self.rounds)
        k = min(step // part, self.rounds - 1)
        length = part if k < self.rounds - 1 else self.total_steps - part * (self.rounds - 1)
        return k, step - k * part, length - (round_up(self.refine * length) if k < self.rounds - 1 else 0)

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        if not hasattr(self, "total_steps"):  # how much one step costs is measured before their number is known
            return self.learning_step(batch["target"], 0)
        step = int(self.taken)
        self.taken += 1
        k, inside, learning = self.place(step)
        if inside < learning:
            loss = self.learning_step(batch["target"], k)
        else:
            self.residuals(batch["input"], k, first=inside == learning)
            loss = sum((p.sum() * 0 for p in self.network.parameters()), torch.zeros((), device=self.device))
        if step + 1 == self.total_steps or self.place(step + 1)[0] > k:  # one gradient step behind at the end of the last round
            self.after[k].load_state_dict(self.network.state_dict())
            if k + 1 < self.rounds:
                self.facts[k + 1] = describe(self.kept())
        return loss

    def learning_step(self, clean: torch.Tensor, k: int) -> torch.Tensor:
        x = clean[..., : self.side, : self.side]
        noisy = x + (self.white(x) if k == 0 else self.drawn(x))
        return F.l1_loss(self.network(noisy, self.mask(x, k)), x)

    def white(self, x: torch.Tensor) -> torch.Tensor:
        low, high = self.levels
        return (low + (high - low) * torch.rand(len(x), 1, 1, 1, device=x.device)) * torch.randn_like(x)

    def kept(self) -> torch.Tensor:
        """Return the residual fields of N: those of the flatter half of the crops."""
        n = max(1, min(int(self.held), len(self.noise)))
        return self.noise[:n][self.texture[:n] <= self.texture[:n].median()]

    def drawn(self, x: torch.Tensor) -> torch.Tensor:
        """Return fields of N for a batch of crops, shifted, turned and flipped at random."""
        fields = self.kept()
        out = []
        for _ in range(len(x)):
            field = fields[int(torch.randint(len(fields), ()))]
            shift = torch.randint(self.side, (2,)).tolist()
            field = torch.rot90(field.roll(shift, (-2, -1)), int(torch.randint(4, ())), (-2, -1))
            out.append(field.flip(-1) if torch.rand(()) < 0.5 else field)
        return torch.stack(out)[..., : x.shape[-2], : x.shape[-1]]

    def mask(self, x: torch.Tensor, k: int) -> torch.Tensor:
        """Return keep-masks (B, 1, H, W): a pixel is hidden with probability ``hidden[k]``, in all channels."""
        return (torch.rand(len(x), 1, *x.shape[-2:], device=x.device) >= self.hidden[k]).to(x.dtype)

    @torch.no_grad()
    def residuals(self, noisy: torch.Tensor, k: int, first: bool) -> None:
        """Put y - x_hat of some noisy crops into the bank: as many as cost no more than a step that learns (three passes a crop)."""
        if first:
            self.held.zero_()
        y = noisy[: max(1, 3 * len(noisy) // self.masks), :, : self.side, : self.side]
        many = y.repeat(self.masks, 1, 1, 1)
        estimate = self.network(many, self.mask(many, k)).reshape(self.masks, *y.shape).mean(0)
        residual = y - estimate
        residual = residual - residual.mean((-2, -1), keepdim=True)
        for field, seen in zip(residual, estimate, strict=True):
            at = int(self.held) % len(self.noise)
            self.noise[at, :, : field.shape[-2], : field.shape[-1]] = field
            self.texture[at] = seen.std()
            self.held += 1

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(self.network.parameters(), lr=self.lr, betas=(0.9, 0.99), weight_decay=0.0)

        def factor(step: int) -> float:
            _, inside, learning = self.place(min(step, self.total_steps - 1))
            return cosine(inside, learning) if inside < learning else 0.0

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ------------------------------------------------------------------ answering
    def networks(self) -> Iterator[nn.Module]:
        yield self.after[self.round]

    def denoise(self, request: Request) -> torch.Tensor:
        y, total = request.noisy, torch.zeros_like(request.noisy)
        for t in range(self.masks):
            keep = request.rng.at("mask", t).uniform((1, *y.shape[-2:])) >= self.hidden[self.round]
            total += self.after[self.round](y, keep.to(y.dtype))
        for name, value in zip(("noise_std", "noise_lag1"), self.facts[self.round].tolist(), strict=True):
            self.diagnose(name, value)
        return total / self.masks


class UnpairedAWGN(Method):
    """The same network without masks, trained on clean crops with white Gaussian noise of the same levels: what MID's rounds must beat."""

    network: MaskedDenoiser
    total_steps: int
    """Set by the harness before training."""

    def __init__(
        self, data: DataSpec, low: float = 5.0, high: float = 50.0, width: int = 16, encoder: Sequence[int] = (1, 1, 2), middle: int = 2,
        decoder: Sequence[int] = (1, 1, 1), lr: float = 1e-3, batch_size: int = 8,
    ) -> None:  # fmt: skip
        super().__init__()
        network = MaskedDenoiser(data.channels, width, tuple(encoder), middle, tuple(decoder))
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.levels, self.lr, self.train_batch_size = (low / 255, high / 255), lr, batch_size

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        x = batch["target"]
        low, high = self.levels
        noisy = x + (low + (high - low) * torch.rand(len(x), 1, 1, 1, device=x.device)) * torch.randn_like(x)
        return F.l1_loss(self.network(noisy, torch.ones_like(x[:, :1])), x)

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(self.parameters(), lr=self.lr, betas=(0.9, 0.99), weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine(step, self.total_steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def denoise(self, request: Request) -> torch.Tensor:
        return self.network(request.noisy, torch.ones_like(request.noisy[:, :1]))


def round_up(x: float) -> int:
    """Return the smallest integer not below x, at least 1."""
    return max(1, -int(-x // 1))


def describe(fields: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of noise fields (N, C, H, W) and the mean correlation of horizontal and vertical neighbours."""
    z = fields - fields.mean()
    variance = z.square().mean().clamp(min=1e-12)
    lag = ((z[..., 1:] * z[..., :-1]).mean() + (z[..., 1:, :] * z[..., :-1, :]).mean()) / 2
    return torch.stack([variance.sqrt(), lag / variance])
