"""What the paper reads off a denoiser: its Jacobian's eigenvectors and shrinkage factors, and Stein's estimate of its error (Kadkhodaie et al.
2023, arXiv:2310.02557, sections 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch

Denoiser = Callable[[torch.Tensor], torch.Tensor]


def jacobian(f: Denoiser, y: torch.Tensor) -> torch.Tensor:
    """Return the Jacobian of a denoiser at one picture y (1, C, H, W): (n, n), n = C H W, by n backward passes (vectorised)."""
    with torch.enable_grad():
        full = torch.autograd.functional.jacobian(f, y, vectorize=True)
    return full.reshape(y.numel(), y.numel())  # type: ignore[union-attr]


def shrinkage_basis(f: Denoiser, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return factors lambda (n,), falling, the basis e_k as columns (n, n), and how far J is from symmetric, ||J - J^T|| / ||J||.

    f(y) = sum_k lambda_k <y, e_k> e_k (eq. 7) holds for a bias-free f as far as J is symmetric; the symmetric part is decomposed.
    """
    j = jacobian(f, y)
    values, vectors = torch.linalg.eigh((j + j.T) / 2)
    return values.flip(0), vectors.flip(1), float((j - j.T).norm() / j.norm())


def stein_error(f: Denoiser, y: torch.Tensor, sigma: float) -> float:
    """Return Stein's unbiased estimate of ||f(y) - x||^2 for y = x + sigma n: 2 sigma^2 tr J + ||y - f(y)||^2 - n sigma^2 (eq. 5)."""
    residual = (y - f(y)).square().sum()
    return float(2 * sigma**2 * jacobian(f, y).trace() + residual - y.numel() * sigma**2)
