"""A diffusers folder behind the prior interface, with a tiny randomly initialised pipeline saved to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scorebench.baselines.diffusion.external import DiffusersPrior
from scorebench.baselines.generation.ddim import DDIM
from scorebench.configs.errors import DataMissing, RequestError
from scorebench.harness.cost import RowCounter
from scorebench.tasks.randomness import Rng
from scorebench.tasks.requests import Budget, Request, Returns


def test_a_folder_that_is_not_a_pipeline_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"not a diffusers pipeline \(no model_index\.json\)"):
        DiffusersPrior(str(tmp_path))


def saved(folder: Path, prediction: str = "epsilon", classes: int | None = None) -> Any:
    diffusers = pytest.importorskip("diffusers", reason="external priors need the extra: pip install 'scorebench[diffusers]'")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16, 16), norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"), num_class_embeds=classes,
    ).eval()  # fmt: skip
    scheduler = diffusers.DDIMScheduler(clip_sample=False, prediction_type=prediction, timestep_spacing="trailing")
    diffusers.DDIMPipeline(unet, scheduler).save_pretrained(folder)
    return unet, scheduler


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_samples_are_those_of_the_scheduler_loop(prediction: str, tmp_path: Path) -> None:
    unet, scheduler = saved(tmp_path, prediction)
    prior = DiffusersPrior(str(tmp_path)).requires_grad_(False)
    assert prior.shape == (1, 8, 8)
    sampler, rng = DDIM(prior), Rng(range(4))
    asked = Request("sample", {}, n=4, rng=rng, returns=Returns("image", (1, 8, 8)), budget=Budget("nfe10", 10))
    with RowCounter(sampler.networks()) as counter:
        ours = sampler.sample(asked)
    assert counter.forward == 40
    x = prior.start(Rng(range(4)).at("x_T").normal((1, 8, 8)))
    scheduler.set_timesteps(10)
    with torch.no_grad():
        for step in scheduler.timesteps:
            x = scheduler.step(unet(x, step).sample, step, x).prev_sample
    assert (ours - (x + 1) / 2).abs().max() / x.abs().max() < 1e-4


def test_labels_are_passed_on_and_required(tmp_path: Path) -> None:
    saved(tmp_path, classes=3)
    prior = DiffusersPrior(str(tmp_path)).requires_grad_(False)
    x = torch.randn(2, 1, 8, 8)
    a, b = (prior.denoised(x, 0.5, torch.tensor([k, k])) for k in (0, 2))
    assert prior.classes == 3 and not torch.allclose(a, b)
    with pytest.raises(RequestError, match="every sample has a label"):
        prior.denoised(x, 0.5)


def test_other_schedulers_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    config = tmp_path / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("DDIMScheduler", "LCMScheduler"))
    with pytest.raises(RequestError, match="accepted: DDPMScheduler or DDIMScheduler with"):
        DiffusersPrior(str(tmp_path))


# ------------------------------------------------------------------ VE score networks and consistency models
def saved_on_sigma(folder: Path, kind: str) -> Any:
    """Save a tiny pipeline of a score SDE (VE) or of a consistency model; return its U-Net and scheduler."""
    diffusers = pytest.importorskip("diffusers", reason="external priors need the extra: pip install 'scorebench[diffusers]'")
    torch.manual_seed(0)
    shared = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "block_out_channels": (16, 16), "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    if kind == "ve":
        unet = diffusers.UNet2DModel(**shared, time_embedding_type="fourier").eval()
        scheduler = diffusers.ScoreSdeVeScheduler(sigma_max=50.0)
        from diffusers.pipelines.deprecated.score_sde_ve import ScoreSdeVePipeline as Pipeline
    else:
        unet = diffusers.UNet2DModel(**shared, num_class_embeds=3).eval()
        scheduler = diffusers.CMStochasticIterativeScheduler()
        Pipeline = diffusers.ConsistencyModelPipeline
    Pipeline(unet, scheduler).save_pretrained(folder)
    return unet, scheduler


def test_a_ve_network_is_a_score_at_sigma(tmp_path: Path) -> None:
    unet, scheduler = saved_on_sigma(tmp_path, "ve")
    prior = DiffusersPrior(str(tmp_path)).requires_grad_(False)
    assert prior.schedule.t_max == 50.0 and prior.schedule.t_min == scheduler.config.sigma_min and not prior.is_consistency
    x = torch.rand(3, 1, 8, 8) + 0.7 * torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        theirs = unet(x, torch.full((3,), 0.7)).sample
    assert torch.allclose(prior.score(x, 0.7), theirs, atol=1e-4)
    assert torch.allclose(prior.denoised(x, 0.7), x + 0.7**2 * theirs, atol=1e-4)
    assert torch.equal(prior.decode(prior.encode(x)), x) and prior.span == (0.0, 1.0)
    # the scheduler's own predictor step is sigma^2 - sigma'^2 times our score
    scheduler.set_timesteps(5)
    scheduler.set_sigmas(5)
    k = 2
    time, sigma = scheduler.timesteps[k], scheduler.sigmas[k]
    with torch.no_grad():
        out = unet(x, sigma * torch.ones(3)).sample
        mean = scheduler.step_pred(out, time, x, generator=torch.Generator().manual_seed(0)).prev_sample_mean
    gap = ((mean - x) / prior.score(x, float(sigma))).flatten()
    assert torch.allclose(gap, gap.mean().expand_as(gap), rtol=1e-3), "one factor for all pixels"


def test_a_consistency_model_is_its_schedulers(tmp_path: Path) -> None:
    unet, scheduler = saved_on_sigma(tmp_path, "consistency")
    prior = DiffusersPrior(str(tmp_path)).requires_grad_(False)
    assert prior.is_consistency and prior.classes == 3
    label = torch.tensor([0, 1, 2, 0])
    scheduler.set_timesteps(1)
    x = scheduler.init_noise_sigma * torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        step = scheduler.timesteps[0]
        out = unet(scheduler.scale_model_input(x, step), step, class_labels=label).sample
        theirs = scheduler.step(out, step, x, generator=torch.Generator().manual_seed(0)).prev_sample
    ours = prior.denoised(x, float(prior.schedule.t_max), label)
    assert torch.allclose(ours.clamp(-1, 1), theirs, atol=1e-3)
    inside = torch.rand(4, 1, 8, 8) * 2 - 1
    assert torch.allclose(prior.denoised(inside, prior.schedule.t_min, label), inside, atol=1e-6), "the identity at the smallest level"
    with pytest.raises(RequestError, match=r"from sigma = 0\.002 up"):
        prior.denoised(inside, 0.001, label)


@pytest.mark.parametrize("kind", ["ve", "consistency"])
def test_solvers_run_on_them_and_rows_are_counted(kind: str, tmp_path: Path) -> None:
    saved_on_sigma(tmp_path, kind)
    sampler = DDIM(DiffusersPrior(str(tmp_path)).requires_grad_(False), grid="karras", clip=True)
    given = {"label": torch.tensor([0, 1])} if kind == "consistency" else {}
    asked = Request("sample", given, n=2, rng=Rng(range(2)), returns=Returns("image", (1, 8, 8)), budget=Budget("nfe5", 5))
    with RowCounter(sampler.networks()) as counter:
        x = sampler.sample(asked)
    assert counter.forward == 10 and torch.isfinite(x).all()
