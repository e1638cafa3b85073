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
from .training_data import Item, expand, named, pictures, tensor


class DenoisingTask(ImageTask):
    """Gives ``noisy`` float32 (C, H, W), not clipped, and what ``gives`` adds: ``noise_model`` (its name), ``noise_level`` (standard
    deviation at full intensity, in [0, 1] units), ``peak`` (Poisson), ``shape`` (Gamma). Answers are images in [0, 1]; the task clips them.

    ``observe``: ``{noise: gaussian, sigma: 25}`` (8-bit steps), ``{noise: poisson, peak: 30}``, ``{noise: gamma, shape: 50}``,
    ``{noise: gaussian-blind, low: 0, high: 55}`` (one level per picture, which only the target holds), ``{noise: correlated, sigma: 15,
    gain: 0.01, kernel: 3}``, see `noise` and `noise_spatial`; or ``{noise: real}`` for datasets whose samples hold a ``noisy`` picture.
    Real noise has no sampler: training items are then the dataset's own pairs, one noisy copy each.
    """

    @cached_property
    def noise(self) -> noise.Noise | None:
        """The noise model; None for real pairs."""
        return None if self.spec.observe.get("noise") == "real" else noise.make(self.spec.observe)

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        clean = np.asarray(sample["image"], dtype=np.float32)
        hidden: dict[str, float] = {}
        if self.noise is None:
            noisy, known, name = np.asarray(sample["noisy"], dtype=np.float32), {}, "real"
        else:
            noisy, hidden = self.noise.observe(clean, self.keyed(split, sample.sample_id, draw, "noise"))
            known, name = self.noise.known(), self.noise.name
        return Observation(
            sample.sample_id,
            sample.cluster,
            given={"noisy": tensor(noisy), **known},
            target={"clean": tensor(clean), **hidden},
            shared={"noise_model": name},
        )

    # ------------------------------------------------------------------ training
    def training_facts(self) -> dict[str, Any]:
        return {"noise": {"model": self.noise.name, **self.noise.parameters()} if self.noise else "real"}

    def extras(self) -> dict[str, Any]:
        known = self.noise.known() if self.noise else {}
        return {k: torch.tensor(v, dtype=torch.float32) for k, v in known.items() if k in self.spec.gives}

    def paired(self) -> tuple[list[tuple[np.ndarray, ...]], Callable[[tuple[np.ndarray, ...], np.random.Generator], Item], tuple[int, ...]]:
        model = self.noise
        if model is None:
            return list(zip(self._real(), self.training_pictures(), strict=True)), named("input", "target"), (1, 1)

        def finish(planes: tuple[np.ndarray, ...], rng: np.random.Generator) -> Item:
            return {"input": tensor(model.sample(planes[0], rng)), "target": tensor(planes[0])}

        return [(p,) for p in self.training_pictures()], finish, (1,)

    def degraded(self, copy: int) -> list[np.ndarray]:
        model, train = self.noise, self.train
        if model is None:
            if copy > 0:
                raise RequestError(f"task {self.id} has one real noisy copy of each training picture; methods that need two cannot enter it.")
            return self._real()
        key = ("training noise", train["dataset"], train["split"], model.name, sorted(model.parameters().items()), copy)
        return [
            model.sample(expand(picture), keyed(*key, number)).astype(np.float32) for number, picture in enumerate(self.training_pictures())
        ]

    def _real(self) -> list[np.ndarray]:
        return list(pictures(self.train["dataset"], self.train["split"], "noisy"))
