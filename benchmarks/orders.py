"""Observed orders of convergence of deterministic solvers, on the exact ring of eight Gaussians in float64.

    python benchmarks/orders.py [--states 64] [--only NAME ...]

Endpoint error: the median over states of the distance to the probability-flow ODE's solution from the same x_T (DOP853 to 1e-8), at the time
where the solver stops (t = 1e-3). The order is minus the least-squares slope of log error over log evaluations, on the budgets from 80 up.
Errors at 10 and 20 evaluations are shown beside it, since a high order says nothing about few steps. The median, because the mean of a
mixture is that of the few states beside a basin's boundary.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorebench.baselines.diffusion.exact import ode_solution, of_dataset
from scorebench.baselines.diffusion.prior import Prior
from scorebench.baselines.method import Method
from scorebench.configs.loader import load_object
from scorebench.tasks.requests import Budget, Request, Returns

END = 1e-3
SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("euler:Euler", {"end": END}),
    "heun": ("heun:Heun", {"end": END}),
    "dpm-solver[order=1]": ("dpm_solver:DPMSolver", {"mode": "singlestep", "order": 1}),
    "dpm-solver[order=2]": ("dpm_solver:DPMSolver", {"mode": "singlestep", "order": 2}),
    "dpm-solver[order=3]": ("dpm_solver:DPMSolver", {"mode": "singlestep", "order": 3}),
    "dpm-solver[fast]": ("dpm_solver:DPMSolver", {}),
    "dpm-solver-pp[2S]": ("dpm_solver_pp:DPMSolverPP", {"form": "singlestep"}),
    "dpm-solver-pp[2M]": ("dpm_solver_pp:DPMSolverPP", {}),
    "dpm-solver-pp[3M]": ("dpm_solver_pp:DPMSolverPP", {"order": 3}),
    "dpm-solver-pp[3M-taylor]": ("dpm_solver_pp:DPMSolverPP", {"order": 3, "released": False}),
    "dpm-solver-v3[p=1], no corrector": ("dpm_solver_v3:DPMSolverV3", {"order": 1, "corrector": False, "states": 1024}),
    "dpm-solver-v3[p=1]": ("dpm_solver_v3:DPMSolverV3", {"order": 1, "states": 1024}),
    "dpm-solver-v3[p=2]": ("dpm_solver_v3:DPMSolverV3", {"order": 2, "states": 1024}),
    "dpm-solver-v3[p=3]": ("dpm_solver_v3:DPMSolverV3", {"order": 3, "states": 1024}),
    "pndm[plms]": ("pndm:PNDM", {"variant": "plms", "end": END}),
    "pndm[s-pndm]": ("pndm:PNDM", {"variant": "s-pndm", "end": END}),
    "pndm[f-pndm]": ("pndm:PNDM", {"variant": "f-pndm", "end": END}),
    "unipc[p=2]": ("unipc:UniPC", {"order": 2, "end": END}),
    "unipc[p=3]": ("unipc:UniPC", {"order": 3, "end": END}),
    "ghvb[plms2]": ("ghvb:GHVB", {"order": 2, "end": END}),
    "ghvb[r=1.8]": ("ghvb:GHVB", {"order": 1.8, "end": END}),
    "ghvb[hb=1.8]": ("ghvb:GHVB", {"order": 1.8, "momentum": "heavy-ball", "end": END}),
    "ghvb[r=3.8]": ("ghvb:GHVB", {"order": 3.8, "end": END}),
    "genie-exact-jvp[quadratic]": ("genie:ExactGENIE", {"grid": "quadratic", "end": END}),
}
"""Row: class in baselines/generation and its arguments. Every solver here stops at t_min = END, by default or by ``end``; DDIM is order=1."""
FEW, MANY = (10, 20), (80, 160, 320)


class Given:
    """Stands for an Rng: the same x_T for every solver, in float64."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def at(self, *name: Any) -> Given:
        return self

    def normal(self, shape: Any = ()) -> Tensor:
        return self.x


def build(name: str, prior: Prior) -> Method:
    """Return a solver on ``prior``, its statistics learnt where it has some (seed 0)."""
    target, options = SOLVERS[name]
    cls: Callable[..., Method] = load_object(f".baselines.generation.{target}")
    method = cls(prior, **options)
    if type(method).learn is not Method.learn:
        torch.manual_seed(0)
        method.learn(None)
    return method


def errors(method: Method, z: Tensor, exact: Tensor, sizes: Sequence[int]) -> list[float]:
    """Return the median endpoint error at each number of evaluations."""
    out = []
    for nfe in sizes:
        rng: Any = Given(z)
        asked = Request("sample", {}, n=len(z), rng=rng, returns=Returns("points", (2,)), budget=Budget(f"nfe{nfe}", nfe))
        with torch.no_grad():
            x = method.sample(asked)  # type: ignore[operator]
        out.append((x - exact).norm(dim=1).median().item())
    return out


def order(sizes: Sequence[int], error: Sequence[float]) -> float:
    """Return minus the slope of log error over log evaluations."""
    return float(-np.polyfit(np.log(sizes), np.log(error), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=64)
    parser.add_argument("--only", nargs="*", default=list(SOLVERS), choices=list(SOLVERS), metavar="NAME")
    args = parser.parse_args()
    torch.set_num_threads(1)
    prior = of_dataset("gmm2d")
    z = torch.randn(args.states, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    exact = ode_solution(prior, prior.start(z), prior.schedule.t_max, END, rtol=1e-8)
    print(f"{'solver':34s} {'order':>5s}  " + " ".join(f"{f'nfe{n}':>9s}" for n in (*FEW, *MANY)))
    for name in args.only:
        method = build(name, prior)
        error = errors(method, z, exact, (*FEW, *MANY))
        print(f"{name:34s} {order(MANY, error[len(FEW):]):5.2f}  " + " ".join(f"{e:9.2e}" for e in error), flush=True)


if __name__ == "__main__":
    main()
