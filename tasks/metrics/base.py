"""What a metric is. Its identity spells out the protocol; two values are compared only when their identities are equal."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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
        """Digest the task's reference set (batches hold ``answer`` and what `features` needs of the target) into what `value` takes."""
        return None

    def value(self, features: np.ndarray, reference: Any = None) -> float:
        """Return the metric of the whole set: features (N, d) in sample order, and what `reference` returned."""
        raise AssertionError("abstract")

    def set_identity(self, n: int, reference_hash: str = "") -> str:
        """Return the identity of a set-level value: the number of samples and the reference belong to it."""
        return self.identity() + f"|n={n}" + (f"|ref={reference_hash[:12]}" if reference_hash else "")
