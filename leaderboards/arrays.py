"""Named arrays as bytes: NumPy's npz, written so that equal arrays give equal bytes (no time stamps)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np

BAD_ARCHIVE = (ValueError, EOFError, zipfile.BadZipFile)
"""What `unpack` raises for bytes that are no archive of arrays."""


def pack(arrays: Mapping[str, np.ndarray], compress: bool = True) -> bytes:
    """Return an npz archive of ``arrays``; ValueError for arrays of Python objects."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = archive.compression
            with archive.open(entry, "w") as f:
                np.lib.format.write_array(f, np.asanyarray(arrays[name]), allow_pickle=False)
    return buffer.getvalue()


def unpack(content: bytes, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of an npz archive, or those of ``names`` that it has; ValueError or BadZipFile (`BAD_ARCHIVE`) when it is none."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        wanted = archive.files if names is None else [n for n in names if n in archive.files]
        return {name: archive[name] for name in wanted}
