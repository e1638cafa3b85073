"""Tasks between a picture and its mosaic: joint demosaicking and denoising, and RAW from a finished picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..configs.errors import RequestError
from ..datasets.base import Sample
from .base import Observation
from .images import ImageTask, trimmed
from .isp import ISP, bilinear, mosaic, pack, sparse
from .noise_raw import camera
from .randomness import keyed
from .training_data import CropSet, Item, crop, expand, tensor

TILE = 48
"""Side of the squares in which training targets are spoiled or not."""


class MosaicTask(ImageTask):
    """Joint demosaicking and denoising. Gives ``degraded`` float32 (3, H, W), the noisy RGGB samples at their places and zero elsewhere, and
    ``noise_level``. Answers are (3, H, W) in [0, 1]; the task clips them. Scored against true clean pictures.

    ``observe``: ``{sigma: [low, high]}`` (8-bit steps, uniform per sample). ``train.spoiled``: the share of training pictures whose target is
    a bilinear interpolation of its own mosaic, in tiles; ``train.residual``: noise left in all targets (8-bit steps). One keyed version of
    each target, as pictures taken once would have; inputs are made from the clean picture with fresh noise.
    """

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        clean = np.asarray(sample["image"], dtype=np.float32)
        level = float(self.keyed(split, sample.sample_id, draw, "level").uniform(*self.spec.observe["sigma"])) / 255
        given = degrade(clean, level, self.keyed(split, sample.sample_id, draw, "noise"))
        return Observation(
            sample.sample_id, sample.cluster, given={"degraded": tensor(given), "noise_level": level}, target={"clean": tensor(clean)}
        )

    def extras(self) -> dict[str, Any]:
        return {}

    def _targets(self) -> list[np.ndarray]:
        """Return one imperfect copy of every training picture."""
        train, out = self.train, []
        for number, picture in enumerate(self.training_pictures()):
            clean = expand(picture)
            rng = keyed("training targets", train["dataset"], train["split"], train["spoiled"], train["residual"], number)
            h, w = clean.shape[1:]
            bad = rng.random((-(-h // TILE), -(-w // TILE))) < train["spoiled"]
            where = np.kron(bad, np.ones((TILE, TILE), dtype=bool))[:h, :w]
            target = np.where(where, bilinear(mosaic(clean)), clean)
            out.append((target + train["residual"] / 255 * rng.standard_normal(clean.shape)).astype(np.float32))
        return out

    def training_pictures(self) -> list[np.ndarray]:
        return [trimmed(p, None, 2) for p in super().training_pictures()]

    def paired(self) -> tuple[list[tuple[np.ndarray, ...]], Callable[[tuple[np.ndarray, ...], np.random.Generator], Item], tuple[int, ...]]:
        low, high = self.spec.observe["sigma"]

        def finish(planes: tuple[np.ndarray, ...], rng: np.random.Generator) -> Item:
            level = float(rng.uniform(low, high)) / 255
            return {"input": tensor(degrade(planes[0], level, rng)), "target": tensor(planes[1]), "noise_level": torch.tensor(level)}

        return list(zip(self.training_pictures(), self._targets(), strict=True)), finish, (1, 1)

    def degraded(self, copy: int) -> list[np.ndarray]:
        raise RequestError(f"task {self.id} offers pairs (trains_on: paired) and imperfect targets; it has no noisy-only training data.")


def degrade(clean: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Return the RGGB samples of (3, H, W) with white noise of standard deviation ``level``, at their places in (3, H, W), zero elsewhere."""
    samples = mosaic(clean.astype(np.float64))
    return sparse(samples + level * rng.standard_normal(samples.shape))


class RGBToRawTask(ImageTask):
    """Reconstruct RAW from the picture that a camera made of it. Gives ``degraded`` float32 (3, H, W), the picture in 8 bits; answers are the
    packed clean RAW (4, H/2, W/2) in [0, 1].

    The camera's pipeline is `isp.ISP`: white balance drawn per picture around the camera's, its colour matrix, gamma, tone curve. The RAW is
    an embedded photograph sent backwards through it at the camera's own white balance; the picture is that RAW sent forwards at the drawn
    one, so that clipping and rounding lose something. ``observe``: ``{camera: a, jitter: 0.1}`` (standard deviation of the log gains).
    ``train.pairs``: how many crops of ``patch`` there are to learn from.
    """

    def isp(self, rng: np.random.Generator) -> ISP:
        """Return the pipeline of one picture."""
        base = camera(self.spec.observe["camera"]).isp
        red, blue = np.exp(self.spec.observe["jitter"] * rng.standard_normal(2)) * (base.red, base.blue)
        return ISP(float(red), float(blue), base.matrix, base.gamma)

    def shot(self, picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, ISP]:
        """Return picture (3, H, W) in 8-bit steps, RAW (4, H/2, W/2), and the pipeline between them."""
        pipe = self.isp(rng)
        linear = np.clip(camera(self.spec.observe["camera"]).isp.inverse(picture), 0, 1)
        return np.rint(pipe.forward(linear) * 255) / 255, pack(mosaic(linear)), pipe

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        rgb, raw, pipe = self.shot(sample["image"], self.keyed(split, sample.sample_id, draw, "pipeline"))
        given = {"degraded": tensor(rgb), "gains": tensor(np.array([pipe.red, 1.0, pipe.blue]))}
        return Observation(sample.sample_id, sample.cluster, given=given, target={"clean": tensor(raw)})

    def extras(self) -> dict[str, Any]:
        return {}

    def paired(self) -> Any:
        raise AssertionError("training_set makes the pairs")

    def degraded(self, copy: int) -> list[np.ndarray]:
        raise RequestError(f"task {self.id} offers pairs only (trains_on: paired) and clean pictures (trains_on: clean).")

    def training_set(self, trains_on: str, seed: int) -> Any:
        """As `Task.training_set`; the pairs are the same crops for every seed. Turns move neither mosaic nor rows: they are left out."""
        if trains_on != "paired":
            return super().training_set(trains_on, seed)
        train, patch, sources = self.train, int(self.train["patch"]), []
        pictures = self.training_pictures()
        for k in range(int(train["pairs"])):
            rng = keyed("training pairs", train["dataset"], train["split"], sorted(self.spec.observe.items()), patch, k)
            (window,) = crop([pictures[int(rng.integers(len(pictures)))]], patch, rng, (1,))
            rgb, raw, _ = self.shot(window, rng)
            sources.append((raw.astype(np.float32), rgb.astype(np.float32)))

        def finish(planes: tuple[np.ndarray, ...], rng: np.random.Generator) -> Item:
            return {"input": tensor(planes[1]), "target": tensor(planes[0])}

        return CropSet(sources, finish, patch=patch // 2, key=("pairs", patch, seed), scales=(1, 2), augment=False)
