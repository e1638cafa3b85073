"""What passes between a task and a method: a frozen `Request` with exactly what the task gives, its `Budget`, and the declared answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from ..configs.errors import RunError
from .randomness import Rng

ABILITIES = (
    "sample", "denoise", "restore", "reconstruct", "enhance", "logits",
    "edit", "invert", "embed", "detect", "log_prob", "act", "predict",
)  # fmt: skip


class NotGiven(RunError):
    """A method read something its task does not give."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "error")

    def __reduce__(self) -> tuple[type, tuple[str]]:  # type: ignore[override]
        return (NotGiven, (str(self),))


@dataclass(frozen=True)
class Budget:
    """One track of a task. ``name`` is ``default`` or e.g. ``nfe10``; ``nfe`` bounds network rows evaluated per sample (None: no bound)."""

    name: str = "default"
    nfe: int | None = None


@dataclass(frozen=True)
class Returns:
    """What a method must answer: ``kind`` (image, points, audio, logits, ...), ``shape`` per sample without the batch (None: as the
    observation), and ``range`` (low, high) to which the *task* clips where it says so (None: unbounded)."""

    kind: str
    shape: tuple[int, ...] | None = None
    range: tuple[float, float] | None = None


class Request:
    """One batch of questions. Attributes are exactly what the task gives, plus ``n``, ``rng``, ``budget``, ``returns``, ``ability``.

    Tensors have the batch first. Sample ids, clean data and observation keys are never in it. Reading anything else raises NotGiven.
    """

    __slots__ = ("_given", "ability", "budget", "n", "returns", "rng", "task")

    def __init__(
        self,
        ability: str,
        given: Mapping[str, Any],
        *,
        n: int,
        rng: Rng,
        returns: Returns,
        budget: Budget | None = None,
        task: str = "?",
    ) -> None:
        for name, value in {
            "ability": ability, "_given": MappingProxyType(dict(given)), "n": n, "rng": rng,
            "returns": returns, "budget": budget or Budget(), "task": task,
        }.items():  # fmt: skip
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a Request is frozen: compute new tensors instead of changing what was given")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_given":
            raise AttributeError(name)
        try:
            return self._given[name]
        except KeyError:
            given = ", ".join(self._given) or "nothing"
            raise NotGiven(f"task {self.task} does not give {name!r}; it gives {given} (and n, rng, budget, returns).") from None

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def keys(self) -> list[str]:
        """Return the names of what is given."""
        return list(self._given)

    def then(self, ability: str, returns: Returns, **given: Any) -> Request:
        """Return the next request of a task that asks several times: other questions, the same samples, streams and budget."""
        return Request(ability, given, n=self.n, rng=self.rng, returns=returns, budget=self.budget, task=self.task)

    def to(self, device: torch.device | str) -> Request:
        """Return the request with its tensors (and physics operators) on ``device``."""
        moved = {k: v.to(device) if hasattr(v, "to") else v for k, v in self._given.items()}
        self.rng.device = torch.device(device)
        return Request(self.ability, moved, n=self.n, rng=self.rng, returns=self.returns, budget=self.budget, task=self.task)


def check_answer(answer: Any, request: Request, observation_shape: tuple[int, ...] | None = None) -> torch.Tensor:
    """Return ``answer`` as a float32 CPU tensor (n, *shape), or raise RunError (wrong-output, not-finite) in one sentence."""
    if not isinstance(answer, torch.Tensor):
        raise RunError(
            f"{request.ability}() returned {type(answer).__name__}; task {request.task} expects a tensor ({request.returns.kind}).",
            "wrong-output",
        )
    shape = request.returns.shape if request.returns.shape is not None else observation_shape
    expected = (request.n, *shape) if shape is not None else None
    if expected is not None and tuple(answer.shape) != expected:
        raise RunError(
            f"{request.ability}() returned shape {tuple(answer.shape)}; task {request.task} expects {expected}.", "wrong-output"
        )
    answer = answer.detach().to("cpu", torch.float32)
    if not torch.isfinite(answer).all():
        bad = int((~torch.isfinite(answer)).sum())
        raise RunError(f"{request.ability}() returned {bad} values that are NaN or infinite (of {answer.numel()}).", "not-finite")
    return answer
