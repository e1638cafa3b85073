"""Comparisons of the metrics of cubes and recordings with torchmetrics, SciPy, scikit-learn and closed forms."""

from __future__ import annotations

import math

import numpy as np
import torch

from .proof import Proof
from .proofs_images import largest
from .registry import make


def cubes() -> tuple[torch.Tensor, torch.Tensor]:
    """Return positive random cubes beside noisy ones: (3, 16, 12, 14)."""
    g = torch.Generator().manual_seed(5)
    clean = torch.rand(3, 16, 12, 14, generator=g) + 0.05
    return clean + 0.2 * torch.randn(clean.shape, generator=g), clean


def recordings() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return an answer (4, 8, 256), and its target with the noisy recording."""
    g = torch.Generator().manual_seed(6)
    clean = torch.randn(4, 8, 256, generator=g).cumsum(-1) / 16
    noisy = clean + torch.randn(clean.shape, generator=g)
    return 0.4 * noisy + 0.6 * clean, {"clean": clean, "noisy": noisy}


def sam_torchmetrics() -> float:
    from torchmetrics.functional.image import spectral_angle_mapper

    a, c = cubes()
    theirs = spectral_angle_mapper(a.double(), c.double(), reduction="none").flatten(1).mean(1) * (180 / math.pi)
    return largest(make("sam").per_sample(a, {"clean": c}).numpy(), theirs.numpy())


def sam_closed() -> float:
    """A spectrum scaled: 0; two axes: 90; a zero answer: 90; the diagonal of a plane: 45 degrees."""
    clean = torch.zeros(4, 2, 1, 1)
    clean[:, 0] = 1
    answer = torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0], [1.0, 1.0]])[:, :, None, None]
    return largest(make("sam").per_sample(answer, {"clean": clean}).numpy(), np.array([0.0, 90.0, 90.0, 45.0]))


def rrmse_sklearn() -> float:
    from sklearn.metrics import mean_squared_error

    a, t = recordings()
    theirs = [
        (mean_squared_error(c.ravel(), x.ravel()) / mean_squared_error(c.ravel(), 0 * c.ravel())) ** 0.5
        for x, c in zip(a.double().numpy(), t["clean"].double().numpy(), strict=True)
    ]
    return largest(make("rrmse").per_sample(a, t).numpy(), np.array(theirs))


def correlation_scipy() -> float:
    from scipy.stats import pearsonr

    a, t = recordings()
    theirs = [
        np.mean([pearsonr(u, v).statistic for u, v in zip(x, c, strict=True)])
        for x, c in zip(a.double().numpy(), t["clean"].double().numpy(), strict=True)
    ]
    return largest(make("correlation").per_sample(a, t).numpy(), np.array(theirs))


def gain_closed() -> float:
    """An error scaled by 0.4 gains -20 log10(0.4) dB; the noisy recording gains nothing; the clean one counts 100 dB."""
    a, t = recordings()
    metric = make("snr-gain")
    doubled = {k: v.double() for k, v in t.items()}
    exact = 0.4 * doubled["noisy"] + 0.6 * doubled["clean"]
    got = torch.cat([metric.per_sample(v, doubled) for v in (exact, doubled["noisy"], doubled["clean"])])
    return largest(got.numpy(), np.repeat([-20 * math.log10(0.4), 0.0, 100.0], len(a)))


PROOFS = [
    Proof("sam", "torchmetrics", "noisy random cubes", 1e-9, sam_torchmetrics),
    Proof("sam", "closed form", "scaled, orthogonal, zero and diagonal spectra", 1e-9, sam_closed),
    Proof("rrmse", "scikit-learn's mean squared errors", "random recordings", 1e-12, rrmse_sklearn),
    Proof("correlation", "SciPy's pearsonr", "random recordings", 1e-12, correlation_scipy),
    Proof("snr-gain", "closed form", "scaled, unchanged and removed error", 1e-9, gain_closed),
]
