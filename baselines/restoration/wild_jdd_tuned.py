"""Wild-JDD's fine-tuning on the picture at hand, for inputs that training has not met (Chen, Wen, Chan, AAAI 2021, arXiv:2101.04442).

The paper takes the input as a weakly informative prior; its text was not at hand beyond the abstract. Here that is the bound of `wild_jdd` once
more, at the places where the mosaic has samples, with the sample x in the prior's mean where training has the target: z ~ N(x, v / lam0),
v ~ IG(a0, b0) with few pseudo-observations, and the prior's mode of v at the given noise level's square.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...configs.errors import RequestError
from ...tasks.requests import Request
from .wild_jdd import WildJDD, divergence, expected_log_likelihood


class TunedJDD(WildJDD):
    """A `WildJDD` that goes on learning from each picture it is given: ``steps`` of Adam at ``tune_lr``, then forgets it.

    ``tune_lam0`` and ``tune_a0``: strength of the prior, in pseudo-observations of the mean and (half of them) of the variance. ``steps`` of 0
    is the network as trained. Weights are the trained ones again after every picture, also when a picture fails.
    """

    needs_grad: ClassVar[bool] = True
    one_at_a_time: ClassVar[bool] = True

    def __init__(
        self, steps: int = 5, tune_lr: float = 1e-4, tune_lam0: float = 1.0, tune_a0: float = 2.0, width: int = 24, blocks: int = 6,
        lr: float = 2e-3, batch_size: int = 4,
    ) -> None:  # fmt: skip
        super().__init__(width=width, blocks=blocks, lr=lr, batch_size=batch_size)
        if steps < 0 or tune_lr <= 0 or tune_lam0 <= 0 or tune_a0 <= 1:
            raise RequestError("fine-tuning needs steps of at least 0, tune_lr and tune_lam0 above 0, and tune_a0 above 1.")
        self.steps, self.tune_lr, self.tune_lam0, self.tune_a0 = steps, tune_lr, tune_lam0, tune_a0

    def tuning_loss(self, sparse: Tensor, level: Tensor) -> Tensor:
        """Return minus the bound of the samples of ``sparse`` (B, 3, H, W), mean over the places that have one; ``level``: (B,)."""
        mu, lam, a, b = self.law(sparse, level)
        b0 = ((self.tune_a0 + 1) * (level**2 + self.floor)).reshape(-1, 1, 1, 1).expand_as(mu)
        bound = expected_log_likelihood(sparse, mu, lam, a, b) - divergence(mu, lam, a, b, sparse, self.tune_lam0, self.tune_a0, b0)
        seen = sampled(mu)
        return -(bound * seen).sum() / seen.sum()

    def restore(self, request: Request) -> Tensor:
        level = torch.as_tensor(request.noise_level, dtype=torch.float32, device=self.device).expand(request.n)
        return torch.cat([self._one(x[None], level[k : k + 1]) for k, x in enumerate(request.degraded)])

    def _one(self, sparse: Tensor, level: Tensor) -> Tensor:
        trained = {name: value.clone() for name, value in self.network.state_dict().items()}
        try:
            if self.steps:
                optimiser = torch.optim.Adam(self.network.requires_grad_(True).parameters(), lr=self.tune_lr)
                for _ in range(self.steps):
                    optimiser.zero_grad(set_to_none=True)
                    self.tuning_loss(sparse, level).backward()
                    optimiser.step()
            with torch.no_grad():
                mu, _, a, b = self.law(sparse, level)
        finally:
            self.network.load_state_dict(trained)
        self.diagnose("predicted-std", (b / (a - 1)).mean((1, 2, 3)).sqrt())
        return mu


def sampled(like: Tensor) -> Tensor:
    """Return ones where an RGGB mosaic of the shape of ``like`` (B, 3, H, W) has its samples, zeros elsewhere."""
    out = torch.zeros_like(like)
    out[:, 0, 0::2, 0::2] = out[:, 1, 0::2, 1::2] = out[:, 1, 1::2, 0::2] = out[:, 2, 1::2, 1::2] = 1
    return out
