"""Named arrays as bytes: NumPy's npz, written so that equal arrays give equal bytes (no time stamps)."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache

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


def unpack(content: bytes, keep: Callable[[str], bool] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of an npz archive, or those whose names ``keep`` takes; ValueError or BadZipFile (`BAD_ARCHIVE`) when it is none."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = [n.removesuffix(".npy") for n in archive.namelist()]
        return {name: _array(archive.read(f"{name}.npy")) for name in files if keep is None or keep(name)}


def _array(content: bytes) -> np.ndarray:
    """Return the array of an npy file; as `numpy.lib.format.read_array` without pickle, but equal headers are read once (half the time)."""
    if content[:6] != b"\x93NUMPY" or len(content) < 10:
        raise ValueError("not an array")
    end = 10 + int.from_bytes(content[8:10], "little") if content[6] == 1 else 12 + int.from_bytes(content[8:12], "little")
    shape, fortran, dtype = _header(content[:end])
    count = math.prod(shape)
    if dtype.hasobject or len(content) - end < count * dtype.itemsize:
        raise ValueError("an array of objects, or a part of an array")
    array = np.frombuffer(content, dtype, count, end).copy() if dtype.itemsize else np.zeros(count, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


@lru_cache(maxsize=1024)
def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    return np.lib.format.read_array_header_1_0(file) if version == (1, 0) else np.lib.format.read_array_header_2_0(file)
