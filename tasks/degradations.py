"""What restoration tasks do to a clean picture: shrink it, blur it, compress it, or age a page.

A degradation has a part that is computed on whole pictures (`whole`) and, after it, white Gaussian noise of standard deviation ``sigma``,
so that training can draw fresh noise for every crop without degrading the picture again. All in float64 on images in [0, 1].
"""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import correlate1d

from ..configs.errors import RequestError
from .resize import resize


class Degradation(ABC):
    """One degradation with its parameters; ``scale`` is the factor by which it shrinks the picture."""

    kind: ClassVar[str]
    """What a method is given as ``kind``."""
    scale: int = 1
    sigma: float = 0.0

    @abstractmethod
    def whole(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the degraded picture before noise; (C, H, W) to (C, H/scale, W/scale), float64."""

    def noisy(self, degraded: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Add the noise (none when ``sigma`` is 0)."""
        return degraded + self.sigma * rng.standard_normal(degraded.shape) if self.sigma else degraded


def eight_bits(image: np.ndarray) -> np.ndarray:
    """Return the uint8 pixels of an image in [0, 1]: clipped, times 255, rounded."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def from_eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 pixels on [0, 1], exactly as a dataset's float32 pictures are (so that they can be kept as uint8)."""
    return (pixels.astype(np.float32) / np.float32(255)).astype(np.float64)


class Downscale(Degradation):
    """MATLAB's antialiased bicubic by ``scale``, then 8 bits, as the low-resolution files of the benchmarks are made."""

    kind = "bicubic-downscale"

    def __init__(self, scale: int) -> None:
        if not 2 <= scale <= 8:
            raise RequestError(f"downscale by {scale}: accepted are integers from 2 to 8.")
        self.scale = int(scale)

    def whole(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = clean.shape[-2:]
        if height % self.scale or width % self.scale:
            raise RequestError(f"a picture of {height} x {width} cannot be shrunk by {self.scale}; set options.multiple: {self.scale}.")
        small = resize(torch.from_numpy(clean.astype(np.float64)), height // self.scale, width // self.scale)
        return from_eight_bits(eight_bits(small.numpy()))


def gaussian_taps(std: float) -> np.ndarray:
    """Return the normalised taps of a Gaussian of ``std`` pixels, cut at 4 standard deviations; a single 1 for ``std`` 0."""
    if std == 0:
        return np.ones(1)
    reach = max(1, math.ceil(4 * std))
    weights = np.array([math.exp(-0.5 * (k / std) ** 2) for k in range(-reach, reach + 1)])
    return weights / weights.sum()


def blurred(image: np.ndarray, std: float) -> np.ndarray:
    """Blur (..., H, W) by a Gaussian of ``std`` pixels; pictures are mirrored at the borders."""
    weights = gaussian_taps(std)
    out = image.astype(np.float64)
    for axis in (-2, -1):
        out = correlate1d(out, weights, axis=axis, mode="reflect")
    return out


class Blur(Degradation):
    """Gaussian blur of ``std`` pixels (mirrored borders) and white noise of ``sigma`` 8-bit steps; not clipped."""

    kind = "gaussian-blur"

    def __init__(self, std: float, sigma: float = 0.0) -> None:
        if not (std > 0 and sigma >= 0):
            raise RequestError(f"blur with std {std} and sigma {sigma}: std must be above 0 pixels and sigma at least 0 (in steps of 1/255).")
        self.std, self.sigma = float(std), float(sigma) / 255

    def whole(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return blurred(clean, self.std)


class Jpeg(Degradation):
    """Baseline JPEG by Pillow at ``quality``, chroma halved both ways (4:2:0) for colour. The bits depend on libjpeg's version."""

    kind = "jpeg"

    def __init__(self, quality: int) -> None:
        if not 1 <= quality <= 95:
            raise RequestError(f"jpeg quality {quality}: accepted are integers from 1 to 95.")
        self.quality = int(quality)

    def whole(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        pixels = eight_bits(clean)
        picture = Image.fromarray(pixels[0]) if len(pixels) == 1 else Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))
        with io.BytesIO() as file:
            picture.save(file, "JPEG", quality=self.quality, subsampling=2 if len(pixels) == 3 else 0)
            decoded = np.asarray(Image.open(file))
        return from_eight_bits(decoded[None] if decoded.ndim == 2 else np.moveaxis(decoded, -1, 0))


class Page(Degradation):
    """A page badly photographed: ink and paper grey, print showing through from the back, uneven light, defocus, sensor noise.

    In this order, with u uniform from the page's own key: clean x becomes ink + (paper - ink) x with ink in ``ink`` and paper in ``paper``;
    the mirrored page, shifted and blurred by 1.2 pixels, darkens it by a share in ``through``; it is multiplied by 1 - ``shade`` times a
    quadratic in the coordinates that runs over [0, 1]; blurred by a Gaussian of ``blur`` pixels; noise of ``sigma`` steps. Not clipped.
    """

    kind = "page"

    def __init__(
        self,
        ink: tuple[float, float] = (0.1, 0.35),
        paper: tuple[float, float] = (0.75, 0.95),
        through: tuple[float, float] = (0.0, 0.25),
        shade: tuple[float, float] = (0.2, 0.5),
        blur: tuple[float, float] = (0.5, 1.1),
        sigma: float = 6.0,
    ) -> None:
        ranges = {"ink": ink, "paper": paper, "through": through, "shade": shade, "blur": blur}
        for name, (low, high) in ranges.items():
            if not 0 <= low <= high:
                raise RequestError(f"page degradation: {name} is ({low}, {high}); it must be two numbers, 0 <= low <= high.")
        self.ranges, self.sigma = ranges, float(sigma) / 255

    def whole(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        ink, paper, through, shade, blur = (rng.uniform(low, high) for low, high in self.ranges.values())
        page = ink + (paper - ink) * clean.astype(np.float64)
        shift = tuple(int(s) for s in rng.integers(-8, 9, 2))
        back = 1 - blurred(np.roll(clean[..., ::-1], shift, (-2, -1)), 1.2)
        page *= 1 - through * back
        page *= 1 - shade * self._light(clean.shape[-2:], rng)
        return blurred(page, blur)

    @staticmethod
    def _light(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        y, x = (np.linspace(-1, 1, n) for n in shape)
        a, b, c, d, e = rng.uniform(-1, 1, 5)
        field = a * y[:, None] + b * x + c * y[:, None] ** 2 + d * x**2 + e * y[:, None] * x
        return (field - field.min()) / (field.max() - field.min())


MODELS: dict[str, type[Degradation]] = {"downscale": Downscale, "blur": Blur, "jpeg": Jpeg, "page": Page}


def make(observe: Mapping[str, Any]) -> Degradation:
    """Build what a task declares, e.g. ``{degrade: downscale, scale: 4}``, ``{degrade: blur, std: 1.6, sigma: 2}``."""
    options = dict(observe)
    name = options.pop("degrade", None)
    if name not in MODELS:
        raise RequestError(f"unknown degradation {name!r}; accepted: {', '.join(MODELS)}.")
    try:
        return MODELS[name](**options)
    except TypeError:
        given = ", ".join(options) or "no parameters"
        raise RequestError(f"degradation {name!r} does not take {given}; see scorebench.tasks.degradations.") from None
