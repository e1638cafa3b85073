"""Denoising low-dose CT: slices reconstructed by filtered back-projection from photon counts, with noise in streaks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ..configs.errors import RequestError
from ..datasets.base import Sample
from .base import Observation
from .denoising import DenoisingTask
from .randomness import keyed
from .training_data import Item, expand, tensor


class Scanner:
    """Parallel beams through square slices of attenuation in [0, 1]: ``views`` over 180 degrees, ``dose`` photons per ray.

    ``density`` turns an attenuation of 1 into an absorption per pixel width: a ray of line integral p (pixel widths) arrives as
    Poisson(dose exp(-density p)) photons. Where none arrives, one is assumed.
    """

    def __init__(self, dose: float, views: int = 90, density: float = 0.1) -> None:
        if not (dose > 0 and views >= 1 and density > 0):
            raise RequestError(f"low-dose CT with dose {dose}, views {views}, density {density}: all must be above 0.")
        self.dose, self.views, self.density = float(dose), int(views), float(density)
        self.angles = np.arange(self.views) * (180.0 / self.views)

    def project(self, image: np.ndarray) -> np.ndarray:
        """Return the line integrals of (H, H), in pixel widths: float64 (H, views). What lies outside the inscribed circle is not seen."""
        from skimage.transform import radon

        return radon(image.astype(np.float64), self.angles, circle=True)

    def measure(self, integrals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return line integrals as the counts of one scan tell them: -log(count / dose) / density."""
        counts = rng.poisson(self.dose * np.exp(-self.density * integrals))
        return -np.log(np.maximum(counts, 1) / self.dose) / self.density

    def reconstruct(self, integrals: np.ndarray) -> np.ndarray:
        """Return the filtered back-projection (ramp filter): float64 (H, H), zero outside the circle."""
        from skimage.transform import iradon

        return iradon(integrals, self.angles, filter_name="ramp", circle=True)

    def facts(self) -> dict[str, float]:
        """Return the parameters, for content keys."""
        return {"dose": self.dose, "views": float(self.views), "density": self.density}


class LowDoseTask(DenoisingTask):
    """Gives ``noisy`` float32 (1, H, H), a slice scanned with few photons, not clipped, and ``noise_model`` (``low-dose-ct``).

    The target is the reconstruction of the same line integrals without noise, clipped to [0, 1]: what a scan of unlimited dose would show,
    so that nobody is asked to undo the blur of the reconstruction. ``observe``: ``{dose, views, density}`` (see `Scanner`).
    """

    @cached_property
    def scanner(self) -> Scanner:
        """The scanner that ``observe`` declares."""
        try:
            return Scanner(**self.spec.observe)
        except TypeError:
            raise RequestError(f"task {self.id}: observe may hold dose, views and density, not {', '.join(self.spec.observe)}.") from None

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        integrals = self.scanner.project(np.asarray(sample["image"])[0])
        noisy = self.scanner.reconstruct(self.scanner.measure(integrals, self.keyed(split, sample.sample_id, draw, "photons")))
        return Observation(
            sample.sample_id,
            sample.cluster,
            given={"noisy": tensor(noisy[None])},
            target={"clean": tensor(self._full_dose(integrals))},
            shared={"noise_model": "low-dose-ct"},
        )

    def _full_dose(self, integrals: np.ndarray) -> np.ndarray:
        return np.clip(self.scanner.reconstruct(integrals), 0, 1)[None].astype(np.float32)

    # ------------------------------------------------------------------ training
    @cached_property
    def _integrals(self) -> list[np.ndarray]:
        """The line integrals of every training slice."""
        return [self.scanner.project(expand(picture)[0]) for picture in super().training_pictures()]

    def training_facts(self) -> dict[str, Any]:
        return {"noise": {"model": "low-dose-ct", **self.scanner.facts()}}

    def extras(self) -> dict[str, Any]:
        return {}

    def training_pictures(self) -> list[np.ndarray]:
        """Return the training slices at unlimited dose."""
        return [self._full_dose(p) for p in self._integrals]

    def paired(self) -> tuple[list[tuple[np.ndarray, ...]], Callable[[tuple[np.ndarray, ...], np.random.Generator], Item], tuple[int, ...]]:
        slices = super().training_pictures()
        if int(self.train["patch"]) != min(slices[0].shape[-2:]):
            side = slices[0].shape[-1]
            raise RequestError(f"task {self.id}: train.patch must be the slices' side ({side}), since every ray crosses a whole slice.")

        def finish(planes: tuple[np.ndarray, ...], rng: np.random.Generator) -> Item:
            integrals = self.scanner.project(planes[0][0])
            noisy = self.scanner.reconstruct(self.scanner.measure(integrals, rng))
            return {"input": tensor(noisy[None]), "target": tensor(self._full_dose(integrals))}

        return [(p,) for p in slices], finish, (1,)

    def degraded(self, copy: int) -> list[np.ndarray]:
        train = self.train
        key = ("training photons", train["dataset"], train["split"], sorted(self.scanner.facts().items()), copy)
        scans = (self.scanner.measure(p, keyed(*key, number)) for number, p in enumerate(self._integrals))
        return [self.scanner.reconstruct(s)[None].astype(np.float32) for s in scans]
