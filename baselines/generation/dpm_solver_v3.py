"""DPM-Solver-v3: a multistep solver in the parameterisation that the model's own statistics choose (Zheng et al., NeurIPS 2023,
arXiv:2310.13268)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..diffusion.ems import refined, running, statistics
from ..diffusion.exponential import nodes
from ..diffusion.prior import Guided, Prior
from ..diffusion.sampling import begin
from ..method import Method, Request

REFINE = 8  # the statistics are interpolated to a grid so much finer, on which integrals are taken


class DPMSolverV3(Method):
    """Predictor of order p with a corrector that takes no evaluation (section 3.2; algorithm 1), one evaluation per step.

    With l, s, b from `diffusion.ems`, L and S the integrals of l and s, f = (sigma eps - l x)/alpha, g = e^(S_s - S) f - beta,

        x_t = alpha_t e^(L_s - L_t) [ x_s/alpha_s - sum_k E_k g^(k) - int_s^t e^(L - L_s + S - S_s) beta dlam ],
        E_k = int_s^t e^(L - L_s + S - S_s) (lam - lam_s)^k / k! dlam,   beta(lam) = int_s^lam b e^(S_s - S),

    where g^(k) are the derivatives of the polynomial through the g known. All exponents are relative to the step's start, so nothing overflows.
    The corrected state keeps sigma eps - l x, hence f (the authors' rule).
    """

    coefficients: Tensor

    def __init__(
        self,
        prior: Prior,
        order: int = 3,
        corrector: bool = True,
        degenerate: bool = False,
        points: int = 120,
        states: int = 256,
        steps: int = 20,
        guidance: float = 1.0,
        clip: bool = False,
    ) -> None:
        """``points`` M and ``states`` K of the statistics; ``degenerate``: l = 1, s = b = 0 instead, which is DPM-Solver++'s Taylor form.

        ``steps`` counts where the budget does not bound the evaluations.
        """
        super().__init__()
        if order not in (1, 2, 3) or points < 2 or states < 2:
            raise ValueError(f"order is {order}, points {points}, states {states}; accepted: order 1, 2 or 3, and at least 2 points and states")
        self.prior = prior
        self.order, self.corrector, self.degenerate, self.points, self.states = order, corrector, degenerate, points, states
        self.steps, self.guidance, self.clip = steps, guidance, clip
        start = torch.zeros(3, points + 1, *prior.shape, dtype=torch.float64)
        start[0] = 1.0
        self.register_buffer("coefficients", start)

    def grid(self) -> Tensor:
        """Return the statistics' grid: uniform in lambda from t_max to t_min, float64 (points + 1,)."""
        schedule = self.prior.schedule
        top, bottom = schedule.lam(torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64)).tolist()
        return torch.linspace(top, bottom, self.points + 1, dtype=torch.float64)

    def learn(self, data: Any) -> None:
        """Compute the statistics on trajectories from ``states`` noises; guided ones are given random labels."""
        if self.degenerate:
            return
        prior, cond = self.prior, None
        if self.guidance != 1 and prior.conditioning == "class":
            cond = torch.randint(0, prior.classes, (self.states,))
            prior = Guided(prior, self.guidance)
        # f is a small difference of large terms near pure noise; only a network binds the precision
        dtype = next((p.dtype for p in prior.parameters()), torch.float64)
        start = prior.start(torch.randn(self.states, *prior.shape, dtype=dtype))
        with torch.no_grad():
            self.coefficients.copy_(statistics(lambda x, t: prior.noise(x, t, cond), prior.schedule, start, self.grid()))

    def sample(self, request: Request) -> Tensor:
        walk = begin(
            request, self.prior, steps=self.steps, grid="uniform-lambda", guidance=self.guidance, clip=self.clip, end=self.prior.schedule.t_min
        )
        table = Table(refined(self.coefficients.cpu().movedim(0, 1), REFINE).movedim(1, 0), refined(self.grid(), REFINE))
        index = torch.linspace(0, len(table.lams) - 1, len(walk.times)).round().long().tolist()  # snapped, as in the authors' code
        grid = nodes(walk.prior.schedule, walk.prior.schedule.t_of_lam(table.lams[index]))
        x, previous, count = walk.x, walk.x, len(grid) - 1
        known: list[tuple[int, Tensor]] = []  # (place in the table, f), newest first
        for i in range(count):
            at = grid[i]
            eps = walk.predict(x, at.time, "noise")
            f = (at.sigma * eps - table.l[index[i]].to(x) * x) / at.alpha
            if self.corrector and i > 0:
                # one order more than the prediction that led here, with the new f beside those it knew; derivatives by divided differences
                points = [known[0], (index[i], f), *known[1 : self._order(i - 1, count)]]
                x = table.advance(previous, grid[i - 1].alpha, at.alpha, index[i], points, pseudo=True)
            known, previous = [(index[i], f), *known[:2]], x
            x = table.advance(x, at.alpha, grid[i + 1].alpha, index[i + 1], known[: self._order(i, count)])
        return walk.prior.decode(x)

    def _order(self, i: int, count: int) -> int:
        """Return the order of step i = 0, 1, ...: as many as are known, and falling to 1 at the last step."""
        return min(self.order, i + 1, count - i)


class Table:
    """The statistics with their integrals on one grid, and the update of a state between two of its points."""

    def __init__(self, coefficients: Tensor, lams: Tensor) -> None:
        """``coefficients`` (3, M + 1, *shape): l, s, b; ``lams`` (M + 1,)."""
        self.l, s, self.b = coefficients
        self.lams = lams
        self.big_l, self.big_s = running(self.l, lams), running(s, lams)

    def beta(self, s: int, j: int) -> Tensor:
        """Return int_s^j b e^(S_s - S) dlam for a point j on either side of s."""
        low, high = min(s, j), max(s, j)
        inside = self.b[low : high + 1] * torch.exp(self.big_s[s] - self.big_s[low : high + 1])
        whole = torch.trapezoid(inside, self.lams[low : high + 1], dim=0)
        return whole if j >= s else -whole

    def advance(
        self, x: Tensor, alpha_s: float, alpha_t: float, t: int, points: list[tuple[int, Tensor]], pseudo: bool = False
    ) -> Tensor:
        """Return x at table point ``t`` from ``x`` at points[0], whose polynomial goes through all ``points`` (place, f)."""
        s = points[0][0]
        inside, lams = slice(s, t + 1), self.lams[s : t + 1]
        weight = torch.exp(self.big_l[inside] - self.big_l[s] + self.big_s[inside] - self.big_s[s])
        growing = running(self.b[inside] * torch.exp(self.big_s[s] - self.big_s[inside]), lams)
        h = (lams - lams[0]).reshape(-1, *[1] * (weight.ndim - 1))
        g = [(torch.exp(self.big_s[s] - self.big_s[j]).to(x) * f - self.beta(s, j).to(x)) for j, f in points]
        terms = [g[0], *_derivatives([float(self.lams[j] - self.lams[s]) for j, _ in points], g, pseudo)]
        out = x / alpha_s - torch.trapezoid(weight * growing, lams, dim=0).to(x)
        for k, term in enumerate(terms):
            out = out - torch.trapezoid(weight * h**k / math.factorial(k), lams, dim=0).to(x) * term
        return alpha_t * torch.exp(self.big_l[s] - self.big_l[t]).to(x) * out


def _derivatives(at: list[float], g: list[Tensor], pseudo: bool) -> list[Tensor]:
    """Return k! c_k, k = 1, 2, ...: the derivatives at at[0] = 0 of the polynomial through (at, g), or k! times its divided differences."""
    if pseudo:
        column, out = g, []
        for k in range(1, len(g)):
            column = [(column[j] - column[j + 1]) / (at[j] - at[j + k]) for j in range(len(column) - 1)]
            out.append(math.factorial(k) * column[0])
        return out
    n = len(g) - 1
    if n == 0:
        return []
    powers = torch.tensor([[d ** (k + 1) for k in range(n)] for d in at[1:]], dtype=torch.float64)
    solve = torch.linalg.inv(powers).tolist()
    return [math.factorial(k + 1) * sum((solve[k][j] * (g[j + 1] - g[0]) for j in range(n)), torch.zeros_like(g[0])) for k in range(n)]
