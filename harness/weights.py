"""How weights are stored: safetensors, rounded to float16 where a tensor has two or more dimensions, and measured after rounding."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..configs.errors import RunError

if TYPE_CHECKING:
    import torch


def rounded(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state as it is stored: floating tensors of two or more dimensions as float16, other floating ones as float32.

    RunError (not-finite) when a weight is not finite, or is too large for float16.
    """
    import torch

    out = {}
    for name, value in state.items():
        tensor = value.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float16 if tensor.ndim >= 2 else torch.float32)
            if not bool(torch.isfinite(tensor).all()):
                raise RunError(f"the fitted weights {name!r} are not finite (or exceed float16's range of 65504).", "not-finite")
        out[name] = tensor.clone().contiguous()  # cloned: safetensors refuses tensors that share memory
    return out


def save(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Round ``state`` (a state_dict) and write it to ``path``."""
    from safetensors.torch import save_file

    save_file(rounded(state), str(path))


def load(path: Path) -> dict[str, torch.Tensor]:
    """Return the stored state, float16 tensors widened to float32. RunError when the file is not readable."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(str(path))
    except (OSError, SafetensorError) as e:
        raise RunError(f"the weights {path} cannot be read ({e}); delete the file to have them trained again.") from e
    return {name: t.float() if t.is_floating_point() else t for name, t in state.items()}


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
