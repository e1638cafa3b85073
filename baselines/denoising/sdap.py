"""SDAP: random sub-samples with a cyclic loss (Pan et al., ICCV 2023, arXiv:2307.16825)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ...tasks.requests import Request
from ..method import DataSpec
from ..nets.blindspot import permuted_cells, whole
from .blindspot_plain import BlindSpotMethod


class SDAP(BlindSpotMethod):
    """Random sub-samples generation (RSG): in every p x p cell a random permutation of its pixels; sub-sample s_j takes the j-th.

    Loss (section 3.3): sum over j of | f(s_j) - s_{j+1} |, cyclic, f blind: every sub-sample predicts the next, which differs in its noise
    and by where its pixels lie in the cells. The answer is PD_2^-1(f(PD_2(y))); ``enhance``, (E) in the paper, passes it through f once more.
    """

    def __init__(
        self, data: DataSpec, stride: int = 5, enhance: bool = False,
        width: int = 32, modules: int = 3, centre: float = 0.5, lr: float = 2e-3, batch_size: int = 2,
    ) -> None:  # fmt: skip
        super().__init__(data, width, modules, centre, lr, batch_size)
        self.stride, self.enhance = stride, enhance

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        s = random_subsamples(whole(batch["input"], self.stride), self.stride)
        answers = self.network(s.flatten(0, 1)).reshape(s.shape)
        return (answers - s.roll(-1, 0)).abs().mean((1, 2, 3, 4)).sum()

    def denoise(self, request: Request) -> torch.Tensor:
        x1 = self.shuffled(request.noisy, 2)
        return self.network(x1) if self.enhance else x1


def random_subsamples(y: torch.Tensor, stride: int) -> torch.Tensor:
    """Return (stride^2, B, C, H / stride, W / stride): every pixel of y once, in an order of its own in every cell of every picture."""
    keys = torch.rand(stride * stride, len(y), 1, y.shape[-2] // stride, y.shape[-1] // stride, device=y.device)
    return permuted_cells(y, stride, keys.argsort(0))
