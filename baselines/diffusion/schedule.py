"""Noise schedules: x_t = alpha(t) x_0 + sigma(t) eps, in one interface for VP, VE and flow paths.

Times run from `Schedule.t_max` (noise) down to 0 (data). Every function takes and returns tensors of any shape and keeps their dtype and
device; the formulas are written so that float32 keeps its precision at both ends (expm1, softplus, no difference of near-equal numbers).
lambda(t) = log(alpha / sigma), the half log signal-to-noise ratio, decreases in t (Kingma et al. 2021; Lu et al. 2022).
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.nn.functional import softplus

T = TypeVar("T")
_SCALARS = ("alpha", "sigma", "lam", "t_of_lam", "d_alpha", "d_sigma")
_REMEMBERED = 4096  # values kept per schedule: a run asks at tens of times, an adaptive solver at thousands


def constant(t: Tensor) -> float | None:
    """Return the value of a time that is one number on the CPU with nothing to differentiate; None for every other."""
    if t.ndim or t.requires_grad or not t.is_cpu or unpack_dual(t).tangent is not None:
        return None
    try:
        return float(t.item())
    except RuntimeError:  # one of many under vmap
        return None


def _remembering(function: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """Wrap a function of time: the values at single times are computed once."""

    @functools.wraps(function)
    def value(self: Any, t: Tensor) -> Tensor:
        number = constant(t)
        if number is None:
            return function(self, t)
        out: Tensor = self.remember((function, number, t.dtype), lambda: function(self, t))
        return out.clone()  # so that no caller can change what is kept

    return value


@dataclass(frozen=True)
class Schedule(ABC):
    """``t_max``: where sampling starts. ``t_min``: the smallest time at which a network is asked; 0 itself is the data (sigma = 0).

    A solver asks for the same few scalars at the same few times, in float64, batch after batch; computing them took a tenth of the time of a
    small network. So each schedule remembers its values at single times (those of `_SCALARS`, and what `remember` is given).
    """

    t_max: float
    t_min: float

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in _SCALARS:
            if name in cls.__dict__:
                setattr(cls, name, _remembering(cls.__dict__[name]))

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return ``make()``, computed at the first call with this ``key``."""
        memory: dict[Hashable, Any] = self.__dict__.setdefault("_memory", {})
        if key not in memory:
            if len(memory) >= _REMEMBERED:
                memory.clear()
            memory[key] = make()
        out: T = memory[key]
        return out

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Return the scale of the signal."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Return the standard deviation of the noise."""

    @abstractmethod
    def lam(self, t: Tensor) -> Tensor:
        """Return lambda(t) = log(alpha / sigma); +inf at t = 0."""

    @abstractmethod
    def t_of_lam(self, lam: Tensor) -> Tensor:
        """Return the time at which lambda has this value (the inverse of `lam`)."""

    @abstractmethod
    def d_alpha(self, t: Tensor) -> Tensor:
        """Return d alpha / dt."""

    @abstractmethod
    def d_sigma(self, t: Tensor) -> Tensor:
        """Return d sigma / dt."""

    def kappa(self, t: Tensor) -> Tensor:
        """Return sigma / alpha = exp(-lambda), the noise level of the EDM view."""
        return self.sigma(t) / self.alpha(t)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return alpha(t) x0 + sigma(t) noise; ``t`` is a scalar or one time per sample (B,)."""
        t = along(t, x0)
        return self.alpha(t) * x0 + self.sigma(t) * noise


class _VP(Schedule):
    """Variance preserving paths, alpha^2 + sigma^2 = 1, given by log alpha(t)."""

    @abstractmethod
    def log_alpha(self, t: Tensor) -> Tensor:
        """Return log alpha(t), at most 0."""

    @abstractmethod
    def d_log_alpha(self, t: Tensor) -> Tensor:
        """Return d log alpha / dt."""

    def alpha(self, t: Tensor) -> Tensor:
        return self.log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * self.log_alpha(t))).sqrt()

    def lam(self, t: Tensor) -> Tensor:
        log_alpha = self.log_alpha(t)
        return log_alpha - 0.5 * torch.log(-torch.expm1(2 * log_alpha))

    def d_alpha(self, t: Tensor) -> Tensor:
        return self.alpha(t) * self.d_log_alpha(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        # sigma^2 = 1 - alpha^2, so sigma sigma' = -alpha alpha'
        return -self.alpha(t) ** 2 * self.d_log_alpha(t) / self.sigma(t)


@dataclass(frozen=True)
class VPLinear(_VP):
    """beta(t) = beta_min + t (beta_max - beta_min) on [0, 1] (Song et al. 2021, eq. 32): the limit of DDPM's linear betas."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_max: float = 1.0
    t_min: float = 1e-3

    def log_alpha(self, t: Tensor) -> Tensor:
        return -(self.beta_max - self.beta_min) * t**2 / 4 - self.beta_min * t / 2

    def d_log_alpha(self, t: Tensor) -> Tensor:
        return -self.beta(t) / 2

    def beta(self, t: Tensor) -> Tensor:
        """Return beta(t), the rate of the forward SDE."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def t_of_lam(self, lam: Tensor) -> Tensor:
        # log alpha = -softplus(-2 lam)/2 is quadratic in t; the root is written without a difference (Lu et al. 2022, appendix)
        slope = self.beta_max - self.beta_min
        q = 2 * slope * softplus(-2 * lam)
        return q / (((self.beta_min**2 + q).sqrt() + self.beta_min) * slope)


@dataclass(frozen=True)
class VPCosine(_VP):
    """alpha(t) = cos(u) / cos(b), u = (t + s)/(1 + s) pi/2, b = u(0) (Nichol and Dhariwal 2021, eq. 17), stopped at t = 0.9946."""

    s: float = 0.008
    t_max: float = 0.9946
    t_min: float = 1e-3

    @property
    def _b(self) -> float:
        return self.s / (1 + self.s) * math.pi / 2

    def _u(self, t: Tensor) -> Tensor:
        return (t + self.s) / (1 + self.s) * math.pi / 2

    def log_alpha(self, t: Tensor) -> Tensor:
        return self.alpha(t).log()

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(self._u(t)) / math.cos(self._b)

    def sigma(self, t: Tensor) -> Tensor:
        # cos^2 b - cos^2 u = sin(u - b) sin(u + b), without a difference of near-equal numbers at small t
        step = t / (1 + self.s) * math.pi / 2
        return (torch.sin(step) * torch.sin(step + 2 * self._b)).sqrt() / math.cos(self._b)

    def lam(self, t: Tensor) -> Tensor:
        return self.alpha(t).log() - self.sigma(t).log()

    def d_log_alpha(self, t: Tensor) -> Tensor:
        return -torch.tan(self._u(t)) * math.pi / 2 / (1 + self.s)

    def t_of_lam(self, lam: Tensor) -> Tensor:
        # tan^2 u = (sin^2 b + k)/cos^2 b with k = exp(-2 lam); u - b from tan u - tan b, again without a difference
        k, sin_b, cos_b = torch.exp(-2 * lam), math.sin(self._b), math.cos(self._b)
        root = (sin_b**2 + k).sqrt()
        tan_difference = k / ((root + sin_b) * cos_b)
        return torch.atan(tan_difference / (1 + root / cos_b * sin_b / cos_b)) * 2 * (1 + self.s) / math.pi


@dataclass(frozen=True)
class VPDiscrete(_VP):
    """A table of N cumulative products alpha_bar_i = alpha^2 at t = (i + 1)/N, log alpha linear in between (Lu et al. 2022).

    ``t = 0`` is the data. `step` gives the index that a network trained on integer steps expects.
    """

    alpha_bar: tuple[float, ...] = ()
    t_max: float = 1.0
    t_min: float = 1e-3

    def __post_init__(self) -> None:
        values = torch.tensor(self.alpha_bar, dtype=torch.float64)
        if len(values) < 2 or not bool((values > 0).all() and (values < 1).all() and (values.diff() < 0).all()):
            raise ValueError("alpha_bar must be at least two strictly decreasing numbers inside (0, 1)")
        knots = torch.cat([torch.zeros(1, dtype=torch.float64), 0.5 * values.log()])
        object.__setattr__(self, "_knots", knots)
        object.__setattr__(self, "t_min", max(self.t_min, 1 / len(values)))

    @classmethod
    def linear(cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> VPDiscrete:
        """Return DDPM's table: betas linear from ``first`` to ``last`` (Ho et al. 2020, section 4)."""
        return cls.from_betas(torch.linspace(first, last, steps, dtype=torch.float64))

    @classmethod
    def from_betas(cls, betas: Tensor | Sequence[float]) -> VPDiscrete:
        """Return the table of cumulative products of 1 - beta."""
        betas = torch.as_tensor(betas, dtype=torch.float64)
        return cls(alpha_bar=tuple(torch.cumprod(1 - betas, 0).tolist()))

    @property
    def steps(self) -> int:
        """The length N of the table."""
        return len(self.alpha_bar)

    def step(self, t: Tensor) -> Tensor:
        """Return the (real) table index of a time: N t - 1, not below 0."""
        return (self.steps * t - 1).clamp_min(0)

    def _interval(self, t: Tensor) -> tuple[Tensor, Tensor]:
        knots: Tensor = self._knots.to(t.device)  # type: ignore[attr-defined]
        place = (t.double() * self.steps).clamp(0, self.steps)
        index = place.floor().clamp_max(self.steps - 1).long()
        return knots[index], knots[index + 1] - knots[index]

    def log_alpha(self, t: Tensor) -> Tensor:
        left, rise = self._interval(t)
        place = (t.double() * self.steps).clamp(0, self.steps)
        return (left + (place - place.floor().clamp_max(self.steps - 1)) * rise).to(t.dtype)

    def d_log_alpha(self, t: Tensor) -> Tensor:
        return (self._interval(t)[1] * self.steps).to(t.dtype)

    def t_of_lam(self, lam: Tensor) -> Tensor:
        wanted = -0.5 * softplus(-2 * lam.double())
        falling: Tensor = -self._knots.to(lam.device)  # type: ignore[attr-defined]
        index = torch.searchsorted(falling, -wanted, right=True).clamp(1, self.steps) - 1
        part = (-wanted - falling[index]) / (falling[index + 1] - falling[index])
        return ((index + part.clamp(0, 1)) / self.steps).to(lam.dtype)


@dataclass(frozen=True)
class EDM(Schedule):
    """Variance exploding, alpha = 1 and sigma = t (Karras et al. 2022); times are noise levels."""

    t_max: float = 80.0
    t_min: float = 0.002

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def lam(self, t: Tensor) -> Tensor:
        return -t.log()

    def t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.exp(-lam)

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True)
class Flow(Schedule):
    """Linear interpolation, alpha = 1 - t and sigma = t (rectified flow, Liu et al. 2023); the noise is at t = 1."""

    t_max: float = 1.0
    t_min: float = 1e-3

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def lam(self, t: Tensor) -> Tensor:
        return torch.log1p(-t) - t.log()

    def t_of_lam(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-lam)

    def d_alpha(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


def along(t: Tensor | float, x: Tensor) -> Tensor:
    """Return ``t`` ready to be broadcast against ``x`` (B, ...): a scalar stays a float64 scalar, (B,) becomes (B, 1, ...) in x's dtype.

    Zero-dimensional float64 tensors do not change the dtype of what they are multiplied with, so scalar times keep full precision.
    """
    if not isinstance(t, Tensor):
        return torch.tensor(float(t), dtype=torch.float64)
    if t.ndim == 0:
        return t
    return t.to(x.device, x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def make(name: str, **options: float) -> Schedule:
    """Return a schedule by its name in declarations: vp-linear, vp-cosine, ddpm (discrete table), edm, flow."""
    makers = {"vp-linear": VPLinear, "vp-cosine": VPCosine, "ddpm": VPDiscrete.linear, "edm": EDM, "flow": Flow}
    if name not in makers:
        raise ValueError(f"unknown schedule {name!r}; accepted: {', '.join(makers)}")
    return makers[name](**options)  # type: ignore[operator]
