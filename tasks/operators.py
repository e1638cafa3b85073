"""The operators of the inverse tasks: `deepinv.physics` objects, fixed by keyed randomness and described by a digest of what defines them.

Every maker takes the signal's shape, the declaration (`observe` of the task), a generator for what is random in the operator, and a
dtype: observations are made with the float64 operator and rounded, methods are handed the float32 one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import deepinv.physics as dp
import numpy as np
import torch

from ..configs.errors import RequestError

Shape = tuple[int, ...]


def digest(*arrays: np.ndarray) -> str:
    """Return 16 hex digits over the bits of ``arrays``."""
    h = hashlib.sha256()
    for a in arrays:
        h.update(f"{a.dtype}{a.shape}".encode() + np.ascontiguousarray(a).tobytes())
    return h.hexdigest()[:16]


class _Described:
    """Gives an operator a ``repr`` that says what defines it, and nothing that a library upgrade could change."""

    description: str = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.description})"

    __str__ = __repr__


class Inpainting(_Described, dp.Inpainting):
    """y = m * x with a fixed 0/1 mask m of the picture's size; lost pixels are zero in y."""


class CircularBlur(_Described, dp.BlurFFT):
    """y = k * x, a convolution that wraps around the borders (so its singular vectors are the Fourier basis)."""


class ParallelBeam(_Described, dp.Tomography):
    """Line integrals along parallel rays, y (1, detectors, views), in pixel widths (not normalised); exact adjoint by differentiation.

    `fbp` is deepinv's filtered back-projection (ramp filter).
    """


class RandomDCT(_Described, dp.DecomposablePhysics):
    """y = (orthonormal 2-D DCT of s * x) at a random subset of coefficients; s is a random sign per pixel. y has shape (m,).

    Rows are orthonormal: A A^T = I. With the signs, the rows are as incoherent with natural images as dense random ones, at the cost
    of two small matrix products (the randomised transforms of Do et al., IEEE TSP 2012, eq. 3).
    """

    signs: torch.Tensor
    kept: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, signs: torch.Tensor, kept: torch.Tensor, **kwargs: Any) -> None:
        height, width = signs.shape[-2:]
        chosen = torch.zeros(signs.numel(), dtype=signs.dtype)
        chosen[kept] = 1
        super().__init__(mask=chosen.reshape(1, *signs.shape), img_size=tuple(signs.shape), **kwargs)
        self.register_buffer("signs", signs)
        self.register_buffer("kept", kept)
        self.register_buffer("rows", dct_matrix(height, signs.dtype))
        self.register_buffer("columns", dct_matrix(width, signs.dtype))

    def V_adjoint(self, x: torch.Tensor) -> torch.Tensor:
        return self.rows @ (self.signs * x) @ self.columns.T

    def V(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return self.signs * (self.rows.T @ x @ self.columns)

    def U(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, self.kept]

    def U_adjoint(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        full = x.new_zeros(x.shape[0], self.signs.numel())
        full[:, self.kept] = x
        return full.reshape(-1, *self.signs.shape)


class Dense(_Described, dp.LinearPhysics):
    """y = M x with a given matrix, x flattened row by row; y has shape (m,)."""

    matrix: torch.Tensor

    def __init__(self, matrix: torch.Tensor, shape: Shape, **kwargs: Any) -> None:
        super().__init__(img_size=shape, **kwargs)
        self.shape = shape
        self.register_buffer("matrix", matrix)

    def A(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return x.flatten(1) @ self.matrix.T

    def A_adjoint(self, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return (y @ self.matrix).reshape(-1, *self.shape)

    def prox_l2(self, z: torch.Tensor, y: torch.Tensor, gamma: float, **kwargs: Any) -> torch.Tensor:
        """Return argmin_x gamma/2 ||M x - y||^2 + 1/2 ||x - z||^2, by a direct solution."""
        m = self.matrix
        system = m.T @ m + torch.eye(m.shape[1], dtype=m.dtype, device=m.device) / gamma
        right = self.A_adjoint(y).flatten(1) + z.flatten(1) / gamma
        return torch.linalg.solve(system, right.T).T.reshape(z.shape)


def dct_matrix(n: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return the orthonormal DCT-II matrix (n, n)."""
    k, i = np.arange(n)[:, None], np.arange(n)[None, :]
    matrix = np.sqrt(2 / n) * np.cos(np.pi * (2 * i + 1) * k / (2 * n))
    matrix[0] /= np.sqrt(2)
    return torch.as_tensor(matrix, dtype=dtype)


def kernel(declared: Mapping[str, Any]) -> np.ndarray:
    """Return the blur kernel, float64, square of odd side, summing to 1.

    ``{kernel: gaussian, width: w}``: standard deviation w pixels, cut at 4 w. ``{kernel: motion, length: l, angle: degrees}``: a straight
    stroke of l pixels, drawn by averaging 64 l points bilinearly.
    """
    kind = declared.get("kernel", "gaussian")
    if kind == "gaussian":
        width = float(declared.get("width", 1.6))
        radius = int(np.ceil(4 * width))
        axis = np.exp(-0.5 * (np.arange(-radius, radius + 1) / width) ** 2)
        out = np.outer(axis, axis)
    elif kind == "motion":
        length, angle = float(declared.get("length", 9)), np.deg2rad(float(declared.get("angle", 30)))
        radius = int(np.ceil(length / 2)) + 1
        out = np.zeros((2 * radius + 1, 2 * radius + 1))
        along = np.linspace(-length / 2, length / 2, int(64 * length))
        y, x = radius - along * np.sin(angle), radius + along * np.cos(angle)
        y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
        for dy in (0, 1):
            for dx in (0, 1):
                np.add.at(out, (y0 + dy, x0 + dx), (1 - abs(y - y0 - dy)) * (1 - abs(x - x0 - dx)))
    else:
        raise RequestError(f"observe.kernel is {kind!r}; accepted: gaussian, motion.")
    return out / out.sum()


def _dense(shape: Shape, declared: Mapping[str, Any], rng: np.random.Generator, dtype: torch.dtype) -> dp.LinearPhysics:
    size = int(np.prod(shape))
    matrix = rng.standard_normal((int(declared["rows"]), size)) / np.sqrt(size)
    out = Dense(torch.as_tensor(matrix, dtype=dtype), shape)
    out.description = f"rows={len(matrix)}, matrix=sha256:{digest(matrix)}"
    return out


def _inpainting(shape: Shape, declared: Mapping[str, Any], rng: np.random.Generator, dtype: torch.dtype) -> dp.LinearPhysics:
    keep = float(declared["keep"])
    order = rng.permutation(shape[-2] * shape[-1])  # an exact share of pixels, not a share on average; all channels of a pixel together
    mask = np.zeros(shape[-2] * shape[-1])
    mask[order[: round(keep * mask.size)]] = 1
    planes = np.broadcast_to(mask.reshape(shape[-2:]), shape).copy()
    out = Inpainting(shape, mask=torch.as_tensor(planes, dtype=dtype))
    out.description = f"keep={keep:g}, mask=sha256:{digest(planes)}"
    return out


def _blur(shape: Shape, declared: Mapping[str, Any], rng: np.random.Generator, dtype: torch.dtype) -> dp.LinearPhysics:
    k = kernel(declared)
    if max(k.shape) > min(shape[-2:]):
        raise RequestError(f"the blur kernel {k.shape} is larger than the picture {shape[-2:]}; take larger pictures or a smaller kernel.")
    out = CircularBlur(shape, filter=torch.as_tensor(k, dtype=dtype)[None, None])
    words = ", ".join(f"{name}={declared[name]}" for name in ("kernel", "width", "length", "angle") if name in declared)
    out.description = f"{words}, boundary=circular"
    return out


def _random_dct(shape: Shape, declared: Mapping[str, Any], rng: np.random.Generator, dtype: torch.dtype) -> dp.LinearPhysics:
    size = int(np.prod(shape))
    signs = rng.integers(0, 2, shape) * 2 - 1
    kept = np.sort(rng.permutation(size)[: round(float(declared["share"]) * size)])
    out = RandomDCT(torch.as_tensor(signs, dtype=dtype), torch.as_tensor(kept))
    out.description = f"share={float(declared['share']):g}, rows={len(kept)}, draw=sha256:{digest(signs, kept)}"
    return out


def _parallel_beam(shape: Shape, declared: Mapping[str, Any], rng: np.random.Generator, dtype: torch.dtype) -> dp.LinearPhysics:
    if shape[-1] != shape[-2] or shape[0] != 1:
        raise RequestError(f"the operator parallel-beam takes square grey pictures; these are {shape}.")
    views = int(declared["views"])
    angles = torch.arange(views, dtype=dtype) * (180.0 / views)
    out = ParallelBeam(angles, shape[-1], circle=True, adjoint_via_backprop=True, normalize=False, dtype=dtype)
    out.description = f"views={views}, over=180 degrees, side={shape[-1]}, circle=True"
    return out


MAKERS: dict[str, Callable[[Shape, Mapping[str, Any], np.random.Generator, torch.dtype], dp.LinearPhysics]] = {
    "dense": _dense,
    "inpainting": _inpainting,
    "blur": _blur,
    "random-dct": _random_dct,
    "parallel-beam": _parallel_beam,
}


def make(shape: Shape, declared: Mapping[str, Any], rng: np.random.Generator, dtype: torch.dtype = torch.float32) -> dp.LinearPhysics:
    """Return the operator that ``declared`` names for signals of ``shape`` (C, H, W), with its noise model; RequestError when unknown."""
    name = declared.get("operator")
    if name not in MAKERS:
        raise RequestError(f"observe.operator is {name!r}; accepted: {', '.join(MAKERS)}.")
    try:
        physics = MAKERS[name](shape, declared, rng, dtype)
    except KeyError as e:
        raise RequestError(f"observe lacks the field {e} that the operator {name!r} needs.") from None
    physics.noise_model = dp.GaussianNoise(sigma=float(declared["sigma"]))
    physics.description += f", sigma={float(declared['sigma']):g}"
    return physics.eval().requires_grad_(False)
