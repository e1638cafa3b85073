"""What a method is: a LightningModule that has one or several abilities.

A method file holds the paper's equations. It draws inference noise only from ``request.rng``; it never loads, trains or caches a prior (a
role declared in its card arrives, built and frozen, as the constructor argument of that name); it never sees sample ids or clean test data.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import lightning
import torch
from torch import nn

from ..tasks.requests import Request


@dataclass(frozen=True)
class DataSpec:
    """What a network must know of the data to be built; passed to constructors that have a parameter ``data``.

    ``shape`` is one answer's shape without batch, None where it varies (photographs); ``channels`` its first entry.
    """

    kind: str = "image"
    channels: int = 1
    shape: tuple[int, ...] | None = None
    classes: int = 0
    sample_rate: int = 0


class Method(lightning.LightningModule):
    """Base of all methods. Implement the abilities named in the card; for training, `training_step` and `configure_optimizers`.

    Abilities (implement any): ``sample``, ``denoise``, ``restore``, ``reconstruct``, ``enhance``, ``logits``, ``edit``, ``invert``, ``embed``,
    ``detect``, ``log_prob``, ``act``, ``predict``; each takes one `Request` and returns a tensor (n, *returns.shape).
    """

    needs_grad: ClassVar[bool] = False
    """Inference differentiates (guidance by gradient, per-image optimisation); otherwise gradients are off."""
    one_at_a_time: ClassVar[bool] = False
    """Requests hold one sample, and the global generators are forked and seeded per sample (for libraries that use them)."""
    exclusive: ClassVar[bool] = False
    """Timing is the point: nothing else runs beside it."""
    train_batch_size: int = 32
    """Samples per training step; steps follow from the task's training budget (see harness.training)."""

    network: nn.Module | None
    """The fitted network, where there is one: its evaluated rows are counted as NFE."""

    def networks(self) -> Iterator[nn.Module]:
        """Yield the modules whose evaluated rows count as network evaluations: `network` and those of the roles given."""
        own = getattr(self, "network", None)
        if isinstance(own, nn.Module):
            yield own
        for child in self.children():
            counted = getattr(child, "counted_networks", None)
            if callable(counted):
                yield from counted()

    def learn(self, data: Any) -> None:
        """Fit in closed form, or search, from a map-style dataset of training items (None where the card says ``trains_on: none``).

        Override instead of `training_step`; store results in buffers. Network rows evaluated here are counted and recorded.
        """
        raise AssertionError("learn() is called only where it is overridden")

    def diagnose(self, name: str, value: float | torch.Tensor) -> None:
        """Record a value about this run (step sizes, a constraint's residual, ...); shown as ``method/name``, never ranked.

        A tensor (B,) is one value per sample of the current request; a number is kept once per request.
        """
        self.__dict__.setdefault("_diagnostics", {}).setdefault(name, []).append(
            value.detach().cpu().double() if isinstance(value, torch.Tensor) else float(value)
        )

    def offer(self, name: str, intermediate: torch.Tensor) -> None:
        """Hand back an intermediate answer (n, *shape) of the current request, e.g. every 100 iterations of an optimisation.

        The harness scores it against the target after the run (a stopping oracle); the method never learns the score.
        """
        self.__dict__.setdefault("_offered", {}).setdefault(name, []).append(intermediate.detach().cpu())

    def take_notes(self) -> tuple[dict[str, list[Any]], dict[str, list[torch.Tensor]]]:
        """Return and clear what `diagnose` and `offer` collected (called by the evaluator after each request)."""
        return self.__dict__.pop("_diagnostics", {}), self.__dict__.pop("_offered", {})


def clone(component: nn.Module) -> nn.Module:
    """Return an unfrozen deep copy of a component, for methods that change one (quantisation, LoRA, unlearning)."""
    copied = copy.deepcopy(component)
    for p in copied.parameters():
        p.requires_grad_(True)
    return copied


def abilities_of(cls: type[Method]) -> set[str]:
    """Return the abilities that a class implements."""
    from ..tasks.requests import ABILITIES

    return {a for a in ABILITIES if callable(getattr(cls, a, None))}


__all__ = ["DataSpec", "Method", "Request", "abilities_of", "clone"]
