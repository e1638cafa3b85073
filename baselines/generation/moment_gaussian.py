"""A Gaussian with the training samples' mean and covariance: the row of every generation board that does nothing clever."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..method import DataSpec, Method, Request


class MomentGaussian(Method):
    """x = mean + F z + residual z', where F F^T holds the ``rank`` largest principal directions of the covariance.

    What is left of the variance is spread evenly over the other directions (probabilistic PCA, Tipping and Bishop 1999, eq. 8), so mean and
    total variance are matched exactly; with at least as many directions as dimensions the covariance is, too.
    """

    mean: Tensor
    factor: Tensor
    residual: Tensor

    def __init__(self, data: DataSpec, rank: int = 256) -> None:
        super().__init__()
        if data.shape is None:
            raise ValueError("moment-gaussian needs samples of one shape")
        self.size = math.prod(data.shape)
        self.rank = min(rank, self.size)
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("factor", torch.zeros(self.size, self.rank))
        self.register_buffer("residual", torch.zeros(()))

    def learn(self, data: Dataset) -> None:
        rows = torch.stack([data[i]["target"].flatten() for i in range(len(data))]).double()  # type: ignore[arg-type]
        self.mean.copy_(rows.mean(0))
        centred = (rows - rows.mean(0)) / math.sqrt(len(rows) - 1)
        total = centred.square().sum()  # the trace of the covariance
        if self.size <= 2 * self.rank:
            values, vectors = torch.linalg.eigh(centred.T @ centred)
            kept, vectors = values[-self.rank :].clamp_min(0), vectors[:, -self.rank :]
        else:  # the largest only, by subspace iteration: 3,072 dimensions in seconds; its random start is fixed
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                _, values, vectors = torch.svd_lowrank(centred.float(), q=min(self.rank + 16, *centred.shape), niter=4)
            # fewer samples than directions: the others have no variance
            absent = max(0, self.rank - len(values))
            kept = F.pad(values[: self.rank].double().square(), (0, absent))
            vectors = F.pad(vectors[:, : self.rank].double(), (0, absent))
        left = self.size - self.rank
        rest = (total - kept.sum()).clamp_min(0) / left if left else torch.zeros(())
        # sqrt(l - rest) along each direction kept, since the residual noise adds `rest` to all of them
        self.factor.copy_(vectors * (kept - rest).clamp_min(0).sqrt())
        self.residual.copy_(rest.sqrt())

    def sample(self, request: Request) -> Tensor:
        assert request.returns.shape is not None
        x = self.mean + request.rng.at("z").normal((self.rank,)) @ self.factor.T
        if self.rank < self.size:
            x = x + self.residual * request.rng.at("residual").normal((self.size,))
        return x.reshape(-1, *request.returns.shape)
