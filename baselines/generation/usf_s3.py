"""USF with S3: solver schedules searched in a unified sampling framework (Liu et al., ICLR 2024, arXiv:2312.07243)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ...configs.errors import RequestError
from ...tasks.requests import Budget
from ..diffusion.exponential import Kind, nodes
from ..diffusion.grids import GRIDS, time_grid
from ..diffusion.prior import Guided, Prior
from ..diffusion.sampling import Walk, begin
from ..diffusion.unified import SCALINGS, Choice, Known, step
from ..method import Method, Request

Schedule = list[Choice]
KINDS: tuple[Kind, ...] = get_args(Kind)


def known_solvers(prior: Prior, steps: int) -> list[Schedule]:
    """Return DDIM, 2M (noise and data), 3M, UniPC-2 and UniPC-3 as points of the space, each on every time grid."""
    solvers = [
        Choice(0.0), Choice(0.0, "noise", order=2, scaling="r2"), Choice(0.0, order=2, scaling="r2"), Choice(0.0, order=3, scaling="r2"),
        Choice(0.0, order=2, scaling="r2", corrector=True), Choice(0.0, order=3, scaling="r2", corrector=True),
    ]  # fmt: skip
    out = []
    for grid in GRIDS:
        times = time_grid(prior.schedule, steps, grid)[1:].tolist()
        for s in solvers:
            out.append([replace(s, time=t, order=max(1, min(s.order, i + 1, steps - i))) for i, t in enumerate(times)])
    return out


def integrate(walk: Walk, schedule: Schedule) -> Tensor:
    """Return the state at the last time of ``schedule``, from walk.x at walk.times[0]; one evaluation per step."""
    points = nodes(walk.prior.schedule, torch.tensor([float(walk.times[0]), *(c.time for c in schedule)], dtype=torch.float64))
    known = [Known(points[0], walk.x, *walk.both(walk.x, points[0].time))]
    for choice, t in zip(schedule[:-1], points[1:-1], strict=True):
        x = step(known, t, choice)
        new = Known(t, x, *walk.both(x, t.time))
        if choice.corrector:
            new = replace(new, x=step(known, t, choice, new))
        known = [*known[-4:], new]
    return step(known, points[-1], schedule[-1])


def encoded(schedule: Schedule) -> list[float]:
    """Return a schedule as numbers, 15 a step, for the predictor."""
    out: list[float] = []
    for c in schedule:
        out += [4 * c.time, float(c.kind == "noise"), float(c.back), float(c.low), 10 * c.coefficient, float(c.corrector)]
        out += [float(c.order == o) for o in range(1, 5)] + [float(c.scaling == s) for s in SCALINGS] + [math.sqrt(c.time)]
    return out


def mutated(parent: Schedule, rng: random.Random, top: float) -> Schedule:
    """Return a child: each decision of each step is drawn anew, or moved, with probability 0.3 for one group of decisions after another."""
    child = list(parent)
    groups = [g for g in ("time", "order", "estimate", "kind", "scaling", "corrector", "back") if rng.random() < 0.3] or ["time"]
    for i, c in enumerate(child):
        last = i == len(child) - 1
        if "time" in groups and not last:
            c = replace(c, time=min(c.time * (1 + rng.gauss(0, 0.08)), 0.999 * top))
        if "order" in groups and rng.random() < 0.5:
            c = replace(c, order=rng.choices((1, 2, 3, 4), (0.2, 0.4, 0.3, 0.1))[0])
        if "estimate" in groups and rng.random() < 0.5:
            c = replace(c, low=not c.low)
        if "kind" in groups and rng.random() < 0.5:
            c = replace(c, kind=rng.choice(KINDS))
        if "scaling" in groups and rng.random() < 0.5:
            c = replace(c, scaling=rng.choice(SCALINGS), coefficient=c.coefficient + rng.gauss(0, 0.03))
        if "corrector" in groups and not last:
            c = replace(c, corrector=rng.random() < 0.5)
        if "back" in groups:
            c = replace(c, back=int(rng.random() < 0.15))
        child[i] = c
    times = sorted((c.time for c in child), reverse=True)
    times = [t - 1e-6 * i * top for i, t in enumerate(times[:-1])] + times[-1:]  # strictly decreasing
    return [replace(c, time=t) for c, t in zip(child, times, strict=True)]


def crossed(a: Schedule, b: Schedule, rng: random.Random) -> Schedule:
    """Return a child that takes the times of one parent and the rest of either, by step or as a whole."""
    mixed = [rng.choice(pair) for pair in zip(a, b, strict=True)] if rng.random() < 0.5 else b
    return [replace(m, time=c.time) for m, c in zip(mixed, a, strict=True)]


class USFS3(Method):
    """Every step has its own time, prediction, starting point, order, estimates, scaling and corrector; a search picks the table of choices.

    `learn` scores schedules by the mean distance of their endpoints to an accurate solution from the same x_T, starts from known solvers
    on four grids, and goes on with children of the best 15. ``search``: with ``predictor`` a small network, fitted to rank what was scored so
    far, picks which children are scored (S3); ``evolution`` scores them as they come; ``random`` draws schedules at random. The best ten are
    ranked again on fresh noise. The paper scores by FID of 1,000 pictures; the distance needs no data and is smoother.
    """

    table: Tensor
    scores: Tensor

    def __init__(
        self, prior: Prior, budget: Budget, search: Literal["predictor", "evolution", "random"] = "predictor", candidates: int = 240,
        samples: int = 64, reference_steps: int = 100, steps: int = 10, guidance: float = 1.0, clip: bool = False,
    ) -> None:  # fmt: skip
        """``candidates``: schedules scored in all, on ``samples`` noise samples; ``steps`` counts where the budget has no bound."""
        super().__init__()
        if search not in ("predictor", "evolution", "random"):
            raise ValueError(f"search is {search!r}; accepted: predictor, evolution, random")
        self.prior, self.search, self.candidates, self.samples = prior, search, candidates, samples
        self.reference_steps, self.steps, self.guidance, self.clip = reference_steps, steps, guidance, clip
        self.guided = guidance != 1 and prior.conditioning == "class"
        self.planned = max(1, (budget.nfe // (Guided(prior, guidance) if self.guided else prior).evaluations) if budget.nfe else steps)
        # the rows of choices, one after another: a matrix would be stored with 11 bits, in which neighbouring times collide
        self.register_buffer("table", torch.tensor([v for c in known_solvers(prior, self.planned)[0] for v in _row(c)], dtype=torch.float64))
        self.register_buffer("scores", torch.full((2,), -1.0))  # of the best known solver and of the schedule chosen, on fresh noise

    @property
    def schedule(self) -> Schedule:
        """The schedule chosen."""
        return [_choice(r) for r in self.table.reshape(self.planned, -1).tolist()]

    def sample(self, request: Request) -> Tensor:
        walk = begin(request, self.prior, steps=self.steps, guidance=self.guidance, clip=self.clip)
        if len(walk.times) - 1 != self.planned:
            raise RequestError(
                f"usf-s3's schedule was searched for {self.planned} steps, and this request takes {len(walk.times) - 1}; fit it for this "
                "budget, and use a guidance weight other than 1 only on tasks that give labels."
            )
        return walk.prior.decode(integrate(walk, self.schedule))

    # ------------------------------------------------------------------ search
    def _trial(self) -> tuple[Walk, Tensor]:
        """Return a walk from fresh noise and its accurate endpoints, by 3M with many steps."""
        prior = Guided(self.prior, self.guidance) if self.guided else self.prior
        z = torch.randn(self.samples, *prior.shape, device=self.table.device)
        cond = torch.arange(self.samples, device=z.device) % prior.classes if self.guided else None
        walk = Walk(prior, cond, prior.start(z), time_grid(prior.schedule, self.planned), self.clip)
        fine = time_grid(prior.schedule, self.reference_steps, "uniform-lambda")[1:].tolist()
        exact = integrate(walk, [Choice(t, order=min(3, i + 1, len(fine) - i)) for i, t in enumerate(fine)])
        return walk, exact

    @torch.no_grad()
    def learn(self, data: Any = None) -> None:
        """Search the schedule; ``data`` is not used."""
        rng = random.Random(int(torch.randint(2**31, ()).item()))
        trial, top = self._trial(), self.prior.schedule.t_max
        seeds = known_solvers(self.prior, self.planned)
        scored = [(score(s, trial), s) for s in seeds]
        best_known = min(scored, key=lambda p: p[0])[1]
        batch = 20
        while len(scored) < self.candidates:
            few = min(batch, self.candidates - len(scored))
            if self.search == "random":
                children = [_random(rng, rng.choice(seeds), top) for _ in range(few)]
            else:
                parents = [s for _, s in sorted(scored, key=lambda p: p[0])[:15]]
                pool = []
                for _ in range(5 * few if self.search == "predictor" else few):
                    parent = rng.choice(parents)
                    if rng.random() < 0.3:
                        parent = crossed(parent, rng.choice(parents), rng)
                    pool.append(mutated(parent, rng, top))
                children = ranked(scored, pool)[:few] if self.search == "predictor" else pool
            scored += [(score(c, trial), c) for c in children]
        again = self._trial()
        finalists = [s for _, s in sorted(scored, key=lambda p: p[0])[:10]]
        chosen = min(finalists, key=lambda s: score(s, again))
        self.table.copy_(torch.tensor([v for c in chosen for v in _row(c)], dtype=torch.float64))
        self.scores.copy_(torch.tensor([score(best_known, again), score(chosen, again)]))


def score(schedule: Schedule, trial: tuple[Walk, Tensor]) -> float:
    """Return the mean distance to the accurate endpoints, infinite where the schedule diverges."""
    walk, exact = trial
    value = (integrate(walk, schedule) - exact).flatten(1).norm(dim=1).mean().item()
    return value if math.isfinite(value) else math.inf


def ranked(scored: Sequence[tuple[float, Schedule]], pool: list[Schedule]) -> list[Schedule]:
    """Return ``pool``, most promising first, by a two-layer network fitted with a pairwise ranking loss to the scores so far."""
    x = torch.tensor([encoded(s) for _, s in scored])
    order = torch.tensor([v for v, _ in scored]).argsort().argsort().float()  # ranks: scores span orders of magnitude
    net = nn.Sequential(nn.Linear(x.shape[1], 64), nn.SiLU(), nn.Linear(64, 1))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=1e-4)
    better = (order[:, None] < order[None]).float()
    with torch.enable_grad():
        for _ in range(60):
            value = net(x)[:, 0]
            loss = (better * nn.functional.softplus(value[:, None] - value[None])).sum() / better.sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    places = net(torch.tensor([encoded(s) for s in pool]))[:, 0].argsort().tolist()
    return [pool[i] for i in places]


def _random(rng: random.Random, seed: Schedule, top: float) -> Schedule:
    out = seed
    for _ in range(4):
        out = mutated(out, rng, top)
    return out


def _row(c: Choice) -> list[float]:
    return [c.time, KINDS.index(c.kind), c.back, c.order, float(c.low), SCALINGS.index(c.scaling), c.coefficient, float(c.corrector)]


def _choice(row: Sequence[float]) -> Choice:
    time, kind, back, order, low, scaling, coefficient, corrector = row
    return Choice(time, KINDS[int(kind)], int(back), int(order), bool(low), SCALINGS[int(scaling)], coefficient, bool(corrector))
