"""Pictures and sounds of a page: arrays to PNG and WAV data URIs, with NumPy and Pillow alone (both are imported on first use)."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

LARGEST = 256
"""Pictures beyond this many pixels a side are cropped in the middle, never resampled: noise and blur must look as they are."""

_MAP = np.array(
    [[9, 9, 26], [42, 18, 82], [98, 24, 113], [156, 43, 108], [208, 74, 84], [240, 122, 62], [250, 182, 74], [252, 241, 175]], dtype=float
)
"""Anchor colours of the map from silence to loud: lightness grows evenly, so it reads in grey as well."""


def colours(values: np.ndarray) -> np.ndarray:
    """Map values in [0, 1] to uint8 RGB: (..., ) to (..., 3)."""
    x = np.clip(values, 0, 1) * (len(_MAP) - 1)
    low = np.minimum(x.astype(int), len(_MAP) - 2)
    part = (x - low)[..., None]
    return (_MAP[low] * (1 - part) + _MAP[low + 1] * part).round().astype(np.uint8)


def pixels(array: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Return an image array (C, H, W), uint8 or float in [low, high], as uint8 (H, W) or (H, W, 3), at most `LARGEST` a side.

    Four planes are packed RAW (R, G, G, B), linear: shown as red, mean green and blue, with the gamma of a display.
    """
    if array.ndim == 3 and array.shape[0] == 4:
        r, g, h, b = array.astype(np.float64) / (255 if array.dtype == np.uint8 else 1)
        array, low, high = np.clip(np.stack([r, (g + h) / 2, b]), 0, 1) ** (1 / 2.2), 0.0, 1.0
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise ValueError(f"an image is (1, H, W) or (3, H, W), not {array.shape}")
    if array.dtype != np.uint8:
        scaled = (array.astype(np.float64) - low) / max(high - low, 1e-12)
        array = (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)
    _, h, w = array.shape
    top, left = max(0, (h - LARGEST) // 2), max(0, (w - LARGEST) // 2)
    array = array[:, top : top + LARGEST, left : left + LARGEST]
    return array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)


def png(image: np.ndarray) -> str:
    """Return a uint8 picture, (H, W) or (H, W, 3), as a PNG data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def montage(images: Sequence[np.ndarray], columns: int, gap: int = 1) -> np.ndarray:
    """Return uint8 pictures of one shape as one picture of ``columns`` columns, on mid grey."""
    h, w = images[0].shape[:2]
    rows = -(-len(images) // columns)
    out = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, *images[0].shape[2:]), 128, dtype=np.uint8)
    for k, image in enumerate(images):
        y, x = k // columns * (h + gap), k % columns * (w + gap)
        out[y : y + h, x : x + w] = image
    return out


def density(points: np.ndarray, box: tuple[float, float, float, float], size: int = 150) -> np.ndarray:
    """Return points (N, 2) as a picture of their density over ``box`` (x0, x1, y0, y1), uint8 (size, size, 3)."""
    x0, x1, y0, y1 = box
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=size, range=[[y0, y1], [x0, x1]])
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.4) ** 2)
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel / kernel.sum(), "same")
    top = np.quantile(counts[counts > counts.max() * 1e-3], 0.98) if counts.max() > 0 else 1.0
    return colours(np.sqrt(counts / top))[::-1]


def spectrogram(audio: np.ndarray, reference: float | None = None, width: int = 360, height: int = 128) -> np.ndarray:
    """Return the log-magnitude spectrogram of a waveform (T,): 32 ms Hann windows at 16 kHz, 70 dB, uint8 (height, width, 3).

    ``reference`` is the magnitude shown brightest (default: this waveform's largest), so that several can share one scale.
    """
    magnitude = stft_magnitude(audio)
    top = reference or float(magnitude.max()) or 1.0
    decibel = 20 * np.log10(np.maximum(magnitude / top, 1e-7))
    shown = _resample(_resample(decibel, height, 0), width, 1)
    return colours(1 + shown / 70)[::-1]


def stft_magnitude(audio: np.ndarray, size: int = 512, hop: int = 128) -> np.ndarray:
    """Return |STFT| of a waveform (T,) with a Hann window: (size / 2 + 1, frames)."""
    x = np.pad(np.asarray(audio, dtype=np.float64), (size // 2, size // 2))
    frames = np.lib.stride_tricks.sliding_window_view(x, size)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)).T


def _resample(a: np.ndarray, n: int, axis: int) -> np.ndarray:
    """Resample one axis to n entries: means of bins when shrinking, linear interpolation when growing."""
    length = a.shape[axis]
    if length > n:
        edges = np.linspace(0, length, n + 1).round().astype(int)
        return np.add.reduceat(a, edges[:-1], axis=axis) / np.diff(edges).reshape([-1 if i == axis else 1 for i in range(a.ndim)])
    at = np.linspace(0, length - 1, n)
    return np.apply_along_axis(lambda v: np.interp(at, np.arange(length), v), axis, a)


def wav(audio: np.ndarray, rate: int) -> str:
    """Return a waveform (T,) in [-1, 1] as a 16-bit WAV data URI."""
    data = (np.clip(np.asarray(audio, dtype=np.float64), -1, 1) * 32767).round().astype("<i2").tobytes()
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return "data:audio/wav;base64," + base64.b64encode(head + b"data" + struct.pack("<I", len(data)) + data).decode()


def bounds_of(points: Sequence[np.ndarray], spare: float = 0.08) -> tuple[float, float, float, float]:
    """Return a square box (x0, x1, y0, y1) that holds nearly all points of several sets."""
    everything = np.concatenate([np.asarray(p, dtype=np.float64) for p in points])
    low, high = np.quantile(everything, 0.005, axis=0), np.quantile(everything, 0.995, axis=0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2 * (1 + 2 * spare)
    return middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half


def span(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the range several float pictures are shown in: [0, 1] where they fit, else their own."""
    floats: list[Any] = [a.astype(np.float64) for a in arrays if a.dtype != np.uint8]
    if not floats:
        return 0.0, 1.0
    low, high = min(a.min() for a in floats), max(a.max() for a in floats)
    return (0.0, 1.0) if low >= -0.25 and high <= 1.25 and high > 0.3 else (float(low), float(high))
