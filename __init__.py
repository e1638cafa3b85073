"""scorebench: a benchmark harness for score-based and denoising methods whose numbers can be compared.

The attributes below are loaded on first use (PEP 562), so that ``import scorebench`` stays cheap and does not import torch.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "Method": ("baselines.method", "Method"),
    "Prior": ("baselines.diffusion.prior", "Prior"),
    "Request": ("tasks.requests", "Request"),
    "Rng": ("tasks.randomness", "Rng"),
    "get_task": ("tasks.registry", "get"),
    "get_dataset": ("datasets.registry", "get"),
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        module, attribute = _LAZY[name]
        return getattr(import_module(f".{module}", __name__), attribute)
    raise AttributeError(f"module 'scorebench' has no attribute {name!r}")
