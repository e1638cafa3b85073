"""The two-way pipeline: its steps are NumPy's and invert each other, atoms keep their constraints, the simulated camera is in its class."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scorebench.baselines import card as cards
from scorebench.baselines.restoration import mbispld
from scorebench.baselines.restoration.mbispld import MBISPLD, FixedISP, RGBAsRaw, RGBToRawUNet
from scorebench.configs.errors import RequestError
from scorebench.harness.training import fit
from scorebench.tasks import isp, noise_raw, registry
from scorebench.tasks.randomness import Rng, keyed

TASK = "restoration/rgb-to-raw"


def psnr(method, count: int = 4) -> float:
    task = registry.get(TASK)
    observations = [task.observe("test", i) for i in task.ids()[:count]]
    request = task.request(observations, Rng(range(count)))
    with torch.no_grad():
        answer = task.accept(method.restore(request), request, observations)
    return float(task.metrics["psnr"].per_sample(answer, task.target(observations)).mean())


def test_stages_are_those_of_the_simulator_and_invert_each_other():
    pipe = noise_raw.camera("a").isp
    linear = 0.05 + 0.3 * keyed("stages").random((3, 20, 20))
    x = torch.from_numpy(linear)[None]
    gains = torch.tensor([[pipe.red, 1.0, pipe.blue]], dtype=torch.float64)
    matrix = torch.tensor(pipe.matrix, dtype=torch.float64)[None]
    gamma = torch.tensor(2.2, dtype=torch.float64)
    stages = mbispld.process(x, gains, matrix, gamma)
    assert np.allclose(stages[-1][0].numpy(), pipe.forward(linear), atol=1e-3)  # the ends are cut at 1e-6 before gamma
    back = mbispld.unprocess(stages[-1], gains, matrix, gamma)
    free = ((stages[2] > 1e-3) & (stages[2] < 0.999)).all(1, keepdim=True).expand_as(x)
    assert free.float().mean() > 0.5
    for a, b in zip(stages, back, strict=True):
        assert torch.allclose(a[free], b[free], atol=1e-6)
    assert torch.allclose(mbispld.sampled(x)[0], torch.from_numpy(isp.pack(isp.mosaic(linear))))
    assert torch.allclose(mbispld.demosaicked(mbispld.sampled(x))[0], torch.from_numpy(isp.bilinear(isp.mosaic(linear))))


def test_atoms_keep_green_at_one_and_rows_at_one():
    torch.manual_seed(0)
    method = MBISPLD()
    weights = torch.rand(5, 8).softmax(1)
    assert torch.equal(method.gains(weights)[:, 1], torch.ones(5)) and (method.gains(weights) > 0).all()
    matrices = method.matrices(weights)
    assert torch.allclose(matrices.sum(2), torch.ones(5, 3), atol=1e-5)
    assert torch.linalg.cond(matrices).max() < 50
    assert torch.allclose(method.network["gains"](torch.rand(2, 3, 16, 16)).sum(1), torch.ones(2), atol=1e-6)


def test_the_oracle_is_exact_up_to_rounding_and_random_pipelines_are_not():
    preset = cards.get("isp-oracle").preset("default", TASK)
    assert np.allclose(preset["matrix"], noise_raw.camera("a").isp.matrix)
    assert psnr(FixedISP(**preset)) > 50 > psnr(FixedISP()) > psnr(RGBAsRaw()) + 5
    with pytest.raises(RequestError, match="colour matrix"):
        FixedISP("oracle")
    with pytest.raises(RequestError, match="oracle, upi"):
        FixedISP("guess")


def test_upi_mixes_the_published_matrices():
    method = FixedISP()
    for k in range(4):  # one camera alone: its matrix from XYZ after that from sRGB to XYZ, rows normalised, inverted
        there = FixedISP.XYZ_TO_CAMERA[k].double() @ FixedISP.RGB_TO_XYZ.double()
        there /= there.sum(1, keepdim=True)
        back = method.mixed(torch.eye(4)[k : k + 1])[0].double()
        assert torch.allclose(back @ there, torch.eye(3, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(method.mixed(torch.rand(5, 4)).sum(2), torch.ones(5, 3), atol=1e-5)


def test_rendering_the_raw_loses_something():
    """RAW is made at the camera's white balance and rendered at another: pictures are not the photographs that RAW was made of."""
    task = registry.get(TASK)
    for sample_id in task.ids()[:3]:
        observation = task.observe("test", sample_id)
        photo = torch.from_numpy(np.asarray(task.view(task.dataset.sample(task.spec.splits["test"], sample_id))["image"], dtype=np.float32))
        assert (observation.given["degraded"] - photo).abs().mean() > 1 / 255


def test_pairs_are_few_and_the_same_for_every_seed():
    task = registry.get("restoration/rgb-to-raw-10")
    seen = {task.training_set("paired", seed)[i]["target"].numpy().tobytes() for seed in (0, 1) for i in range(60)}
    assert len(seen) == 10
    item = task.training_set("paired", 0)[0]
    assert item["input"].shape == (3, 32, 32) and item["target"].shape == (4, 16, 16)
    steps = item["input"] * 255
    assert torch.allclose(steps, steps.round(), atol=1e-4)


@pytest.mark.parametrize(("method", "gain"), [(MBISPLD, 20), (lambda: RGBToRawUNet(width=4, levels=2, lr=1e-2, batch_size=8), 3)])
def test_short_trainings_learn(method, gain):
    fitted, _ = fit(method, registry.get(TASK), "paired", gflops=1.5, seed=0)
    assert psnr(fitted) > psnr(RGBAsRaw()) + gain


def test_the_unet_is_over_fifty_times_larger():
    sizes = [sum(p.numel() for p in m.parameters()) for m in (RGBToRawUNet(), MBISPLD())]
    assert sizes[0] > 50 * sizes[1]


def test_networks_that_keep_the_picture_size_do_not_enter():
    for card in (cards.get("nafnet-small"), cards.get("restormer-small")):
        assert not card.answers(TASK, "restore") and not card.answers(TASK + "-10", "restore")
        others = [t for t in registry.match(["restoration/*"]) if not t.startswith(TASK)]
        assert others and all(card.answers(t, "restore") for t in others)
        assert card.answers("restoration/rain-of-a-user", "restore") and card.answers("denoising/photos-gaussian25", "denoise")
