"""Classical filters that calibrate themselves on the noisy picture (Batson and Royer 2019, arXiv:1901.11365)."""

from __future__ import annotations

import numpy as np
import torch

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import Method
from .filters import Filter
from .nlm import NonLocalMeans
from .selfsup import grid, neighbours
from .tv import TotalVariation
from .wavelet_shrinkage import WaveletShrinkage

FILTERS = ("nlm", "tv", "wavelet")
WIDTH = 4
"""Side of the cells of which every set J holds one pixel."""


class CalibratedFilter(Method):
    """A filter whose strength is the one of least self-supervised loss sum_J |g_J(y) - y|^2, picture by picture; told nothing of the noise.

    g_J is the filter on the picture with the pixels of J replaced by their neighbours' mean, read on J. For noise independent between pixels
    the loss is the true error of the J-invariant filter plus a constant. The strength is the noise level the filter assumes: ``candidates``
    of them, evenly spaced on a logarithmic scale from ``lowest`` to ``highest`` (8-bit steps). ``sets`` of the 16 sets J are used, spread
    over the cell. The answer is the plain filter at the level found, as in the paper's demonstration; its answers at all levels are offered
    as the series ``calibration``, from which the harness reads what an oracle would have reached.
    """

    def __init__(self, filter: str = "tv", lowest: float = 5, highest: float = 100, candidates: int = 9, sets: int = 4) -> None:
        super().__init__()
        if filter not in FILTERS:
            raise RequestError(f"filter is {filter!r}; accepted: {', '.join(FILTERS)}.")
        if not (0 < lowest < highest and candidates > 1 and 1 <= sets <= WIDTH**2):
            raise RequestError(f"sets is {sets} and candidates {candidates}; accepted: 1 to {WIDTH**2} sets, 2 levels or more, rising from 0.")
        filters: dict[str, Filter] = {"nlm": NonLocalMeans(0.6, 7, 8), "tv": TotalVariation(0.85), "wavelet": WaveletShrinkage("bayes")}
        self.filter = filters[filter]
        self.levels = np.geomspace(lowest, highest, candidates) / 255
        self.numbers = [WIDTH**2 * k // sets + (k % WIDTH) for k in range(sets)] if sets < WIDTH**2 else list(range(sets))

    def losses(self, y: torch.Tensor) -> np.ndarray:
        """Return the self-supervised loss of a picture (C, H, W) at every level."""
        image, mean = y.double(), neighbours(y[None])[0].double()
        out = np.zeros(len(self.levels))
        for number in self.numbers:
            inside = grid(y, WIDTH, number)
            seen = torch.where(inside, mean, image).numpy()
            for i, level in enumerate(self.levels):
                error = self.filter.filtered(seen, float(level)) - image.numpy()
                out[i] += np.mean(error[:, inside.numpy()] ** 2) / len(self.numbers)
        return out

    def denoise(self, request: Request) -> torch.Tensor:
        pictures = request.noisy.detach().cpu()
        chosen = [int(self.losses(y).argmin()) for y in pictures]
        answers = np.stack([[self.filter.filtered(y.double().numpy(), float(level)) for level in self.levels] for y in pictures])
        series = torch.from_numpy(answers.astype(np.float32))
        for i in range(len(self.levels)):
            self.offer("calibration", series[:, i])
        self.diagnose("level", torch.tensor([self.levels[i] * 255 for i in chosen]))
        return series[torch.arange(len(series)), chosen].to(request.noisy.device)
