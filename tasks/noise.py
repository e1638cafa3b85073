"""Noise models: what they do to a clean image, and what may be known about them.

Every model works in float64 on images in [0, 1] and draws from the generator it is given; nothing is clipped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..configs.errors import RequestError


class Noise(ABC):
    """One noise model with its parameters."""

    name: ClassVar[str]
    """What a method is given as ``noise_model``."""

    @abstractmethod
    def sample(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a noisy copy of ``clean`` (any shape, [0, 1]); float64."""

    @abstractmethod
    def variance(self, clean: np.ndarray) -> np.ndarray:
        """Return the variance of every noisy value given the clean one."""

    @abstractmethod
    def known(self) -> dict[str, float]:
        """Return the parameters that a task may give, by name.

        ``noise_level`` is always among them: the standard deviation of the noise at full intensity (clean = 1), in units of that intensity.
        """


class Gaussian(Noise):
    """White Gaussian noise: y = x + sigma * n. ``sigma`` is in 8-bit steps, as papers write it (25 means 25/255)."""

    name = "gaussian"

    def __init__(self, sigma: float) -> None:
        if not 0 <= sigma <= 255:
            raise RequestError(f"gaussian noise with sigma {sigma}: sigma is in steps of 1/255 and must lie in [0, 255].")
        self.sigma = float(sigma) / 255

    def sample(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return clean.astype(np.float64) + self.sigma * rng.standard_normal(clean.shape)

    def variance(self, clean: np.ndarray) -> np.ndarray:
        return np.full(clean.shape, self.sigma**2)

    def known(self) -> dict[str, float]:
        return {"noise_level": self.sigma}


class Poisson(Noise):
    """Photon noise: y = k / peak with k ~ Poisson(peak * x). ``peak`` is the expected count at full intensity; Var y = x / peak."""

    name = "poisson"

    def __init__(self, peak: float) -> None:
        if not peak > 0:
            raise RequestError(f"poisson noise with peak {peak}: the expected count at full intensity must be above 0.")
        self.peak = float(peak)

    def sample(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.poisson(self.peak * clean.astype(np.float64)) / self.peak

    def variance(self, clean: np.ndarray) -> np.ndarray:
        return clean.astype(np.float64) / self.peak

    def known(self) -> dict[str, float]:
        return {"noise_level": self.peak**-0.5, "peak": self.peak}


MODELS: dict[str, type[Noise]] = {m.name: m for m in (Gaussian, Poisson)}


def make(observe: Mapping[str, Any]) -> Noise:
    """Build the model that a task declares: ``{noise: gaussian, sigma: 25}`` or ``{noise: poisson, peak: 30}``."""
    options = dict(observe)
    name = options.pop("noise", None)
    if name not in MODELS:
        raise RequestError(f"unknown noise model {name!r}; accepted: {', '.join(MODELS)}.")
    try:
        return MODELS[name](**options)
    except TypeError:
        raise RequestError(f"noise model {name!r} does not take {', '.join(options) or 'no parameters'}; see scorebench.tasks.noise.") from None
