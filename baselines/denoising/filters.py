"""What Gaussian filters share: the level they are given or estimate, and the way other noise reaches them."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import Method
from .stabilise import stabiliser
from .wavelets import estimate_sigma

LEVELS = ("given", "estimated")


class Filter(Method):
    """A filter for white Gaussian noise, made from `filtered`; images are filtered one at a time, in float64.

    ``level``: ``given`` takes the request's noise level; ``estimated`` never looks at it and takes the median estimate from the finest
    wavelet band. ``factor`` multiplies either: noise that a camera has smoothed is weaker in the finest band than below it. Poisson and
    Gamma noise (their parameters are given) are first made Gaussian by `stabilise`. Whatever else the noise is, it is taken to be white.
    """

    def __init__(self, level: str = "given", factor: float = 1.0) -> None:
        super().__init__()
        if level not in LEVELS:
            raise RequestError(f"level is {level!r}; accepted: {', '.join(LEVELS)}.")
        self.level, self.factor = level, factor

    @abstractmethod
    def filtered(self, image: np.ndarray, sigma: float) -> np.ndarray:
        """Return the estimate of the clean image from (C, H, W) float64, about [0, 1], with white noise of standard deviation ``sigma``."""

    def denoise(self, request: Request) -> torch.Tensor:
        images = request.noisy.detach().cpu().numpy().astype(np.float64)
        if (change := stabiliser(request)) is not None:
            stable = [change.forward(image) for image in images]
            levels = [change.sigma if self.level == "given" else estimate_sigma(z) for z in stable]
            out = [change.inverse(self.filtered(z, self.factor * sigma)) for z, sigma in zip(stable, levels, strict=True)]
        else:
            levels = list(np.broadcast_to(self._levels(request), len(images))) if self.level == "given" else [estimate_sigma(i) for i in images]
            out = [self.filtered(image, self.factor * float(sigma)) for image, sigma in zip(images, levels, strict=True)]
        return torch.from_numpy(np.stack(out).astype(np.float32)).to(request.noisy.device)

    def _levels(self, request: Request) -> np.ndarray:
        return np.asarray(torch.as_tensor(request.noise_level).cpu(), dtype=np.float64)
