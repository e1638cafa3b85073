"""Time-shift sampler: alleviating exposure bias by shifted time steps (Li et al., ICLR 2024, arXiv:2305.15583)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..diffusion.grids import Grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import begin
from ..diffusion.schedule import Schedule, along
from ..method import Method, Request


class TimeShiftSampler(Method):
    """DDIM or DDPM that asks the prior at the time whose noise variance is nearest to the state's own variance (algorithm 3).

    After a step to t_next, the variance v over all values of one sample picks t_s, among the times of the training grid within ``window`` steps
    around t_next, with the least |v - sigma^2(t_s)|; the next step starts from t_s (label and coefficients), not from t_next. Below
    ``cutoff`` nothing is shifted: there sigma^2 no longer stands for the variance, since the signal's share is left out. With ``window`` 0
    the host is unchanged.
    """

    def __init__(
        self, prior: Prior, window: int = 30, cutoff: int = 300, eta: float = 0.0, train_steps: int = 1000, grid: Grid = "uniform-t",
        steps: int = 50, guidance: float = 1.0, clip: bool = False,
    ) -> None:  # fmt: skip
        """``window`` and ``cutoff`` count steps of a training grid of ``train_steps``; ``eta`` 0 is DDIM, 1 DDPM (posterior variance).

        ``steps`` counts where the budget does not bound the network evaluations.
        """
        super().__init__()
        if window < 0 or not 0 <= cutoff <= train_steps:
            raise ValueError(f"window is {window} and cutoff {cutoff}; accepted: a window of at least 0, a cutoff from 0 to {train_steps}")
        self.prior = prior
        self.window, self.cutoff, self.train_steps = window, cutoff, train_steps
        self.eta, self.grid, self.steps, self.guidance, self.clip = eta, grid, steps, guidance, clip

    def sample(self, request: Request) -> Tensor:
        walk = begin(request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, clip=self.clip)
        schedule, x, noise = walk.prior.schedule, walk.x, request.rng.at("noise")
        used = walk.times[0].expand(len(x))  # the time of each sample
        shifts: list[Tensor] = []
        for nominal, s in walk.steps():
            data, eps = walk.both(x, used)
            variance = schedule.sigma(s) ** 2 * self.eta**2 * -torch.expm1(2 * (schedule.lam(used) - schedule.lam(s)).clamp_max(0))
            x = schedule.alpha(s) * data + along((schedule.sigma(s) ** 2 - variance).clamp_min(0).sqrt(), x) * eps
            if self.eta > 0:
                x = x + along(variance.sqrt(), x) * noise.normal(x.shape[1:])
            used = s.expand(len(x))
            if self.window and nominal > self.cutoff / self.train_steps * schedule.t_max and s > 0:
                used = self.shifted(x, s, schedule)
                shifts.append((used - s) * self.train_steps / schedule.t_max)
        if shifts:
            self.diagnose("mean-shift", torch.stack(shifts, 1).mean(1))
        return walk.prior.decode(x)

    def shifted(self, x: Tensor, s: Tensor, schedule: Schedule) -> Tensor:
        """Return t_s of each sample (B,), float64: the time around ``s`` whose sigma^2 is nearest to the variance of the sample's values."""
        v = x.flatten(1).double().var(1)
        reach = self.window // 2
        offsets = torch.arange(-reach, reach + 1, dtype=torch.float64, device=x.device) * schedule.t_max / self.train_steps
        times = (s.to(x.device) + offsets).clamp(schedule.t_max / self.train_steps, schedule.t_max)
        nearest = (v[:, None] - schedule.sigma(times) ** 2).abs().argmin(1)
        return times[nearest]
