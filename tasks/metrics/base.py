"""What a metric is. Its identity spells out the protocol; two values are compared only when their identities are equal."""

from __future__ import annotations

import hashlib
from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ...configs.errors import RequestError, RunError

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Unavailable:
    """Why a metric could not be computed on this machine, and what the user can do. Recorded instead of a value."""

    because: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        return {"because": self.because, "remedy": self.remedy}


@dataclass(frozen=True)
class Reference:
    """A digested reference set: what `Metric.value` compares with, how many samples it holds, and the sha256 over those samples.

    The hash is over the samples and not over their features: features differ in the last bit between machines, samples do not.
    """

    data: Any = field(repr=False)
    n: int
    hash: str


class Hashed:
    """Batches passed on while counting the samples and hashing their bytes (names, dtypes and shapes included)."""

    def __init__(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
        self._batches, self._digest, self.n = batches, hashlib.sha256(), 0

    def __iter__(self) -> Iterator[Mapping[str, torch.Tensor]]:
        for batch in self._batches:
            names = sorted(batch)
            # row by row, so that the hash does not depend on how the set was cut into batches
            for row in zip(*(batch[name] for name in names), strict=True):
                for name, value in zip(names, row, strict=True):
                    self._digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
                    self._digest.update(value.detach().cpu().contiguous().numpy().tobytes())
            self.n += len(batch["answer"])
            yield batch

    def hash(self) -> str:
        """Return the sha256 of everything that passed."""
        return self._digest.hexdigest()


def signed(name: str, *words: str, **options: Any) -> str:
    """Return an identity: ``name|word|...|option=value|...`` in the order given."""
    return "|".join([name, *words, *(f"{k}={_plain(v)}" for k, v in options.items())])


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def choice(metric: str, option: str, value: Any, accepted: Iterable[Any]) -> Any:
    """Return ``value`` when it is among ``accepted``, else raise RequestError in one sentence."""
    accepted = tuple(accepted)
    if value not in accepted:
        raise RequestError(f"option {option} of metric {metric} is {value!r}; accepted: {', '.join(map(str, accepted))}.")
    return value


def integer(metric: str, option: str, value: Any, low: int, high: int | None = None) -> int:
    """Return ``value`` when it is an integer in [low, high], else raise RequestError in one sentence."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        bound = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
        raise RequestError(f"option {option} of metric {metric} is {value!r}; accepted: {bound}.")
    return value


def check(metric: str, value: torch.Tensor, what: str = "answer", *, rank: int | None = None, finite: bool = True) -> None:
    """Check that a tensor is floating point, of ``rank`` dimensions and, with ``finite``, finite.

    Integer tensors are refused, not rescaled: 8-bit pixels scored with data range 1 would give a plausible wrong number.
    Raises RunError (wrong-output, not-finite).
    """
    import torch

    if not value.is_floating_point():
        raise RunError(f"metric {metric} got {what} of dtype {value.dtype}; give floating point values (images in [0, 1]).", "wrong-output")
    if rank is not None and value.ndim != rank:
        raise RunError(f"metric {metric} got {what} of shape {tuple(value.shape)}; it takes {rank} dimensions, batch first.", "wrong-output")
    # a sum is finite only if all values are, and costs a tenth of looking at each
    if finite and not torch.isfinite(value.sum()) and (bad := int((~torch.isfinite(value)).sum())):
        raise RunError(f"metric {metric} got {what} with {bad} values that are NaN or infinite (of {value.numel()}).", "not-finite")


def checked(metric: str, value: torch.Tensor, what: str = "answer", *, rank: int | None = None) -> torch.Tensor:
    """Return ``value`` as float64 on its device after `check`."""
    check(metric, value, what, rank=rank)
    return value.double()


class Metric(ABC):
    """Base of all metrics. Options of the constructor are protocol options and all show up in `identity`.

    Per-sample metrics (``level = "sample"``) implement `per_sample`; set-level ones (``level = "set"``) implement `features`, which is
    computed batch by batch and kept per sample, and `value`, which is computed once from all features in sample order.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    level: ClassVar[Literal["sample", "set"]]
    higher_is_better: ClassVar[bool]
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (float("-inf"), float("inf"))
    """Values outside are a defect of the record, and are refused when it is written."""
    paper: ClassVar[str] = ""
    protocol: ClassVar[str] = ""
    """The full protocol in words, for ``scorebench show metric``."""
    needs_reference: ClassVar[bool] = False
    """Set-level metrics that compare with a reference set."""
    reference_kind: ClassVar[Literal["split", "train"]] = "split"
    """Which real samples are the reference: those of the scored split, or those a method may have learned from (memorisation)."""

    def identity(self) -> str:
        """Return the identity: name and every protocol choice, e.g. ``psnr|rgb|crop=0|range=1|per-image``."""
        raise AssertionError("abstract")

    def unavailable(self) -> Unavailable | None:
        """Return None when the metric can be computed here."""
        return None

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return one float64 value per sample, (B,). ``answer`` (B, ...) is as the task accepted it; ``target`` is batched alike."""
        raise AssertionError("abstract")

    def features(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return one float32 feature row per sample, (B, d)."""
        raise AssertionError("abstract")

    def reference(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> Any:
        """Digest the task's reference set (batches hold ``answer`` and what `features` needs of the target) into what `value` takes.

        Metrics with `needs_reference` return a `Reference`, whose ``hash`` goes into `set_identity`.
        """
        return None

    def cached_reference(self, key: str, batches: Callable[[], Iterable[Mapping[str, torch.Tensor]]]) -> Any:
        """Return `reference` of ``batches()``; metrics on a feature network keep the rows on disk under ``key`` (what the set depends on:
        fingerprint, split, view) and their network's hash, so that a reference set is embedded once per machine."""
        return self.reference(batches())

    def leave_out(self, features: np.ndarray, reference: Any, which: np.ndarray) -> np.ndarray:
        """Return the values without each block, (blocks,), for the jackknife; ``which`` (N,) says in which block a sample is."""
        import numpy as np

        return np.array([self.value(features[which != k], reference) for k in range(int(which.max()) + 1)], dtype=np.float64)

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        """Return the metric of the whole set: features (N, d) in sample order, and what `reference` returned."""
        raise AssertionError("abstract")

    def set_identity(self, n: int, reference_hash: str = "") -> str:
        """Return the identity of a set-level value: the number of samples and the reference belong to it."""
        return self.identity() + f"|n={n}" + (f"|ref={reference_hash[:12]}" if reference_hash else "")
