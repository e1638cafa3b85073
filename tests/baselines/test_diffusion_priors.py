"""Priors: the exact one against autograd, quadrature and the dataset's own density; views, guidance, and counting for all."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scorebench.baselines.diffusion.exact import GaussianMixturePrior, MixtureDenoiser, ode_solution, of_dataset
from scorebench.baselines.diffusion.prior import NULL, Guided, Prior, labels
from scorebench.baselines.diffusion.schedule import EDM, Flow, VPCosine, VPDiscrete, VPLinear
from scorebench.baselines.diffusion.trained import TrainedPrior
from scorebench.baselines.nets.unet import CrossAttention
from scorebench.configs.errors import RequestError
from scorebench.datasets import registry as datasets
from scorebench.harness.cost import RowCounter
from scorebench.tasks.randomness import Rng
from scorebench.tasks.requests import Request, Returns

SCHEDULES = {"vp": VPLinear(), "cosine": VPCosine(), "ddpm": VPDiscrete.linear(), "edm": EDM(), "flow": Flow(t_max=0.99)}


def mixture(d: int, k: int, seed: int, schedule: object = "vp-linear") -> GaussianMixturePrior:
    """A random mixture with full covariances."""
    rng = np.random.default_rng(seed)
    roots = rng.standard_normal((k, d, d)) / math.sqrt(d)
    weights = rng.random(k) + 0.2
    covariances = 0.3 * roots @ roots.transpose(0, 2, 1) + 0.05 * np.eye(d)
    return GaussianMixturePrior(weights / weights.sum(), rng.standard_normal((k, d)), covariances, schedule)  # type: ignore[arg-type]


def states(prior: Prior, n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, *prior.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 3), (5, 2)])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_score_is_the_gradient_of_the_log_density(schedule: str, d: int, k: int, part: float) -> None:
    prior = mixture(d, k, d + k, SCHEDULES[schedule])
    t = prior.schedule.t_min + part * (prior.schedule.t_max - prior.schedule.t_min)
    x = states(prior, 6).requires_grad_(True)
    (gradient,) = torch.autograd.grad(prior.log_prob(x, t).sum(), x)
    assert torch.allclose(prior.score(x.detach(), t), gradient, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_conditional_score_is_the_gradient_of_the_conditional_density(label: int) -> None:
    prior, cond = mixture(2, 3, 4), torch.full((5,), label)
    x = states(prior, 5).requires_grad_(True)
    density = prior.log_prob(x, 0.3, cond)
    (gradient,) = torch.autograd.grad(density.sum(), x)
    assert torch.allclose(prior.score(x.detach(), 0.3, cond), gradient, rtol=1e-8)
    # normalised: the weighted sum of the conditional densities is the density
    weights = prior.network.log_weights.exp()
    parts = [weights[k] * prior.log_prob(x, 0.3, torch.full((5,), k)).exp() for k in range(3)]
    assert torch.allclose(torch.stack(parts).sum(0), prior.log_prob(x, 0.3).exp(), rtol=1e-10)
    assert torch.equal(prior.denoised(x, 0.3, torch.full((5,), NULL)), prior.denoised(x, 0.3))


@pytest.mark.parametrize("t", [0.05, 0.4, 0.8])
def test_denoiser_and_density_against_quadrature(t: float) -> None:
    """E[x_0 | x_t] and p_t(x) by brute-force integration over x_0, in one dimension."""
    weights, means, sds = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), np.array([0.3, 0.5])
    prior = GaussianMixturePrior(weights, means[:, None], (sds**2)[:, None, None])
    a, s = (float(f(torch.tensor(t, dtype=torch.float64))) for f in (prior.schedule.alpha, prior.schedule.sigma))
    grid = np.linspace(-8, 8, 200_001)
    data = sum(w * np.exp(-0.5 * ((grid - m) / v) ** 2) / v for w, m, v in zip(weights, means, sds, strict=True)) / math.sqrt(2 * math.pi)
    for x in (-1.5, 0.1, 2.0):
        joint = data * np.exp(-0.5 * ((x - a * grid) / s) ** 2) / (s * math.sqrt(2 * math.pi))
        density = np.trapezoid(joint, grid)
        state = torch.tensor([[x]], dtype=torch.float64)
        assert prior.log_prob(state, t).item() == pytest.approx(math.log(density), rel=1e-8)
        assert prior.denoised(state, t).item() == pytest.approx(np.trapezoid(joint * grid, grid) / density, rel=1e-8)


def test_float32_agrees_with_float64() -> None:
    prior = of_dataset("gmm2d")
    x = states(prior, 64)
    for t in (1e-3, 0.1, 0.5, 1.0):
        assert torch.allclose(prior.denoised(x.float(), t).double(), prior.denoised(x, t), rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("name", ["gmm2d", "gmm2d-uneven"])
def test_dataset_priors_know_their_dataset(name: str) -> None:
    prior, dataset = of_dataset(name), datasets.get(name)
    points = np.random.default_rng(0).uniform(-2, 2, (50, 2))
    x = torch.from_numpy(points)
    assert np.allclose(prior.log_prob(x).numpy(), dataset.log_density(points), rtol=1e-10)  # type: ignore[attr-defined]
    assert prior.classes == dataset.classes  # type: ignore[attr-defined]


def test_gauss_lin_prior_is_the_wiener_filter() -> None:
    prior, dataset = of_dataset("gauss-lin"), datasets.get("gauss-lin")
    assert prior.shape == (1, 8, 8) and prior.conditioning == "none"
    x, t = states(prior, 3), torch.tensor(0.35, dtype=torch.float64)
    a, s = float(prior.schedule.alpha(t)), float(prior.schedule.sigma(t))
    wanted, _ = dataset.posterior(a * np.eye(64), x.flatten(1).numpy(), s)  # type: ignore[attr-defined]
    assert np.allclose(prior.denoised(x, t).flatten(1).numpy(), wanted, rtol=1e-8, atol=1e-10)


def test_bad_mixtures_are_refused() -> None:
    eye = np.eye(2)[None]
    with pytest.raises(ValueError, match="sum 1"):
        GaussianMixturePrior([0.5], np.zeros((1, 2)), eye)
    with pytest.raises(ValueError, match="positive definite"):
        GaussianMixturePrior([1.0], np.zeros((1, 2)), 0 * eye)
    with pytest.raises(ValueError, match="elements"):
        GaussianMixturePrior([1.0], np.zeros((1, 2)), eye, shape=(1, 2, 2))
    with pytest.raises(RequestError, match="does not state its density"):
        of_dataset("digits")


def small_network(schedule: str = "vp-linear") -> TrainedPrior:
    """An untrained network whose last layer is not zero, so that it predicts something."""
    torch.manual_seed(0)
    prior = TrainedPrior(shape=(1, 4, 4), network="mlp", network_options={"width": 16, "depth": 1}, classes=3, schedule=schedule)
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return prior.eval().requires_grad_(False)


PRIORS = {"exact": lambda: of_dataset("gmm2d"), "network": small_network, "network-cosine": lambda: small_network("vp-cosine")}


@pytest.mark.parametrize("name", PRIORS)
def test_all_predictions_are_of_one_denoiser(name: str) -> None:
    prior = PRIORS[name]()
    x, t = states(prior, 4).float(), 0.4
    time = torch.tensor(t, dtype=torch.float64)
    a, s = prior.schedule.alpha(time), prior.schedule.sigma(time)
    data, noise = prior.denoised(x, t), prior.noise(x, t)
    assert torch.allclose(a * data + s * noise, x, atol=1e-5)
    assert torch.allclose(prior.score(x, t), -noise / s, atol=1e-5)
    assert torch.allclose(prior.velocity(x, t), prior.schedule.d_alpha(time) * data + prior.schedule.d_sigma(time) * noise, atol=1e-4)
    # one time per sample gives the same
    many = torch.full((4,), t)
    assert torch.allclose(prior.denoised(x, many), data, atol=1e-5)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("form", ["edm", "flow"])
def test_views_are_exact_changes_of_variable(name: str, form: str) -> None:
    """At equal lambda, E[x_0 | x] is the same function of the rescaled state; so the marginals are the same family."""
    prior = PRIORS[name]()
    view = prior.as_edm() if form == "edm" else prior.as_flow()
    z = states(prior, 5).float()
    for t in (0.002, 0.1, 0.5, 0.9):
        time = torch.tensor(t, dtype=torch.float64)
        u = view.schedule.t_of_lam(prior.schedule.lam(time))
        scale = view.schedule.alpha(u) / prior.schedule.alpha(time)
        assert torch.allclose(view.denoised(scale * z, u), prior.denoised(z, time), rtol=1e-4, atol=2e-5)
    for t, u in ((prior.schedule.t_max, view.schedule.t_max), (prior.schedule.t_min, view.schedule.t_min)):
        low, high = (p.schedule.lam(torch.tensor(v, dtype=torch.float64)) for p, v in ((prior, t), (view, u)))
        assert low.item() == pytest.approx(high.item(), rel=1e-9, abs=1e-9)
    assert torch.equal(view.decode(z), prior.decode(z)) and torch.equal(view.encode(z), prior.encode(z))


def test_exact_views_have_the_right_score() -> None:
    """The EDM view of a VP mixture is the mixture noised along the EDM path, built independently."""
    prior = mixture(2, 3, 1)
    direct = mixture(2, 3, 1, EDM())
    x = states(prior, 8)
    for sigma in (0.01, 0.5, 10.0):
        assert torch.allclose(prior.as_edm().score(x, sigma), direct.score(x, sigma), rtol=1e-8)


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_guidance_is_linear_in_every_form(weight: float) -> None:
    prior = small_network()
    x, cond = states(prior, 3).float(), torch.tensor([0, 2, NULL])
    guided = Guided(prior, weight)
    for form in ("data", "noise", "score"):
        null, with_ = (prior.predict(x, 0.5, c, form) for c in (torch.full((3,), NULL), cond))  # type: ignore[arg-type]
        assert torch.allclose(guided.predict(x, 0.5, cond, form), null + weight * (with_ - null), atol=1e-4)  # type: ignore[arg-type]
    assert torch.allclose(guided.denoised(x, torch.full((3,), 0.5), cond), guided.denoised(x, 0.5, cond), atol=1e-5)


def test_rows_are_counted() -> None:
    cond = torch.zeros(4, dtype=torch.long)
    for make in PRIORS.values():
        prior = make()
        x = states(prior, 4).float()
        for asked, rows in (
            (lambda p=prior, x=x: p.denoised(x, 0.5), 4),
            (lambda p=prior, x=x: p.as_edm().score(x, 0.5), 4),
            (lambda p=prior, x=x: p.as_flow().velocity(x, 0.5, cond), 4),
            (lambda p=prior, x=x: Guided(p, 2.0).noise(x, 0.5, cond), 8),
            (lambda p=prior, x=x: Guided(p, 1.0).noise(x, 0.5, cond), 4),
            (lambda p=prior, x=x: Guided(p.as_edm(), 2.0).noise(x, 0.5, cond), 8),
        ):
            with RowCounter(prior.counted_networks()) as counter:
                asked()
            assert counter.forward == rows
    assert Guided(prior, 2.0).evaluations == 2 and Guided(prior, 1.0).evaluations == 1


def test_guidance_without_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="conditional prior"):
        Guided(of_dataset("gauss-lin"), 2.0)


def test_labels_are_checked() -> None:
    assert labels(3, 2, 10).tolist() == [3, 3]
    assert labels(torch.tensor([1, NULL]), 2, 10).tolist() == [1, NULL]
    for bad in ([0], [0, 10], [0, -2]):
        with pytest.raises(ValueError, match="labels must be 2 integers"):
            labels(torch.tensor([*bad, 0, 0][: max(2, len(bad))] if bad != [0] else [0, 0, 0]), 2, 10)


def test_reference_ode_carries_gaussians_exactly() -> None:
    """For N(m, C) the flow is linear: each principal coordinate is rescaled by the ratio of its standard deviations."""
    prior = mixture(3, 1, 2)
    denoiser = prior.network
    assert isinstance(denoiser, MixtureDenoiser)
    start, end = (torch.tensor(v, dtype=torch.float64) for v in (0.9, 1e-3))
    x = states(prior, 4)
    got = ode_solution(prior, x, 0.9, 1e-3)
    mean, basis, variance = denoiser.means[0], denoiser.rotations[0], denoiser.variances[0]
    spread = [(prior.schedule.alpha(t) ** 2 * variance + prior.schedule.sigma(t) ** 2).sqrt() for t in (start, end)]
    centred = (x - prior.schedule.alpha(start) * mean) @ basis
    wanted = prior.schedule.alpha(end) * mean + (centred * spread[1] / spread[0]) @ basis.T
    assert torch.allclose(got, wanted, rtol=1e-8, atol=1e-9)


def test_training_step_learns_the_posterior_mean_of_a_point() -> None:
    """With one training picture E[x_0 | x_t] is that picture at every noise level: a trained network must find it."""
    torch.manual_seed(0)
    prior = TrainedPrior(shape=(1, 2, 2), network="mlp", network_options={"width": 32, "depth": 1})
    picture = torch.tensor([[[[0.1, 0.9], [0.4, 0.6]]]])
    optimiser = torch.optim.Adam(prior.parameters(), 3e-3)
    for _ in range(400):
        optimiser.zero_grad()
        prior.training_step({"target": picture.expand(64, -1, -1, -1)}).backward()
        optimiser.step()
    with torch.no_grad():
        for t in (0.1, 0.5, 0.9):
            state = prior.schedule.add_noise(prior.encode(picture).expand(32, -1, -1, -1), torch.randn(32, 1, 2, 2), torch.tensor(t))
            assert (prior.decode(prior.denoised(state, t)) - picture).abs().mean() < 0.08


def test_average_of_weights_is_what_stays() -> None:
    torch.manual_seed(0)
    prior = TrainedPrior(shape=(1, 2, 2), network="mlp", network_options={"width": 8, "depth": 1}, ema=0.5)
    prior.on_train_start()
    parameter = next(prior.network.parameters())
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(1.0)
    prior.on_train_batch_end(None, None, 0)  # step 0: the average moves by 1 - 1/10
    with torch.no_grad():
        parameter.add_(5.0)
    prior.on_train_end()
    assert torch.allclose(parameter, before + 0.9, atol=1e-6)
    assert not any("average" in name for name in prior.state_dict())


@pytest.mark.parametrize("network", ["mlp", "unet"])
def test_networks_take_forward_and_reverse_derivatives(network: str) -> None:
    torch.manual_seed(0)
    options = {"width": 16, "depth": 1} if network == "mlp" else {"widths": [8, 16]}
    prior = TrainedPrior(shape=(1, 4, 4), network=network, network_options=options, classes=2)  # type: ignore[arg-type]
    for p in prior.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    x, v = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    value, forward = torch.func.jvp(lambda z: prior.denoised(z, 0.5, torch.tensor([0, NULL])), (x,), (v,))
    leaf = x.clone().requires_grad_(True)
    out = prior.denoised(leaf, 0.5, torch.tensor([0, NULL]))
    w = torch.randn_like(out)
    (back,) = torch.autograd.grad((out * w).sum(), leaf)
    assert torch.allclose((forward * w).sum(), (back * v).sum(), rtol=1e-4)
    assert torch.allclose(value, out.detach(), atol=1e-6)
    # every parameter reaches the output
    grads = torch.autograd.grad((prior.denoised(x, 0.5, torch.tensor([0, NULL])) * w).sum(), list(prior.parameters()), allow_unused=True)
    assert all(g is not None for g in grads)


def test_bad_network_name() -> None:
    with pytest.raises(ValueError, match="accepted: mlp, unet"):
        TrainedPrior(shape=(1, 4, 4), network="transformer")  # type: ignore[arg-type]


# ------------------------------------------------------------------ captions
CAPTIONED = {"widths": [8, 16], "embedding": 16, "patch": 2}


def captioned() -> TrainedPrior:
    """An untrained caption-conditional network with random weights, on 3 x 8 x 8 pictures, captions of 5 words out of 7."""
    torch.manual_seed(0)
    prior = TrainedPrior(
        shape=(3, 8, 8), network_options=CAPTIONED, captions={"tokens": 7, "length": 5, "width": 8}, schedule="vp-cosine", label_dropout=0.5
    )
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return prior.eval()


def test_captions_change_the_prediction_word_by_word() -> None:
    prior = captioned().requires_grad_(False)
    assert prior.conditioning == "caption" and prior.classes == 0
    x, words = torch.randn(2, 3, 8, 8), torch.tensor([[0, 1, 2, 6, 6], [0, 1, 2, 6, 6]])
    base = prior.denoised(x, 0.5, words)
    for place in range(5):
        other = words.clone()
        other[:, place] = 4
        assert not torch.allclose(prior.denoised(x, 0.5, other), base, atol=1e-4)
    # the order of words matters, and rows of NULL are no caption
    assert not torch.allclose(prior.denoised(x, 0.5, words[:, [1, 0, 2, 3, 4]]), base, atol=1e-4)
    assert torch.allclose(prior.denoised(x, 0.5, torch.full_like(words, NULL)), prior.denoised(x, 0.5), atol=1e-6)
    mixed = torch.stack([words[0], torch.full_like(words[0], NULL)])
    assert torch.allclose(prior.denoised(x, 0.5, mixed), torch.stack([base[0], prior.denoised(x, 0.5)[1]]), atol=1e-5)


def test_guidance_by_caption_is_the_combination_of_both() -> None:
    prior = captioned().requires_grad_(False)
    x, words = torch.randn(2, 3, 8, 8), torch.tensor([[0, 1, 2, 3, 4], [4, 3, 2, 6, 6]])
    guided = Guided(prior, 3.0)
    wanted = prior.noise(x, 0.4) + 3 * (prior.noise(x, 0.4, words) - prior.noise(x, 0.4))
    assert torch.allclose(guided.noise(x, 0.4, words), wanted, atol=1e-4)


def test_captions_are_taken_from_the_request_and_from_batches() -> None:
    prior, words = captioned(), torch.tensor([[0, 1, 2, 6, 6]] * 4)

    def asked(**given: Tensor) -> Request:
        return Request("sample", given, n=4, rng=Rng(range(4)), returns=Returns("image", (3, 8, 8)))

    assert torch.equal(prior.condition(asked(tokens=words)), words)  # type: ignore[arg-type]
    assert prior.condition(asked()) is None and prior.condition(asked(label=torch.zeros(4))) is None
    assert torch.equal(prior.as_edm().condition(asked(tokens=words)), words)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(B, 5\) word tokens, got \(4, 3\)"):
        prior.condition(asked(tokens=words[:, :3]))
    prior.train().training_step({"target": torch.rand(4, 3, 8, 8), "label": torch.zeros(4), "tokens": words}).backward()
    trained = dict(prior.network.named_parameters())
    assert trained["caption.table.weight"].grad.abs().sum() > 0 and trained["caption.place"].grad.abs().sum() > 0  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="not both"):
        TrainedPrior(shape=(3, 8, 8), network_options=CAPTIONED, classes=3, captions={"tokens": 7, "length": 5, "width": 8})


def test_cross_attention_sums_to_one_over_the_words() -> None:
    layer = CrossAttention(64, 8)
    weights = layer.weights(torch.randn(2, 64, 4, 4), torch.randn(2, 5, 8))
    assert weights.shape == (2, 2, 16, 5) and torch.allclose(weights.sum(-1), torch.ones(2, 2, 16), atol=1e-5)
    x = torch.randn(2, 64, 4, 4)
    assert torch.equal(layer(x, torch.randn(2, 5, 8)), x), "it starts as the identity"
