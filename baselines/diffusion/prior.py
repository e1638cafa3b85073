"""The one interface of all generative priors: what solvers, guidance rules and inverse-problem methods are written against.

A prior knows E[x_0 | x_t]; noise, score, v and velocity follow from it by the schedule. EDM and flow forms are exact changes of variable of the
same network (`Prior.as_edm`, `Prior.as_flow`): a path with the same lambda is the same family of marginals up to scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..method import Request
from .conversions import Form, convert
from .schedule import EDM, Flow, Schedule, along

NULL = -1
"""The value of a condition's entries that means "no condition" (label dropout, the unconditional half of guidance)."""


class Prior(nn.Module):
    """Base of all priors. Subclasses set the attributes and implement `raw`.

    States x and clean signals x_0 are (B, *shape) in the prior's own space; `encode` and `decode` go from and to answers. Times are
    scalars or one per sample (B,). ``cond`` is None or an integer tensor (B, ...) whose rows of `NULL` mean "none": labels (B,) for
    class priors.
    """

    schedule: Schedule
    shape: tuple[int, ...]
    """Shape of one x_0, without the batch."""
    parameterisation: Form = "data"
    """What `raw` returns."""
    conditioning: Literal["none", "class", "caption"] = "none"
    classes: int = 0
    evaluations: int = 1
    """Network rows per sample that one prediction costs (2 under classifier-free guidance)."""
    span: tuple[float, float] | None = None
    """Range of x_0 in the prior's own space, where it has one: what clipping and thresholding use."""
    counted: ClassVar[tuple[str, ...]] = ("network",)
    """Attributes that hold the modules whose evaluated rows count."""

    # ------------------------------------------------------------------ what a subclass implements
    def raw(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """Return the prediction of form `parameterisation` at ``x`` (B, *shape) and ``t``, a scalar or (B,)."""
        raise AssertionError("a prior implements raw()")

    def encode(self, image: Tensor) -> Tensor:
        """Return the answer ``image`` (B, ...) as x_0 (B, *shape)."""
        return image

    def decode(self, x0: Tensor) -> Tensor:
        """Return x_0 (B, *shape) as an answer."""
        return x0

    # ------------------------------------------------------------------ predictions
    def predict(self, x: Tensor, t: Tensor | float, cond: Tensor | None = None, form: Form = "data") -> Tensor:
        """Return one prediction of ``form``: exactly one evaluation of the network."""
        time = torch.as_tensor(t, dtype=torch.float64) if not isinstance(t, Tensor) else t
        return convert(self.raw(x, time, cond), x, time, self.schedule, self.parameterisation, form)

    def denoised(self, x: Tensor, t: Tensor | float, cond: Tensor | None = None) -> Tensor:
        """Return E[x_0 | x_t = x]."""
        return self.predict(x, t, cond, "data")

    def noise(self, x: Tensor, t: Tensor | float, cond: Tensor | None = None) -> Tensor:
        """Return E[eps | x_t = x]."""
        return self.predict(x, t, cond, "noise")

    def score(self, x: Tensor, t: Tensor | float, cond: Tensor | None = None) -> Tensor:
        """Return grad_x log p_t(x) = -E[eps | x] / sigma(t)."""
        return self.predict(x, t, cond, "score")

    def velocity(self, x: Tensor, t: Tensor | float, cond: Tensor | None = None) -> Tensor:
        """Return dx/dt of the probability-flow ODE, alpha' E[x_0 | x] + sigma' E[eps | x] (for a flow: E[eps - x_0 | x])."""
        return self.predict(x, t, cond, "velocity")

    # ------------------------------------------------------------------ views
    def view(self, schedule: Schedule) -> View:
        """Return the same prior along the path ``schedule``."""
        return View(self, schedule)

    def as_edm(self) -> View:
        """Return the VE form (alpha = 1, sigma = t), over the noise levels that this prior's schedule covers."""
        low, high = (float(self.schedule.kappa(_t(t))) for t in (self.schedule.t_min, self.schedule.t_max))
        return self.view(EDM(t_max=high, t_min=low))

    def as_flow(self) -> View:
        """Return the rectified-flow form (alpha = 1 - t, sigma = t), over the noise levels that this prior's schedule covers."""
        low, high = (float(self.schedule.kappa(_t(t))) for t in (self.schedule.t_min, self.schedule.t_max))
        return self.view(Flow(t_max=high / (1 + high), t_min=low / (1 + low)))

    # ------------------------------------------------------------------ what sampling needs
    def start(self, noise: Tensor) -> Tensor:
        """Return the state at t_max that standard normal ``noise`` (B, *shape) stands for: sigma(t_max) noise."""
        return float(self.schedule.sigma(_t(self.schedule.t_max))) * noise

    def condition(self, request: Request) -> Tensor | None:
        """Return what the task gives (label) as this prior's ``cond``; None where it gives nothing or the prior takes nothing."""
        if self.conditioning == "class" and "label" in request:
            return labels(request.label, request.n, self.classes)
        return None

    def counted_networks(self) -> Iterator[nn.Module]:
        """Yield the modules whose evaluated rows count as network evaluations."""
        for name in self.counted:
            yield getattr(self, name)


class View(Prior):
    """A prior along another path. At time t' of ``schedule``, the base is asked at the time of equal lambda, at the rescaled state."""

    counted = ()

    def __init__(self, base: Prior, schedule: Schedule) -> None:
        super().__init__()
        self.base, self.schedule = base, schedule
        self.shape, self.classes, self.conditioning, self.span = base.shape, base.classes, base.conditioning, base.span
        self.evaluations = base.evaluations

    def raw(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        inner = self.base.schedule
        u = inner.t_of_lam(self.schedule.lam(t)).clamp(max=inner.t_max)
        # both pairs (alpha, sigma) have the same ratio, so the ratio of their lengths is the change of scale, at either end
        ours = torch.hypot(self.schedule.alpha(t), self.schedule.sigma(t))
        scale = torch.hypot(inner.alpha(u), inner.sigma(u)) / ours
        return self.base.predict(x * along(scale, x), u, cond, "data")

    def encode(self, image: Tensor) -> Tensor:
        return self.base.encode(image)

    def decode(self, x0: Tensor) -> Tensor:
        return self.base.decode(x0)

    def condition(self, request: Request) -> Tensor | None:
        return self.base.condition(request)

    def counted_networks(self) -> Iterator[nn.Module]:
        yield from self.base.counted_networks()


class Guided(Prior):
    """Classifier-free guidance as a prior: null + weight (conditional - null), from one doubled batch (Ho and Salimans 2022, eq. 6).

    The combination is the same in every form, since all are affine in each other. Two rows are evaluated per sample, unless ``weight`` is 0
    or 1, or there is no condition to guide to.
    """

    counted = ()
    parameterisation = "v"  # finite at both ends of the path, unlike noise to data

    def __init__(self, base: Prior, weight: float) -> None:
        super().__init__()
        if base.conditioning == "none":
            raise ValueError("classifier-free guidance needs a conditional prior (cond: class or caption)")
        self.base, self.weight, self.schedule = base, float(weight), base.schedule
        self.shape, self.classes, self.conditioning, self.span = base.shape, base.classes, base.conditioning, base.span
        self.evaluations = base.evaluations * (1 if self.weight in (0.0, 1.0) else 2)

    def raw(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        if cond is None or self.weight == 1:
            return self.base.predict(x, t, cond, "v")
        null = torch.full_like(cond, NULL)
        if self.weight == 0:
            return self.base.predict(x, t, null, "v")
        both = self.base.predict(torch.cat([x, x]), torch.cat([t, t]) if t.ndim else t, torch.cat([null, cond]), "v")
        without, with_ = both.chunk(2)
        return without + self.weight * (with_ - without)

    def encode(self, image: Tensor) -> Tensor:
        return self.base.encode(image)

    def decode(self, x0: Tensor) -> Tensor:
        return self.base.decode(x0)

    def condition(self, request: Request) -> Tensor | None:
        return self.base.condition(request)

    def counted_networks(self) -> Iterator[nn.Module]:
        yield from self.base.counted_networks()


def labels(given: Any, n: int, classes: int) -> Tensor:
    """Return labels given as one number, a list or a tensor as int64 (n,), checked against the number of classes."""
    label = torch.as_tensor(given, dtype=torch.int64).reshape(-1)
    label = label.expand(n) if len(label) == 1 else label
    if len(label) != n or bool(((label < NULL) | (label >= classes)).any()):
        raise ValueError(f"labels must be {n} integers from 0 to {classes - 1} (or {NULL} for none), got {label.tolist()[:8]}")
    return label


def _t(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)
