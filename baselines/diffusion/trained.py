"""Trained priors: one network per dataset and conditioning, on a VP path, predicting v (Salimans and Ho 2022).

v-prediction is well conditioned at both ends of the path (noise prediction is not at the noisy end, where x_0 = (x - sigma eps)/alpha
divides by alpha), so one network serves every solver from 1 step up. The network is told lambda, not t: what it computes does not
depend on the path it is viewed along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ..method import Request
from ..nets.mlp import ScoreMLP
from ..nets.unet import ScoreUNet
from .prior import NULL, Prior
from .schedule import make


class TrainedPrior(Prior, lightning.LightningModule):
    """A network on pictures in [0, 1] (or points), trained from batches ``{target, label}``; labels are dropped with ``label_dropout``.

    Unconditional and conditional predictions come from one network. With ``captions: {tokens, length, width}`` (U-Nets only) it is told word
    tokens int64 (B, length) instead of a label, from the batch's ``tokens`` and the request's; a dropped caption is a row of `NULL`. The
    weights that stay are an exponential moving average.
    """

    parameterisation = "v"

    def __init__(
        self,
        shape: Sequence[int],
        network: Literal["mlp", "unet"] = "unet",
        network_options: Mapping[str, Any] | None = None,
        schedule: str = "vp-linear",
        classes: int = 0,
        label_dropout: float = 0.15,
        scale: float = 2.0,
        shift: float = -1.0,
        learning_rate: float = 1e-3,
        ema: float = 0.999,
        batch_size: int = 128,
        captions: Mapping[str, int] | None = None,
    ) -> None:
        """x_0 = scale * image + shift; the defaults take [0, 1] to [-1, 1]."""
        super().__init__()
        self.schedule = make(schedule)
        self.shape, self.classes = tuple(shape), classes
        self.conditioning = "caption" if captions else "class" if classes else "none"
        self.caption_length = int(captions["length"]) if captions else 0
        self.scale, self.shift = scale, shift
        self.span = (shift, scale + shift) if len(shape) == 3 else None
        self.label_dropout, self.learning_rate, self.ema_decay = label_dropout, learning_rate, ema
        self.train_batch_size = batch_size
        options = dict(network_options or {})
        if captions:
            options["caption"] = dict(captions)
        self.network: nn.Module
        if network == "mlp":
            self.network = ScoreMLP(self.shape, classes=classes, **options)
        elif network == "unet":
            self.network = ScoreUNet(self.shape[0], classes=classes, **options)
        else:
            raise ValueError(f"unknown network {network!r}; accepted: mlp, unet")
        self._average: list[Tensor] = []

    def encode(self, image: Tensor) -> Tensor:
        return self.scale * image + self.shift

    def decode(self, x0: Tensor) -> Tensor:
        return (x0 - self.shift) / self.scale

    def condition(self, request: Request) -> Tensor | None:
        """Return the label or the caption's tokens that the task gives, for the kind of network this is; else None."""
        if self.conditioning == "caption" and "tokens" in request:
            tokens: Tensor = request.tokens
            if tokens.shape[1:] != (self.caption_length,):
                raise ValueError(f"captions must be (B, {self.caption_length}) word tokens, got {tuple(tokens.shape)}")
            return tokens
        return super().condition(request)

    def level(self, t: Tensor, n: int) -> Tensor:
        """Return what the network is told about the time, (n,): lambda / 4, bounded."""
        lam = self.schedule.lam(t).clamp(-10, 10)
        return lam / 4 if lam.ndim else (lam / 4).expand(n)

    def raw(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        level = self.level(t, len(x)).to(x.device, x.dtype)
        return self.network(x, level, cond.to(x.device) if cond is not None else None)

    # ------------------------------------------------------------------ training
    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        """Return the mean squared error of v at times uniform in (0, t_max], stratified over the batch."""
        x0 = self.encode(batch["target"])
        n = len(x0)
        u = (torch.randperm(n, device=x0.device) + torch.rand(n, device=x0.device)) / n
        t = self.schedule.t_min * 0.5 + u * (self.schedule.t_max - self.schedule.t_min * 0.5)
        cond = None
        if self.conditioning != "none":
            dropped = torch.rand(n, device=x0.device) < self.label_dropout
            known = batch["label" if self.conditioning == "class" else "tokens"].long()
            cond = torch.where(dropped.reshape(-1, *[1] * (known.ndim - 1)), NULL, known)
        noise = torch.randn_like(x0)
        a, s = (v.reshape(-1, *[1] * (x0.ndim - 1)) for v in (self.schedule.alpha(t), self.schedule.sigma(t)))
        return nn.functional.mse_loss(self.raw(a * x0 + s * noise, t, cond), a * noise - s * x0)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with 5 % warm-up and a cosine decay to zero over the training budget."""
        optimiser = torch.optim.Adam(self.parameters(), lr=self.learning_rate, betas=(0.9, 0.99), fused=True)
        total = getattr(self, "total_steps", 0) or int(self.trainer.max_steps)

        def factor(step: int) -> float:
            warm = max(1, total // 20)
            if step < warm:
                return (step + 1) / warm
            return 0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(1.0, (step - warm) / max(1, total - warm)))).item())

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        self._average = [p.detach().clone() for p in self.network.parameters()]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the average; its memory grows with the steps done, so that a short training is not dominated by its start."""
        step = self.global_step
        decay = min(self.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._average, [p.detach() for p in self.network.parameters()], 1 - decay)

    def on_train_end(self) -> None:
        """Keep the average."""
        with torch.no_grad():
            for p, average in zip(self.network.parameters(), self._average, strict=True):
                p.copy_(average)
        self._average = []
