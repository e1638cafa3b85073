"""Optimised time steps for UniPC (Xue et al., CVPR 2024, arXiv:2402.17376): the same solver, on the grid that minimises its error bound."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..diffusion.exponential import nodes
from ..diffusion.grids import Grid
from ..diffusion.optimised_grid import optimised_grid
from ..diffusion.prior import Prior
from ..diffusion.sampling import begin
from ..method import Request
from .unipc import UniPC


class OptimisedSteps(UniPC):
    """UniPC-p on `optimised_grid`. The search starts from ``grid`` and never asks the network: it costs CPU time once per number of steps."""

    def __init__(
        self, prior: Prior, order: int = 3, power: float = 2.0, grid: Grid = "uniform-lambda", end: float = 0.0, steps: int = 50,
        guidance: float = 1.0, clip: bool = False, threshold: float | None = None,
    ) -> None:  # fmt: skip
        """``power``: how the error of a data prediction falls with sigma (sigma^power / alpha); 2 in the released code."""
        super().__init__(prior, order=order, grid=grid, end=end, steps=steps, guidance=guidance, clip=clip, threshold=threshold)
        if power < 0:
            raise ValueError(f"power is {power}; accepted: 0 or more")
        self.power = power

    def sample(self, request: Request) -> Tensor:
        walk = begin(
            request, self.prior, steps=self.steps, grid=self.grid, guidance=self.guidance, clip=self.clip, threshold=self.threshold,
            end=self.end,
        )  # fmt: skip
        walk = replace(walk, times=optimised_grid(walk.prior.schedule, walk.times, self.order, self.power))
        points, x, data = nodes(walk.prior.schedule, walk.times), walk.x, [walk.predict(walk.x, walk.times[0], "data")]
        for i in range(1, len(points)):
            x, new = self.advance(walk, points, i, x, data)
            if new is not None:
                data.append(new)
        return walk.prior.decode(x)
