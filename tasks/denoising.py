"""The denoising family: a clean image plus noise of a declared model, or a real noisy photograph with its reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..configs.errors import RequestError
from ..datasets.base import Sample
from . import noise
from .base import Observation
from .images import ImageTask
from .randomness import keyed
from .training_data import Item, expand, tensor


class DenoisingTask(ImageTask):
    """Gives ``noisy`` float32 (C, H, W), not clipped, and what ``gives`` adds: ``noise_model`` (its name), ``noise_level`` (standard
    deviation at full intensity, in [0, 1] units), ``peak`` (Poisson). Answers are images in [0, 1]; the task clips them.

    ``observe``: ``{noise: gaussian, sigma: 25}`` (8-bit steps), ``{noise: poisson, peak: 30}``, or ``{noise: real}`` for datasets whose
    samples hold a ``noisy`` picture. ``train.noise`` replaces the noise model of the training items (real noise has no sampler).
    """

    @cached_property
    def noise(self) -> noise.Noise | None:
        """The noise model; None for real pairs."""
        return None if self.spec.observe.get("noise") == "real" else noise.make(self.spec.observe)

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        clean = np.asarray(sample["image"], dtype=np.float32)
        if self.noise is None:
            noisy, known, name = np.asarray(sample["noisy"], dtype=np.float32), {}, "real"
        else:
            noisy = self.noise.sample(clean, self.keyed(split, sample.sample_id, draw, "noise"))
            known, name = self.noise.known(), self.noise.name
        return Observation(
            sample.sample_id,
            sample.cluster,
            given={"noisy": tensor(noisy), **known},
            target={"clean": tensor(clean)},
            shared={"noise_model": name},
        )

    # ------------------------------------------------------------------ training
    @cached_property
    def training_noise(self) -> noise.Noise:
        """The noise model of the training items."""
        declared = self.train.get("noise")
        model = noise.make(declared) if declared else self.noise
        if model is None:
            raise RequestError(f"task {self.id} has real noise, so `train.noise` must name a model, e.g. {{noise: gaussian, sigma: 10}}.")
        return model

    def training_facts(self) -> dict[str, Any]:
        return {"noise": {"model": self.training_noise.name, **self.training_noise.known()}}

    def extras(self) -> dict[str, Any]:
        return {k: torch.tensor(v, dtype=torch.float32) for k, v in self.training_noise.known().items() if k in self.spec.gives}

    def paired(self) -> tuple[list[tuple[np.ndarray, ...]], Callable[[tuple[np.ndarray, ...], np.random.Generator], Item], tuple[int, ...]]:
        model = self.training_noise

        def finish(planes: tuple[np.ndarray, ...], rng: np.random.Generator) -> Item:
            return {"input": tensor(model.sample(planes[0], rng)), "target": tensor(planes[0])}

        return [(p,) for p in self.training_pictures()], finish, (1,)

    def degraded(self, copy: int) -> list[np.ndarray]:
        model, train = self.training_noise, self.train
        key = ("training noise", train["dataset"], train["split"], model.name, sorted(model.known().items()), copy)
        return [
            model.sample(expand(picture), keyed(*key, number)).astype(np.float32) for number, picture in enumerate(self.training_pictures())
        ]
