"""The registry of metrics: names to classes, loaded on first use. `known` and `info` import no torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...configs.errors import RequestError, nearest, unknown
from ...configs.loader import load_object

if TYPE_CHECKING:
    from .base import Metric


@dataclass(frozen=True)
class Info:
    """One line about a metric: its name, ``.module:Class``, title, family, level and direction."""

    name: str
    target: str
    title: str
    family: str
    level: str = "sample"
    higher_is_better: bool = True


def _table(*rows: tuple[str, str, str, str, str, bool]) -> dict[str, Info]:
    return {r[0]: Info(r[0], f".tasks.metrics.{r[1]}", *r[2:]) for r in rows}


TABLE: dict[str, Info] = _table(
    ("psnr", "paired:PSNR", "Peak signal-to-noise ratio", "image", "sample", True),
    ("psnr-illuminance", "illuminance:IlluminancePSNR", "PSNR after illuminance correction", "image", "sample", True),
    ("ssim", "structure:SSIM", "Structural similarity", "image", "sample", True),
    ("ms-ssim", "structure:MSSSIM", "Multi-scale structural similarity", "image", "sample", True),
    ("lpips", "perceptual:LPIPS", "Learned perceptual image patch similarity", "image", "sample", False),
    ("dists", "perceptual:DISTS", "Deep image structure and texture similarity (distance)", "image", "sample", False),
    ("mse", "paired:MSE", "Mean squared error", "image", "sample", False),
    ("nmse", "paired:NMSE", "Normalised mean squared error", "image", "sample", False),
    ("sam", "signal:SpectralAngle", "Spectral angle", "image", "sample", False),
    ("rrmse", "signal:RRMSE", "Relative root mean squared error", "signal", "sample", False),
    ("correlation", "signal:Correlation", "Correlation with the clean recording", "signal", "sample", True),
    ("snr-gain", "signal:SNRGain", "Gain in signal-to-noise ratio", "signal", "sample", True),
    ("removed-correlation", "features:RemovedCorrelation", "Correlation of what was removed with what was added", "signal", "sample", True),
    ("probe-miou", "features:ProbeMIoU", "Linear-probe segmentation, mean IoU", "signal", "set", True),
    ("fid", "distribution:FID", "Frechet Inception distance", "distribution", "set", False),
    ("kid", "kernel:KID", "Kernel Inception distance", "distribution", "set", False),
    ("inception-score", "kernel:InceptionScore", "Inception Score", "distribution", "set", True),
    ("fd-digits", "distribution:FDDigits", "Frechet distance on the shipped digits features", "distribution", "set", False),
    ("fd-shapes", "distribution:FDShapes", "Frechet distance on the shipped shapes features", "distribution", "set", False),
    ("kd-digits", "kernel:KDDigits", "Kernel distance on the shipped digits features", "distribution", "set", False),
    ("kd-shapes", "kernel:KDShapes", "Kernel distance on the shipped shapes features", "distribution", "set", False),
    ("precision", "manifold:Precision", "Share of the samples inside the real manifold", "distribution", "set", True),
    ("recall", "manifold:Recall", "Share of the real samples inside the generated manifold", "distribution", "set", True),
    ("density", "manifold:Density", "Mean number of real neighbourhoods around a sample, over k", "distribution", "set", True),
    ("coverage", "manifold:Coverage", "Share of the real neighbourhoods that hold a sample", "distribution", "set", True),
    ("memorisation", "memorisation:Memorisation", "Share of samples that copy a training sample", "distribution", "set", False),
    ("nearest-train-distance", "memorisation:NearestTraining", "Distance to the nearest training sample", "distribution", "set", True),
    ("attribute-accuracy", "attributes:AttributeAccuracy", "Share of the attributes asked for that are shown", "distribution", "sample", True),
    ("caption-match", "attributes:CaptionMatch", "Share of pictures that show everything asked for", "distribution", "sample", True),
    ("sliced-wasserstein", "points:SlicedWasserstein", "Sliced Wasserstein distance", "distribution", "set", False),
    ("mode-coverage", "points:ModeCoverage", "Share of the modes that samples reach", "distribution", "set", True),
    ("w2", "oracle:Wasserstein2", "2-Wasserstein distance", "oracle", "set", False),
    ("oracle-nll", "oracle:OracleNLL", "Distance of the samples' exact NLL from the entropy", "oracle", "set", False),
    ("score-error", "oracle:ScoreError", "Squared error of the score, noise-weighted", "oracle", "sample", False),
    (
        "posterior-mean-error",
        "posterior:PosteriorMeanError",
        "Distance of an estimate from the exact posterior mean",
        "posterior",
        "sample",
        False,
    ),
    ("data-consistency", "posterior:DataConsistency", "Relative residual of the measurement", "posterior", "sample", False),
    (
        "posterior-distance",
        "posterior:PosteriorDistance",
        "Distance of posterior samples from the exact posterior",
        "posterior",
        "sample",
        False,
    ),
    ("posterior-calibration", "posterior:PosteriorCalibration", "Calibration error of posterior samples", "posterior", "set", False),
    ("accuracy", "classify:Accuracy", "Share of correct labels", "classification", "sample", True),
    ("macro-f1", "classify:MacroF1", "Macro-averaged F1", "classification", "set", True),
    ("nll", "classify:NLL", "Negative log-likelihood of the label", "classification", "sample", False),
    ("ece", "classify:ECE", "Expected calibration error", "classification", "set", False),
    ("auroc", "classify:AUROC", "Area under the ROC curve", "classification", "set", True),
    ("certified-accuracy", "classify:CertifiedAccuracy", "Certified accuracy at a radius", "classification", "sample", True),
)
"""Name to what can be said without importing the metric. Titles, levels and directions are asserted equal to the classes' in the tests."""

SPEECH: dict[str, Info] = {
    name: Info(name, ".tasks.metrics.speech:METRICS", title, "speech", higher_is_better=higher)
    for name, title, higher in (
        ("si-sdr", "Scale-invariant signal-to-distortion ratio", True),
        ("stoi", "Short-time objective intelligibility", True),
        ("estoi", "Extended short-time objective intelligibility", True),
        ("pesq", "Perceptual evaluation of speech quality (MOS-LQO)", True),
        ("segsnr", "Segmental signal-to-noise ratio", True),
        ("lsd", "Log-spectral distance", False),
        ("csig", "Composite rating of signal distortion", True),
        ("cbak", "Composite rating of background noise", True),
        ("covl", "Composite rating of overall quality", True),
    )
}
"""Speech metrics, whose classes the speech module lists itself (``METRICS``: name to class)."""


def known() -> list[str]:
    """Return every metric's name, image metrics first."""
    return [*TABLE, *SPEECH]


def info(name: str) -> Info:
    """Return what can be said about a metric without importing it; RequestError with the nearest names when unknown."""
    found = TABLE.get(name) or SPEECH.get(name)
    if found is None:
        raise unknown("metric", name, known())
    return found


def load(name: str) -> type[Metric]:
    """Return the class of metric ``name``."""
    target = info(name).target
    found = load_object(target)
    return found[name] if isinstance(found, dict) else found


def make(name: str, options: Mapping[str, Any] | None = None) -> Metric:
    """Return metric ``name`` with its protocol ``options``; an unknown name or option, or a bad value, is one sentence."""
    cls = load(name)
    options = dict(options or {})
    accepted = list(inspect.signature(cls).parameters)
    for option in options:
        if option not in accepted:
            close = nearest(option, accepted)
            hint = f"did you mean {close[0]}?" if close else f"accepted: {', '.join(accepted) or 'none'}."
            raise RequestError(f"metric {name} has no option {option!r}; {hint}")
    return cls(**options)


def describe(name: str, options: Mapping[str, Any] | None = None) -> str:
    """Return the full protocol of a metric in words: identity, direction, options with their defaults, and the paper it follows."""
    metric = make(name, options)
    cls = type(metric)
    best = "higher is better" if cls.higher_is_better else "lower is better"
    low, high = cls.bounds
    lines = [
        f"{name}: {cls.title}",
        f"  identity   {metric.identity()}",
        f"  level      {'one value per sample' if cls.level == 'sample' else 'one value per set of samples'}; {best}",
    ]
    if cls.unit:
        lines.append(f"  unit       {cls.unit}")
    if (low, high) != (float("-inf"), float("inf")):
        lines.append(f"  range      {low:g} to {high:g}")
    parameters = inspect.signature(cls).parameters.values()
    if parameters:
        lines.append("  options    " + ", ".join(f"{p.name}={p.default!r}" for p in parameters))
    lines.append("  protocol   " + " ".join(cls.protocol.split()))
    if cls.paper:
        lines.append("  paper      " + " ".join(cls.paper.split()))
    if (missing := metric.unavailable()) is not None:
        lines.append(f"  here       unavailable: {missing.because} {missing.remedy}")
    return "\n".join(lines)
