"""DPM-OT: a diffusion model entered through semi-discrete optimal transport (Li et al., ICCV 2023, arXiv:2307.11308)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from ..diffusion.prior import Prior
from ..diffusion.sampling import check_shape
from ..diffusion.schedule import EDM
from ..method import Method, Request


class SemiDiscrete:
    """The optimal transport map from a source to n equal atoms: T(x) = y_j with j = argmax <y_j, x> + h_j (Brenier potential, eq. 8)."""

    def __init__(self, atoms: Tensor, height: Tensor) -> None:
        self.atoms, self.height = atoms, height

    def cells(self, x: Tensor) -> Tensor:
        """Return the index of each row's cell, (B,)."""
        return torch.addmm(self.height, x, self.atoms.T).argmax(1)

    def masses(self, source: Any, draws: int, batch: int) -> Tensor:
        """Return the share of ``draws`` source points in each cell, (n,)."""
        counts = torch.zeros(len(self.atoms))
        for start in range(0, draws, batch):
            counts += torch.bincount(self.cells(source(min(batch, draws - start))), minlength=len(self.atoms)).float()
        return counts / draws

    def solve(self, source: Any, rounds: int, rate: float = 0.1, tolerance: float = 8e-4, batch: int = 4000, patience: int = 50) -> float:
        """Move the heights by Adam until every cell has mass 1/n, and keep the best ones; return their distance |g - nu|.

        The gradient of the convex energy is g - nu, the cells' masses minus 1/n, estimated from 10 n source points. Without an improvement for
        ``patience`` rounds the points are doubled and the rate is lowered by a fifth, three times at most.
        """
        n, draws, still, refined = len(self.atoms), 10 * len(self.atoms), 0, 0
        best, kept = math.inf, self.height.clone()
        first, second = torch.zeros(n), torch.zeros(n)
        for k in range(1, rounds + 1):
            gap = self.masses(source, draws, batch) - 1 / n
            distance = gap.norm().item()
            if distance < best:
                best, kept, still = distance, self.height.clone(), 0
            else:
                still += 1
            if distance < tolerance and bool((gap > -1 / n).all()):
                break
            if still >= patience:
                if refined == 3:
                    break
                draws, rate, refined, still = 2 * draws, 0.8 * rate, refined + 1, 0
            first, second = 0.9 * first + 0.1 * gap, 0.999 * second + 0.001 * gap**2
            self.height -= rate * (first / (1 - 0.9**k)) / ((second / (1 - 0.999**k)).sqrt() + 1e-8)
            self.height -= self.height.mean()
        self.height.copy_(kept)
        return best


class DPMOT(Method):
    """Noise is mapped to one of n noised training samples at level ``sigma`` by optimal transport; a few Langevin steps do the rest.

    ``learn`` keeps y_i = data_i + sigma z as atoms and solves for the heights. Sampling: x from the source, y = T(x), then annealed Langevin
    dynamics on a geometric ladder from ``sigma`` to ``floor``, 5 steps a level, with step a = ``step_size`` sigma_i^2, and a last denoising:
    one evaluation each. ``entry: random`` draws the atom at random instead, the control that says what the map itself brings.
    With ``tail: ode`` the latent is carried to the data by DDIM, which makes sense for a large ``sigma`` (our variant).
    """

    atoms: Tensor
    height: Tensor
    spare: Tensor

    def __init__(
        self, prior: Prior, targets: int = 1000, sigma: float = 0.0288, floor: float = 0.02, step_size: float = 0.062,
        source: Literal["uniform", "gaussian"] = "uniform", entry: Literal["transport", "random"] = "transport",
        tail: Literal["langevin", "ode"] = "langevin", rounds: int = 100, rate: float = 0.1,
        steps: int = 11,
    ) -> None:  # fmt: skip
        """``sigma`` and ``floor`` are noise levels in the prior's space, [-1, 1] for pictures (the paper's are for [0, 1], so half as large).

        ``targets``: the number n of atoms, training samples in turn, each with its own noise; ``rounds``: at most so many of the solver's,
        at the ``rate`` of Adam (of the order of the heights, so smaller in few dimensions);
        ``steps`` counts evaluations where the budget does not bound them.
        """
        super().__init__()
        if not 0 < floor <= sigma:
            raise ValueError(f"floor is {floor} and sigma {sigma}; accepted: 0 < floor <= sigma")
        for name, value, accepted in (
            ("source", source, ("uniform", "gaussian")), ("entry", entry, ("transport", "random")), ("tail", tail, ("langevin", "ode")),
        ):  # fmt: skip
            if value not in accepted:
                raise ValueError(f"{name} is {value!r}; accepted: {', '.join(accepted)}")
        self.prior = prior
        self.targets, self.sigma, self.floor, self.step_size = targets, sigma, floor, step_size
        self.source, self.entry, self.tail, self.rounds, self.rate, self.steps = source, entry, tail, rounds, rate, steps
        self.register_buffer("atoms", torch.zeros(targets, math.prod(prior.shape)))
        self.register_buffer("height", torch.zeros(targets))
        self.register_buffer("spare", torch.tensor(-1.0))  # |g - nu| of the heights kept; -1: not solved for

    def _draw(self, n: int) -> Tensor:
        size = (n, self.atoms.shape[1])
        return torch.rand(size) if self.source == "uniform" else torch.randn(size)

    def learn(self, data: Any) -> None:
        """Keep the noised training samples and solve the transport to them."""
        order = torch.randperm(len(data))
        chosen = [order[i % len(order)].item() for i in range(self.targets)]
        clean = torch.cat([self.prior.encode(data[int(i)]["target"][None]).flatten(1) for i in chosen])
        self.atoms.copy_(clean + self.sigma * torch.randn(clean.shape))
        # moving the source moves the optimal heights by a known amount, so start where a source centred at 0 starts
        self.height.copy_(-(0.5 if self.source == "uniform" else 0.0) * self.atoms.sum(1))
        self.height -= self.height.mean()
        if self.entry == "transport":
            self.spare.fill_(SemiDiscrete(self.atoms, self.height).solve(self._draw, self.rounds, self.rate))

    def ladder(self, evaluations: int) -> list[float]:
        """Return the noise level of each Langevin step: 5 a level, the last level takes what is left over; the denoising takes one more."""
        levels = max(1, (evaluations - 1) // 5)
        ratio = (self.floor / self.sigma) ** (1 / max(1, levels - 1))
        each = [self.sigma * ratio ** min(k // 5, levels - 1) for k in range(evaluations - 1)]
        return each

    def sample(self, request: Request) -> Tensor:
        view, cond = self.prior.view(EDM(t_max=self.sigma, t_min=min(self.floor, self.sigma / 2))), self.prior.condition(request)
        shape = check_shape(view, request)
        count = self.steps if request.budget.nfe is None else request.budget.nfe // view.evaluations
        if self.entry == "random":
            index = request.rng.at("atom").integers(0, self.targets)
        else:
            stream = request.rng.at("source")
            size = (self.atoms.shape[1],)
            index = SemiDiscrete(self.atoms, self.height).cells(stream.uniform(size) if self.source == "uniform" else stream.normal(size))
        x, noise = self.atoms[index].reshape(-1, *shape), request.rng.at("noise")
        if self.tail == "ode":
            times = torch.tensor([self.sigma * (self.floor / self.sigma) ** (k / max(1, count - 1)) for k in range(count)], dtype=torch.float64)
            for i, t in enumerate(times):
                data = view.denoised(x, t, cond)
                ratio = float(times[i + 1] / t) if i + 1 < count else 0.0
                x = data + ratio * (x - data)
            return self._answer(view, x)
        for level in self.ladder(count):
            t = torch.tensor(level, dtype=torch.float64)
            a = self.step_size * level**2
            x = x + a * view.score(x, t, cond) + math.sqrt(2 * a) * noise.normal(shape)
        return self._answer(view, view.denoised(x, torch.tensor(self.floor, dtype=torch.float64), cond))

    def _answer(self, prior: Prior, x: Tensor) -> Tensor:
        """Return the answer; the root mean square distance of its values to the nearest atom's says how much of a copy it is."""
        self.diagnose("nearest-training", torch.cdist(x.flatten(1), self.atoms.to(x.dtype)).amin(1) / math.sqrt(self.atoms.shape[1]))
        return prior.decode(x)
