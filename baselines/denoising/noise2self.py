"""Noise2Self (Batson and Royer 2019, arXiv:1901.11365): learning from functions whose answer at a pixel does not depend on that pixel."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import DataSpec
from .selfsup import SelfSupervised, crops, grid, neighbours


class Noise2Self(SelfSupervised):
    """The pixels are split into ``width``^2 sets J, one pixel of each cell. f_J(y) = f(y with the pixels of J replaced by their neighbours'
    mean) is read on J only, so f_J is J-invariant, and for noise that is independent between J and the rest (proposition 1)

        E |f_J(y) - y|^2 = E |f_J(y) - x|^2 + E |x - y|^2.

    Training takes the sets in turn. ``answer`` ``j-invariant`` puts the answer together from width^2 passes, each read on its own set;
    ``plain`` is one pass over the picture as it is, which sees the pixel it answers for, and follows from no theorem.
    """

    def __init__(
        self, data: DataSpec, width: int = 4, answer: str = "j-invariant", skip: bool = False, lr: float = 4e-3, batch_size: int = 4
    ) -> None:
        super().__init__(data, lr, batch_size, skip)
        if width < 2:
            raise RequestError(f"width is {width}; it must be at least 2, or no neighbour of a pixel is outside its set.")
        if answer not in ("j-invariant", "plain"):
            raise RequestError(f"answer is {answer!r}; accepted: j-invariant, plain.")
        self.width, self.answer = width, answer

    def masked(self, y: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the picture with set ``number`` replaced, and the mask (H, W) of that set."""
        inside = grid(y, self.width, number)
        return torch.where(inside, neighbours(y), y), inside

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        y = crops(batch)
        seen, inside = self.masked(y, self.global_step % self.width**2)
        return (self.network(seen) - y)[..., inside].square().mean()

    def denoise(self, request: Request) -> torch.Tensor:
        y = request.noisy
        if self.answer == "plain":
            return self.network(y)
        out = torch.empty_like(y)
        for number in range(self.width**2):
            seen, inside = self.masked(y, number)
            out[..., inside] = self.network(seen)[..., inside]
        return out
