"""Restoration methods: bicubic against Pillow, NAFNet's training and its local pooling, gains over doing nothing."""

import numpy as np
import pytest
import torch
from PIL import Image

from scorebench.baselines import card as cards
from scorebench.baselines.denoising.noisy_input import NoisyInput
from scorebench.baselines.method import DataSpec
from scorebench.baselines.restoration.bicubic import Bicubic
from scorebench.baselines.restoration.nafnet import NAFNetMethod
from scorebench.harness.training import fit
from scorebench.tasks import registry
from scorebench.tasks.randomness import Rng, keyed
from scorebench.tasks.requests import Request, Returns

IDS = [f"restoration/{n}" for n in ("photos-sr2", "photos-sr4", "photos-deblur", "photos-jpeg10", "pages-enhance")]


def ask(degraded: torch.Tensor, scale: int = 1) -> Request:
    given = {"degraded": degraded, "scale": scale, "kind": "test"}
    return Request("restore", given, n=len(degraded), rng=Rng([0]), returns=Returns("image"))


def psnr(method, task_id: str, count: int = 8) -> float:
    task = registry.get(task_id)
    observations = [task.observe("test", i) for i in task.ids()[:count]]
    request = task.request(observations, Rng(range(count)))
    with torch.no_grad():
        answer = task.accept(method.restore(request), request, observations)
    return float(task.metrics["psnr"].per_sample(answer, task.target(observations)).mean())


@pytest.mark.parametrize("task", IDS)
def test_bicubic_answers_every_task_in_the_clean_size(task):
    assert 5 < psnr(Bicubic(), task, 3) < 45


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_equals_pillow_inside(scale):
    x = keyed("x").random((1, 3, 20, 24)).astype(np.float32)
    mine = Bicubic().restore(ask(torch.from_numpy(x), scale))[0].numpy()
    size = (24 * scale, 20 * scale)
    pillow = np.stack([np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BICUBIC)) for p in x[0]])
    b = 3 * scale
    assert np.allclose(mine[:, b:-b, b:-b], pillow[:, b:-b, b:-b], atol=1e-5)


def test_at_scale_one_both_do_nothing_rows_are_the_identity():
    x = torch.rand(2, 3, 9, 7)
    assert torch.equal(Bicubic().restore(ask(x)), x)
    assert torch.equal(NoisyInput().restore(ask(x)), x)


def test_the_noisy_input_does_not_enter_super_resolution():
    card = cards.get("noisy-input")
    assert [card.answers(t, "restore") for t in IDS] == [False, False, True, True, True]


def test_a_short_training_beats_doing_nothing():
    """On pages, where five seconds show; on photographs a network of this size needs its whole budget (the accepted boards have it)."""
    task = "restoration/pages-enhance"
    method, report = fit(
        lambda: NAFNetMethod(DataSpec("image", 1), width=8, encoder=(1, 1), middle=1, decoder=(1, 1)),
        registry.get(task), "paired", gflops=20, seed=0,
    )  # fmt: skip
    assert report.steps > 20
    assert psnr(method, task) > psnr(Bicubic(), task) + 3


@pytest.mark.parametrize("task", ["restoration/photos-sr2", "restoration/photos-sr4", "denoising/photos-gaussian25"])
def test_one_architecture_trains_and_answers_at_every_scale(task):
    t = registry.get(task)
    channels = int(t.spec.options["channels"])
    method, _ = fit(
        lambda: NAFNetMethod(DataSpec("image", channels), width=8, encoder=(1,), middle=1, decoder=(1,)), t, "paired", gflops=3, seed=0
    )
    o = t.observe("test", t.ids()[0])
    request = t.request([o], Rng([0]))
    with torch.no_grad():
        answer = getattr(method, t.spec.ability)(request)
    assert tuple(answer.shape[1:]) == tuple(o.target["clean"].shape)


def test_the_fit_remembers_its_patch_and_pools_over_one_and_a_half():
    """The window comes from the stored state, so a fit that is loaded again pools as it did when it was measured."""
    def make(**options):
        return NAFNetMethod(DataSpec("image", 1), width=8, encoder=(1,), middle=1, decoder=(1,), **options)

    trained = make()
    trained.training_step({"input": torch.rand(2, 1, 24, 24), "target": torch.rand(2, 1, 24, 24)})
    with torch.no_grad():
        for p in trained.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    loaded, everywhere = make().eval(), make(local=False).eval()
    loaded.load_state_dict(trained.state_dict())
    everywhere.load_state_dict(trained.state_dict())
    x = torch.rand(1, 1, 96, 96)
    with torch.no_grad():
        windows = {m.window for m in loaded.network.modules() if hasattr(m, "window")}
        assert windows == {None}
        local = loaded.restore(ask(x))
        windows = {m.window for m in loaded.network.modules() if hasattr(m, "window")}
        assert windows == {36, 18}
        assert torch.equal(local, trained.eval().restore(ask(x)))
        assert not torch.allclose(local, everywhere.restore(ask(x)), atol=1e-4)
        small = torch.rand(1, 1, 24, 24)
        assert torch.allclose(loaded.restore(ask(small)), everywhere.restore(ask(small)), atol=1e-4)


def test_the_loss_is_minus_psnr():
    method = NAFNetMethod(DataSpec("image", 1), width=8, encoder=(1,), middle=1, decoder=(1,))
    target = torch.rand(4, 1, 16, 16)
    method.network = torch.nn.Identity()
    noisy = target + torch.tensor([0.1, 0.2, 0.05, 0.3])[:, None, None, None]
    expected = -np.mean([-20 * np.log10(e) for e in (0.1, 0.2, 0.05, 0.3)])
    assert float(method.training_step({"input": noisy, "target": target})) == pytest.approx(expected, abs=1e-4)
