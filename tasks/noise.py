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
        """Return the parameters that a task may give, by name; none where only the model's name may be known.

        ``noise_level``, where it is among them, is the standard deviation of the noise at full intensity (clean = 1), in units of that
        intensity.
        """

    def parameters(self) -> dict[str, float]:
        """Return what tells one instance of the model from another: `known`, unless some of it is hidden from methods."""
        return self.known()

    def observe(self, clean: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, float]]:
        """Return `sample` and what was drawn beside the noise itself (a level), which only the target side may see."""
        return self.sample(clean, rng), {}


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


class Gamma(Noise):
    """Speckle: y = x g with g ~ Gamma(shape z, scale 1 / z), so E y = x and Var y = x^2 / z (z: the number of looks of a SAR image)."""

    name = "gamma"

    def __init__(self, shape: float) -> None:
        if not 0 < shape < np.inf:
            raise RequestError(f"gamma noise with shape {shape}: the shape must be a finite number above 0.")
        self.shape = float(shape)

    def sample(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return clean.astype(np.float64) * rng.standard_gamma(self.shape, clean.shape) / self.shape

    def variance(self, clean: np.ndarray) -> np.ndarray:
        return clean.astype(np.float64) ** 2 / self.shape

    def known(self) -> dict[str, float]:
        return {"noise_level": self.shape**-0.5, "shape": self.shape}


class GaussianBlind(Noise):
    """White Gaussian noise of a level that nobody is told: sigma ~ U[low, high] / 255, once per picture, then as `Gaussian`."""

    name = "gaussian-blind"

    def __init__(self, low: float = 0.0, high: float = 55.0) -> None:
        if not 0 <= low < high <= 255:
            raise RequestError(f"gaussian-blind noise with levels from {low} to {high}: they are in steps of 1/255, 0 <= low < high <= 255.")
        self.low, self.high = float(low) / 255, float(high) / 255

    def observe(self, clean: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, float]]:
        sigma = float(rng.uniform(self.low, self.high))
        return clean.astype(np.float64) + sigma * rng.standard_normal(clean.shape), {"noise_level": sigma}

    def sample(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.observe(clean, rng)[0]

    def variance(self, clean: np.ndarray) -> np.ndarray:
        """Return the variance over both draws, E sigma^2 = (low^2 + low high + high^2) / 3."""
        return np.full(clean.shape, (self.low**2 + self.low * self.high + self.high**2) / 3)

    def known(self) -> dict[str, float]:
        return {}

    def parameters(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}


def models() -> dict[str, type[Noise]]:
    """Return every noise model by its name."""
    from .noise_spatial import Correlated

    return {m.name: m for m in (Gaussian, Poisson, Gamma, GaussianBlind, Correlated)}


def make(observe: Mapping[str, Any]) -> Noise:
    """Build the model that a task declares: ``{noise: gaussian, sigma: 25}`` or ``{noise: poisson, peak: 30}``."""
    options, known = dict(observe), models()
    name = options.pop("noise", None)
    if name not in known:
        raise RequestError(f"unknown noise model {name!r}; accepted: {', '.join(known)}.")
    try:
        return known[name](**options)
    except TypeError:
        raise RequestError(f"noise model {name!r} does not take {', '.join(options) or 'no parameters'}; see scorebench.tasks.noise.") from None
