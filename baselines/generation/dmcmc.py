"""Denoising MCMC (Kim and Ye, ICLR 2023, arXiv:2209.14593): Langevin-Gibbs chains in (x, sigma) near the data, then a short reverse walk."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion.prior import Prior
from ..diffusion.sampling import check_shape
from ..diffusion.schedule import along
from ..method import Method, Request

Draw = Callable[[tuple[int, ...]], Tensor]


class LevelClassifier(nn.Module):
    """Which of ``levels`` noise levels a state has: (B, *shape) to logits (B, levels). The authors' convolutions for pictures, dense else."""

    def __init__(self, shape: tuple[int, ...], levels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if len(shape) == 3:
            channels, side = shape[0], min(shape[1:])
            for width in (32, 64, 128, 256):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), *([nn.AvgPool2d(2)] if side >= 4 else [])]
                channels, side = width, side // 2
            layers.append(nn.AdaptiveAvgPool2d(1))
        else:
            channels = 128
            layers += [nn.Flatten(), nn.Linear(math.prod(shape), channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, levels))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class DenoisingMCMC(Method):
    """States have the density p(x, sigma) = p_sigma(x) p(sigma), p(sigma) ~ 1/sigma, in the VE form. DLG alternates (section 3.2)

        x <- x + (eta / 2) grad log p_sigma(x) + sqrt(eta) z            one evaluation
        sigma <- a level from the classifier q(sigma | x)               none of the prior

    and from a visited state a reverse integrator (Heun, Karras et al. 2022) walks from its sigma, which is small, down to 0.

    Chains need a history, and samples here must not depend on each other: `learn` trains the classifier and takes ``chains`` chains from
    noise (a full reverse walk, noise of deviation 0.5, warm-up) through ``windows`` windows of ten steps, whose last states it keeps. A sample
    goes on from one of them, drawn by its own generator: a share ``skip`` of its evaluations are DLG steps, the others the walk. What
    `learn` evaluates is recorded as training; in the paper it is spread over the many samples of a chain.
    """

    grid: Tensor
    states: Tensor
    levels: Tensor

    def __init__(
        self,
        prior: Prior,
        eta: float = 0.2,
        skip: float = 0.25,
        level: Literal["argmax", "sample"] = "argmax",
        keep: Literal["smallest", "last"] = "smallest",
        churn: float = 0.0,
        sigma_min: float = 0.01,
        sigma_max: float = 20.0,
        classes: int = 200,
        chains: int = 64,
        windows: int = 16,
        train_steps: int = 800,
        steps: int = 20,
    ) -> None:
        """``eta`` is in the units of the prior's space. ``level: argmax`` and ``keep: smallest`` are the authors' code, and break stationarity;
        ``sample`` and ``last`` keep it. ``churn``: the walk's S_churn (80 in their KAR2). ``steps``: evaluations where nothing bounds them."""
        super().__init__()
        if level not in ("argmax", "sample") or keep not in ("smallest", "last"):
            raise ValueError(f"level is {level!r}, accepted: argmax, sample; keep is {keep!r}, accepted: smallest, last")
        self.prior, self.eta, self.skip, self.level, self.keep, self.churn = prior, eta, skip, level, keep, churn
        self.sigma_min, self.sigma_max, self.chains, self.windows = sigma_min, sigma_max, chains, windows
        self.train_steps, self.steps = train_steps, steps
        self.register_buffer("grid", torch.logspace(math.log10(sigma_min), math.log10(sigma_max), classes), persistent=False)
        self.classifier = LevelClassifier(prior.shape, classes)
        self.register_buffer("states", torch.zeros(chains * windows, *prior.shape))
        self.register_buffer("levels", torch.full((chains * windows,), sigma_max))

    def plan(self, evaluations: int) -> tuple[int, int]:
        """Return (DLG steps, walk steps): n steps of Heun's method to 0 take 2n - 1 evaluations, the last being Euler's."""
        skip = max(1, round(self.skip * evaluations))
        skip = min(skip + (evaluations - skip + 1) % 2, evaluations - 1)
        return skip, (evaluations - skip + 1) // 2

    def sample(self, request: Request) -> Tensor:
        check_shape(self.prior, request)
        skip, steps = self.plan(request.budget.nfe if request.budget.nfe is not None else self.steps)
        which = request.rng.at("chain").integers(0, len(self.states))
        normal, uniform = request.rng.at("noise").normal, request.rng.at("level").uniform
        x, sigma = self.chain(self.states[which], self.levels[which], skip, normal, uniform)
        self.diagnose("start-level", sigma)
        return self.prior.decode(self.walk(x, sigma, steps, normal))

    # ------------------------------------------------------------------ the chain
    def infer(self, x: Tensor, uniform: Draw) -> Tensor:
        """Return sigma | x, (B,): the likeliest level, or one drawn from the classifier's distribution."""
        logits = self.classifier(x.float())
        if self.level == "argmax":
            return self.grid[logits.argmax(1)]
        below = logits.softmax(1).cumsum(1) < uniform(()).reshape(-1, 1)
        return self.grid[below.sum(1).clamp_max(len(self.grid) - 1)]

    def chain(self, x: Tensor, sigma: Tensor, count: int, normal: Draw, uniform: Draw) -> tuple[Tensor, Tensor]:
        """Return a state (x, sigma) after ``count`` DLG steps: the last, or the one of smallest sigma."""
        best = (x, sigma)
        for k in range(count):
            score = (self._denoised(x, sigma) - x) / along(sigma, x) ** 2
            x = x + 0.5 * self.eta * score + math.sqrt(self.eta) * normal(tuple(x.shape[1:]))
            sigma = self.infer(x, uniform)
            if k == 0 or self.keep == "last":
                best = (x, sigma)
            else:
                lower = sigma < best[1]
                best = (torch.where(along(lower, x).bool(), x, best[0]), torch.where(lower, sigma, best[1]))
        return best

    # ------------------------------------------------------------------ the walk
    def walk(self, x: Tensor, sigma: Tensor, steps: int, normal: Draw) -> Tensor:
        """Return x_0 from states x (B, ...) at levels sigma (B,) by Heun's method with churn (Karras et al. 2022, algorithm 2)."""
        u = torch.linspace(0, 1, steps, device=x.device)[:, None] if steps > 1 else torch.zeros(1, 1, device=x.device)
        grid = (sigma ** (1 / 7) + u * (self.sigma_min ** (1 / 7) - sigma ** (1 / 7))).pow(7)  # (steps, B)
        for i, s in enumerate(grid):
            if self.churn:
                gamma = torch.where((s >= 0.05) & (s <= 1), min(self.churn / steps, math.sqrt(2) - 1), 0.0)
                raised = s * (1 + gamma)
                x = x + 1.007 * along((raised**2 - s**2).clamp_min(0).sqrt(), x) * normal(tuple(x.shape[1:]))
                s = raised
            data = self._denoised(x, s)
            if i == steps - 1:
                return data  # Euler to 0 lands on the denoised state
            slope, following = (x - data) / along(s, x), grid[i + 1]
            moved = x + along(following - s, x) * slope
            other = (moved - self._denoised(moved, following)) / along(following, x)
            x = x + along(following - s, x) * 0.5 * (slope + other)
        raise AssertionError("a walk has at least one step")

    def _denoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        ve = self.prior.as_edm()
        return ve.denoised(x, sigma.clamp(ve.schedule.t_min, ve.schedule.t_max))

    # ------------------------------------------------------------------ what comes before
    def learn(self, data: Any) -> None:
        clean = self.prior.encode(torch.stack([data[i]["target"] for i in range(len(data))]))
        with torch.enable_grad():
            self._learn_levels(clean)
        normal: Draw = lambda shape: torch.randn(self.chains, *shape)  # noqa: E731
        uniform: Draw = lambda shape: torch.rand(self.chains, *shape)  # noqa: E731
        with torch.no_grad():
            x = self.walk(self.sigma_max * normal(self.prior.shape), torch.full((self.chains,), self.sigma_max), 18, normal)
            x = x + 0.5 * normal(self.prior.shape)
            keep, self.keep = self.keep, "last"  # a chain itself goes on from where it is
            x, sigma = self.chain(x, self.infer(x, uniform), 20, normal, uniform)
            for k in range(self.windows):
                x, sigma = self.chain(x, sigma, 10, normal, uniform)
                self.states[k * self.chains : (k + 1) * self.chains] = x
                self.levels[k * self.chains : (k + 1) * self.chains] = sigma
            self.keep = keep

    def _learn_levels(self, clean: Tensor, batch: int = 128) -> None:
        """Train the classifier: cross-entropy on clean + sigma_j z with j uniform, which is what makes p(sigma) ~ 1/sigma."""
        optimiser = torch.optim.Adam(self.classifier.parameters(), lr=1e-3)
        self.classifier.requires_grad_(True)
        for _ in range(self.train_steps):
            x = clean[torch.randint(len(clean), (batch,))]
            j = torch.randint(len(self.grid), (batch,))
            loss = F.cross_entropy(self.classifier(x + along(self.grid[j], x) * torch.randn_like(x)), j)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
