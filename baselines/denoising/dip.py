"""Deep image prior: an untrained network fitted to one noisy picture, stopped early (Ulyanov et al., CVPR 2018, arXiv:1711.10925)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ...tasks.requests import Request
from ..method import DataSpec
from ..nets.skip import SkipNet
from .single_image import SingleImage, adam_step, renew


class DeepImagePrior(SingleImage):
    """min over theta of |f_theta(z) - y|^2 (eq. 2) by Adam, z a fixed uniform map to which every step adds noise of deviation ``jitter``.

    The number of ``steps`` is the regulariser. The answer is the exponential average of the outputs with weight ``average``, or the last
    output where that is 0. Every ``every`` steps the output and the average are offered, so that the harness can score a stopping oracle;
    the rule itself never looks at a clean picture.
    """

    network: SkipNet

    def __init__(
        self, data: DataSpec, steps: int = 400, average: float = 0.99, lr: float = 0.01, jitter: float = 1 / 30,
        width: int = 24, levels: int = 4, inputs: int = 16, every: int = 25,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network = SkipNet(data.channels, inputs, width, levels)
        self.steps, self.average, self.lr, self.jitter, self.inputs, self.every = steps, average, lr, jitter, inputs, every

    def denoise(self, request: Request) -> torch.Tensor:
        y = request.noisy
        shape = (self.inputs, *y.shape[-2:])
        z, jitter = request.rng.at("z").uniform(shape, 0, 0.1), request.rng.at("jitter")
        optimiser = torch.optim.Adam(renew(request.rng, self.network), lr=self.lr)
        mean: torch.Tensor | None = None
        out = y
        for step in range(self.steps):
            answer = self.network(z + self.jitter * jitter.normal(shape))
            adam_step(optimiser, F.mse_loss(answer, y))
            out = answer.detach()
            mean = out if mean is None else self.average * mean + (1 - self.average) * out
            if (step + 1) % self.every == 0 or step + 1 == self.steps:
                self.offer("last", out)
                self.offer("average", mean)
        return out if mean is None or not self.average else mean
