"""AutoDiffusion: time steps found by evolutionary search (Li et al., ICCV 2023, arXiv:2309.10438), here for DDIM steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ...tasks.metrics.extractors import SHAPES, shipped
from ...tasks.metrics.frechet import Moments, frechet_to_moments
from ...tasks.metrics.points import SlicedWasserstein
from ...tasks.requests import Budget
from ..diffusion.conversions import convert
from ..diffusion.prior import Prior
from ..diffusion.sampling import check_shape
from ..method import DataSpec, Method, Request

Candidate = tuple[int, ...]


class AutoDiffusion(Method):
    """DDIM at K times out of ``places``, the K that a search found to give the smallest distance to the training samples (section 3.2).

    Fitness (eq. 5): the Frechet distance between the features of ``samples`` generated and of the training samples, always from the same
    x_T; on the shipped feature networks where the data have one (digits, shapes), on the pixels otherwise, and for points the sliced
    Wasserstein distance. The first population holds the uniform times, random ones, and mutants of the uniform; every generation keeps the
    best ten ever seen and adds mutants of them (each time redrawn with probability 0.25), crossovers, and random ones. Candidates are sets,
    sorted and without repetition; none is evaluated twice. ``rows`` bounds the network rows of the search, so a long walk is searched less.
    The search for layers to leave out (section 3.3) is not here: a budget of evaluations does not see layers.
    """

    times: Tensor

    def __init__(
        self,
        prior: Prior,
        data: DataSpec,
        budget: Budget,
        search: Literal["evolution", "random"] = "evolution",
        places: int = 1000,
        population: int = 50,
        samples: int = 500,
        rows: int = 200_000,
        steps: int = 10,
    ) -> None:
        """``steps`` is K where the budget does not bound the evaluations; ``search: random`` evaluates as many random candidates."""
        super().__init__()
        if search not in ("evolution", "random"):
            raise ValueError(f"search is {search!r}; accepted: evolution, random")
        self.prior, self.kind, self.search = prior, data.kind, search
        self.places, self.population, self.samples, self.rows = places, population, samples, rows
        self.count = steps if budget.nfe is None else max(1, budget.nfe // prior.evaluations)
        self.register_buffer("times", self._times(self._uniform()))

    # ------------------------------------------------------------------ sampling
    def sample(self, request: Request) -> Tensor:
        shape = check_shape(self.prior, request)
        x = self.prior.start(request.rng.at("x_T").normal(shape))
        return self.prior.decode(self._walk(x, self.times, self.prior.condition(request)))

    def _walk(self, x: Tensor, times: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return where DDIM (eta = 0) carries ``x`` along ``times`` (K,), falling, and then to the data."""
        schedule = self.prior.schedule
        for t, s in zip(times.double(), [*times.double()[1:], None], strict=True):
            data = self.prior.denoised(x, t, cond)
            if s is None:
                return data
            x = schedule.alpha(s) * data + schedule.sigma(s) * convert(data, x, t, schedule, "data", "noise")
        raise AssertionError("a walk has at least one time")

    # ------------------------------------------------------------------ candidates
    def _uniform(self) -> Candidate:
        return tuple(round(self.places * (self.count - k) / self.count) for k in range(self.count))

    def _times(self, candidate: Candidate) -> Tensor:
        """Return the times of a candidate, whose entries are 1 ... ``places``; the first place is t_max."""
        return self.prior.schedule.t_max * torch.tensor(sorted(candidate, reverse=True), dtype=torch.float64) / self.places

    def _redrawn(self, kept: Sequence[int], draw: torch.Generator) -> Candidate:
        """Return ``kept`` filled up to K different places by random ones."""
        chosen = set(kept)
        while len(chosen) < self.count:
            chosen.add(1 + int(torch.randint(self.places, (), generator=draw)))
        return tuple(sorted(chosen, reverse=True))

    def _mutant(self, parent: Candidate, share: float, draw: torch.Generator) -> Candidate:
        changed = torch.rand(len(parent), generator=draw) < share
        return self._redrawn([p for p, c in zip(parent, changed.tolist(), strict=True) if not c], draw)

    def _child(self, a: Candidate, b: Candidate, draw: torch.Generator) -> Candidate:
        first = torch.rand(len(a), generator=draw) < 0.5
        return self._redrawn([x if f else y for x, y, f in zip(a, b, first.tolist(), strict=True)], draw)

    # ------------------------------------------------------------------ search
    def learn(self, data: Any) -> None:
        real = torch.stack([data[i]["target"] for i in range(len(data))])
        draw = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        x = self.prior.start(torch.randn(self.samples, *self.prior.shape, generator=draw))
        distance = fitness(real, self.kind)
        seen: dict[Candidate, float] = {}

        def evaluate(candidates: Sequence[Candidate]) -> None:
            for c in dict.fromkeys(candidates):
                if c not in seen and len(seen) * self.samples * self.count < self.rows:
                    with torch.no_grad():
                        parts = [self.prior.decode(self._walk(part, self._times(c))) for part in x.split(256)]
                    seen[c] = distance(torch.cat(parts))

        many = 10**9 if self.search == "random" else self.population // 2 + 1
        mutants = [self._mutant(self._uniform(), 0.1, draw) for _ in range(self.population - min(many, self.population) - 1)]
        evaluate([self._uniform(), *(self._redrawn((), draw) for _ in range(min(many, self.population - 1))), *mutants])
        started, idle = len(seen), 0
        while len(seen) * self.samples * self.count < self.rows and idle < 3:
            if self.search == "random":
                fresh = [self._redrawn((), draw) for _ in range(self.population)]
            else:
                best = sorted(seen, key=seen.__getitem__)[:10]
                parents = [best[k] for k in torch.randint(len(best), (2 * self.population,), generator=draw).tolist()]
                fresh = [self._mutant(parents.pop(), 0.25, draw) for _ in range(self.population // 2)]
                fresh += [self._child(parents.pop(), parents.pop(), draw) for _ in range(self.population // 4)]
                fresh += [self._redrawn((), draw) for _ in range(self.population - len(fresh))]
            evaluate(fresh)
            idle, started = (idle + 1 if len(seen) == started else 0), len(seen)
        self.times.copy_(self._times(min(seen, key=seen.__getitem__)))


def fitness(real: Tensor, kind: str) -> Callable[[Tensor], float]:
    """Return the distance of answers to the training samples that the search makes small."""
    if kind == "points":
        metric = SlicedWasserstein()
        reference = metric.reference([{"answer": real}])
        return lambda x: metric.value(metric.features(x.float(), {}).numpy(), reference)
    net = next((name for name, (channels, side) in SHAPES.items() if tuple(real.shape[1:]) == (channels, side, side)), None)

    def rows(x: Tensor) -> Any:
        if net is not None:
            return shipped(net)(x.float().clamp(0, 1)).double().numpy()
        return torch.nn.functional.adaptive_avg_pool2d(x, 8).flatten(1).double().numpy()

    moments = Moments()
    for part in real.split(512):
        moments.add(rows(part))
    return lambda x: float(frechet_to_moments(rows(x), moments))
