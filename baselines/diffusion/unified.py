"""The unified step of USF: one exponential-integrator step whose form, order, derivative estimates and scaling are free choices
(Liu et al., ICLR 2024, arXiv:2312.07243, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .exponential import Kind, Node, Step

Scaling = Literal["none", "r2", "bh1", "linear"]
SCALINGS: tuple[Scaling, ...] = ("none", "r2", "bh1", "linear")


@dataclass(frozen=True)
class Choice:
    """The decisions of one step.

    To which ``time``, by which prediction (``kind``), from the state ``back`` steps before the newest, the Taylor ``order`` (1 to 4), how
    many points estimate each derivative (``low``: as few as it needs, else all), the ``scaling`` of the first derivative where it is the only
    one, the ``coefficient`` of linear scaling, and whether the state is redone, one order higher, with the prediction made there
    (``corrector``, which takes no evaluation more).
    """

    time: float
    kind: Kind = "data"
    back: int = 0
    order: int = 1
    low: bool = False
    scaling: Scaling = "none"
    coefficient: float = 0.0
    corrector: bool = False


@dataclass(frozen=True)
class Known:
    """What is stored of one visited time: the state there and both predictions."""

    node: Node
    x: Tensor
    data: Tensor
    noise: Tensor

    def prediction(self, kind: Kind) -> Tensor:
        """Return the prediction of form ``kind``."""
        return self.data if kind == "data" else self.noise


def derivative_weights(offsets: Sequence[float], k: int) -> list[float]:
    """Return c_j with sum_j c_j (F_j - F_s) = F^(k) for polynomials of degree up to len(offsets): sum_j c_j d_j^m / m! = [m = k]."""
    scale = max(abs(d) for d in offsets)
    d = torch.tensor([v / scale for v in offsets], dtype=torch.float64)
    system = torch.stack([d**m / math.factorial(m) for m in range(1, len(d) + 1)])
    wanted = torch.zeros(len(d), dtype=torch.float64)
    wanted[k - 1] = 1.0
    return (torch.linalg.solve(system, wanted) / scale**k).tolist()


def factor(scaling: Scaling, h: float, kind: Kind, coefficient: float = 0.0) -> float:
    """Return the factor of the first derivative's term: 1, 1 + c h, or what makes of Taylor's h^2 phi_2 h^2 phi_1 / 2 (r2) or h^2 / 2 (bh1)."""
    z = h if kind == "noise" else -h
    if scaling == "none":
        return 1.0
    if scaling == "linear":
        return 1 + coefficient * h
    rest = math.expm1(z) - z
    return 0.5 * z * math.expm1(z) / rest if scaling == "r2" else 0.5 * z**2 / rest


def step(known: Sequence[Known], t: Node, choice: Choice, new: Known | None = None) -> Tensor:
    """Return x_t by one step of ``choice`` from the points known, newest last; ``new``, at t itself, joins them for the correction.

    Choices that the history cannot serve are cut: at most as many steps back as there are states, at most as high an order as there are
    points, and order 1 from the newest state where t is the data (h is infinite).
    """
    if math.isinf(t.lam):
        choice = replace(choice, order=1, back=0)
    index = max(0, len(known) - 1 - choice.back)
    start = known[index]
    move = Step(start.node, t, choice.kind)
    value = start.prediction(choice.kind)
    others = [p for p in (*([new] if new is not None else []), *reversed(known)) if p is not start]
    count = min(choice.order - 1, len(others)) if new is None else min(choice.order, len(others))
    out = torch.add(move.ratio * start.x, value, alpha=move.weight(1))
    gaps = [p.node.lam - start.node.lam for p in others]
    differences = [p.prediction(choice.kind) - value for p in others[:count]]
    for k in range(1, count + 1):
        used = k if choice.low else count
        weight = move.weight(k + 1) * (factor(choice.scaling, move.h, choice.kind, choice.coefficient) if count == 1 else 1.0)
        for c, difference in zip(derivative_weights(gaps[:used], k), differences[:used], strict=True):
            out = torch.add(out, difference, alpha=weight * c)
    return out
