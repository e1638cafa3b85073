"""Fine-tuning on the picture at hand, and the task it is for: sensor noise after a training with white noise."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from scorebench.baselines.restoration.wild_jdd import WildJDD
from scorebench.baselines.restoration.wild_jdd_tuned import TunedJDD, sampled
from scorebench.configs.errors import RequestError
from scorebench.tasks import isp, registry
from scorebench.tasks.noise_raw import camera
from scorebench.tasks.randomness import Rng

HOME, AWAY = "restoration/jdd-bayer", "restoration/jdd-sensor"


def request(n: int = 2, first: int = 0):
    task = registry.get(AWAY)
    return task.request([task.observe("test", i) for i in task.ids()[first : first + n]], Rng(range(n)))


def tuned(**more) -> TunedJDD:
    torch.manual_seed(0)
    return TunedJDD(width=6, blocks=1, **more)


def test_the_places_are_those_of_the_mosaic():
    full = np.ones((3, 8, 12))
    assert np.array_equal(sampled(torch.zeros(1, 3, 8, 12))[0].numpy(), isp.sparse(isp.mosaic(full)))


def test_without_steps_it_is_the_network_as_trained():
    method, plain = tuned(steps=0), WildJDD(width=6, blocks=1)
    plain.network.load_state_dict(method.network.state_dict())
    assert torch.equal(method.restore(request(1)), plain.restore(request(1)))


def test_it_learns_from_the_picture_and_forgets_it():
    method, asked = tuned(steps=5, tune_lr=1e-3), request()
    before = copy.deepcopy(method.network.state_dict())
    both = method.restore(asked)
    assert all(torch.equal(v, before[k]) for k, v in method.network.state_dict().items())
    assert not torch.equal(both, tuned(steps=0).restore(asked))
    alone = [method.restore(request(1, first=k)) for k in (1, 0)]
    assert torch.equal(torch.cat(alone[::-1]), both), "what was seen before does not matter"


def test_every_step_goes_down_its_loss():
    method, asked = tuned(tune_lr=1e-3), request(n=1)
    level = torch.as_tensor(asked.noise_level, dtype=torch.float32).expand(1)
    optimiser, losses = torch.optim.Adam(method.network.parameters(), lr=1e-3), []
    for _ in range(20):
        loss = method.tuning_loss(asked.degraded, level)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_bound_reads_sampled_places_alone_and_is_best_at_the_sample(monkeypatch):
    method = tuned()
    sparse = request(n=1).degraded
    level = torch.tensor([0.05])
    mu = torch.rand(sparse.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    lam, a, b = (torch.full_like(sparse, v) for v in (3.0, 4.0, 0.01))
    monkeypatch.setattr(method, "law", lambda *_: (mu, lam, a, b))
    (slope,) = torch.autograd.grad(method.tuning_loss(sparse, level), mu)
    seen = sampled(sparse)
    # of likelihood and prior together: (1 + lam0) a / b (mu - x), over the mean
    assert torch.allclose(slope, seen * 2.0 * 400.0 * (mu.detach() - sparse) / seen.sum(), rtol=1e-4, atol=1e-9)


def test_weights_come_back_when_a_picture_fails(monkeypatch):
    method = tuned(steps=2, tune_lr=1e-2)
    before = copy.deepcopy(method.network.state_dict())
    calls = iter([False, True])
    loss = TunedJDD.tuning_loss

    def breaking(self, sparse, level):
        if next(calls):
            raise RuntimeError("out of memory")
        return loss(self, sparse, level)

    monkeypatch.setattr(TunedJDD, "tuning_loss", breaking)
    with pytest.raises(RuntimeError, match="out of memory"):
        method.restore(request(n=1))
    assert all(torch.equal(v, before[k]) for k, v in method.network.state_dict().items())


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"tune_lr": 0.0}, {"tune_lam0": 0.0}, {"tune_a0": 1.0}])
def test_refuses(wrong):
    with pytest.raises(RequestError, match="fine-tuning needs"):
        TunedJDD(**wrong)


# ---------------------------------------------------------------------- the task
def test_training_is_that_of_the_task_with_white_noise():
    home, away = (registry.get(t).training_set("paired", 0) for t in (HOME, AWAY))
    for i in range(3):
        a, b = home[i], away[i]
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_test_pictures_have_the_noise_of_the_sensor():
    task, shot = registry.get(AWAY), camera("a").exposure(1600.0)
    levels, errors, compared = [], [], 0
    for i in task.ids():
        seen = task.observe("test", i)
        sparse, clean, level = seen.given["degraded"].numpy(), seen.target["clean"].numpy(), float(seen.given["noise_level"])
        x, z = isp.mosaic(sparse).astype(np.float64), isp.mosaic(clean)
        assert np.array_equal(isp.sparse(x), sparse)
        levels.append(level)
        errors.append(float((x - z).std()) / level)
        low, high = np.quantile(z, [0.2, 0.8])
        if high > 3 * low + 0.05:
            assert (x - z)[z >= high].std() > (x - z)[z <= low].std(), "photon noise grows with the signal"
            compared += 1
    assert compared >= 3
    assert np.mean(errors) == pytest.approx(1, abs=0.03)
    assert min(levels) > 4 / 255 and max(levels) < 30 / 255 and len(set(levels)) == len(levels)
    assert shot.row > 0 and shot.lam < 0
    first = task.ids()[0]
    assert not torch.equal(task.observe("test", first, draw=1).given["degraded"], task.observe("test", first).given["degraded"])
