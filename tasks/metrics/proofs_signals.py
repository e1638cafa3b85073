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


def removed_numpy() -> float:
    """Beside numpy's correlation matrix; a channel from which nothing was taken counts 0."""
    a, t = recordings()
    a = a.clone()
    a[:, 0] = t["noisy"][:, 0]
    noisy, clean = (t[k].double().numpy() for k in ("noisy", "clean"))
    theirs = [
        np.mean([0.0, *(np.corrcoef(n[c] - x[c], n[c] - k[c])[0, 1] for c in range(1, len(n)))])
        for x, n, k in zip(a.double().numpy(), noisy, clean, strict=True)
    ]
    return largest(make("removed-correlation").per_sample(a, t).numpy(), np.array(theirs))


def maps() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return feature maps (16, 5, 12) of three classes that overlap, and the classes of the tokens."""
    g = torch.Generator().manual_seed(7)
    label = torch.randint(0, 3, (16, 12), generator=g)
    label[label == 1] = 4  # classes need not be consecutive
    return torch.randn(16, 5, 12, generator=g) + label[:, None] * torch.linspace(-0.3, 0.4, 5)[:, None], {"classes": label}


def probe_sklearn() -> float:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.metrics import jaccard_score

    answer, target = maps()
    metric = make("probe-miou", {"tokens": 12})
    x, y = answer.transpose(1, 2).double().numpy(), target["classes"].numpy()
    told = np.empty_like(y)
    for k in range(4):
        inside = np.arange(len(x)) % 4 == k
        probe = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01).fit(x[~inside].reshape(-1, 5), y[~inside].ravel())
        told[inside] = probe.predict(x[inside].reshape(-1, 5)).reshape(-1, 12)
    got = metric.value(metric.features(answer, target).numpy())
    return abs(got - float(jaccard_score(y.ravel(), told.ravel(), average="macro")))


def probe_closed() -> float:
    """Features that are the classes: 1; features that know nothing: the commonest class everywhere, its share over the number of classes."""
    metric = make("probe-miou", {"tokens": 10})
    label = (torch.arange(80) % 10 == 0).long().reshape(8, 10)
    tell = torch.stack([label.double(), 1e-3 * torch.randn(8, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)], 1)
    blank = torch.ones(8, 2, 10) * torch.tensor([1.0, -1.0]).repeat(5)
    found = [metric.value(metric.features(x, {"classes": label}).numpy()) for x in (tell, blank)]
    return largest(np.array(found), np.array([1.0, 0.9 / 2]))


PROOFS = [
    Proof("sam", "torchmetrics", "noisy random cubes", 1e-9, sam_torchmetrics),
    Proof("sam", "closed form", "scaled, orthogonal, zero and diagonal spectra", 1e-9, sam_closed),
    Proof("rrmse", "scikit-learn's mean squared errors", "random recordings", 1e-12, rrmse_sklearn),
    Proof("correlation", "SciPy's pearsonr", "random recordings", 1e-12, correlation_scipy),
    Proof("snr-gain", "closed form", "scaled, unchanged and removed error", 1e-9, gain_closed),
    Proof("removed-correlation", "numpy's correlation matrix", "random recordings, one channel left as it was", 1e-7, removed_numpy),
    Proof("probe-miou", "scikit-learn's LDA and Jaccard score", "maps of three overlapping classes", 1e-12, probe_sklearn),
    Proof("probe-miou", "closed form", "features that are the classes, or say nothing", 1e-12, probe_closed),
]
