"""BDIA: exact inversion, the order of its two-step walk, DDIM as gamma = 0, and the budget."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from scorebench.baselines.diffusion.grids import time_grid
from scorebench.baselines.diffusion.prior import Prior
from scorebench.baselines.diffusion.trained import TrainedPrior
from scorebench.baselines.generation.bdia import BDIA
from scorebench.baselines.generation.ddim import DDIM

from .ring import counted, errors, request, ring, slope


def network() -> TrainedPrior:
    """A random float32 network of moderate size."""
    torch.manual_seed(0)
    prior = TrainedPrior(shape=(2,), network="mlp", network_options={"width": 32, "depth": 2}, schedule="vp-cosine")
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return prior.eval().requires_grad_(False)


def ddim_back(prior: Prior, z: Tensor, times: Tensor) -> Tensor:
    """DDIM inversion: each step towards the noise with eps asked where it starts."""
    s = prior.schedule
    for low, high in zip(times.flip(0)[:-1], times.flip(0)[1:], strict=True):
        eps = prior.noise(z, max(float(low), s.t_min))
        z = s.alpha(high) * (z - s.sigma(low) * eps) / s.alpha(low) + s.sigma(high) * eps
    return z


@pytest.mark.parametrize("make", [ring, network])
@pytest.mark.parametrize("gamma", [1.0, 0.95])
def test_inversion_is_exact(make: object, gamma: float) -> None:
    """Encoding a given signal and decoding the pair returns it: float64 rounding at gamma = 1, amplified by 1/gamma a step below."""
    prior: Prior = make()  # type: ignore[operator]
    method, times = BDIA(prior, gamma=gamma), time_grid(prior.schedule, 50)
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pair = method.encoded(prior, x, times)
    assert pair[0].dtype == torch.float64 and not torch.allclose(pair[0], x)
    error = (method.decoded(prior, *pair, times) - x).abs().max().item()
    assert error < (1e-11 if gamma == 1 else 1e-8)


def test_ddim_inversion_is_not() -> None:
    prior = ring()
    times = time_grid(prior.schedule, 50)
    x = 2 * torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = ddim_back(prior, x, times)
    for t, s in pairwise(times):
        z = prior.schedule.alpha(s) * prior.denoised(z, t) + prior.schedule.sigma(s) * prior.noise(z, t)
    assert (z - x).abs().max() > 0.05


def test_a_small_gamma_blows_the_code_up() -> None:
    """What 1/gamma a step does: at gamma = 0.5 the pair is far outside the noise that sampling starts from."""
    prior = ring()
    x = prior.network.means
    codes = {g: BDIA(prior, gamma=g).encoded(prior, x, time_grid(prior.schedule, 20))[0].std().item() for g in (0.5, 1.0)}
    assert codes[1.0] < 10 < 300 < codes[0.5]


def test_gamma_zero_is_ddim() -> None:
    prior = ring()
    with torch.no_grad():
        ours, theirs = BDIA(prior, gamma=0).sample(request(16, 10)), DDIM(prior).sample(request(16, 10))
    assert torch.allclose(ours, theirs, atol=1e-5)
    with pytest.raises(ValueError, match="no exact inverse"):
        BDIA(prior, gamma=0).encoded(prior, torch.zeros(1, 2), time_grid(prior.schedule, 4))
    with pytest.raises(ValueError, match="from 0 to 1"):
        BDIA(prior, gamma=1.5)


def test_leapfrog_is_of_order_two_and_ddim_of_order_one() -> None:
    """gamma = 1 is a central difference: its error falls twice as fast on the log scale; gamma < 1 keeps order one with a smaller constant."""
    sizes = (50, 100, 200)

    def walker(gamma: float) -> Callable[[Prior], BDIA]:
        return lambda prior: BDIA(prior, gamma=gamma, grid="uniform-lambda", end=1e-3)

    ddim, half = (errors(walker(g), sizes[:1]) for g in (0.0, 0.5))
    assert (half < 0.5 * ddim).all()
    assert 0.8 < slope(walker(0.5), sizes) < 1.3
    assert 1.8 < slope(walker(1.0), sizes) < 2.3


@pytest.mark.parametrize("nfe", [1, 2, 5, 10, 20, 50])
def test_one_evaluation_a_step(nfe: int) -> None:
    assert counted(BDIA(ring()), nfe) == nfe
