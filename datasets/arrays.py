"""Arrays that are costly to make are made once a machine and kept under `configs.loader.home`, with their sha256 beside them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ..configs.loader import home, write_atomic

if TYPE_CHECKING:
    import numpy as np


def cached_array(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return ``make()``, or the array kept in ``home()/datasets/<name>.npy`` when that file's sha256 still fits.

    ``name`` must change with everything the array depends on. A damaged file is made anew; a home that cannot be written costs time only.
    """
    import numpy as np

    file = home() / "datasets" / f"{name}.npy"
    mark = file.with_suffix(".sha256")
    with suppress(OSError, ValueError):  # not there yet, or unreadable
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() == mark.read_text().strip():
            return np.load(io.BytesIO(content), allow_pickle=False)
    array = make()
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    with suppress(OSError):
        write_atomic(file, buffer.getvalue())
        write_atomic(mark, hashlib.sha256(buffer.getvalue()).hexdigest().encode())
    return array
