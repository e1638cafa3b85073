"""MID: how its rounds share a budget, what its noise set holds, and what it is allowed to look at."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from scorebench.baselines import card as cards
from scorebench.baselines.denoising.mid import MID, MaskedDenoiser, UnpairedAWGN, describe
from scorebench.baselines.method import DataSpec
from scorebench.harness.cost import FlopCount
from scorebench.harness.training import fit, flops_per_step
from scorebench.tasks import registry
from scorebench.tasks.noise_spatial import Correlated
from scorebench.tasks.randomness import Rng, keyed
from scorebench.tasks.requests import Request, Returns

TASK = "denoising/photos-correlated"
GREY = DataSpec("image", 1)
SMALL = {"width": 4, "encoder": (1,), "middle": 1, "decoder": (1,), "batch_size": 4, "side": 16, "bank": 24, "masks": 2}


def batch(n: int = 4, side: int = 20) -> dict[str, torch.Tensor]:
    return {"input": torch.rand(n, 1, side, side), "target": torch.rand(n, 1, side, side)}


def ask(noisy: torch.Tensor) -> Request:
    return Request("denoise", {"noisy": noisy}, n=len(noisy), rng=Rng(range(len(noisy))), returns=Returns("image"))


def test_noise_is_described_by_its_level_and_its_neighbours():
    rng = keyed("mid")
    white = torch.from_numpy(0.1 * rng.standard_normal((40, 1, 32, 32)))
    box = torch.from_numpy(Correlated(25.5, 0.0, 3).sample(np.zeros((40, 1, 32, 32)), rng))
    assert describe(white).tolist() == pytest.approx([0.1, 0.0], abs=0.01)
    assert describe(box).tolist() == pytest.approx([0.1, 2 / 3], abs=0.02)


@pytest.mark.parametrize("total", [9, 10, 11, 300, 1001])
def test_rounds_share_the_steps_and_only_the_last_needs_no_residuals(total):
    method = MID(GREY, **SMALL)
    method.total_steps = total
    places = [method.place(step) for step in range(total)]
    lengths = [sum(k == j for k, _, _ in places) for j in range(3)]
    assert sum(lengths) == total and max(lengths) - min(lengths) <= 2
    for j in range(3):
        inside = [i for k, i, _ in places if k == j]
        learning = {n for k, _, n in places if k == j}
        assert inside == list(range(lengths[j])) and len(learning) == 1
        assert (learning.pop() == lengths[j]) is (j == 2)


@pytest.mark.parametrize(("preset", "rounds"), [("one-round", 1), ("two-rounds", 2), ("round2", 3)])
def test_trainings_of_fewer_rounds_use_the_whole_budget(preset, rounds):
    hparams = cards.get("mid").preset(preset, TASK)
    method = MID(GREY, **{**SMALL, **hparams})
    method.total_steps = 100
    places = [method.place(step) for step in range(100)]
    assert {k for k, _, _ in places} == set(range(rounds)) and hparams["round"] == rounds - 1 == len(method.after) - 1
    assert places[-1][2] - 1 == places[-1][1], "the last round learns to the last step"


def test_claims_about_rounds_compare_equal_budgets():
    """[round0] and [round1] are stops within a longer training; what a round is worth is read from trainings of equal length."""
    sides = {c["id"]: (c.get("left"), c.get("right")) for c in cards.get("mid").claims}
    assert sides["second-round-helps"] == ("mid[two-rounds]", "mid[one-round]")
    assert sides["third-round-helps"] == ("mid[round2]", "mid[two-rounds]")


def test_a_step_that_makes_residuals_costs_about_as_much_as_one_that_learns():
    method = MID(GREY, **{**SMALL, "masks": 8, "batch_size": 8})
    learning = flops_per_step(method, batch(8))
    with FlopCount() as counter:
        method.residuals(batch(8)["input"], 0, first=True)
    assert counter.total == pytest.approx(learning, rel=0.05)  # its first layer passes no gradient to the picture


def test_residual_steps_change_no_weight_and_fill_the_bank():
    torch.manual_seed(0)
    task = registry.get(TASK)
    seen = []

    class Watched(MID):
        def on_train_batch_start(self, *_):
            seen.append((self.place(int(self.taken)), [p.detach().clone() for p in self.network.parameters()]))

    method, report = fit(lambda: Watched(GREY, **SMALL, refine=0.4), task, "unpaired", gflops=0.5, seed=0)
    assert report.steps == len(seen) > 12
    for (place, weights), (_, after) in pairwise(seen):
        _, inside, learning = place
        same = all(torch.equal(a, b) for a, b in zip(weights, after, strict=True))
        assert same is (inside >= learning), (place, report.steps)
    assert int(method.held) > 0 and method.facts[0].tolist() == [0, 0] and (method.facts[1:, 0] > 0).all()
    states = [torch.cat([p.flatten() for p in net.parameters()]) for net in method.after]
    assert not torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])


def test_the_noise_set_leaves_out_textured_crops_and_draws_the_rest():
    method = MID(GREY, **SMALL)
    method.held += 4
    method.texture[:4] = torch.tensor([0.3, 0.1, 0.2, 0.4])
    for n in range(4):
        method.noise[n] = n + 1.0
    assert {float(f.mean()) for f in method.kept()} == {2.0, 3.0}
    drawn = method.drawn(torch.zeros(16, 1, 16, 16))
    assert drawn.shape == (16, 1, 16, 16) and set(drawn.mean((1, 2, 3)).tolist()) <= {2.0, 3.0}


def test_residuals_are_noisy_minus_the_mean_answer_less_their_own_mean():
    method = MID(GREY, **{**SMALL, "hidden": (0.0, 0.0, 0.0)})
    y = torch.rand(4, 1, 16, 16)
    method.residuals(y, 0, first=True)
    expected = y - method.network(y, torch.ones_like(y))
    assert int(method.held) == 4
    assert torch.allclose(method.noise[:4], expected - expected.mean((2, 3), keepdim=True), atol=1e-5)


def test_masks_hide_their_share_in_all_channels_and_the_round_chooses_the_network():
    method = MID(DataSpec("image", 3), **SMALL)
    mask = method.mask(torch.zeros(8, 3, 32, 32), 0)
    assert mask.shape == (8, 1, 32, 32) and float(mask.mean()) == pytest.approx(0.3, abs=0.02)
    for k in range(3):
        torch.nn.init.constant_(method.after[k].body.ending.bias, float(k))
    y = torch.rand(2, 3, 16, 16)
    answers = []
    for k in range(3):
        method.round = k
        assert list(method.networks()) == [method.after[k]]
        with torch.no_grad():
            answers.append(method.denoise(ask(y)))
    assert torch.equal(answers[2], method.denoise(ask(y))), "masks come from the request's rng"
    assert not torch.allclose(answers[0], answers[1], atol=0.5)


def test_a_hidden_pixel_is_not_seen():
    torch.manual_seed(0)
    net = MaskedDenoiser(1, 4, (1,), 1, (1,))
    for p in net.parameters():
        torch.nn.init.normal_(p, 0, 0.2)
    y, mask = torch.rand(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
    mask[..., 5, 6] = 0
    changed = y.clone()
    changed[..., 5, 6] += 1
    with torch.no_grad():
        assert torch.equal(net(changed, mask), net(y, mask))
        assert not torch.allclose(net(changed, torch.ones_like(mask)), net(y, torch.ones_like(mask)))


def test_the_baseline_never_sees_the_noisy_crops():
    torch.manual_seed(0)
    method = UnpairedAWGN(GREY, width=4, encoder=(1,), middle=1, decoder=(1,))
    method.total_steps = 10
    b = batch()
    losses = []
    for noisy in (b["input"], torch.full_like(b["input"], float("nan"))):
        torch.manual_seed(1)
        losses.append(method.training_step({"input": noisy, "target": b["target"]}).item())
    assert losses[0] == losses[1]
