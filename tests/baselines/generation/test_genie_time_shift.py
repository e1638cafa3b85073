"""GENIE's derivative and head, and the time-shift sampler, against differences, hosts and forward-noised statistics."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from ring import END, counted, errors, request, ring, slope

from scorebench.baselines.diffusion.prior import NULL
from scorebench.baselines.diffusion.schedule import VPLinear
from scorebench.baselines.diffusion.trained import TrainedPrior
from scorebench.baselines.generation.ddim import DDIM
from scorebench.baselines.generation.genie import GENIE, ExactGENIE, derivative
from scorebench.baselines.generation.time_shift_sampler import TimeShiftSampler
from scorebench.baselines.nets.derivative_head import Features


# ------------------------------------------------------------------ GENIE
@pytest.mark.parametrize("view", ["vp", "edm", "flow"])
@pytest.mark.parametrize("guided", [False, True])
def test_the_derivative_is_that_of_the_network_along_the_ode(view: str, guided: bool) -> None:
    """Central differences of eps along the ODE, d(x/alpha) = eps d gamma (stepped by the midpoint rule), agree to their own error."""
    prior = {"vp": ring, "edm": ring().as_edm, "flow": ring().as_flow}[view]()
    schedule, cond = prior.schedule, torch.arange(6) if guided else None
    t = schedule.t_of_lam(torch.tensor(-0.3, dtype=torch.float64))
    x = schedule.alpha(t) * 2 * torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def moved(h: float) -> torch.Tensor:
        g, scaled = schedule.kappa(t), x / schedule.alpha(t)
        middle, end = (schedule.t_of_lam(-torch.log(g + f * h)) for f in (0.5, 1.0))
        half = prior.noise((scaled + h / 2 * prior.noise(x, t, cond)) * schedule.alpha(middle), middle, cond)
        return prior.noise((scaled + h * half) * schedule.alpha(end), end, cond)

    eps, bend = derivative(prior, x, t, cond)
    assert torch.allclose(eps, prior.noise(x, t, cond))
    assert torch.allclose(bend, (moved(1e-4) - moved(-1e-4)) / 2e-4, atol=1e-6)


def test_taylor_steps_are_of_order_two_and_beat_ddim() -> None:
    """Catalogue: slope 1.98; at 5 and 10 steps on the quadratic grid 0.099 and 0.030, against 0.239 and 0.117 for DDIM."""
    make = lambda p: ExactGENIE(p, "quadratic", END)  # noqa: E731
    assert slope(make, (80, 160, 320)) == pytest.approx(1.97, abs=0.06)
    five, ten = errors(make, [10, 20])  # a step takes two evaluations
    assert five == pytest.approx(0.099, abs=0.015) and ten == pytest.approx(0.030, abs=0.006)


@pytest.mark.parametrize("shape", ["mlp", "unet", "folded"])
def test_the_head_learns_the_derivative_of_a_network(shape: str) -> None:
    """A short training on a small random network lowers the distillation loss by a quarter at least, and touches nothing but the head."""
    torch.manual_seed(0)
    options = {"mlp": {"width": 32, "depth": 1}, "unet": {"widths": (8, 16)}, "folded": {"widths": (8, 16), "patch": 2}}[shape]
    prior = TrainedPrior((1, 8, 8), "mlp" if shape == "mlp" else "unet", {**options, "embedding": 16}, "vp-cosine", classes=3)
    for p in prior.parameters():
        p.data += 0.1 * torch.randn_like(p)
    prior.eval().requires_grad_(False)
    method = GENIE(prior, width=16)
    before = {k: v.clone() for k, v in prior.state_dict().items()}
    batches = [{"target": torch.rand(16, 1, 8, 8), "label": torch.randint(3, (16,))} for _ in range(6)]
    optimiser = torch.optim.Adam(method.head.parameters(), 3e-3)

    def loss() -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            return sum(method.training_step(b).item() for b in batches)

    first = loss()
    for k in range(120 if shape == "mlp" else 60):
        optimiser.zero_grad()
        method.training_step(batches[k % 6]).backward()
        optimiser.step()
    assert loss() < 0.75 * first
    assert all(torch.equal(v, before[k]) for k, v in prior.state_dict().items())
    assert counted(method.eval(), 5, shape=(1, 8, 8)) == 5


def test_features_are_what_enters_the_last_layer() -> None:
    prior = TrainedPrior((1, 8, 8), "mlp", {"width": 24, "depth": 1}, "vp-cosine")
    with Features(prior.network) as features:
        prior.noise(torch.randn(3, 1, 8, 8), 0.5)
    assert features.channels == 24 and features.kept is not None and features.kept.shape == (3, 24)
    assert Features(ring().network).channels == 0


def test_an_untrained_head_is_ddim_and_guidance_combines_both_heads() -> None:
    """The head starts at zero, so GENIE starts as DDIM, with guidance too."""
    label = torch.tensor([1, 4, 4, NULL])
    for given, guidance in (({}, 1.0), ({"label": label}, 1.0), ({"label": label}, 3.0)):
        a = GENIE(ring(), guidance=guidance).sample(request(4, 10, **given))
        assert torch.allclose(a, DDIM(ring(), guidance=guidance).sample(request(4, 10, **given)), atol=1e-4)


@pytest.mark.parametrize("nfe", [5, 10, 20, 50])
def test_evaluations_are_as_planned(nfe: int) -> None:
    assert counted(GENIE(ring()), nfe) == nfe
    assert counted(GENIE(ring(), afs=True), nfe) == nfe  # one step more
    assert counted(ExactGENIE(ring()), nfe) == nfe // 2 * 2
    assert counted(GENIE(ring(), guidance=2.0), nfe, label=torch.tensor([0, 1, 2])) == nfe // 2 * 2
    assert counted(TimeShiftSampler(ring()), nfe) == nfe


# ------------------------------------------------------------------ time shift
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_without_a_window_the_host_is_unchanged(eta: float) -> None:
    a = TimeShiftSampler(ring(), window=0, eta=eta).sample(request(16, 10))
    assert torch.allclose(a, DDIM(ring(), eta=eta).sample(request(16, 10)), atol=1e-5)


def test_the_shift_finds_the_time_of_the_state() -> None:
    """Pure noise of deviation sigma(tau) in 3,072 values is taken for a state at tau, as far as the window reaches."""
    method, schedule = TimeShiftSampler(ring(), window=400), VPLinear()
    for tau in (0.2, 0.25, 0.3):
        t = torch.tensor(tau, dtype=torch.float64)
        x = schedule.sigma(t) * torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        found = method.shifted(x, torch.tensor(0.22, dtype=torch.float64), schedule)
        assert (found - tau).abs().max() < 0.025
    narrow = TimeShiftSampler(ring(), window=10).shifted(x, torch.tensor(0.22, dtype=torch.float64), schedule)
    assert (narrow - 0.225).abs().max() < 1e-9  # as far as the window lets it


def test_nothing_is_shifted_below_the_cutoff() -> None:
    a = TimeShiftSampler(ring(), cutoff=1000).sample(request(8, 10))
    assert torch.allclose(a, DDIM(ring()).sample(request(8, 10)), atol=1e-5)
    shifted = TimeShiftSampler(ring(), cutoff=300)
    shifted.sample(request(8, 10))
    notes = shifted.take_notes()[0]["mean-shift"][0]
    assert notes.shape == (8,) and (notes.abs() <= 15.001).all() and notes.abs().max() > 0


def test_the_statistic_of_small_pictures_is_loose() -> None:
    """Catalogue: on 64 values the variance of truly forward-noised pictures spreads t_s over hundreds of steps; on 3,072 far less."""
    method, schedule, t = TimeShiftSampler(ring(), window=2000), VPLinear(), torch.tensor(0.5, dtype=torch.float64)
    spread = []
    for size in (64, 3072):
        noise = torch.randn(400, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        spread.append(method.shifted(schedule.sigma(t) * noise, t, schedule).std().item() * 1000)
    assert spread[0] > 100 and spread[1] < 40


def test_bad_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="accepted: a window of at least 0"):
        TimeShiftSampler(ring(), cutoff=2000)
