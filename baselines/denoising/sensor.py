"""A sensor's calibration from dark frames and flat fields: what methods that model a camera's noise are handed (components of form `sensor`).

Wei et al. (arXiv:2108.02158, section 4): the gain from the variance against the mean of flat fields, row noise from row means of dark
frames, the shape of the read noise where the probability plot is straightest (PPCC), its scale from the slope of that plot, and the joint
law of log scale over log gain. Feng et al. (arXiv:2310.09126, section 3.2): dark shading, linear in ISO per pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ...tasks import noise_raw

SHAPES = np.round(np.arange(-0.30, 0.3001, 0.01), 2)
"""The values of lam that PPCC tries."""
LEVELS = (100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0)
"""DN above black of the flat fields' green planes."""
POINTS = 20_000
"""Order statistics of a probability plot."""


# ---------------------------------------------------------------------- estimates
def gain_of(pairs: Sequence[np.ndarray]) -> float:
    """Return K (DN per electron) from pairs of flat fields, each (2, 4, h, w) in DN: the slope of variance against mean over all planes.

    The variance is half that of the pair's difference, in which fixed patterns cancel. Each point is weighted by the inverse square of
    its variance, as the variance of an estimated variance is.
    """
    means, variances = [], []
    for pair in pairs:
        means += pair.mean((0, 2, 3)).tolist()
        variances += (0.5 * (pair[0] - pair[1]).var((1, 2))).tolist()
    weights = 1 / np.array(variances)  # np.polyfit squares them
    return float(np.polyfit(means, variances, 1, w=weights)[0])


def split_rows(residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row means (n, 2h) in the mosaic's order, and what is left, of dark residuals (n, 4, h, w): the band and the pixel noise."""
    upper = residual[:, :2].mean((1, 3))
    lower = residual[:, 2:].mean((1, 3))
    rows = np.stack([upper, lower], -1).reshape(len(residual), -1)
    rest = residual.copy()
    rest[:, :2] -= upper[:, None, :, None]
    rest[:, 2:] -= lower[:, None, :, None]
    return rows, rest


def row_scale(rows: np.ndarray, pixels: np.ndarray) -> float:
    """Return the standard deviation of row offsets from row means (n, 2h); what the pixels' own noise adds to a mean is taken off."""
    width = 2 * pixels.shape[-1]
    return float(np.sqrt(max(rows.var() - pixels.var() / (width - 1), 1e-12)))


def probability_plot(values: np.ndarray, lams: Sequence[float]) -> list[tuple[float, float]]:
    """Return correlation and slope of the plot of sorted values against the quantiles of each Tukey lambda law."""
    n = values.size
    m = min(n, POINTS)
    at = ((np.arange(m) + 0.5) * n / m).astype(int)  # evenly spread, so that the extremes weigh no more than they do among all
    medians = (at + 0.6825) / (n + 0.365)  # Filliben 1975
    if m == n:
        medians[-1] = 0.5 ** (1 / n)
        medians[0] = 1 - medians[-1]
    y = np.sort(values, axis=None)[at]
    out = []
    for lam in lams:
        x = noise_raw.tukey_lambda(medians, lam)
        out.append((float(np.corrcoef(x, y)[0, 1]), float(np.polyfit(x, y, 1)[0])))
    return out


def read_law(values: np.ndarray) -> tuple[float, float]:
    """Return shape and scale of the Tukey lambda law of ``values``: the lam of the straightest plot (PPCC), and its slope."""
    found = probability_plot(values, SHAPES.tolist())
    best = int(np.argmax([c for c, _ in found]))
    return float(SHAPES[best]), found[best][1]


def loglaw(gains: Sequence[float], scales: Sequence[float], spread: float) -> tuple[float, float, float]:
    """Return (a, b, t) with log scale ~ N(a log K + b, t^2), natural logarithms; ``spread`` is the t within one ISO."""
    a, b = np.polyfit(np.log(gains), np.log(scales), 1)
    return float(a), float(b), spread


# ---------------------------------------------------------------------- the component
class SensorCalibration(nn.Module):
    """What is known of a camera after calibration; all scales in DN, laws (a, b, t) as `loglaw` returns them.

    ``gain_per_iso``, ``gains`` (low, high), ``lam``, ``read``, ``row``, ``gauss`` (one Gaussian for all that does not depend on the signal),
    ``colour`` (4,) and ``shading_slope``, ``shading_offset`` (4, h, w), ``levels`` (mean dark level by ISO), ``residual`` (frames of all ISOs,
    4, h, w) with ``residual_iso``; ``span`` = white - black.
    """

    gain_per_iso: torch.Tensor
    lam: torch.Tensor
    shading_slope: torch.Tensor
    shading_offset: torch.Tensor
    levels: torch.Tensor
    colour_slope: torch.Tensor
    residual: torch.Tensor
    residual_iso: torch.Tensor

    def __init__(self, camera: str, frames: int = 40) -> None:
        super().__init__()
        device = noise_raw.camera(camera)  # asked for frames and for what is printed on it (ISOs, code range), nothing else
        self.isos, self.span = device.isos, float(device.white - device.black)
        gains = [gain_of([device.flat_frames(iso, level) for level in LEVELS]) for iso in self.isos]
        isos = np.array(self.isos, dtype=np.float64)
        per_iso = float((isos * np.array(gains)).sum() / (isos**2).sum() if len(isos) > 1 else gains[0] / isos[0])
        frame_sets = [device.dark_frames(iso, frames) for iso in self.isos]
        means = np.stack([f.mean(0) for f in frame_sets])
        centred = isos / noise_raw.TYPICAL_ISO
        slope, offset = _lines(centred, means, np.array([1 / f.var() for f in frame_sets]))
        levels = (means - slope * centred[:, None, None, None] - offset).mean((1, 2, 3))  # black level errors: a number per ISO
        fitted = slope * centred[:, None, None, None] + offset + levels[:, None, None, None]
        rows, reads, sums, shapes, spread, rest = [], [], [], [], [], []
        for k, f in enumerate(frame_sets):
            residual = f - fitted[k]
            bands, pixels = split_rows(residual)
            lam, scale = read_law(pixels)
            shapes.append(lam)
            reads.append(scale)
            rows.append(row_scale(bands, pixels))
            sums.append(residual.std())
            spread.append(np.log(pixels.std((1, 2, 3))).std())
            rest.append(residual)
        t = float(np.mean(spread))
        self.read, self.row, self.gauss = loglaw(gains, reads, t), loglaw(gains, rows, t), loglaw(gains, sums, t)
        self.gains = (per_iso * float(isos.min()), per_iso * float(isos.max()))
        for name, value in {
            "gain_per_iso": per_iso, "lam": np.median(shapes), "shading_slope": slope, "shading_offset": offset, "levels": levels,
            "colour_slope": slope.mean((1, 2)), "colour_offset": offset.mean((1, 2)), "residual": np.concatenate(rest),
            "residual_iso": np.repeat(isos, frames),
        }.items():  # fmt: skip
            self.register_buffer(name, torch.as_tensor(np.asarray(value), dtype=torch.float32))

    def gain(self, iso: torch.Tensor) -> torch.Tensor:
        """Return K at ``iso``."""
        return self.gain_per_iso * iso

    def shading(self, iso: float, shape: Sequence[int], per_pixel: bool = True) -> torch.Tensor:
        """Return the mean dark frame at ``iso`` in DN for a packed frame of ``shape`` (4, h, w): per pixel, or one offset per plane."""
        c = iso / noise_raw.TYPICAL_ISO
        level = float(np.interp(iso, self.isos, self.levels.tolist()))
        if not per_pixel:
            return (self.colour_slope * c + self.get_buffer("colour_offset") + level)[:, None, None].expand(*shape)
        pattern = self.shading_slope * c + self.shading_offset + level
        rows, columns = (-(-n // m) for n, m in zip(shape[1:], pattern.shape[1:], strict=True))
        return pattern.repeat(1, rows, columns)[:, : shape[1], : shape[2]]


class PublishedSensor(nn.Module):
    """A sensor known from published numbers alone: no frames, so no dark shading (zero) and no dark frames to learn from.

    K = ``slope`` x ISO + ``intercept``; ``log_gains`` the calibrated range of log K; laws as in `SensorCalibration`.
    """

    isos: tuple[int, ...] = ()

    def __init__(
        self, slope: float, intercept: float, log_gains: Sequence[float], lam: float, read: Sequence[float], row: Sequence[float],
        gauss: Sequence[float], white: int = 16383, black: int = 512,
    ) -> None:  # fmt: skip
        super().__init__()
        self.slope, self.intercept, self.lam, self.span = slope, intercept, lam, float(white - black)
        self.gains = (float(np.exp(log_gains[0])), float(np.exp(log_gains[1])))
        self.gain_per_iso = slope
        self.read, self.row, self.gauss = tuple(read), tuple(row), tuple(gauss)

    def gain(self, iso: torch.Tensor) -> torch.Tensor:
        """Return K at ``iso``."""
        return self.slope * iso + self.intercept

    def shading(self, iso: float, shape: Sequence[int], per_pixel: bool = True) -> torch.Tensor:
        """Return zeros: the pattern of this sensor is not known."""
        return torch.zeros(*shape)


def _lines(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slope and offset, each (4, h, w), of the weighted least-squares lines of y (n, 4, h, w) over x (n,); of one point its value."""
    if len(x) < 2:
        return np.zeros(y.shape[1:]), y[0]
    w = weights / weights.sum()
    centre = float(w @ x)
    middle = np.tensordot(w, y, 1)
    slope = np.tensordot(w * (x - centre), y, 1) / float(w @ (x - centre) ** 2)
    return slope, middle - slope * centre
