"""The noise of a camera sensor, in digital numbers (DN), and the simulated cameras that have it.

The model is that of Wei et al., "Physics-based Noise Modeling for Extreme Low-light Photography" (IEEE TPAMI 2021, arXiv:2108.02158), eq. 4:
D = K (I + N_p) + N_read + N_row + N_q, with photon noise in electrons and everything else in DN; and, for dark frames, the dark shading of
Feng et al. (arXiv:2310.09126, section 3): a pattern per pixel that is linear in ISO. Arrays are float64, packed (4, h, w) as by `isp.pack`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import exp, gamma, log, pi

import numpy as np

from ..configs.errors import RequestError
from .isp import ISP, pack
from .randomness import keyed

SENSOR = 160
"""Rows and columns of the simulated sensors' mosaics."""
TYPICAL_ISO = 1600.0
"""The ISO at which the cameras' offsets and shading are stated."""


# ---------------------------------------------------------------------- the read noise's law
def tukey_lambda(u: np.ndarray, lam: float) -> np.ndarray:
    """Return the quantile function of the Tukey lambda law at u in (0, 1): (u^lam - (1 - u)^lam) / lam; the logistic law at lam = 0."""
    return np.log(u / (1 - u)) if abs(lam) < 1e-9 else (u**lam - (1 - u) ** lam) / lam


def tukey_lambda_variance(lam: float) -> float:
    """Return the variance of the Tukey lambda law with scale 1; lam above -1/2 (below it there is none)."""
    if lam <= -0.5:
        raise RequestError(f"a Tukey lambda law with lam = {lam} has no variance; accepted: above -0.5.")
    if abs(lam) < 1e-3:  # the closed form loses its digits there; the logistic law's variance, to first order
        return pi**2 / 3 - (4 * (pi**2 / 6 + 1.2020569031595942)) * lam
    return 2 / lam**2 * (1 / (1 + 2 * lam) - gamma(lam + 1) ** 2 / gamma(2 * lam + 2))


# ---------------------------------------------------------------------- one exposure
@dataclass(frozen=True)
class Exposure:
    """The noise parameters of one exposure.

    ``gain`` K in DN per electron; ``lam`` and ``read`` shape and scale (DN) of the Tukey lambda law; ``row`` standard deviation (DN) of the
    offset each row of the mosaic shares; ``colour`` mean offset of the four planes (DN); codes are integers in [0, ``white``], ``black`` is
    the code of no light.
    """

    gain: float
    lam: float
    read: float
    row: float
    colour: tuple[float, float, float, float]
    white: int
    black: int

    @property
    def read_noise(self) -> float:
        """Standard deviation (DN) of everything that does not depend on the signal: read and row noise, rounding."""
        return float((self.read**2 * tukey_lambda_variance(self.lam) + self.row**2 + 1 / 12) ** 0.5)

    def shoot(self, signal: np.ndarray, rng: np.random.Generator, shading: np.ndarray | float = 0.0) -> np.ndarray:
        """Return the codes above black of one frame, whole numbers: ``signal`` (4, h, w) is the expected DN, ``shading`` a fixed pattern.

        The row offset is drawn per row of the mosaic: planes 0 and 1 share the even rows', planes 2 and 3 the odd rows'.
        """
        _, h, _ = signal.shape
        shot = self.gain * rng.poisson(signal / self.gain)
        read = self.read * tukey_lambda(rng.uniform(1e-12, 1 - 1e-12, signal.shape), self.lam)
        rows = self.row * rng.standard_normal(2 * h)
        total = shot + read + packed_rows(rows) + np.reshape(self.colour, (4, 1, 1)) + shading
        return np.clip(np.rint(total + self.black), 0, self.white) - self.black

    def expose(self, clean: np.ndarray, amplification: float, rng: np.random.Generator, shading: np.ndarray | float = 0.0) -> np.ndarray:
        """Return a noisy copy of a clean frame in [0, 1] that had 1 / ``amplification`` of the light, amplified again; not clipped."""
        span = self.white - self.black
        return self.shoot(clean * span / amplification, rng, shading) * amplification / span


def packed_rows(rows: np.ndarray) -> np.ndarray:
    """Return offsets of the mosaic's rows (2h,) as they reach the packed planes: (4, h, 1)."""
    return np.stack([rows[0::2], rows[0::2], rows[1::2], rows[1::2]])[:, :, None]


# ---------------------------------------------------------------------- cameras
@dataclass(frozen=True)
class Camera:
    """A simulated camera. K = ``gain_per_iso`` x ISO; the laws (a, b, t) say log scale ~ N(a log K + b, t^2), natural logarithms, in DN."""

    name: str
    isos: tuple[int, ...]
    gain_per_iso: float
    lam: float
    read: tuple[float, float, float]
    row: tuple[float, float, float]
    colour: tuple[float, float, float, float]
    shading: float
    isp: ISP
    white: int = 16383
    black: int = 512

    def gain(self, iso: float) -> float:
        """Return K at ``iso``, DN per electron."""
        return self.gain_per_iso * iso

    def exposure(self, iso: float, rng: np.random.Generator | None = None) -> Exposure:
        """Return the parameters of one exposure, drawn from the joint law; its medians without ``rng``."""
        k = self.gain(iso)
        z = (0.0, 0.0) if rng is None else rng.standard_normal(2)
        read, row = (exp(a * log(k) + b + t * float(n)) for (a, b, t), n in zip((self.read, self.row), z, strict=True))
        c = iso / TYPICAL_ISO
        return Exposure(k, self.lam, read, row, tuple(c * v for v in self.colour), self.white, self.black)  # type: ignore[arg-type]

    def dark_shading(self, iso: float) -> np.ndarray:
        """Return the fixed pattern (4, SENSOR/2, SENSOR/2) at ``iso``: slope x ISO + offset, per pixel, and an error of the black level."""
        slope, offset = _pattern(self.name)
        level = 0.3 * float(keyed("raw camera", self.name, "black level error", int(iso)).standard_normal())
        return self.shading * (slope * iso / TYPICAL_ISO + 0.3 * offset + level)

    def dark_frames(self, iso: float, count: int) -> np.ndarray:
        """Return ``count`` frames without light, codes above black: (count, 4, h, w)."""
        return np.stack([self._calibration("dark", iso, 0.0, k) for k in range(count)])

    def flat_frames(self, iso: float, level: float, count: int = 2) -> np.ndarray:
        """Return frames of an evenly lit grey card: ``level`` is the expected DN above black of the green planes."""
        return np.stack([self._calibration("flat", iso, level, k) for k in range(count)])

    def _calibration(self, what: str, iso: float, level: float, number: int) -> np.ndarray:
        rng = keyed("raw calibration", self.name, what, int(iso), float(level), number)
        sensitivity = np.array([1 / self.isp.red, 1.0, 1.0, 1 / self.isp.blue])[:, None, None]
        signal = np.broadcast_to(level * sensitivity, (4, SENSOR // 2, SENSOR // 2))
        return self.exposure(iso, rng).shoot(signal, rng, self.dark_shading(iso))


@lru_cache(maxsize=8)
def _pattern(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return slope and offset of a camera's dark shading, each about 1 DN: columns, a glow from one side, and single pixels."""
    out = []
    for part in ("slope", "offset"):
        rng = keyed("raw camera", name, "shading", part)
        glow = np.linspace(-1, 1, SENSOR) ** 2
        field = 0.5 * rng.standard_normal(SENSOR)[None, :] + (glow - glow.mean())[:, None] + 0.5 * rng.standard_normal((SENSOR, SENSOR))
        out.append(pack(field - field.mean()))
    return out[0], out[1]


_M1 = ((1.70, -0.55, -0.15), (-0.20, 1.45, -0.25), (0.02, -0.52, 1.50))
_M2 = ((1.55, -0.35, -0.20), (-0.30, 1.60, -0.30), (-0.05, -0.35, 1.40))
_M3 = ((1.90, -0.80, -0.10), (-0.15, 1.35, -0.20), (0.05, -0.65, 1.60))
_ISOS = (800, 1600, 3200)

CAMERAS: dict[str, Camera] = {
    c.name: c
    for c in (
        Camera("a", _ISOS, 1.2e-3, -0.12, (0.80, 0.20, 0.03), (0.65, -0.50, 0.05), (0.4, -0.2, -0.3, 0.5), 2.0, ISP(2.0, 1.7, _M1)),
        Camera("b", _ISOS, 3.2e-4, 0.05, (0.70, 0.95, 0.03), (0.60, -0.60, 0.05), (0.1, 0.0, 0.0, 0.1), 0.4, ISP(1.8, 1.9, _M2)),
        Camera("c", _ISOS, 3.6e-3, -0.05, (0.85, -0.10, 0.03), (0.80, -1.60, 0.05), (0.2, 0.1, -0.1, 0.3), 0.6, ISP(2.2, 1.5, _M3)),
        Camera("d", _ISOS, 5.0e-3, -0.20, (0.90, 0.10, 0.03), (0.80, -0.90, 0.05), (0.5, 0.2, -0.2, 0.6), 1.0, ISP(1.9, 2.0, _M2)),
        Camera("e", _ISOS, 8.0e-4, 0.10, (0.75, 0.80, 0.03), (0.70, -1.00, 0.05), (0.1, 0.1, 0.0, 0.0), 0.5, ISP(2.1, 1.6, _M1)),
        Camera("f", _ISOS, 2.2e-3, -0.02, (0.80, 0.30, 0.03), (0.70, -1.20, 0.05), (0.2, -0.1, 0.1, 0.3), 0.7, ISP(2.0, 1.8, _M3)),
    )
}
"""The simulated cameras. Their laws lie in the range of published calibrations (log-log slopes 0.6 to 1, lam -0.26 to 0.15; PNNP's
repository lists five cameras); the numbers themselves are made up. Methods are never handed them: they see frames."""


def camera(name: str) -> Camera:
    """Return a simulated camera; RequestError when there is none of that name."""
    if name not in CAMERAS:
        raise RequestError(f"there is no simulated camera {name!r}; accepted: {', '.join(CAMERAS)}.")
    return CAMERAS[name]
