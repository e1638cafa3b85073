"""The photograph prior: Tweedie's formula, exact cases, the blind level, and the weights it shares with the denoiser."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorebench.baselines import components
from scorebench.baselines.denoising.drunet import DRUNetDenoiser
from scorebench.baselines.diffusion.denoiser_prior import DenoiserPrior, noise_level
from scorebench.configs.loader import HERE, load_object
from scorebench.datasets import registry as datasets
from scorebench.harness import weights
from scorebench.harness.cost import RowCounter
from scorebench.harness.training import fit
from scorebench.tasks import registry as tasks


@pytest.fixture(scope="module")
def prior() -> DenoiserPrior:
    card = components.get("photos-grey")
    made = load_object(card.target)(**card.hparams)
    made.load_state_dict(weights.load(HERE.parent / "baselines" / "weights" / "drunet-photos-grey.safetensors"), strict=True)
    return made.eval().requires_grad_(False)


def photographs(n: int = 3) -> list[Tensor]:
    data = datasets.get("photos-grey")
    return [torch.from_numpy(data.sample("test", i)["image"])[None, :, :96, :96].contiguous() for i in data.ids("test")[:n]]


def noisy(x: Tensor, sigma: float, seed: int = 0) -> Tensor:
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_denoiser(prior: DenoiserPrior) -> None:
    denoiser = DRUNetDenoiser()
    denoiser.load_state_dict(prior.state_dict(), strict=True)
    x = noisy(photographs(1)[0], 0.1)
    with torch.no_grad(), RowCounter(prior.counted_networks()) as rows:
        assert torch.allclose(prior.denoised(x, 0.1), denoiser(x, 0.1), atol=1e-6)
    assert rows.forward == 1
    levels = torch.tensor([0.05, 0.2])
    both = torch.cat([x, x])
    with torch.no_grad():
        assert torch.allclose(prior.denoised(both, levels), torch.cat([prior.denoised(x, float(s)) for s in levels]), atol=1e-5)


def test_score_is_tweedies(prior: DenoiserPrior) -> None:
    x, s = noisy(photographs(1)[0], 0.1), 0.1
    data = prior.denoised(x, s)
    assert torch.allclose(prior.score(x, s), (data - x) / s**2, atol=1e-3)
    assert torch.allclose(prior.noise(x, s), (x - data) / s, atol=1e-4)
    assert torch.allclose(prior.velocity(x, s), prior.noise(x, s), atol=1e-4), "dx/dsigma of the ODE is the noise"


def test_a_step_along_the_score_denoises(prior: DenoiserPrior) -> None:
    """x + sigma^2 score is the estimate of the clean picture: at least 5 dB nearer to it at level 25."""
    sigma, gains = 25 / 255, []
    for clean in photographs():
        x = noisy(clean, sigma)
        estimate = x + sigma**2 * prior.score(x, sigma)
        gains.append(10 * torch.log10((x - clean).square().mean() / (estimate - clean).square().mean()).item())
    assert min(gains) > 3 and sum(gains) / len(gains) > 5, gains


@pytest.mark.parametrize("level", [10, 25, 50])
def test_the_level_is_estimated(prior: DenoiserPrior, level: int) -> None:
    """On pure noise within 3 %, on photographs within 25 % and 1.5 steps (detail adds to it); blind costs less than half a dB more."""
    sigma = level / 255
    assert noise_level(sigma * torch.randn(4, 1, 128, 128)).tolist() == pytest.approx([sigma] * 4, rel=0.05)
    for clean in photographs():
        x = noisy(clean, sigma)
        found = noise_level(x).item()
        assert abs(found - sigma) < 0.25 * sigma + 1.5 / 255
        data, used = prior.blind(x)
        known = prior.denoised(x, sigma)
        loss = 10 * torch.log10((data - clean).square().mean() / (known - clean).square().mean()).item()
        assert used.item() == pytest.approx(found) and loss < 0.5
        assert torch.allclose(prior.blind_score(x), (data - x) / used.reshape(-1, 1, 1, 1) ** 2, atol=1e-2)


def test_it_is_found_by_need() -> None:
    spec = tasks.get_spec("inverse/photos-deblur")
    assert components.resolve("prior", {"form": "edm", "data": "photos-grey"}, spec) == "photos-grey"
    assert components.resolve("denoiser", {"form": "denoiser", "data": "photos-grey"}, spec) == "drunet-photos-grey"


def test_both_are_trained_to_the_same_weights() -> None:
    """Which is why one shipped file serves both: a few steps of either recipe end in equal numbers."""
    task = tasks.get("denoising/photos-gaussian25")
    a, b = (fit(make, task, "clean", gflops=4, seed=0)[0].state_dict() for make in (DRUNetDenoiser, DenoiserPrior))
    assert set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)
