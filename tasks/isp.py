"""A camera's image pipeline and its inverse: linear camera RGB to a picture and back, and the Bayer mosaic (RGGB).

The steps and their order are those by which Brooks et al. (CVPR 2019, arXiv:1811.11127, section 3) unprocess pictures: white balance,
colour matrix, gamma, tone curve. Everything is float64 NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def tone(x: np.ndarray) -> np.ndarray:
    """Return the smoothstep curve 3 x^2 - 2 x^3 of values in [0, 1]."""
    return x * x * (3 - 2 * x)


def inverse_tone(y: np.ndarray) -> np.ndarray:
    """Return the x in [0, 1] with tone(x) = y: the middle root of the cubic, in trigonometric form."""
    return 0.5 - np.sin(np.arcsin(1 - 2 * np.clip(y, 0, 1)) / 3)


@dataclass(frozen=True)
class ISP:
    """One setting of a pipeline: white-balance gains of red and blue (green is 1), colour matrix (rows sum to 1), gamma."""

    red: float
    blue: float
    matrix: tuple[tuple[float, float, float], ...]
    gamma: float = 2.2

    @property
    def gains(self) -> np.ndarray:
        """The white-balance gains, (3, 1, 1)."""
        return np.array([self.red, 1.0, self.blue])[:, None, None]

    def forward(self, linear: np.ndarray) -> np.ndarray:
        """Return the picture, (3, H, W) in [0, 1], of linear camera RGB in [0, 1]; what leaves [0, 1] on the way is clipped."""
        x = np.clip(self.gains * linear, 0, 1)
        x = np.clip(np.tensordot(np.array(self.matrix), x, 1), 0, 1)
        return tone(x ** (1 / self.gamma))

    def inverse(self, picture: np.ndarray) -> np.ndarray:
        """Return linear camera RGB of a picture in [0, 1]; it can leave [0, 1] for colours that the camera's matrix cannot show."""
        x = inverse_tone(np.asarray(picture, dtype=np.float64)) ** self.gamma
        return np.tensordot(np.linalg.inv(np.array(self.matrix)), x, 1) / self.gains


def mosaic(rgb: np.ndarray) -> np.ndarray:
    """Return the RGGB samples (H, W) of (3, H, W): red at even rows and columns, blue at odd ones."""
    out = np.array(rgb[1])
    out[0::2, 0::2], out[1::2, 1::2] = rgb[0, 0::2, 0::2], rgb[2, 1::2, 1::2]
    return out


def pack(samples: np.ndarray) -> np.ndarray:
    """Return a mosaic (H, W), even sides, as its four planes R, G (red's rows), G (blue's rows), B: (4, H/2, W/2)."""
    return np.stack([samples[0::2, 0::2], samples[0::2, 1::2], samples[1::2, 0::2], samples[1::2, 1::2]])


def unpack(planes: np.ndarray) -> np.ndarray:
    """Undo `pack`: (4, h, w) to (2h, 2w)."""
    _, h, w = planes.shape
    return planes.reshape(2, 2, h, w).transpose(2, 0, 3, 1).reshape(2 * h, 2 * w)


def sparse(samples: np.ndarray) -> np.ndarray:
    """Return a mosaic (H, W) as a picture (3, H, W) that is zero wherever a colour was not sampled."""
    out = np.zeros((3, *samples.shape), dtype=samples.dtype)
    out[0, 0::2, 0::2], out[2, 1::2, 1::2] = samples[0::2, 0::2], samples[1::2, 1::2]
    out[1, 0::2, 1::2], out[1, 1::2, 0::2] = samples[0::2, 1::2], samples[1::2, 0::2]
    return out


def bilinear(samples: np.ndarray) -> np.ndarray:
    """Return the bilinear interpolation of a mosaic (H, W), even sides: (3, H, W). Borders are mirrored, which keeps the pattern."""
    planes = np.pad(sparse(samples), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    cross = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    full = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    h, w = samples.shape
    out = np.zeros((3, h, w))
    for c, kernel in enumerate((full, cross, full)):
        for i in range(3):
            for j in range(3):
                out[c] += kernel[i, j] * planes[c, i : i + h, j : j + w]
    return out
