"""GENIE: higher-order denoising diffusion solvers (Dockhorn, Vahdat and Kreis, NeurIPS 2022, arXiv:2210.05475)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.func import jvp

from ..diffusion.exponential import nodes
from ..diffusion.grids import Grid
from ..diffusion.prior import NULL, Guided, Prior
from ..diffusion.sampling import Walk, begin
from ..diffusion.schedule import Schedule, along
from ..method import Method, Request
from ..nets.derivative_head import DerivativeHead, Features


def derivative(prior: Prior, x: Tensor, t: Tensor, cond: Tensor | None, eps: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return eps(x, t) and its total derivative in gamma = sigma / alpha along the ODE, by forward-mode differentiation (eq. 9 and 10).

    Along d(x / alpha)/d gamma = eps the state moves with dx/d gamma = alpha eps + (alpha'/alpha) t' x, and time with t' = 1/(d gamma/dt). The
    direction needs eps, so the prior is evaluated once for it, unless ``eps`` is given, and once with the tangent.
    """
    schedule, t = prior.schedule, t.repeat(len(x)) if t.ndim == 0 else t
    a, s, da, ds = schedule.alpha(t), schedule.sigma(t), schedule.d_alpha(t), schedule.d_sigma(t)
    dt = a**2 / (ds * a - s * da)
    eps = prior.noise(x, t, cond) if eps is None else eps
    tangent = along(a, x) * eps + along(da / a * dt, x) * x
    bend: Tensor = jvp(lambda x, t: prior.noise(x, t, cond), (x, t), (tangent, dt))[1]
    return eps, bend


class Taylor(Method):
    """The second truncated Taylor method in gamma (eq. 8): xb + h eps + h^2/2 d eps/d gamma, xb = x / alpha; Euler is DDIM.

    A subclass gives `slope`. With ``afs``, the analytic first step, the first slope is x_T / sigma, without a derivative or an evaluation.
    """

    cost = 1
    """Evaluations of the prior that one step takes."""

    def __init__(
        self, prior: Prior, grid: Grid = "uniform-t", end: float = 0.0, afs: bool = False, steps: int = 25, guidance: float = 1.0,
        clip: bool = False,
    ) -> None:  # fmt: skip
        """``end``: the time at which the walk stops (0 is the data); ``steps`` counts where the budget does not bound the evaluations."""
        super().__init__()
        self.prior = prior
        self.grid, self.end, self.afs, self.steps, self.guidance, self.clip = grid, end, afs, steps, guidance, clip

    def slope(self, walk: Walk, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return eps and d eps / d gamma at (x, t)."""
        raise AssertionError("a subclass implements slope()")

    def sample(self, request: Request) -> Tensor:
        walk = begin(
            request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, clip=self.clip, end=self.end,
            plan=lambda n: n // self.cost + self.afs,
        )  # fmt: skip
        points, x = nodes(walk.prior.schedule, walk.times), walk.x
        for i, (s, t) in enumerate(pairwise(points)):
            h = t.kappa - s.kappa
            if i == 0 and self.afs:
                x = t.alpha * torch.add(x / s.alpha, x / s.sigma, alpha=h)
                continue
            eps, bend = self.slope(walk, x, s.time)
            x = t.alpha * torch.add(torch.add(x / s.alpha, eps, alpha=h), bend, alpha=h**2 / 2)
        return walk.prior.decode(x)


class ExactGENIE(Taylor):
    """The method with the exact derivative, by forward-mode differentiation: the oracle of what the distilled head approximates.

    A step evaluates the prior twice: for the tangent, and with it.
    """

    cost = 2

    def slope(self, walk: Walk, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return derivative(walk.prior, x, t, walk.cond)


class GENIE(Taylor):
    """The derivative comes from a small head on the frozen network: k = -h1/g + h2 g/(1 + g^2) + h3/(g (1 + g^2)), g = gamma (eq. 13).

    The head (h1, h2, h3) sees x_t, the predicted eps, the network's last features and the noise level, and is trained to the exact derivative
    with weight g^2 (eq. 14). In training it is fed the predicted eps, as in sampling (the released code feeds the true noise there).
    """

    train_batch_size = 64

    def __init__(
        self, prior: Prior, grid: Grid = "uniform-t", end: float = 0.0, afs: bool = False, steps: int = 50, guidance: float = 1.0,
        clip: bool = False, width: int = 128, learning_rate: float = 1e-3,
    ) -> None:  # fmt: skip
        """``width``: channels of the head; the rest as in `Taylor`."""
        super().__init__(prior, grid, end, afs, steps, guidance, clip)
        self.learning_rate = learning_rate
        network = next(prior.counted_networks())
        spatial = len(prior.shape) == 3 and any(isinstance(m, nn.Conv2d) for m in network.modules())
        self.head = DerivativeHead(prior.shape, Features(network).channels, width, spatial, int(getattr(network, "patch", 1)))

    # ------------------------------------------------------------------ sampling
    def slope(self, walk: Walk, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        prior = walk.prior
        if not isinstance(prior, Guided) or walk.cond is None:
            return self._one(prior, x, t, walk.cond)
        none, with_ = (self._one(prior.base, x, t, c) for c in (torch.full_like(walk.cond, NULL), walk.cond))
        eps, bend = (a + prior.weight * (b - a) for a, b in zip(none, with_, strict=True))  # both are linear in the prediction
        return eps, bend

    def _one(self, prior: Prior, x: Tensor, t: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        with Features(next(prior.counted_networks())) as features:
            eps = prior.noise(x, t, cond)
        return eps, self.distilled(prior.schedule, x, t, eps, features.kept)

    def distilled(self, schedule: Schedule, x: Tensor, t: Tensor, eps: Tensor, features: Tensor | None) -> Tensor:
        """Return k(x, t), the head's estimate of d eps / d gamma; ``t`` is a scalar or (B,)."""
        dtype = next(self.head.parameters()).dtype
        level = (schedule.lam(t).clamp(-10, 10) / 4).to(x.device, dtype).expand(len(x))
        kept = None if features is None else features.to(dtype)
        h1, h2, h3 = (h.to(x.dtype) for h in self.head(x.to(dtype), eps.to(dtype), level, kept))
        g = along(schedule.kappa(t), x)
        return -h1 / g + h2 * g / (1 + g**2) + h3 / (g * (1 + g**2))

    # ------------------------------------------------------------------ distillation
    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        """Return g^2 |k - d eps/d gamma|^2, summed over a sample's values, at times uniform on the path; half the labels are dropped."""
        x0, schedule = self.prior.encode(batch["target"]), self.prior.schedule
        n = len(x0)
        t = schedule.t_min + (schedule.t_max - schedule.t_min) * torch.rand(n, device=x0.device)
        cond = None
        if self.prior.conditioning == "class" and "label" in batch:
            cond = torch.where(torch.rand(n, device=x0.device) < 0.5, NULL, batch["label"].long())
        x = schedule.add_noise(x0, torch.randn_like(x0), t)
        with torch.no_grad():
            with Features(next(self.prior.counted_networks())) as features:
                eps = self.prior.noise(x, t, cond)
            target = derivative(self.prior, x, t, cond, eps)[1]
        error = along(schedule.kappa(t), x) * (self.distilled(schedule, x, t, eps, features.kept) - target)
        return error.square().flatten(1).sum(1).mean()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam on the head alone, its rate falling linearly to zero."""
        optimiser = torch.optim.Adam(self.head.parameters(), lr=self.learning_rate)
        total = max(1, getattr(self, "total_steps", 0) or int(self.trainer.max_steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1 - step / total))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
