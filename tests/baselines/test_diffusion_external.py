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
    config.write_text(config.read_text().replace("DDIMScheduler", "ScoreSdeVeScheduler"))
    with pytest.raises(RequestError, match="accepted: DDPMScheduler or DDIMScheduler"):
        DiffusersPrior(str(tmp_path))
