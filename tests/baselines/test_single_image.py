"""Methods that learn from one noisy picture: their losses and filters against references, and what they may depend on."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from scorebench.baselines import card as cards
from scorebench.baselines.denoising import score_dvi
from scorebench.baselines.denoising.blind_gaussian import BlindDenoiser, BlindGaussianMethod
from scorebench.baselines.denoising.dip import DeepImagePrior
from scorebench.baselines.denoising.filter2noise import AGBF, Filter2Noise, Widths, bilateral, difference_of_gaussians, local_shuffle
from scorebench.baselines.denoising.score_dvi import HIGH, LOW, ScoreDVI, _Score, dirichlet_kl, gamma_kl
from scorebench.baselines.denoising.single_image import diagonal_pair, renew
from scorebench.baselines.denoising.zs_n2n import ZSN2N
from scorebench.baselines.method import DataSpec
from scorebench.baselines.nets.skip import SkipNet
from scorebench.baselines.registry import hyper_parameters, method_class
from scorebench.harness.evaluator import evaluate
from scorebench.harness.poison import poisoned
from scorebench.tasks import registry
from scorebench.tasks.randomness import Rng, keyed
from scorebench.tasks.requests import Request, Returns

GREY = DataSpec("image", 1)


def picture(side: int = 32, seed: int = 0) -> torch.Tensor:
    """A bright square on a dark ground, with noise."""
    clean = torch.full((1, 1, side, side), 0.2)
    clean[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 0.8
    return clean + 0.1 * torch.from_numpy(keyed("p", seed).standard_normal(clean.shape)).float()


def ask(noisy: torch.Tensor) -> Request:
    return Request("denoise", {"noisy": noisy}, n=len(noisy), rng=Rng(range(len(noisy))), returns=Returns("image"))


def denoisers() -> list[BlindDenoiser]:
    out = []
    for k in range(3):
        torch.manual_seed(k)
        net = BlindDenoiser(1, 4, 8)
        torch.nn.init.normal_(net.network.dncnn[-1].weight, 0, 0.05)
        out.append(net.eval().requires_grad_(False))
    return out


# ---------------------------------------------------------------------- the two diagonals, ZS-N2N
def test_the_diagonals_are_those_of_the_published_kernels():
    y = torch.rand(2, 3, 10, 8)
    kernels = torch.tensor([[[0, 0.5], [0.5, 0]], [[0.5, 0], [0, 0.5]]])
    for ours, kernel in zip(diagonal_pair(y), kernels, strict=True):
        theirs = F.conv2d(y, kernel.expand(3, 1, 2, 2), stride=2, groups=3)
        assert torch.allclose(ours, theirs)
    assert diagonal_pair(torch.rand(1, 1, 9, 7))[0].shape == (1, 1, 4, 3)


def test_zs_n2n_loss_is_that_of_the_equations():
    method, y = ZSN2N(GREY, width=8), picture()
    f, (d1, d2) = method.network, diagonal_pair(y)
    whole = diagonal_pair(y - f(y))
    mse = F.mse_loss
    residual = 0.5 * (mse(d1 - f(d1), d2) + mse(d2 - f(d2), d1))
    consistent = 0.5 * (mse(d1 - f(d1), whole[0]) + mse(d2 - f(d2), whole[1]))
    assert torch.allclose(method.loss(y), residual + consistent)
    assert sum(p.numel() for p in ZSN2N(DataSpec("image", 3)).network.parameters()) == 22_275  # "about 22 k"


def test_zs_n2n_denoises_white_noise():
    clean = torch.full((1, 1, 32, 32), 0.2)
    clean[..., 8:24, 8:24] = 0.8
    y = picture()
    torch.manual_seed(0)
    answer = ZSN2N(GREY, width=32, steps=200, lr=3e-3).denoise(ask(y))
    assert F.mse_loss(answer, clean) < 0.5 * F.mse_loss(y, clean)


# ---------------------------------------------------------------------- deep image prior
def test_the_published_hourglass_and_its_shapes():
    # about 2.2 M parameters with 5 levels of 128 channels, 4 skip channels and 32 inputs
    assert 2.1e6 < sum(p.numel() for p in SkipNet(3, 32, 128, 5).parameters()) < 2.3e6
    out = SkipNet(1, 4, 8, 3)(torch.rand(1, 4, 37, 26))
    assert out.shape == (1, 1, 37, 26) and out.min() >= 0 and out.max() <= 1


def test_dip_answers_average_and_offers():
    y = picture()
    torch.manual_seed(0)
    mean = DeepImagePrior(GREY, steps=6, width=8, levels=2, inputs=4, every=2, average=0.9)
    answer = mean.denoise(ask(y))
    _, offered = mean.take_notes()
    assert [len(v) for v in offered.values()] == [3, 3] and torch.equal(offered["average"][-1], answer)
    torch.manual_seed(0)
    last = DeepImagePrior(GREY, steps=6, width=8, levels=2, inputs=4, every=1, average=0.0)
    final = last.denoise(ask(y))
    outputs = last.take_notes()[1]["last"]
    assert torch.equal(outputs[-1], final)
    expected = outputs[0]
    for o in outputs[1:]:
        expected = 0.9 * expected + 0.1 * o
    assert torch.allclose(expected, answer, atol=1e-6)


def test_dip_fits_the_picture_before_the_noise():
    clean = torch.full((1, 1, 32, 32), 0.2)
    clean[..., 8:24, 8:24] = 0.8
    y = picture()
    torch.manual_seed(0)
    answer = DeepImagePrior(GREY, steps=120, width=16, levels=3, inputs=8, average=0.9).denoise(ask(y))
    assert F.mse_loss(answer, clean) < 0.6 * F.mse_loss(y, clean)


def test_renewed_weights_follow_the_request_and_nothing_else():
    net = SkipNet(1, 4, 8, 2)

    def weights(rng: Rng) -> torch.Tensor:
        torch.rand(3)  # what was drawn before does not matter
        renew(rng, net)
        return torch.cat([p.flatten() for p in net.parameters()]).clone()

    rng = Rng([5])
    first = weights(rng)
    assert torch.equal(weights(Rng([5])), first) and not torch.equal(weights(Rng([6])), first)
    assert not torch.equal(weights(rng), first), "a second run of one request starts elsewhere"
    assert torch.equal(weights(Rng([9, 5])[1]), first), "the place in a batch does not matter"


# ---------------------------------------------------------------------- Filter2Noise
def test_one_stage_has_its_published_number_of_parameters():
    assert sum(p.numel() for p in AGBF(1).parameters()) == 1819


def test_the_bilateral_filter_is_the_double_loop():
    torch.manual_seed(0)
    x = torch.rand(1, 2, 9, 8, dtype=torch.float64)
    sigma = 0.3 + torch.rand(1, 3, 9, 8, dtype=torch.float64) * torch.tensor([1.5, 1.0, 0.4], dtype=torch.float64)[:, None, None]
    reach = math.ceil(float(sigma[:, :2].max()))
    padded = F.pad(x, (reach,) * 4, mode="reflect")
    got = bilateral(x, sigma)
    for i, j in ((0, 0), (4, 3), (8, 7)):
        sx, sy, sr = sigma[0, :, i, j].tolist()
        top, total = torch.zeros(2, dtype=torch.float64), 0.0
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                q = padded[0, :, i + reach + dy, j + reach + dx]
                w = math.exp(-(dx**2 / (2 * sx**2) + dy**2 / (2 * sy**2)) - float((q - x[0, :, i, j]).square().sum()) / (2 * sr**2))
                top, total = top + w * q, total + w
        assert torch.allclose(got[0, :, i, j], top / total, atol=1e-7)


def test_widths_are_bounded_and_equal_within_a_patch():
    sigma = Widths(1)(torch.randn(1, 1, 32, 16) * 100)
    assert sigma.shape == (1, 3, 32, 16) and sigma.min() > 0 and sigma.max() <= 6 + 1e-5
    assert torch.equal(F.interpolate(sigma[..., ::8, ::8], scale_factor=8.0), sigma)


def test_the_local_shuffle_swaps_the_nearest_two():
    block = torch.tensor([[0.1, 0.9], [0.55, 0.5]])
    assert torch.equal(local_shuffle(block[None, None])[0, 0], torch.tensor([[0.1, 0.9], [0.5, 0.55]]))
    x = torch.rand(2, 3, 6, 8)
    once = local_shuffle(x)
    assert not torch.equal(once, x) and torch.equal(local_shuffle(once), x), "its own inverse"
    cells = lambda t: F.pixel_unshuffle(t, 2).reshape(2, 3, 4, 3, 4)  # noqa: E731
    assert torch.equal(cells(once).sort(2).values, cells(x).sort(2).values)
    assert ((cells(once) != cells(x)).any(1).sum(1) == 2).all(), "two pixels a cell, all their channels"


def test_the_difference_of_gaussians_is_tiny_and_sums_to_zero():
    g = difference_of_gaussians()
    assert abs(float(g.sum())) < 1e-6
    assert float(g.abs().max()) == pytest.approx(2e-4, rel=0.3) and float(g.abs().sum()) == pytest.approx(0.005, rel=0.2)


def test_filter2noise_loss_and_padding():
    torch.manual_seed(0)
    method, y = Filter2Noise(GREY, stages=2, steps=3), picture(48)
    f, d = method.network, diagonal_pair
    a1, a2 = (f(local_shuffle(p)) for p in d(y))
    b1, b2 = d(f(y))
    l1 = F.l1_loss
    rec = (l1(a1, a2) + l1(a1, b1) + l1(a2, b2) + l1(b1, b2)) / 3
    g = difference_of_gaussians()[None, None]
    reg = (F.conv2d(y, g, padding=3).abs() - F.conv2d(f(y), g, padding=3).abs()).abs().mean()
    assert torch.allclose(method.loss(y), rec + 350 * reg)
    assert method.denoise(ask(y[..., :37, :41])).shape == (1, 1, 37, 41)
    assert {"sigma_x_1", "sigma_r_2"} <= set(method.take_notes()[0])


# ---------------------------------------------------------------------- ScoreDVI
def test_the_surrogate_has_the_value_of_z_and_the_gradient_of_the_score():
    z = torch.rand(4, requires_grad=True)
    mean, variance = torch.rand(4), torch.rand(4) + 0.1
    out = _Score.apply(z, mean, variance)
    assert torch.equal(out, z)
    (2 * out).sum().backward()
    assert torch.allclose(z.grad, 2 * (mean - z.detach()) / variance)


def test_gamma_and_dirichlet_divergences_are_torchs():
    from torch.distributions import Dirichlet, Gamma, kl_divergence

    a, b = torch.rand(5) + 0.2, torch.rand(5) + 0.2
    ours = gamma_kl(a, a.log(), b.log(), 1.0, 0.02)
    assert torch.allclose(ours, kl_divergence(Gamma(a, b), Gamma(torch.tensor(1.0), torch.tensor(0.02))), atol=1e-5)
    d = torch.rand(3, 7) + 0.2
    expected = torch.digamma(d) - torch.digamma(d.sum(0, keepdim=True))
    assert torch.allclose(dirichlet_kl(d, expected), kl_divergence(Dirichlet(d.T), Dirichlet(torch.ones(7, 3))), atol=1e-5)


def test_score_dvi_follows_a_known_prior_to_its_posterior():
    """With denoisers of the prior N(m, t^2) and one Gaussian of known precision, the free energy is least at the exact posterior."""
    m, t2, y, precision = 0.3, 0.04, 0.9, 50.0
    mu, log_s2 = torch.tensor(0.5, requires_grad=True), torch.tensor(-3.0, requires_grad=True)
    optimiser = torch.optim.Adam([mu, log_s2], lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(1500):
        s2 = log_s2.exp()
        z = mu + s2.sqrt() * torch.randn(64, generator=generator)
        # Tweedie at noise level s^2 around the prior: D(z) - z = s^2 * score of N(m, t^2 + s^2); the method divides by s^2
        denoised = z.detach() + s2.detach() * (m - z.detach()) / (t2 + s2.detach())
        prior = -0.5 * log_s2 - _Score.apply(z, denoised, s2.detach()).mean()
        loss = 0.5 * precision * ((mu - y) ** 2 + s2) + prior
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    s2 = float(log_s2.detach().exp())
    smoothed = t2 + s2  # the score is that of the prior blurred by the posterior's own width
    assert float(mu.detach()) == pytest.approx((precision * y + m / smoothed) / (precision + 1 / smoothed), abs=0.02)
    assert s2 == pytest.approx(1 / (precision + 1 / smoothed), rel=0.1)


def test_the_prior_weight_follows_the_noise():
    method = ScoreDVI(*denoisers(), GREY)
    flat = torch.full((1, 1, 64, 64), 0.5)
    noise = torch.from_numpy(keyed("w").standard_normal(flat.shape)).float()
    assert [method.prior_weight(flat + level / 255 * noise) for level in (5, 18, 40)] == [0.5, 1.0, 2.0]
    assert math.log(1e-8) == LOW and math.log(1e4) == HIGH


def test_the_level_is_cut_to_a_whole_number_before_it_is_compared(monkeypatch):
    method = ScoreDVI(*denoisers(), GREY)
    found = []
    for level in (10.9, 11.1, 25.9, 26.1):
        monkeypatch.setattr(score_dvi, "estimate_sigma", lambda part, level=level: level / 255)
        found.append(method.prior_weight(torch.zeros(1, 1, 16, 16)))
    assert found == [0.5, 1.0, 1.0, 2.0]


def test_score_dvi_leaves_its_denoisers_alone_and_counts_them():
    nets = denoisers()
    before = [p.clone() for net in nets for p in net.parameters()]
    method = ScoreDVI(*nets, GREY, steps=3, width=8, depth=3, retry=0.05)
    assert {id(n) for n in method.networks()} == {id(net.network) for net in nets}
    torch.manual_seed(0)
    answer = method.denoise(ask(picture()))
    assert answer.shape == (1, 1, 32, 32) and torch.isfinite(answer).all()
    assert all(torch.equal(a, b) for a, b in zip(before, [p for net in nets for p in net.parameters()], strict=True))
    notes, _ = method.take_notes()
    assert set(notes) == {"posterior_std", "runs"} and float(notes["runs"][0]) == 1 + (float(notes["posterior_std"][0]) > 0.05)


def test_blind_denoisers_are_homogeneous_and_applied_once():
    net, y = denoisers()[0], picture()
    assert torch.allclose(net(2.5 * y), 2.5 * net(y), atol=1e-5)
    assert torch.equal(BlindGaussianMethod(net).denoise(ask(y)), net(y))
    assert sum(p.numel() for p in BlindDenoiser().parameters()) * 4 < 150_000


# ---------------------------------------------------------------------- what they may look at
QUICK = {
    "zs-n2n": {"steps": 2, "width": 4}, "dip": {"steps": 2, "width": 4, "levels": 2, "inputs": 2},
    "filter2noise": {"steps": 2, "stages": 1}, "score-dvi": {"steps": 2, "width": 4, "depth": 3},
}  # fmt: skip


def build(method_id: str):
    card = cards.get(method_id)
    cls = method_class(card)
    hparams = hyper_parameters(card, cls, "default", "denoising/photos-correlated", QUICK[method_id])
    roles = dict(zip(card.needs, denoisers(), strict=False))
    return cls(**roles, data=GREY, **hparams).eval()


@pytest.mark.parametrize("method_id", QUICK)
def test_poisoned_clean_pictures_change_nothing(method_id):
    def answers():
        task = registry.get("denoising/photos-correlated")
        ids = task.ids("dev")[:2]
        out = evaluate(build(method_id), task, split="dev", ids=ids, batch_size=2, keep=lambda _: True)
        return np.stack([out.answers[i] for i in ids])

    honest = answers()
    with poisoned(frozenset()):
        assert np.array_equal(answers(), honest)


@pytest.mark.parametrize("method_id", QUICK)
def test_draws_and_seeds_start_from_other_weights(method_id, monkeypatch):
    task = registry.get("denoising/photos-correlated")
    sample = task.ids("dev")[:1]
    starts: list[torch.Tensor] = []

    def watched(rng, *networks):
        out = renew(rng, *networks)
        starts.append(torch.cat([p.detach().flatten() for p in out]).clone())
        return out

    monkeypatch.setattr(inspect.getmodule(method_class(cards.get(method_id))), "renew", watched)
    for seed, draw in ((0, 0), (0, 0), (0, 1), (1, 0)):
        evaluate(build(method_id), task, split="dev", ids=sample, batch_size=1, seed=seed, draw=draw)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2]) and not torch.equal(starts[0], starts[3])


@pytest.mark.parametrize("method_id", QUICK)
def test_every_preset_builds(method_id):
    card = cards.get(method_id)
    cls = method_class(card)
    roles = dict(zip(card.needs, denoisers(), strict=False))
    for preset in ("default", *card.presets):
        cls(**roles, data=GREY, **hyper_parameters(card, cls, preset, "denoising/photos-correlated", {}))
