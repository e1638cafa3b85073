"""UniPC, GHVB and EVODiff on the exact score of a ring of Gaussians: orders of convergence, errors at few steps, evaluations."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from ring import END, Given, counted, errors, request, ring, slope, solved

from scorebench.baselines.diffusion.grids import time_grid
from scorebench.baselines.diffusion.prior import Guided
from scorebench.baselines.generation.ddim import DDIM
from scorebench.baselines.generation.evodiff import EVODiff, projected
from scorebench.baselines.generation.ghvb import GHVB, mixture
from scorebench.baselines.generation.optimised_steps import OptimisedSteps
from scorebench.baselines.generation.unipc import UniPC, moments, weights
from scorebench.configs.errors import RequestError

SIZES = (40, 80, 160)


# ------------------------------------------------------------------ UniPC
@pytest.mark.parametrize(("order", "corrector", "wanted"), [(1, False, 1), (1, True, 2), (2, False, 2), (2, True, 3), (3, True, 4)])
def test_unipc_has_the_order_of_the_paper(order: int, corrector: bool, wanted: int) -> None:
    """UniP-p is of order p, UniPC-p of order p + 1 (theorem 3.1), on a grid uniform in lambda; the start of order 1 costs nothing yet."""
    got = slope(lambda p: UniPC(p, order, corrector=corrector, lower_order_final=False, end=END), SIZES)
    assert wanted - 0.15 < got < wanted + 0.75, got


def test_unipc_of_order_one_without_corrector_is_ddim() -> None:
    prior = ring()
    a = UniPC(prior, order=1, corrector=False, grid="uniform-t").sample(request(8, 10))
    assert torch.allclose(a, DDIM(prior).sample(request(8, 10)), atol=1e-5)


def test_unipc_weights_solve_the_moment_conditions() -> None:
    """sum_k rho_k r_k^(n-1) = n! h phi_{n+1}(-h) / B, the integrals of the polynomial's terms, by quadrature."""
    h, ratios = 0.7, [-1.2, -2.6, 1.0]
    big, b = moments(h, 3, "bh2")
    rho = weights(ratios, b)
    u = (np.arange(200_000) + 0.5) / 200_000
    for n in range(1, 4):
        # h phi_{n+1}(-h) n! = h int_0^1 exp(-(1-u) h) u^n du, with the sign of B(h) = expm1(-h)
        integral = -h * np.mean(np.exp(-(1 - u) * h) * u**n)
        assert sum(r * x ** (n - 1) for r, x in zip(rho, ratios, strict=True)) == pytest.approx(integral / big, rel=1e-6)


def test_unipc_agrees_with_diffusers() -> None:
    """The scheduler of diffusers on its own lambda-uniform grid, with the same network and sigmas: the same samples."""
    diffusers = pytest.importorskip("diffusers", reason="parity needs the extra: pip install 'scorebench[diffusers]'")
    from scorebench.baselines.diffusion.exact import GaussianMixturePrior
    from scorebench.baselines.diffusion.schedule import VPDiscrete

    prior = GaussianMixturePrior([0.4, 0.6], [[-1.0, 0.3], [0.5, 0.8]], [np.eye(2) * 0.05, np.eye(2) * 0.1], VPDiscrete.linear())
    scheduler = diffusers.UniPCMultistepScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", solver_order=3, prediction_type="epsilon",
        timestep_spacing="trailing", final_sigmas_type="zero",
    )  # fmt: skip
    scheduler.set_timesteps(10)
    z = torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = prior.start(z)
    theirs = x[:, :, None, None]
    for step in scheduler.timesteps:
        eps = prior.noise(theirs[:, :, 0, 0], (step.double() + 1) / 1000)
        theirs = scheduler.step(eps[:, :, None, None], step, theirs).prev_sample
    ours = UniPC(prior, order=3, grid="uniform-t").sample(request(16, 10, rng=Given(z)))
    assert (ours - theirs[:, :, 0, 0]).abs().max() / theirs.abs().max() < 1e-4


def test_optimised_steps_are_unipc_on_other_times(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = ring()
    plain = UniPC(prior).sample(request(8, 8))
    assert not torch.equal(OptimisedSteps(prior).sample(request(8, 8)), plain)
    monkeypatch.setattr("scorebench.baselines.generation.optimised_steps.optimised_grid", lambda schedule, times, order, power: times)
    assert torch.equal(OptimisedSteps(prior).sample(request(8, 8)), plain)
    with pytest.raises(ValueError, match="power"):
        OptimisedSteps(prior, power=-1.0)


def test_bad_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="accepted: order 1 or more"):
        UniPC(ring(), order=0)
    with pytest.raises(ValueError, match="accepted: more than 0, at most 5"):
        GHVB(ring(), order=5.5)
    with pytest.raises(ValueError, match="order above 1, at most 2"):
        GHVB(ring(), order=1.8, host="dpm-solver-pp")


# ------------------------------------------------------------------ GHVB
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("b", [0.3, 0.8, 1.0])
def test_ghvb_weights_integrate_polynomials(k: int, b: float) -> None:
    """Velocities of a polynomial slope of degree < k, damped for ever, mixed: the slope's mean over the next step, exactly."""
    weights_ = mixture(k, b)
    past = np.arange(400)
    for degree in range(k):
        damped = [b * np.sum((1 - b) ** past * (-(j + past)).astype(float) ** degree) if b < 1 else float(-j) ** degree for j in range(k)]
        assert np.dot(weights_, damped) == pytest.approx(1 / (degree + 1), rel=1e-7)


def test_momentum_of_ghvb_keeps_the_order_and_heavy_ball_does_not() -> None:
    """The catalogue's slopes on this ring: AB2 1.78, GHVB1.8 1.78, heavy ball with beta 0.8 1.01."""
    sizes = (40, 80, 160, 320)
    plain = slope(lambda p: GHVB(p, 2, end=END), sizes)
    ours = slope(lambda p: GHVB(p, 1.8, end=END), sizes)
    heavy = slope(lambda p: GHVB(p, 1.8, "heavy-ball", end=END), sizes)
    assert plain == pytest.approx(1.78, abs=0.06) and ours == pytest.approx(1.78, abs=0.06) and heavy == pytest.approx(1.0, abs=0.06)


def test_without_damping_all_momenta_are_adams_bashforth() -> None:
    ends = [GHVB(ring(), 3, momentum).sample(request(8, 12)) for momentum in ("generalised", "heavy-ball", "nesterov")]  # type: ignore[arg-type]
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])
    assert torch.allclose(GHVB(ring(), 1).sample(request(8, 12)), DDIM(ring()).sample(request(8, 12)), atol=1e-4)


def test_momentum_at_ten_steps() -> None:
    """HB(2.8) below GHVB2.8 below PLMS3 in endpoint error at 10 steps, and HB(2.5) far above (catalogue: 0.099, 0.116, 0.120; 0.21)."""
    heavy, ours, plain, strong = (
        errors(lambda p, o=o, m=m: GHVB(p, o, m, end=END), [10])[0]  # type: ignore[misc]
        for o, m in ((2.8, "heavy-ball"), (2.8, "generalised"), (3, "generalised"), (2.5, "heavy-ball"))
    )
    assert heavy < ours < plain < strong
    assert strong == pytest.approx(0.2, abs=0.03)


def test_heavy_ball_on_dpm_solver_pp_without_damping_is_its_host() -> None:
    """Beta 1 is DPM-Solver++(2M), which UniP-2 with B = expm1 is, too."""
    a = GHVB(ring(), 2, "heavy-ball", "dpm-solver-pp", grid="uniform-lambda", end=END)
    b = UniPC(ring(), 2, corrector=False, lower_order_final=False, end=END)
    z, _ = solved()
    assert torch.allclose(a.sample(request(len(z), 12, rng=Given(z))), b.sample(request(len(z), 12, rng=Given(z))), atol=1e-9)


# ------------------------------------------------------------------ EVODiff
def test_evodiff_is_far_off_at_five_and_near_at_forty() -> None:
    """Its constants do not make it a consistent solver (catalogue: 0.67 at 5 evaluations on this ring); more steps help all the same."""
    got = errors(lambda p: EVODiff(p, sigma_max=1e3), [5, 10, 20, 40])
    assert got[0] == pytest.approx(0.67, abs=0.05)
    assert (np.diff(got) < 0).all() and got[3] < 0.01


def test_evodiff_on_a_point_mass_lands_on_it() -> None:
    """Where the prediction is the same everywhere, every difference is a multiple of it; the final denoising returns it exactly."""
    from scorebench.baselines.diffusion.exact import GaussianMixturePrior

    prior = GaussianMixturePrior([1.0], [[0.3, -0.7]], [1e-10 * np.eye(2)])
    x = EVODiff(prior).sample(request(4, 10))
    assert torch.allclose(x, torch.tensor([0.3, -0.7]).expand(4, 2), atol=1e-4)


def test_projection_is_clamped_and_survives_zero() -> None:
    a, b = torch.tensor([[3.0, 0.0], [1.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert projected(a, b).flatten().tolist() == [2.0, 0.5, 0.0]
    picture = torch.ones(2, 3, 4, 4)
    assert projected(picture, picture).shape == (2, 3, 1, 1)


def test_evodiff_says_what_it_needs() -> None:
    with pytest.raises(RequestError, match="at least 3 evaluations"):
        EVODiff(ring()).sample(request(2, 2))


# ------------------------------------------------------------------ all three
@pytest.mark.parametrize("nfe", [5, 10, 20, 50])
def test_evaluations_are_as_planned(nfe: int) -> None:
    for make in (UniPC, GHVB, EVODiff, OptimisedSteps):
        assert counted(make(ring()), nfe) == nfe  # type: ignore[abstract, arg-type]
    label = torch.tensor([0, 3, 5])
    assert counted(UniPC(ring(), guidance=3.0), nfe, label=label) == nfe // 2 * 2


@pytest.mark.parametrize("make", [UniPC, GHVB, EVODiff, OptimisedSteps])
def test_samples_do_not_depend_on_the_batch_or_the_view(make: type) -> None:
    from scorebench.tasks.randomness import Rng

    method = make(ring())
    together = method.sample(request(5, 10))
    alone = method.sample(request(2, 10, rng=Rng.for_samples(["s3", "s4"], 0)))
    assert torch.allclose(alone, together[3:], atol=1e-4)
    views: list[Tensor] = [make(p).sample(request(5, 20)) for p in (ring().as_edm(), ring().as_flow())]
    assert all(bool(torch.isfinite(v).all()) for v in views)


def test_guided_solvers_follow_the_guided_ode() -> None:
    """At weight 4 towards one mode, 80 evaluations bring UniPC-3 near the guided ODE's solution."""
    got = errors(lambda p: UniPC(p, order=3, guidance=4.0, end=END), [80], guidance=4.0, label=2)[0]
    assert got < 0.02
    assert time_grid(Guided(ring(), 4.0).schedule, 4).shape == (5,)
