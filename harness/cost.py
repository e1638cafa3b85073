"""Cost is counted, not reported: network rows, backward rows, FLOPs, seconds per sample, peak memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class RowCounter:
    """Counts the rows (first dimension) that pass forward, and whose gradients pass back, through the given networks.

    A doubled guidance batch counts two rows a sample; a network shared by two roles is counted once per evaluation.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        self.forward = 0
        self.backward = 0
        self._handles: list[Any] = []
        unique = {id(n): n for n in networks}
        inner = {id(m) for n in unique.values() for m in n.modules() if m is not n}
        self._networks = [n for key, n in unique.items() if key not in inner]

    @property
    def counts(self) -> bool:
        """Whether there is any network to count."""
        return bool(self._networks)

    def __enter__(self) -> RowCounter:
        counter = self

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            first = next((a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor) and a.ndim), None)
            rows = first.shape[0] if first is not None else 1
            counter.forward += rows
            out = next((o for o in _tensors(output) if o.requires_grad), None)
            if out is not None:
                out.register_hook(lambda grad: counter._count_backward(rows))

        self._handles = [n.register_forward_hook(hook, with_kwargs=True) for n in self._networks]
        return self

    def _count_backward(self, rows: int) -> None:
        self.backward += rows

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _tensors(v)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


class FlopCount(TorchDispatchMode):
    """Count the FLOPs of what runs inside, with torch's own table of formulas; multiply-adds count two.

    torch's FlopCounterMode gives the same totals, but its module tracker fails under ``autograd.grad`` (gradient guidance), and it
    decomposes operators, which could change what is measured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if func._overloadpacket is torch.ops.aten.convolution_backward:
            self.total += _convolution_backward(*args, **(kwargs or {}))
        elif formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def _convolution_backward(
    grad_out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias_sizes: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, output_mask: Any,
) -> int:  # fmt: skip
    """Return the FLOPs of a convolution's backward pass: as many for each of input and weight gradient as the forward pass takes.

    torch's own formula takes the weight gradient of a grouped convolution for that of a full one, ``groups`` times too many: a depthwise
    network (NAFNet) would get less than half of the training its budget buys.
    """
    pixels = x if transposed else grad_out
    forward = 2 * pixels.numel() * weight[0].numel()
    return forward * sum(bool(wanted) for wanted in output_mask[:2])


class Stopwatch:
    """Seconds per sample of every request; the first is the warm-up and is kept apart."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.per_sample: list[float] = []

    @contextlib.contextmanager
    def request(self, n: int) -> Iterator[None]:
        """Time one request of ``n`` samples, synchronising the device before both readings."""
        self._synchronise()
        start = time.perf_counter()
        yield
        self._synchronise()
        self.per_sample += [(time.perf_counter() - start) / n] * n
        self._first = getattr(self, "_first", n)

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def summary(self) -> dict[str, Any]:
        """Return warm median and 95th percentile of seconds per sample; ``warm`` is False when there was one request only."""
        if not self.per_sample:
            return {"sample_s_median": None, "sample_s_p95": None, "sample_s_first": None, "warm": False}
        first = getattr(self, "_first", len(self.per_sample))
        warm = self.per_sample[first:]
        times = warm or self.per_sample
        return {
            "sample_s_median": float(np.median(times)),
            "sample_s_p95": float(np.percentile(times, 95)),
            "sample_s_first": self.per_sample[0],
            "warm": bool(warm),
        }


class PeakMemory:
    """Peak memory of a unit in MB: resident set high-water mark of the process (reset at the start), or the GPU's allocator."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.resettable = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            try:
                Path("/proc/self/clear_refs").write_text("5")
            except OSError:  # not Linux, or not allowed: the mark of the whole process is all there is
                self.resettable = False

    def read(self) -> float | None:
        """Return the peak in MB since construction, None where the system does not tell."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        try:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        except OSError:
            pass
        return None


def parameters(networks: Iterable[nn.Module]) -> int:
    """Return the number of parameters in the networks, each parameter once."""
    seen: dict[int, int] = {}
    for network in networks:
        for p in network.parameters():
            seen[id(p)] = p.numel()
    return sum(seen.values())
