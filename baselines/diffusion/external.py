"""External priors: a folder that Hugging Face diffusers saved, with an unconditional or class-conditional UNet2DModel in pixels.

DDPM and DDIM pipelines, VE pipelines of score SDEs (Song et al. 2021) and consistency models (Song et al. 2023): the scheduler tells which.
Needs the extra ``scorebench[diffusers]``. Nothing is downloaded: the folder must be on this machine, with safetensors weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...configs.errors import DataMissing, RequestError
from .conversions import Form
from .prior import NULL, Prior
from .schedule import EDM, VPDiscrete, along

PREDICTIONS: dict[str, Form] = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}
VP = ("DDPMScheduler", "DDIMScheduler")
VE, CONSISTENCY = "ScoreSdeVeScheduler", "CMStochasticIterativeScheduler"


class _Network(nn.Module):
    """The U-Net with positional arguments and a plain tensor as its answer, so that its rows are counted."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, step: Tensor, label: Tensor | None) -> Tensor:
        extra = {} if label is None else {"class_labels": label}
        return self.unet(x, step, return_dict=False, **extra)[0]


class DiffusersPrior(Prior):
    """A pipeline folder behind the prior interface. Pictures in [0, 1] are taken to [-1, 1], as diffusers does, but for VE pipelines.

    A VE network is told sigma and returns the score of pictures in [0, 1] (`EDM` path). A consistency network's answer is taken for the data
    prediction: it is where the ODE from x_t ends, one draw and not the mean, so `is_consistency` says that Tweedie's formula does not hold.
    """

    def __init__(self, folder: str) -> None:
        """``folder`` holds model_index.json, unet/ and scheduler/. RequestError where its parts are not of a kind known here."""
        super().__init__()
        path = Path(folder).expanduser()
        if not (path / "model_index.json").is_file():
            raise DataMissing(f"{path} is not a diffusers pipeline (no model_index.json); save one with pipeline.save_pretrained(folder).")
        try:
            import diffusers
        except ImportError:
            raise RequestError("priors of diffusers need the extra; install it with: pip install 'scorebench[diffusers]'") from None
        scheduler = json.loads((path / "scheduler" / "scheduler_config.json").read_text())
        name, prediction = str(scheduler.get("_class_name")), scheduler.get("prediction_type", "epsilon")
        if name not in (*VP, VE, CONSISTENCY) or (name in VP and prediction not in PREDICTIONS):
            raise RequestError(
                f"{path}: scheduler {name} with prediction {prediction!r}; accepted: {' or '.join(VP)} with {', '.join(PREDICTIONS)}; "
                f"{VE}; {CONSISTENCY}."
            )
        self.kind, self.is_consistency, self.sigma_data = name, name == CONSISTENCY, float(scheduler.get("sigma_data", 0.5))
        if name in VP:
            table = getattr(diffusers, name).from_config(scheduler).alphas_cumprod
            self.schedule = VPDiscrete(alpha_bar=tuple(table.double().tolist()))
            self.parameterisation = PREDICTIONS[prediction]
        else:
            self.schedule = EDM(t_max=float(scheduler["sigma_max"]), t_min=float(scheduler["sigma_min"]))
            self.parameterisation = "score" if name == VE else "data"
        unet: Any = diffusers.UNet2DModel.from_pretrained(str(path / "unet"), local_files_only=True, use_safetensors=True)
        size = unet.config.sample_size
        sides = (size, size) if isinstance(size, int) else tuple(size)
        self.shape, self.span = (unet.config.in_channels, *sides), (0.0, 1.0) if name == VE else (-1.0, 1.0)
        self.learned_variance = unet.config.out_channels == 2 * unet.config.in_channels
        if unet.config.class_embed_type is None and unet.config.num_class_embeds:
            self.conditioning, self.classes = "class", int(unet.config.num_class_embeds)
        self.network = _Network(unet.eval())

    def encode(self, image: Tensor) -> Tensor:
        return image if self.kind == VE else 2 * image - 1

    def decode(self, x0: Tensor) -> Tensor:
        return x0 if self.kind == VE else (x0 + 1) / 2

    def raw(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        step = self.schedule.step(t) if self.kind in VP else t  # type: ignore[attr-defined]
        step = step.to(x.device, x.dtype).expand(len(x)) if step.ndim == 0 else step.to(x.device, x.dtype)
        if self.is_consistency and (step < self.schedule.t_min * (1 - 1e-6)).any():
            raise RequestError(f"a consistency model answers from sigma = {self.schedule.t_min} up.")
        if self.classes and (cond is None or bool((cond == NULL).any())):
            raise RequestError("this pipeline was trained without label dropout: it answers only where every sample has a label.")
        label = cond.to(x.device) if cond is not None and self.classes else None
        if self.is_consistency:  # Song et al. 2023, eq. 5 and appendix C: c_skip x + c_out F(c_in x, 250 ln sigma), the identity at sigma_min
            s, low = along(step, x), self.schedule.t_min
            total = (s**2 + self.sigma_data**2).sqrt()
            inside = self.network(x / total, 250 * step.log(), label)
            return self.sigma_data**2 / ((s - low) ** 2 + self.sigma_data**2) * x + (s - low) * self.sigma_data / total * inside
        out = self.network(x, step, label)
        return out[:, : x.shape[1]] if self.learned_variance else out

