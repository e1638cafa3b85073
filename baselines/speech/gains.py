"""Gains and noise trackers of single-channel enhancement, frame by frame, vectorised over batch and frequency.

Notation of the papers: gamma = |Y|^2 / N is the a-posteriori SNR, xi = S / N the a-priori SNR, G the gain on the noisy amplitude.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import exp1

TINY = 1e-20
GAMMA_MAX = 40.0
"""Cap of the a-posteriori SNR, 16 dB: beyond it the gains are 1 to within a percent, and one loud frame must not dominate the recursion."""

Gain = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def wiener_gain(xi: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """Return xi / (1 + xi), the mean square error gain for complex Gaussian speech and noise."""
    return xi / (1 + xi)


def log_amplitude_gain(xi: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """Return exp(E[log |S|  given Y]) / |Y| = xi / (1 + xi) * exp(E1(v) / 2), v = xi gamma / (1 + xi) (Ephraim and Malah 1985, eq. 20)."""
    v = (xi * gamma / (1 + xi)).clamp_min(1e-8)
    integral = torch.from_numpy(exp1(v.detach().cpu().double().numpy())).to(xi)
    return xi / (1 + xi) * torch.exp(0.5 * integral)


def first_frames(power: torch.Tensor, frames: int) -> torch.Tensor:
    """Return the mean power of the first frames, (B, F): the noise, if nobody speaks yet."""
    return power[..., :frames].mean(-1).clamp_min(TINY)


def spp_noise(power: torch.Tensor, start_frames: int = 6, xi_db: float = 15.0, smooth: float = 0.8, smooth_p: float = 0.9) -> torch.Tensor:
    """Track the noise power by speech presence probability with a fixed prior (Gerkmann and Hendriks 2012, eqs. 18 to 24).

    power: |Y|^2 (B, F, frames). Returns N of equal shape. ``xi_db`` is the SNR that speech is expected to have where it is present; the
    probability is held below 0.99 once its average stays above it, so that a rise of the noise is not taken for speech for ever.
    """
    xi = 10 ** (xi_db / 10)
    noise = first_frames(power, start_frames)
    average = torch.zeros_like(noise)
    out = []
    for y in power.unbind(-1):
        presence = 1 / (1 + (1 + xi) * torch.exp(-(y / noise) * xi / (1 + xi)))
        average = smooth_p * average + (1 - smooth_p) * presence
        presence = torch.where(average > 0.99, presence.clamp_max(0.99), presence)
        estimate = (1 - presence) * y + presence * noise
        noise = (smooth * noise + (1 - smooth) * estimate).clamp_min(TINY)
        out.append(noise)
    return torch.stack(out, -1)


def decision_directed(
    power: torch.Tensor, noise: torch.Tensor, gain: Gain, smooth: float = 0.98, xi_min_db: float = -25.0, gain_min_db: float = -20.0
) -> torch.Tensor:
    """Return gains (B, F, frames) with the a-priori SNR of Ephraim and Malah 1984, eq. 51: mostly the last frame's estimate, partly this one's.

    xi = smooth G_prev^2 gamma_prev + (1 - smooth) max(gamma - 1, 0), at least ``xi_min_db`` (Cappe 1994: what keeps musical noise away).
    """
    xi_min, gain_min = 10 ** (xi_min_db / 10), 10 ** (gain_min_db / 20)
    clean_over_noise = torch.zeros_like(noise[..., 0])  # G^2 gamma of the last frame
    out = []
    for y, n in zip(power.unbind(-1), noise.unbind(-1), strict=True):
        gamma = (y / n).clamp(1e-6, GAMMA_MAX)
        xi = (smooth * clean_over_noise + (1 - smooth) * (gamma - 1).clamp_min(0)).clamp_min(xi_min)
        g = gain(xi, gamma).clamp_min(gain_min)
        clean_over_noise = g**2 * gamma
        out.append(g)
    return torch.stack(out, -1)


def db(x: torch.Tensor) -> torch.Tensor:
    """Return 10 log10 x."""
    return 10 / np.log(10) * torch.log(x.clamp_min(TINY))
