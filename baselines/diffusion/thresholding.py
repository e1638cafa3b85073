"""Dynamic thresholding (Saharia et al. 2022, Imagen, arXiv:2205.11487, section 2.3), as a prior that any solver can be run on.

Strong guidance drives x_0-predictions out of the data's range. Static clipping (`clip` of the solvers) saturates them; dynamic
thresholding rescales each sample by a high quantile of its absolute values.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..method import Request
from .prior import Prior
from .schedule import Schedule


def dynamic_threshold(x0: Tensor, quantile: float = 0.995, span: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """Return x_0 (B, ...) with each sample clipped to its own quantile q of |x_0| and divided by q, wherever q exceeds the data's range.

    Written for the range [-1, 1]; another ``span`` is taken to it and back. Samples inside the range are only clipped to it.
    """
    centre, half = (span[0] + span[1]) / 2, (span[1] - span[0]) / 2
    z = (x0 - centre) / half
    q = torch.quantile(z.flatten(1).abs(), quantile, dim=1).clamp_min(1).reshape(-1, *[1] * (x0.ndim - 1))
    return centre + half * torch.maximum(torch.minimum(z, q), -q) / q


class Thresholded(Prior):
    """A prior whose x_0-predictions are thresholded; noise, score and velocity follow from those. For pixel space only.

    A prior without a range (points, latents) has nothing to threshold and is passed through.
    """

    counted = ()
    parameterisation = "data"

    def __init__(self, base: Prior, quantile: float = 0.995) -> None:
        super().__init__()
        if not 0 < quantile <= 1:
            raise ValueError(f"quantile is {quantile}; accepted: a number in (0, 1], usually 0.995")
        self.base, self.quantile = base, float(quantile)
        self.schedule: Schedule = base.schedule
        self.shape, self.classes, self.conditioning, self.span = base.shape, base.classes, base.conditioning, base.span
        self.evaluations = base.evaluations

    def raw(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        data = self.base.denoised(x, t, cond)
        return data if self.span is None else dynamic_threshold(data, self.quantile, self.span)

    def encode(self, image: Tensor) -> Tensor:
        return self.base.encode(image)

    def decode(self, x0: Tensor) -> Tensor:
        return self.base.decode(x0)

    def condition(self, request: Request) -> Tensor | None:
        return self.base.condition(request)

    def counted_networks(self) -> Iterator[nn.Module]:
        yield from self.base.counted_networks()
