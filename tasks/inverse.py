"""The inverse family: y = A x + n, with a known linear operator A, a `deepinv.physics` object, and white noise n of known level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import deepinv.physics as dp
import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from ..configs.errors import RequestError
from ..datasets.base import Sample
from . import operators
from .base import Observation
from .images import ImageTask
from .randomness import keyed
from .training_data import Item, tensor

if TYPE_CHECKING:
    from ..datasets.gauss_lin import GaussLin


class InverseTask(ImageTask):
    """Gives ``y`` (the operator's output, float32), ``physics`` (the operator, float32) and ``noise_level`` (standard deviation of n).

    ``observe``: ``{operator: NAME, sigma: s, ...}``, see `operators.MAKERS`; s is in the units of y. What is random in an operator (mask,
    signs, matrix) is keyed by the task and its version: it is the same for every sample, split and draw. Noise is keyed per sample,
    split and draw. Observations are computed one sample at a time in float64 and rounded to float32. Where the dataset knows its own
    posterior (``gauss-lin``), the target also holds ``posterior_mean`` (picture's shape) and ``posterior_cov`` (n, n), exact but for rounding.
    """

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self._operators: dict[tuple[operators.Shape, torch.dtype], dp.LinearPhysics] = {}

    def operator(self, shape: operators.Shape, dtype: torch.dtype = torch.float32) -> dp.LinearPhysics:
        """Return the task's operator for signals of ``shape`` (C, H, W); the float64 one is kept for observing and never handed out."""
        if (shape, dtype) not in self._operators:
            rng = keyed("operator", self.id, self.version, *shape)
            self._operators[shape, dtype] = operators.make(shape, self.spec.observe, rng, dtype)
        return self._operators[shape, dtype]

    @property
    def sigma(self) -> float:
        """The standard deviation of the noise, in the units of y."""
        return float(self.spec.observe["sigma"])

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        clean = np.asarray(sample["image"], dtype=np.float32)
        shape = tuple(clean.shape)
        ideal = self.operator(shape, torch.float64).A(torch.from_numpy(clean.astype(np.float64))[None])[0].numpy()
        noise = self.keyed(split, sample.sample_id, draw, "noise").standard_normal(ideal.shape)
        y = ideal + self.sigma * noise
        return Observation(
            sample.sample_id,
            sample.cluster,
            given={"y": tensor(y), "noise_level": self.sigma},
            target={"clean": tensor(clean), **self._posterior(y, shape)},
            shared={"physics": self.operator(shape)},
        )

    def _posterior(self, y: np.ndarray, shape: operators.Shape) -> dict[str, torch.Tensor]:
        if not hasattr(self.dataset, "posterior"):
            return {}
        known: GaussLin = self.dataset  # type: ignore[assignment]
        mean, covariance = known.posterior(self.matrix(shape), y.astype(np.float32).astype(np.float64).reshape(-1), self.sigma)
        return {"posterior_mean": tensor(mean.reshape(shape)), "posterior_cov": tensor(covariance)}

    def matrix(self, shape: operators.Shape) -> np.ndarray:
        """Return the operator as a matrix (m, n), float64, signals and measurements flattened row by row (meant for small ones)."""
        n = int(np.prod(shape))
        if n > 4096:
            raise RequestError(f"the matrix of an operator on {shape} would have {n} columns; at most 4096 are written out.")
        basis = torch.eye(n, dtype=torch.float64).reshape(n, *shape)
        return self.operator(shape, torch.float64).A(basis).flatten(1).T.numpy()

    def target(self, observations: Sequence[Observation]) -> dict[str, Any]:
        """Batch what the metrics compare with; ``y`` and ``operator`` (a function) are there for data consistency."""
        exact = self.operator(tuple(observations[0].target["clean"].shape), torch.float64)  # not the one a method was handed
        y = torch.stack([o.given["y"] for o in observations])
        return {**super().target(observations), "y": y, "operator": lambda x: exact.A(x.detach().cpu().double())}

    # ------------------------------------------------------------------ training
    def training_set(self, trains_on: str, seed: int) -> TorchDataset:
        """Return clean pictures, ``{target}``: what priors and denoisers learn from. No other kind of item is offered."""
        if trains_on != "clean":
            raise RequestError(f"task {self.id} offers clean training pictures only (`trains_on: clean`), not {trains_on!r}.")
        return super().training_set("clean", seed)

    def extras(self) -> dict[str, Any]:
        return {}

    def paired(self) -> tuple[list[tuple[np.ndarray, ...]], Callable[[tuple[np.ndarray, ...], np.random.Generator], Item], tuple[int, ...]]:
        raise RequestError(f"task {self.id} offers clean training pictures only.")

    def degraded(self, copy: int) -> list[np.ndarray]:
        raise RequestError(f"task {self.id} offers clean training pictures only.")
