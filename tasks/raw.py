"""Denoising of RAW frames, packed to four planes: simulated cameras on the embedded photographs, or real pairs of exposures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ..configs.errors import RequestError
from ..datasets.base import Sample
from . import noise_raw
from .base import Observation
from .images import ImageTask, trimmed
from .isp import mosaic, pack
from .randomness import keyed
from .training_data import Item, expand, named, pictures, tensor


def clean_raw(picture: np.ndarray, camera: noise_raw.Camera) -> np.ndarray:
    """Return what ``camera`` would record of a picture (3, H, W) in [0, 1], without noise: (4, H/2, W/2) in [0, 1], odd sides cut."""
    linear = camera.isp.inverse(trimmed(picture, None, 2))
    return pack(np.clip(mosaic(linear), 0, 1))


class RawTask(ImageTask):
    """Gives ``noisy`` float32 (4, h, w), planes R, G, G, B, black level removed, amplified so that the clean frame is in [0, 1], not clipped;
    and what ``gives`` adds of ``amplification``, ``iso``, ``white_level`` and ``black_level`` (codes), and, as far as the sensor is known,
    ``gain`` (DN per electron) and ``read_noise`` (DN). Answers are (4, h, w) in [0, 1]; the task clips them.

    ``observe``: ``{cameras: [a], amplification: 200}``; ``dev_cameras`` where dev has others. Samples take the cameras in turn, and a keyed
    ISO of the camera's. ``{cameras: real}``: samples hold ``noisy`` and ``image`` as above, with ``amplification`` and ``iso``.
    ``train``: ``{camera, amplification: [low, high]}``: the simulator that makes clean, paired and noisy items; ``{camera: real}`` takes the
    pairs of a data set like that, all of whose frames are then held in memory.
    """

    def view(self, sample: Sample) -> Sample:
        size = self.spec.options.get("size")
        if size is None:
            return sample
        return replace(sample, data={k: trimmed(v, size) if isinstance(v, np.ndarray) else v for k, v in sample.data.items()})

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        return {split: {i: k for k, i in enumerate(self.ids(split))} for split in self.spec.splits}

    def _camera(self, split: str, sample_id: str, draw: int) -> noise_raw.Camera:
        observe = self.spec.observe
        names = observe.get("dev_cameras", observe["cameras"]) if split == "dev" else observe["cameras"]
        return noise_raw.camera(names[(self._places[split][sample_id] + draw) % len(names)])

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        if self.spec.observe["cameras"] == "real":
            given: dict[str, Any] = {k: sample[k] for k in ("amplification", "iso", "white_level", "black_level")}
            noisy, clean = sample["noisy"], sample["image"]
        else:
            camera = self._camera(split, sample.sample_id, draw)
            iso = int(self.keyed(split, sample.sample_id, draw, "iso").choice(camera.isos))
            amplification = float(self.spec.observe["amplification"])
            rng = self.keyed(split, sample.sample_id, draw, "noise")
            exposure = camera.exposure(iso, rng)
            clean = clean_raw(sample["image"], camera)
            noisy = exposure.expose(clean, amplification, rng, window(camera.dark_shading(iso), clean.shape))
            given = {
                "amplification": amplification, "iso": iso, "white_level": camera.white, "black_level": camera.black,
                "gain": exposure.gain, "read_noise": exposure.read_noise,
            }  # fmt: skip
        return Observation(
            sample.sample_id,
            sample.cluster,
            given={"noisy": tensor(noisy), **given},
            target={"clean": tensor(clean)},
            shared={"noise_model": "raw"},
        )

    # ------------------------------------------------------------------ training
    @cached_property
    def simulator(self) -> noise_raw.Camera:
        """The camera that the training data are made for."""
        return noise_raw.camera(self.train["camera"])

    def training_pictures(self) -> list[np.ndarray]:
        train = self.train
        if train["camera"] == "real":
            return list(pictures(train["dataset"], train["split"]))
        return [clean_raw(expand(p), self.simulator).astype(np.float32) for p in pictures(train["dataset"], train["split"])]

    def training_facts(self) -> dict[str, Any]:
        return {}  # the whole simulator is named in the train block, and what is observed may differ from it

    def extras(self) -> dict[str, Any]:
        return {}

    def _noisy(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one frame of the simulator: keyed ISO and amplification, and a window of the sensor's dark shading."""
        camera, (low, high) = self.simulator, self.train["amplification"]
        iso = int(rng.choice(camera.isos))
        amplification = float(rng.uniform(low, high))
        shading = camera.dark_shading(iso)
        _, h, w = clean.shape
        if max(h, w) <= shading.shape[-1]:
            top, left = (int(rng.integers(shading.shape[-1] - n + 1)) for n in (h, w))
            shading = shading[:, top : top + h, left : left + w]
        else:
            shading = window(shading, clean.shape)
        return camera.exposure(iso, rng).expose(clean, amplification, rng, shading)

    def paired(self) -> tuple[list[tuple[np.ndarray, ...]], Callable[[tuple[np.ndarray, ...], np.random.Generator], Item], tuple[int, ...]]:
        if self.train["camera"] == "real":
            return list(zip(self.degraded(0), self.training_pictures(), strict=True)), named("input", "target"), (1, 1)

        def finish(planes: tuple[np.ndarray, ...], rng: np.random.Generator) -> Item:
            return {"input": tensor(self._noisy(planes[0], rng)), "target": tensor(planes[0])}

        return [(p,) for p in self.training_pictures()], finish, (1,)

    def degraded(self, copy: int) -> list[np.ndarray]:
        train = self.train
        if train["camera"] == "real":
            if copy > 0:
                raise RequestError(f"task {self.id} has one real short exposure of each scene; methods that need two cannot enter it.")
            return list(pictures(train["dataset"], train["split"], "noisy"))
        key = ("training raw", train["dataset"], train["split"], train["camera"], copy)
        return [self._noisy(p, keyed(*key, n)).astype(np.float32) for n, p in enumerate(self.training_pictures())]

    def training_set(self, trains_on: str, seed: int) -> Any:
        if self.train.get("camera") is None:
            raise RequestError(f"task {self.id} names no camera to train for (`train.camera`).")
        return super().training_set(trains_on, seed)


def window(shading: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a sensor's fixed pattern (4, H, W) for a frame of ``shape`` (4, h, w): its top left part, repeated where the frame is larger."""
    _, h, w = shape
    rows, columns = (-(-n // m) for n, m in zip((h, w), shading.shape[1:], strict=True))
    return np.tile(shading, (1, rows, columns))[:, :h, :w]
