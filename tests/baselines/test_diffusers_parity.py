"""Solvers against the schedulers of diffusers: one network, one grid, the same samples to 1e-4 relative.

The "network" is the exact noise prediction of a mixture on DDPM's table of 1,000 steps, so nothing has to be downloaded or trained. DDIM and
DDPM are compared in test_generation.py. Skipped where diffusers is not installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scorebench.baselines.diffusion import sampling
from scorebench.baselines.diffusion.exact import GaussianMixturePrior
from scorebench.baselines.diffusion.schedule import EDM, VPDiscrete
from scorebench.baselines.generation import dpm_solver
from scorebench.baselines.generation.dpm_solver import DPMSolver
from scorebench.baselines.generation.dpm_solver_pp import DPMSolverPP
from scorebench.baselines.generation.euler import Euler
from scorebench.baselines.generation.heun import Heun
from scorebench.baselines.generation.pndm import PNDM
from scorebench.baselines.generation.unipc import UniPC
from scorebench.baselines.method import Method
from scorebench.tasks.requests import Request, Returns

diffusers = pytest.importorskip("diffusers", reason="parity needs the extra: pip install 'scorebench[diffusers]'")

TABLE: dict[str, Any] = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
TRAILING: dict[str, Any] = TABLE | {"timestep_spacing": "trailing"}
MIXTURE: tuple[Any, ...] = ([0.4, 0.6], [[-1.0, 0.3], [0.5, 0.8]], [np.eye(2) * 0.05, np.eye(2) * 0.1])


@pytest.fixture
def prior() -> GaussianMixturePrior:
    return GaussianMixturePrior(*MIXTURE, VPDiscrete.linear())


@pytest.fixture
def x_t() -> Tensor:
    return torch.randn(32, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Replay:
    """Stands for an Rng: the given x_T, then noise drawn one step after the other from a generator, as diffusers draws it."""

    def __init__(self, first: Tensor, generator: torch.Generator | None = None, name: str = "") -> None:
        self.first, self.generator, self.name = first, generator, name

    def at(self, *name: Any) -> Replay:
        return Replay(self.first, self.generator, name[0])

    def normal(self, shape: Any = ()) -> Tensor:
        if self.name == "x_T":
            return self.first
        return torch.randn(self.first.shape, generator=self.generator)


def ours(method: Method, x_t: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return the method's samples from the state ``x_t`` at t_max."""
    schedule = method.prior.schedule  # type: ignore[union-attr]
    noise = x_t / float(schedule.sigma(torch.tensor(schedule.t_max, dtype=torch.float64)))
    rng: Any = Replay(noise, generator)
    asked = Request("sample", {}, n=len(x_t), rng=rng, returns=Returns("points", (2,)))
    return method.sample(asked)  # type: ignore[operator, no-any-return]


def theirs(scheduler: Any, prior: GaussianMixturePrior, x: Tensor, **extra: Any) -> Tensor:
    """Run diffusers' loop from the VP state ``x``: the model is asked at (step + 1)/1000."""
    scale = float(scheduler.init_noise_sigma)
    # schedulers with states of another scale are started at the same point of the path: x / alpha
    x = x * (scale**2 + 1) ** 0.5 if scale > 1.5 else x
    for step in scheduler.timesteps:
        noise = prior.noise(scheduler.scale_model_input(x, step), (step.double() + 1) / 1000)
        x = scheduler.step(noise, step, x, **extra).prev_sample
    return x


def grid_of(scheduler: Any, prior: GaussianMixturePrior, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay the scheduler's own times, read off its noise levels, in place of ours."""
    sigmas = scheduler.sigmas.double()
    sigmas = sigmas[torch.cat([torch.tensor([True]), sigmas.diff() != 0])]  # Heun's are doubled
    times = torch.where(sigmas > 0, prior.schedule.t_of_lam(-sigmas.clamp_min(1e-12).log()), 0.0)
    for module in (sampling, dpm_solver):
        monkeypatch.setattr(module, "time_grid", lambda *args: times.clone())


def assert_equal(a: Tensor, b: Tensor) -> None:
    assert ((a - b).abs().max() / b.abs().max()).item() < 1e-4


@pytest.mark.parametrize("steps", [8, 20])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_multistep_dpm_solver(order: int, steps: int, prior: GaussianMixturePrior, x_t: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(**TRAILING, solver_order=order)
    scheduler.set_timesteps(steps)
    grid_of(scheduler, prior, monkeypatch)
    assert_equal(ours(DPMSolverPP(prior, order=order), x_t), theirs(scheduler, prior, x_t))


@pytest.mark.parametrize("order", [1, 2])
def test_stochastic_dpm_solver(order: int, prior: GaussianMixturePrior, x_t: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(**TRAILING, solver_order=order, algorithm_type="sde-dpmsolver++")
    scheduler.set_timesteps(10)
    grid_of(scheduler, prior, monkeypatch)
    expected = theirs(scheduler, prior, x_t, generator=torch.Generator().manual_seed(1))
    assert_equal(ours(DPMSolverPP(prior, "sde", order), x_t, torch.Generator().manual_seed(1)), expected)


@pytest.mark.parametrize("order", [1, 2])
def test_singlestep_dpm_solver(order: int, prior: GaussianMixturePrior, x_t: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order 3 is left out: diffusers takes its second intermediate state with another weight than algorithm 2 of the paper does."""
    options = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "lower_order_final": False}
    scheduler = diffusers.DPMSolverSinglestepScheduler(**TABLE, **options, solver_order=order)
    scheduler.set_timesteps(12)
    grid_of(scheduler, prior, monkeypatch)
    method = DPMSolver(prior, "singlestep", order, grid="uniform-t", steps=12)
    assert_equal(ours(method, x_t), theirs(scheduler, prior, x_t))


@pytest.mark.parametrize("kind", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [2, 3])
def test_unipc(order: int, kind: Any, prior: GaussianMixturePrior, x_t: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    # down to the table's first entry: the last step to the data is NaN in diffusers under bh1
    scheduler = diffusers.UniPCMultistepScheduler(**TRAILING, solver_order=order, solver_type=kind, final_sigmas_type="sigma_min")
    scheduler.set_timesteps(9)
    grid_of(scheduler, prior, monkeypatch)
    assert_equal(ours(UniPC(prior, order=order, kind=kind), x_t), theirs(scheduler, prior, x_t))


@pytest.mark.parametrize("steps", [10, 20])
def test_f_pndm(steps: int, prior: GaussianMixturePrior, x_t: Tensor) -> None:
    scheduler = diffusers.PNDMScheduler(**TRAILING, skip_prk_steps=False, set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    assert_equal(ours(PNDM(prior, steps=steps), x_t), theirs(scheduler, prior, x_t))


def test_heun(prior: GaussianMixturePrior, x_t: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = diffusers.HeunDiscreteScheduler(**TRAILING)
    scheduler.set_timesteps(12)
    grid_of(scheduler, prior, monkeypatch)
    assert_equal(ours(Heun(prior), x_t), theirs(scheduler, prior, x_t))


def test_euler(prior: GaussianMixturePrior, x_t: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**TRAILING)
    scheduler.set_timesteps(12)
    grid_of(scheduler, prior, monkeypatch)
    assert_equal(ours(Euler(prior), x_t), theirs(scheduler, prior, x_t))


def test_edm_euler(x_t: Tensor) -> None:
    """On the EDM path itself: the same grid of noise levels (eq. 5). diffusers' network output F is D = c_skip x + c_out F."""
    prior = GaussianMixturePrior(*MIXTURE, EDM())
    scheduler = diffusers.EDMEulerScheduler()
    scheduler.set_timesteps(12)
    x = 80 * x_t.float()
    for step, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        scheduler.scale_model_input(x, step)
        skip, out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / (sigma**2 + 0.25) ** 0.5
        network = (prior.denoised(x.double(), sigma.double()).float() - skip * x) / out
        x = scheduler.step(network, step, x).prev_sample
    assert_equal(ours(Euler(prior, steps=12), 80 * x_t), x.double())
