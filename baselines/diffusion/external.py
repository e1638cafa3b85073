"""External priors: a folder that Hugging Face diffusers saved (DDPM and DDIM pipelines of an unconditional or class-conditional UNet2DModel).

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
from .schedule import VPDiscrete

PREDICTIONS: dict[str, Form] = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}


class _Network(nn.Module):
    """The U-Net with positional arguments and a plain tensor as its answer, so that its rows are counted."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, step: Tensor, label: Tensor | None) -> Tensor:
        extra = {} if label is None else {"class_labels": label}
        return self.unet(x, step, return_dict=False, **extra)[0]


class DiffusersPrior(Prior):
    """A pipeline folder behind the prior interface. Pictures in [0, 1] are taken to [-1, 1], as diffusers does."""

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
        prediction = scheduler.get("prediction_type", "epsilon")
        if prediction not in PREDICTIONS or scheduler.get("_class_name") not in ("DDPMScheduler", "DDIMScheduler"):
            raise RequestError(
                f"{path}: scheduler {scheduler.get('_class_name')} with prediction {prediction!r}; accepted: DDPMScheduler or DDIMScheduler, "
                f"{', '.join(PREDICTIONS)}."
            )
        table = getattr(diffusers, scheduler["_class_name"]).from_config(scheduler).alphas_cumprod
        self.schedule = VPDiscrete(alpha_bar=tuple(table.double().tolist()))
        self.parameterisation = PREDICTIONS[prediction]
        unet: Any = diffusers.UNet2DModel.from_pretrained(str(path / "unet"), local_files_only=True, use_safetensors=True)
        size = unet.config.sample_size
        sides = (size, size) if isinstance(size, int) else tuple(size)
        self.shape, self.span = (unet.config.in_channels, *sides), (-1.0, 1.0)
        self.learned_variance = unet.config.out_channels == 2 * unet.config.in_channels
        if unet.config.class_embed_type is None and unet.config.num_class_embeds:
            self.conditioning, self.classes = "class", int(unet.config.num_class_embeds)
        self.network = _Network(unet.eval())

    def encode(self, image: Tensor) -> Tensor:
        return 2 * image - 1

    def decode(self, x0: Tensor) -> Tensor:
        return (x0 + 1) / 2

    def raw(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        step = self.schedule.step(t)  # type: ignore[attr-defined]
        step = step.to(x.device, x.dtype).expand(len(x)) if step.ndim == 0 else step.to(x.device, x.dtype)
        if self.classes and (cond is None or bool((cond == NULL).any())):
            raise RequestError("this pipeline was trained without label dropout: it answers only where every sample has a label.")
        out = self.network(x, step, cond.to(x.device) if cond is not None and self.classes else None)
        return out[:, : x.shape[1]] if self.learned_variance else out

