"""Blind-spot networks and the methods trained with one: what a pixel's estimate may depend on, and the equations."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from scorebench.baselines import card as cards
from scorebench.baselines.denoising.ap_bsn import APBSN
from scorebench.baselines.denoising.blindspot_plain import BlindSpotMethod
from scorebench.baselines.denoising.c_bsn import CBSN, standardised
from scorebench.baselines.denoising.sdap import SDAP, random_subsamples
from scorebench.baselines.method import DataSpec
from scorebench.baselines.nets.blindspot import BlindSpotNet, apart, cells, permuted_cells, together
from scorebench.baselines.registry import hyper_parameters, method_class
from scorebench.harness.poison import poisoned
from scorebench.harness.training import fit
from scorebench.tasks import registry
from scorebench.tasks.randomness import Rng
from scorebench.tasks.requests import Request, Returns

TASK = "denoising/photos-correlated"
GREY = DataSpec("image", 1)
METHODS = {"blindspot-plain": BlindSpotMethod, "ap-bsn": APBSN, "c-bsn": CBSN, "sdap": SDAP}


def alive(channels: int = 1, width: int = 8, modules: int = 2) -> BlindSpotNet:
    """A network all of whose layers matter: those that start at zero are drawn."""
    torch.manual_seed(0)
    net = BlindSpotNet(channels, width, modules)
    for p in net.parameters():
        if p.ndim > 1 and not p.any():
            torch.nn.init.normal_(p, 0, 0.3)
    return net.double().requires_grad_(False)


def ask(noisy: torch.Tensor) -> Request:
    return Request("denoise", {"noisy": noisy}, n=len(noisy), rng=Rng(range(len(noisy))), returns=Returns("image"))


# ---------------------------------------------------------------------- the network
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixel", [(0, 0), (17, 11), (30, 22)])
def test_no_estimate_depends_on_its_own_pixel(channels, pixel):
    net, y = alive(channels, modules=4), torch.rand(1, channels, 31, 23, dtype=torch.float64)
    changed = y.clone()
    changed[0, :, pixel[0], pixel[1]] += 1
    moved = (net(changed) - net(y)).abs().sum(1)[0] > 1e-12
    assert not moved[pixel], "blind"
    assert moved[max(0, pixel[0] - 3) : pixel[0] + 4, max(0, pixel[1] - 3) : pixel[1] + 4].sum() > 8, "and yet the neighbours see it"
    assert ((net(changed, blind=False) - net(y, blind=False)).abs().sum(1)[0] > 1e-12)[pixel], "not blind"


def test_both_ways_share_every_weight():
    net = BlindSpotNet(1, 8, 2)
    assert not any("mask" in name for name in net.state_dict())
    for blind in (True, False):
        net.zero_grad()
        for p in net.parameters():
            torch.nn.init.normal_(p, 0, 0.3)
        net(torch.rand(1, 1, 16, 16), blind).sum().backward()
        assert all(p.grad is not None for p in net.parameters())
        centre = net.branch1.enter.weight.grad[..., 1, 1]
        assert bool(centre.any()) is not blind


def test_the_published_size():
    # head 1x1; per branch: masked conv, three 1x1, nine modules of a 3x3 and a 1x1; tail of four 1x1 (DBSNl of the official code: 3.66 M)
    c, pointwise = 128, 128 * 128 + 128
    branch = [k * k * c * c + c + 3 * pointwise + 9 * (9 * c * c + c + pointwise) for k in (3, 5)]
    tail = (256 * 128 + 128) + (128 * 64 + 64) + (64 * 64 + 64) + (64 * 3 + 3)
    assert sum(p.numel() for p in BlindSpotNet(3, 128, 9).parameters()) == 3 * c + c + sum(branch) + tail == 3_656_131


@settings(max_examples=20, deadline=None)
@given(b=st.integers(1, 3), c=st.integers(1, 3), stride=st.sampled_from([1, 2, 3, 5]), h=st.integers(1, 4), w=st.integers(1, 4))
def test_taking_apart_comes_back(b, c, stride, h, w):
    x = torch.arange(b * c * h * w * stride**2, dtype=torch.float32).reshape(b, c, h * stride, w * stride)
    parts = apart(x, stride)
    assert torch.equal(together(parts, stride), x)
    i, j = stride - 1, stride // 2
    assert torch.equal(parts[(i * stride + j) * b], x[0, :, i::stride, j::stride])
    # torch's own unshuffle keeps the offsets in the channels, in the same order
    theirs = F.pixel_unshuffle(x, stride).reshape(b, c, stride**2, h, w).permute(2, 0, 1, 3, 4)
    assert torch.equal(cells(x, stride), theirs)


def test_random_subsamples_hold_every_pixel_once_each_in_its_cell():
    y = torch.arange(2 * 20 * 15.0).reshape(2, 1, 20, 15)
    s = random_subsamples(y, 5)
    assert s.shape == (25, 2, 1, 4, 3)
    assert torch.equal(s.sort(0).values, cells(y, 5).sort(0).values)
    first = s[0, 0, 0]
    inside = (first.div(15, rounding_mode="floor") % 5) * 5 + first % 15 % 5
    assert len(set(inside.flatten().tolist())) > 4, "another pixel in every cell: no fixed lattice"


def test_a_given_order_picks_the_pixel_of_that_number():
    y = torch.rand(2, 3, 4, 6)
    order = torch.randint(4, (1, 2, 1, 2, 3))
    got = permuted_cells(y, 2, order)[0]
    for b in range(2):
        for i in range(2):
            for j in range(3):
                k = int(order[0, b, 0, i, j])
                assert torch.equal(got[b, :, i, j], y[b, :, 2 * i + k // 2, 2 * j + k % 2])


# ---------------------------------------------------------------------- the methods
def with_net(cls, **kw):
    method = cls(GREY, width=8, modules=2, **kw)
    method.network = alive()
    method.total_steps = 10
    return method.eval()


def test_ap_bsn_loss_and_answer_are_those_of_the_equations():
    y = torch.rand(2, 1, 23, 21, dtype=torch.float64)
    method = with_net(APBSN)
    cut, parts = y[..., :20, :20], torch.zeros(2, 1, 20, 20, dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            parts[..., i::5, j::5] = method.network(cut[..., i::5, j::5])
    assert torch.allclose(method.training_step({"input": y}), (parts - cut).abs().mean())
    x1 = method.denoise(ask(y))
    padded = F.pad(y, (0, 1, 0, 1), mode="reflect")
    assert x1.shape == y.shape
    assert torch.allclose(x1[..., 1::2, 0::2], method.network(padded[..., 1::2, 0::2])[..., : y.shape[-2] // 2, : (y.shape[-1] + 1) // 2])


def test_ap_bsn_refinement_replaces_its_share_and_averages():
    y = torch.rand(1, 1, 24, 24, dtype=torch.float64)
    none, all_ = (with_net(APBSN, refinements=2, share=p) for p in (0.0, 1.0))
    net, x1 = none.network, with_net(APBSN).denoise(ask(y))
    assert torch.allclose(none.denoise(ask(y)), net(F.pad(x1, (2,) * 4, mode="reflect"))[..., 2:-2, 2:-2])
    assert torch.allclose(all_.denoise(ask(y)), net(F.pad(y, (2,) * 4, mode="reflect"))[..., 2:-2, 2:-2])
    some = with_net(APBSN, refinements=2, share=0.16)
    assert torch.equal(some.denoise(ask(y)), some.denoise(ask(y))), "the masks come from the request's rng"


def test_sdap_loss_is_the_cyclic_sum(monkeypatch):
    method, y = with_net(SDAP, stride=2), torch.rand(2, 1, 8, 8, dtype=torch.float64)
    torch.manual_seed(5)
    loss = method.training_step({"input": y})
    torch.manual_seed(5)
    s = random_subsamples(y, 2)
    expected = sum((method.network(s[j]) - s[(j + 1) % 4]).abs().mean() for j in range(4))
    assert torch.allclose(loss, expected)
    x1 = method.denoise(ask(y))
    assert torch.allclose(with_net(SDAP, enhance=True).denoise(ask(y)), method.network(x1))


def test_c_bsn_loss_ramp_and_answer():
    method, y = with_net(CBSN, ramp=0.4), torch.rand(2, 1, 20, 20, dtype=torch.float64)
    net = method.network
    blind = F.l1_loss(together(net(apart(y, 5)), 5), y)
    values = []
    for step in range(6):
        torch.manual_seed(1)
        values.append(float(method.training_step({"input": y})))
        assert int(method.taken) == step + 1
    torch.manual_seed(1)
    order = torch.randint(4, (1, 2, 1, 10, 10))
    seen = net(y, blind=False)
    extra = F.l1_loss(seen, y) + 2 * F.l1_loss(permuted_cells(seen, 2, order)[0], net(permuted_cells(y, 2, order)[0]))
    for step, value in enumerate(values):
        assert value == pytest.approx(float(blind + min(1, step / 4) * extra))
    p = 19
    assert torch.allclose(method.denoise(ask(y)), net(F.pad(y, (p,) * 4, mode="reflect"), blind=False)[..., p:-p, p:-p])


def test_c_bsn_stops_the_gradient_at_the_blind_side():
    method = with_net(CBSN, ramp=0.01)
    method.network.requires_grad_(True)
    method.taken += 5
    blind_calls = []
    forward = method.network.forward

    def watched(y, blind=True):
        out = forward(y, blind)
        blind_calls.append((blind, out.requires_grad))
        return out

    method.network.forward = watched
    method.training_step({"input": torch.rand(1, 1, 20, 20, dtype=torch.float64)})
    assert sorted(blind_calls) == [(False, True), (True, False), (True, True)]


def test_standardising_is_undone_and_bounded():
    y = torch.stack([torch.rand(1, 12, 12), torch.full((1, 12, 12), 0.3)])
    z, mean, std = standardised(y)
    assert torch.allclose(z * std + mean, y, atol=1e-6)
    assert torch.allclose(z[0].std(correction=0), torch.tensor(1.0), atol=1e-4)
    assert float(std[1]) == pytest.approx(1 / 12)


# ---------------------------------------------------------------------- training
@pytest.mark.parametrize("method_id", METHODS)
def test_cards_declare_noisy_training_and_build(method_id):
    card = cards.get(method_id)
    assert card.trains_on == "noisy" and not card.uses.get("clean_images") and not card.uses.get("noise_known")
    assert method_class(card) is METHODS[method_id]
    for preset in ("default", *card.presets):
        METHODS[method_id](GREY, **{**hyper_parameters(card, METHODS[method_id], preset, TASK, {}), "width": 4, "modules": 1})


@pytest.mark.parametrize("method_id", METHODS)
def test_poisoned_clean_pictures_change_nothing(method_id):
    def trained():
        task = registry.get(TASK)
        method, report = fit(lambda: METHODS[method_id](GREY, width=8, modules=1, batch_size=1), task, "noisy", gflops=1, seed=0)
        assert report.steps >= 2
        o = task.observe("dev", task.ids("dev")[0])
        with torch.no_grad():
            return method.state_dict(), method.denoise(task.request([o], Rng([0])))

    weights, answer = trained()
    with poisoned(frozenset({"noisy"})):
        again, same = trained()
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), again.values(), strict=True))
    assert torch.equal(answer, same)
