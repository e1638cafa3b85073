"""Self-supervised training rules: what makes each of them right, against closed forms and an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scorebench.baselines import card as cards
from scorebench.baselines.denoising import blind2unblind, neighbor2neighbor, noise2self, noise2void, oracle_gap, r2r, selfsup, sure
from scorebench.baselines.denoising.calibrated import CalibratedFilter
from scorebench.baselines.denoising.dncnn import DnCNNMethod
from scorebench.baselines.method import DataSpec, Method
from scorebench.baselines.registry import method_class
from scorebench.configs.errors import RequestError
from scorebench.harness.evaluator import evaluate
from scorebench.harness.training import fit
from scorebench.tasks import noise, registry
from scorebench.tasks.randomness import Rng, keyed
from scorebench.tasks.requests import Request, Returns

MASKED = ("noise2void", "noise2self", "blind2unblind")
GREY = DataSpec("image", 1)
TASK = "denoising/photos-gaussian25"
TRAINED = ("noise2noise", "noise2void", "noise2self", "neighbor2neighbor", "sure", "r2r", "noise2score", "blind2unblind")


def normal(*shape: int, key: str = "y") -> torch.Tensor:
    return torch.from_numpy(keyed("selfsup", key).normal(0.5, 0.2, shape).astype(np.float32))


def shaken(method: Method) -> Method:
    """Give the last layer random weights, so that the network is not the identity it starts as."""
    with torch.no_grad():
        for p in method.network.dncnn[-1].parameters():
            p.copy_(0.1 * normal(*p.shape, key="w"))
    return method.eval()


# ---------------------------------------------------------------------- one backbone, one budget
@pytest.mark.parametrize("name", TRAINED)
def test_the_network_and_optimiser_are_those_of_the_supervised_row(name):
    torch.manual_seed(0)
    row = DnCNNMethod(GREY)
    torch.manual_seed(0)
    method = method_class(cards.get(name))(data=GREY)
    ours, theirs = method.state_dict(), row.state_dict()
    assert [(k, v.shape) for k, v in ours.items()] == [(k, v.shape) for k, v in theirs.items()]
    last = list(theirs)[-2]  # zero where the answer is y less the stack's output, random where it is the output itself
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs if k != last)
    assert bool(ours[last].any()) == (name in MASKED)
    assert (method.lr, method.train_batch_size) == (row.lr, row.train_batch_size)
    assert not cards.get(name).uses.get("clean_images")


# ---------------------------------------------------------------------- Noise2Void
def test_the_pixel_that_replaces_a_blind_spot_is_another_one_of_its_window_and_all_are_equally_likely():
    torch.manual_seed(0)
    row, column = (t.flatten() for t in torch.meshgrid(torch.arange(9), torch.arange(7), indexing="ij"))
    row, column = row.repeat(2000, 1), column.repeat(2000, 1)
    r, c = noise2void.elsewhere(row, column, (9, 7), 2)
    assert not ((r == row) & (c == column)).any()
    assert r.min() == 0 and r.max() == 8 and c.min() == 0 and c.max() == 6
    inner = (row[0] >= 2) & (row[0] <= 6) & (column[0] >= 2) & (column[0] <= 4)
    dy, dx = (r - row)[:, inner], (c - column)[:, inner]
    assert dy.abs().max() == 2 and dx.abs().max() == 2
    counts = torch.bincount(((dy + 2) * 5 + dx + 2).flatten(), minlength=25).double()
    assert counts[12] == 0
    others = counts[torch.arange(25) != 12]
    assert ((others / others.mean() - 1).abs() < 5 / others.mean().sqrt()).all()


def test_blind_spots_are_stratified():
    row, column = noise2void.stratified(torch.zeros(5, 1, 32, 24), 8)
    assert row.shape == (5, 12)
    cells = (row // 8) * 3 + column // 8
    assert torch.equal(cells.sort(1).values, torch.arange(12).expand(5, 12))
    assert noise2void.stratified(torch.zeros(1, 1, 30, 30), 8)[0].max() <= 29


# ---------------------------------------------------------------------- Noise2Self
def test_the_answer_is_j_invariant_and_one_plain_pass_is_not():
    method = shaken(noise2self.Noise2Self(GREY))
    y = normal(1, 1, 16, 16)
    def ask(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return method.denoise(Request("denoise", {"noisy": x}, n=1, rng=Rng([0]), returns=Returns("image")))

    def change(row: int, column: int) -> torch.Tensor:
        moved = y.clone()
        moved[..., row, column] += 1.0
        return (ask(moved) - ask(y)).abs()[0, 0]

    for pixel in ((5, 6), (0, 0), (15, 3)):
        assert change(*pixel)[pixel] < 1e-6 and change(*pixel).max() > 1e-3
    method.answer = "plain"
    assert change(5, 6)[5, 6] > 1e-2


@pytest.mark.parametrize("width", [2, 4])
def test_the_blind_half_of_blind2unblind_is_that_of_noise2self(width):
    method, other = shaken(blind2unblind.Blind2Unblind(GREY, width=width)), shaken(noise2self.Noise2Self(GREY, width=width))
    other.load_state_dict(method.state_dict())
    y = normal(2, 1, 13, 16)
    request = Request("denoise", {"noisy": y}, n=2, rng=Rng([0, 1]), returns=Returns("image"))
    with torch.no_grad():
        assert torch.allclose(method.masked(y), other.denoise(request), atol=1e-5)
        assert torch.allclose(method.denoise(request), (method.masked(y) + 20 * method.network(y)) / 21, atol=1e-6)
    method.progress = lambda: 0.5
    assert method.beta() == 2
    method.progress = lambda: 0.9
    assert method.beta() == pytest.approx(11)


def test_the_sets_are_a_partition_and_the_mean_leaves_the_pixel_out():
    y = normal(1, 2, 10, 9)
    assert torch.equal(sum(selfsup.grid(y, 4, k).int() for k in range(16)), torch.ones(10, 9, dtype=torch.int32))
    k = [[0.5, 1, 0.5], [1, 0, 1], [0.5, 1, 0.5]]
    padded = np.pad(y[0, 1].numpy(), 1, mode="reflect")
    expected = sum(k[i][j] * padded[i : i + 10, j : j + 9] for i in range(3) for j in range(3)) / 6
    assert np.allclose(selfsup.neighbours(y)[0, 1].numpy(), expected, atol=1e-6)


def test_the_self_supervised_loss_is_the_true_error_plus_the_noise():
    """Proposition 1, for a filter calibrated on a picture large enough for averages to be means."""
    x = np.add.outer(np.sin(np.arange(96) / 9), np.cos(np.arange(96) / 7))[None] / 4 + 0.5
    y = x + 0.1 * keyed("j").standard_normal(x.shape)
    method = CalibratedFilter("tv", 10, 60, 3, sets=16)
    picture = torch.from_numpy(y.astype(np.float32))
    loss = method.losses(picture)
    mean = selfsup.neighbours(picture[None])[0].double()
    for i, level in enumerate(method.levels):
        error = 0.0
        for k in range(16):
            inside = selfsup.grid(picture, 4, k)
            out = method.filter.filtered(torch.where(inside, mean, picture.double()).numpy(), float(level))
            error += np.mean((out - x)[:, inside.numpy()] ** 2) / 16
        assert loss[i] == pytest.approx(error + 0.01, abs=5 * 0.01 * (2 / 96**2) ** 0.5)


def test_calibration_finds_a_sensible_level_and_offers_them_all():
    task = registry.get(TASK)
    ids = task.ids("dev")[:2]
    method = CalibratedFilter("tv", candidates=7).eval()
    out = evaluate(method, task, split="dev", ids=ids, batch_size=2)
    offered = out.offered["calibration"]
    assert offered.shape == (2, 7)
    assert (out.per_sample["psnr"] <= offered.max(1) + 1e-6).all() and (out.per_sample["psnr"] > offered.max(1) - 2).all()
    with pytest.raises(RequestError, match="nlm, tv, wavelet"):
        CalibratedFilter("median")


def test_the_check_of_the_calibration_claim():
    def record(variant: str, psnr: float, best: float) -> dict:
        oracles = {"calibration": {"primary": best}}
        return {"method": "calibrated-filter", "variant": variant, "unit_id": "u", "metrics": {"psnr": {"value": psnr}}, "oracles": oracles}

    tv = [record("calibrated-filter[tv-all]", 28 + 0.01 * d, 28.1 + 0.01 * d) for d in range(3)]
    good = [record("calibrated-filter[nlm-all]", 28 + 0.01 * d, 28.15 + 0.011 * d) for d in range(3)]
    bad = [record("calibrated-filter[nlm-all]", 28 + 0.01 * d, 28.5 + 0.011 * d) for d in range(3)]
    assert oracle_gap.calibration(tv)["verdict"] == "not-run"
    assert oracle_gap.calibration([*tv, *good])["verdict"] == "supported"
    spread = [record("calibrated-filter[nlm-all]", 28, 28.12 + 0.04 * d) for d in range(3)]
    open_ = oracle_gap.calibration([*tv, *spread])  # three draws: t is 4.3, not 3
    assert open_["verdict"] == "inconclusive" and open_["effect"] == pytest.approx(-0.16)
    assert open_["low"] == pytest.approx(-0.16 - 4.303 * 0.04 / 3**0.5)
    assert "at least 3" in oracle_gap.calibration([*tv[:2], *good[:2]])["note"]
    failed = oracle_gap.calibration([*tv, *bad])
    assert failed["verdict"] == "inconclusive" and failed["effect"] == pytest.approx(-0.501) and "not seen" in failed["note"]


# ---------------------------------------------------------------------- Neighbor2Neighbor
def test_pairs_share_a_side_and_are_never_the_same_pixel():
    y = torch.arange(12 * 10, dtype=torch.float32).reshape(1, 1, 12, 10).repeat(300, 1, 1, 1)
    one, two = neighbor2neighbor.choose(y)
    a, b = (neighbor2neighbor.subsampled(y, choice).long() for choice in (one, two))
    (ra, ca), (rb, cb) = ((p // 10, p % 10) for p in (a, b))
    assert ((ra - rb).abs() + (ca - cb).abs() == 1).all()
    assert (ra // 2 == rb // 2).all() and (ca // 2 == cb // 2).all()
    assert (ra // 2 == torch.arange(6)[:, None]).all() and (ca // 2 == torch.arange(5)).all()
    counts = torch.bincount((one * 4 + two).flatten(), minlength=16)
    assert (counts > 0).sum() == 8 and counts[counts > 0].min() > 0.85 * counts[counts > 0].max()


def test_neighbor2neighbor_is_the_loss_of_deepinv():
    deepinv = pytest.importorskip("deepinv")
    method = shaken(neighbor2neighbor.Neighbor2Neighbor(GREY))
    y = normal(3, 1, 8, 12)
    theirs = deepinv.loss.Neighbor2Neighbor(gamma=1.5)
    torch.manual_seed(3)
    masks = theirs.generate_mask_pair(y)
    torch.manual_seed(3)
    expected = theirs(y, None, lambda x, physics: method.network(x))
    choices = [m.reshape(3, 4, 6, 4).int().argmax(-1)[:, None] for m in masks]
    assert torch.allclose(method.loss(y, choices[0], choices[1], 1.5), expected, rtol=1e-5)


# ---------------------------------------------------------------------- SURE
def test_the_estimated_risk_is_the_true_error_for_a_gaussian():
    """x ~ N(0, C), linear f = A y: both risks have closed forms, and the Monte-Carlo estimate has their mean."""
    n, d, sigma = 40_000, 6, 0.5
    rng = keyed("sure")
    A = torch.from_numpy(np.eye(d) * 0.6 + 0.1 * rng.standard_normal((d, d)))
    root = torch.from_numpy(rng.standard_normal((d, d)))
    x = torch.from_numpy(rng.standard_normal((n, d))) @ root.T
    y = x + sigma * torch.from_numpy(rng.standard_normal((n, d)))
    b = torch.from_numpy(rng.standard_normal((n, d)))
    estimate = sure.risk(lambda v: v @ A.T, y, torch.tensor(sigma**2), b, 1e-3)
    B = A - torch.eye(d, dtype=A.dtype)
    truth = float((B @ root @ root.T @ B.T).trace() + sigma**2 * (A @ A.T).trace()) / d
    assert float(estimate.mean()) == pytest.approx(truth, abs=4 * float(estimate.std()) / n**0.5)


def test_the_estimated_risk_for_poisson_noise():
    n, peak = 200_000, 20.0
    rng = keyed("pure")
    x = torch.from_numpy(rng.random((n, 4)))
    y = torch.from_numpy(noise.Poisson(peak).sample(x.numpy(), rng))
    b = torch.from_numpy(rng.standard_normal((n, 4)))
    A = torch.from_numpy(np.eye(4) * 0.7 + 0.1)
    estimate = sure.risk(lambda v: v @ A.T, y, y / peak, b, 1e-3)
    difference = estimate - (y @ A.T - x).square().mean(1)
    assert float(difference.mean()) == pytest.approx(0, abs=4 * float(difference.std()) / n**0.5)  # exact for a linear f


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_the_estimate_is_that_of_deepinv(family):
    deepinv = pytest.importorskip("deepinv")
    method = shaken(sure.Sure(GREY)).double()
    y = normal(2, 1, 8, 8).double().clamp_min(0)
    model = lambda x, physics: method.network(x)  # noqa: E731
    physics = deepinv.physics.Denoising()
    rng = torch.Generator().manual_seed(5)
    if family == "gaussian":
        theirs = deepinv.loss.SureGaussianLoss(0.1, tau=1e-3, rng=rng)
        b, variance = torch.empty_like(y).normal_(generator=torch.Generator().manual_seed(5)), torch.tensor(0.01)
    else:
        theirs = deepinv.loss.SurePoissonLoss(0.05, tau=1e-3, rng=rng)
        drawn = torch.empty_like(y).uniform_(generator=torch.Generator().manual_seed(5))
        b, variance = 2 * (drawn > 0.5).double() - 1, 0.05 * y
    expected = theirs(y=y, x_net=method.network(y), physics=physics, model=model)
    assert torch.allclose(sure.risk(method.network, y, variance, b, 1e-3), expected, rtol=1e-8)


# ---------------------------------------------------------------------- R2R
@pytest.mark.parametrize("alpha", [0.2, 0.5])
@pytest.mark.parametrize(("family", "value"), [("gaussian", 0.1), ("poisson", 0.05), ("gamma", 50.0)])
def test_the_two_recorrupted_copies_have_the_right_mean_and_independent_noise(family, value, alpha):
    x, n = 0.6, 400_000
    rng = keyed("r2r", family)
    model = {"gaussian": lambda: noise.Gaussian(255 * value), "poisson": lambda: noise.Poisson(1 / value)}.get(family)
    clean = np.full((1, 1, 1, n), x)
    y = model().sample(clean, rng) if model else clean * rng.gamma(value, 1 / value, clean.shape)
    y = torch.from_numpy(y)
    torch.manual_seed(1)
    y1 = r2r.recorrupted(y, family, torch.tensor(value), alpha)
    y2 = (y - (1 - alpha) * y1) / alpha
    variance = {"gaussian": value**2, "poisson": x * value, "gamma": x**2 / value}[family]
    for copy, part in ((y1, 1 - alpha), (y2, alpha)):
        expected = variance / part
        assert float(copy.mean()) == pytest.approx(x, abs=5 * (expected / n) ** 0.5)
        assert float(copy.var()) == pytest.approx(expected, rel=0.02)
    assert abs(float(torch.corrcoef(torch.stack([y1.flatten(), y2.flatten()]))[0, 1])) < 5 / n**0.5
    squares = torch.stack([(c.flatten() - x).square() for c in (y1, y2)])
    assert abs(float(torch.corrcoef(squares)[0, 1])) < 8 / n**0.5  # independent, not only uncorrelated


@pytest.mark.parametrize(("family", "given"), [
    ("gaussian", {"noise_level": 0.1}), ("poisson", {"peak": 30.0, "noise_level": 30**-0.5}), ("gamma", {"shape": 50.0, "noise_level": 0.1}),
])  # fmt: skip
def test_recorruptions_of_an_answer_are_keyed_by_sample(family, given):
    method = shaken(r2r.R2R(GREY, draws=3))
    y = (normal(3, 1, 8, 8).clamp_min(0) * 30).round() / 30
    rngs = [Rng([11, 12, 13]), Rng([12])]
    both, alone = (
        method.denoise(Request("denoise", {"noisy": v, **given}, n=len(v), rng=rng, returns=Returns("image"))).detach()
        for v, rng in ((y, rngs[0]), (y[1:2], rngs[1]))
    )
    assert selfsup.parameter({**given}, y)[0] == family
    assert torch.allclose(both[1:2], alone, atol=1e-6) and not torch.equal(method.network(y), both)


def test_a_task_without_a_level_is_refused_in_one_sentence():
    with pytest.raises(RequestError, match="noise_level"):
        selfsup.parameter({"input": normal(1, 1, 8, 8)}, normal(1, 1, 8, 8))


# ---------------------------------------------------------------------- learning
@pytest.mark.parametrize(("name", "gain"), [("noise2noise", 2), ("neighbor2neighbor", 2), ("sure", 0.5)])
def test_a_short_training_without_clean_pictures_denoises(name, gain):
    card, task = cards.get(name), registry.get(TASK)
    cls = method_class(card)
    method, _ = fit(lambda: cls(data=GREY), task, card.trains_on, gflops=60, seed=0)
    ids = task.ids("dev")[:4]
    before, after = (
        evaluate(m, task, split="dev", ids=ids, batch_size=4).per_sample["psnr"].mean() for m in (cls(data=GREY).eval(), method)
    )
    assert after > before + gain
