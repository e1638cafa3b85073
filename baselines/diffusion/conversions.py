"""Conversions between what networks predict: data, noise, score, v and the slope of the probability-flow ODE.

Every prediction is a linear form p = c_0 x_0 + c_1 eps of the clean signal and the noise, and so is the state, x = alpha x_0 + sigma eps.
Two forms determine the third, which gives one affine map in (x, p) per pair of forms, with no detour through a badly conditioned one.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .schedule import Schedule, along, constant

Form = Literal["data", "noise", "score", "v", "velocity"]
FORMS: tuple[Form, ...] = ("data", "noise", "score", "v", "velocity")


def coefficients(form: Form, schedule: Schedule, t: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """Return (c_0, c_1) with prediction = c_0 x_0 + c_1 eps.

    data: x_0; noise: eps; score: -eps / sigma; v: alpha eps - sigma x_0 (Salimans and Ho 2022, appendix D);
    velocity: dx/dt = alpha' x_0 + sigma' eps, the slope of the probability-flow ODE (for rectified flow eps - x_0).
    """
    if form == "data":
        return 1.0, 0.0
    if form == "noise":
        return 0.0, 1.0
    if form == "score":
        return 0.0, -1 / schedule.sigma(t)
    if form == "v":
        return -schedule.sigma(t), schedule.alpha(t)
    if form == "velocity":
        return schedule.d_alpha(t), schedule.d_sigma(t)
    raise ValueError(f"unknown prediction {form!r}; accepted: {', '.join(FORMS)}")


def convert(prediction: Tensor, x: Tensor, t: Tensor | float, schedule: Schedule, source: Form, target: Form) -> Tensor:
    """Turn a prediction of form ``source`` at state ``x`` (B, ...) and time ``t`` (scalar or (B,)) into form ``target``."""
    if source == target:
        return prediction
    number = constant(t) if isinstance(t, Tensor) else float(t)
    if number is None:
        on_x, on_prediction = _affine(schedule, along(t, x), source, target)
        return on_x * x + on_prediction * prediction
    factors = schedule.remember((source, target, number), lambda: _numbers(schedule, number, source, target))
    return torch.add(factors[0] * x, prediction, alpha=factors[1])


def _affine(schedule: Schedule, t: Tensor, source: Form, target: Form) -> tuple[Tensor | float, Tensor | float]:
    """Return the factors of x and of the prediction; both forms are linear in (x_0, eps), and so is x."""
    a, s = schedule.alpha(t), schedule.sigma(t)
    c0, c1 = coefficients(source, schedule, t)
    d0, d1 = coefficients(target, schedule, t)
    determinant = a * c1 - s * c0
    return (d0 * c1 - d1 * c0) / determinant, (a * d1 - s * d0) / determinant


def _numbers(schedule: Schedule, t: float, source: Form, target: Form) -> tuple[float, float]:
    on_x, on_prediction = _affine(schedule, torch.tensor(t, dtype=torch.float64), source, target)
    return float(on_x), float(on_prediction)
