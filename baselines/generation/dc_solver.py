"""DC-Solver: predictor-corrector sampling with dynamic compensation (Zhao et al., ECCV 2024, arXiv:2409.03755)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...configs.errors import RequestError
from ...tasks.requests import Budget
from ..diffusion.exponential import Node, nodes
from ..diffusion.grids import Grid, time_grid
from ..diffusion.prior import Guided, Prior
from ..diffusion.sampling import Walk
from ..method import Request
from .unipc import Kind, UniPC


def compensated(data: Sequence[Tensor], times: Sequence[Tensor], ratio: Tensor | float, order: int = 2) -> Tensor:
    """Return the Lagrange interpolant in t of the last ``order`` + 1 predictions at t' = ratio t_i + (1 - ratio) t_{i-1} (section 3.2)."""
    known, at = data[-order - 1 :], [float(t) for t in times[-order - 1 :]]
    where = ratio * at[-1] + (1 - ratio) * at[-2]
    total: Tensor | float = 0.0
    for j, value in enumerate(known):
        weight: Tensor | float = 1.0
        for k, t in enumerate(at):
            if k != j:
                weight = weight * (where - t) / (at[j] - t)
        total = total + weight * value
    assert isinstance(total, Tensor)
    return total


class DCSolver(UniPC):
    """UniPC whose newest prediction is moved along the interpolant of the last three, by one searched ratio per step.

    UniPC corrects a state with the prediction made at the uncorrected one and goes on using that prediction; the ratio compensates the
    mismatch (ratio 1: none). `learn` finds the ratios one after another, each by AdamW on the squared distance of the next state to DDIM's
    with many steps, on a few noise samples of its own. They belong to one prior, one grid, one number of steps and one guidance weight.
    """

    ratios: Tensor
    searched: Tensor

    def __init__(
        self, prior: Prior, budget: Budget, order: int = 3, kind: Kind = "bh2", corrector: bool = True, lower_order_final: bool = True,
        grid: Grid = "uniform-t", end: float = 0.0, steps: int = 20, guidance: float = 1.0, clip: bool = False,
        samples: int = 10, iterations: int = 40, learning_rate: float = 0.1, reference_steps: int = 999,
    ) -> None:  # fmt: skip
        """The search: ``samples`` noise samples, ``iterations`` of AdamW a ratio at ``learning_rate``, ``reference_steps`` of DDIM.

        ``steps`` counts where the budget has no bound. A guidance weight other than 1 is searched with labels drawn evenly.
        """
        super().__init__(prior, order, kind, corrector, lower_order_final, grid, end, steps, guidance, clip)
        self.samples, self.iterations, self.learning_rate, self.reference_steps = samples, iterations, learning_rate, reference_steps
        self.guided = guidance != 1 and prior.conditioning == "class"
        self.planned = (budget.nfe // (Guided(prior, guidance).evaluations if self.guided else prior.evaluations)) if budget.nfe else steps
        self.register_buffer("ratios", torch.ones(max(self.planned, 1), dtype=torch.float64))
        self.register_buffer("searched", torch.tensor(False))

    def compensate(self, step: int, points: Sequence[Node], data: list[Tensor]) -> None:
        if step > 2:  # three predictions are known
            data[-1] = compensated(data, [p.time for p in points], self.ratios[step - 1].item())

    def sample(self, request: Request) -> Tensor:
        guided = self.guided and self.prior.condition(request) is not None
        asked = Guided(self.prior, self.guidance) if guided else self.prior
        allowed = request.budget.nfe // asked.evaluations if request.budget.nfe else self.steps
        if bool(self.searched) and allowed != self.planned:
            raise RequestError(
                f"dc-solver's ratios were searched for {self.planned} steps, and this request takes {allowed}; fit it for this budget, and "
                "use a guidance weight other than 1 only on tasks that give labels."
            )
        return super().sample(request)

    @torch.no_grad()
    def reference(self, walk: Walk) -> list[Tensor]:
        """Return DDIM's states at the walk's times; between two of them it takes an equal share of ``reference_steps``, uniform in t."""
        each, x, out = -(-self.reference_steps // (len(walk.times) - 1)), walk.x, [walk.x]
        for a, b in walk.steps():
            points = nodes(walk.prior.schedule, a + (b - a) * torch.linspace(0, 1, each + 1, dtype=torch.float64))
            for s, t in pairwise(points):
                data, eps = walk.both(x, s.time)
                x = torch.add(t.alpha * data, eps, alpha=t.sigma)
            out.append(x)
        return out

    def learn(self, data: Any = None) -> None:
        """Search the ratios in order, earlier ones applied (algorithm 1); ``data`` is not used."""
        prior = Guided(self.prior, self.guidance) if self.guided else self.prior
        device = next(self.prior.buffers(), next(self.prior.parameters(), torch.zeros(()))).device
        cond = torch.arange(self.samples, device=device) % self.prior.classes if self.guided else None
        z = torch.randn(self.samples, *prior.shape, device=device)
        walk = Walk(prior, cond, prior.start(z), time_grid(prior.schedule, self.planned, self.grid, self.end), self.clip)
        wanted, points = self.reference(walk), nodes(prior.schedule, walk.times)
        x, known = walk.x, []
        with torch.no_grad():
            known.append(walk.both(x, points[0].time)[0])
        for i in range(1, len(points)):
            if i > 2:
                self.ratios[i - 1] = self._search(walk, points, i, x, known, wanted[i])
            self.compensate(i, points[:i], known)
            with torch.no_grad():
                x, new = self.advance(walk, points, i, x, known)
            if new is not None:
                known.append(new)
        self.searched.fill_(True)

    def _search(self, walk: Walk, points: Sequence[Node], i: int, x: Tensor, known: list[Tensor], wanted: Tensor) -> Tensor:
        """Return the ratio of step i that brings its state nearest to ``wanted``."""
        times = [p.time for p in points[:i]]
        ratio = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
        optimiser = torch.optim.AdamW([ratio], lr=self.learning_rate)  # with its default weight decay, as the authors have it
        for _ in range(self.iterations):
            with torch.enable_grad():
                newest = compensated(known, times, ratio)
                loss = (self.advance(walk, points, i, x, [*known[:-1], newest])[0] - wanted).square().mean()
                optimiser.zero_grad()
                loss.backward()
            optimiser.step()
        return ratio.detach()
