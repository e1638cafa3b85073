"""How fast the metrics are beside the libraries they replace, on the same inputs: ``python benchmarks/metrics.py [--only WORD]``.

Each row is the best of several alternating runs of both sides, and how far their results are apart. Ratios above 1: ours is faster.
Nothing here is a test: times depend on the machine and on what else runs on it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import linalg

from scorebench.tasks.metrics import stand_in
from scorebench.tasks.metrics.base import Reference
from scorebench.tasks.metrics.frechet import Moments, frechet_distance, frechet_from_features
from scorebench.tasks.metrics.manifold import Manifold
from scorebench.tasks.metrics.proofs_sets import cleanfid_distance
from scorebench.tasks.metrics.registry import make
from scorebench.tasks.metrics.resize import bicubic

Side = Callable[[], Any]
Row = tuple[str, str, Side, Side, int]
"""What, beside what, ours, theirs, repetitions."""


def features(n: int, d: int, seed: int) -> np.ndarray:
    """Return correlated feature rows with a decaying spectrum, as networks give."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) * np.linspace(2, 0.05, d)) @ linalg.qr(rng.standard_normal((d, d)), mode="economic")[0] + 0.3


def frechet() -> Iterator[Row]:
    d = 2048
    x, y = features(5000, d, 0), features(5000, d, 1)
    a, b = Moments().add(x), Moments().add(y)
    args = (a.mean, a.cov, b.mean, b.cov)
    yield "Frechet algebra, d = 2048", "clean-fid (scipy sqrtm)", lambda: frechet_distance(*args), lambda: cleanfid_distance(*args), 2
    from torchmetrics.image.fid import _compute_fid

    tensors = [torch.from_numpy(v) for v in args]
    yield "Frechet algebra, d = 2048", "torchmetrics (eigvals)", lambda: frechet_distance(*args), lambda: float(_compute_fid(*tensors)), 1
    few, other = features(500, d, 2), features(500, d, 3)

    def theirs() -> float:
        return cleanfid_distance(few.mean(0), np.cov(few.T), other.mean(0), np.cov(other.T))

    yield "Frechet distance, 500 rows, d = 2048", "clean-fid (scipy sqrtm)", lambda: frechet_from_features(few, other), theirs, 1


def statistics() -> Iterator[Row]:
    x = features(10000, 1024, 0).astype(np.float32)

    def ours() -> float:
        moments = Moments()
        for start in range(0, len(x), 2000):
            moments.add(x[start : start + 2000])
        return float(moments.cov[0, 1])

    yield "mean and covariance, 10,000 x 1,024, by 2,000", "numpy on the whole", ours, lambda: float(np.cov(x.astype(np.float64).T)[0, 1]), 3


def resize() -> Iterator[Row]:
    from cleanfid.resize import build_resizer

    resizer = build_resizer("clean")
    for side in (32, 256, 512):
        pixels = np.random.default_rng(0).integers(0, 256, (16, side, side, 3)).astype(np.uint8)
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()

        def theirs(pixels: np.ndarray = pixels) -> np.ndarray:
            return np.stack([resizer(p) for p in pixels])[0, 150, 150]

        def ours(batch: torch.Tensor = batch) -> np.ndarray:
            return bicubic(batch, (299, 299)).clamp_(0, 255)[0, :, 150, 150].numpy()

        yield f"resize 16 x {side} x {side} to 299 x 299", "clean-fid (PIL)", ours, theirs, 5


def kernel() -> Iterator[Row]:
    from cleanfid import fid

    x, y = features(2000, 512, 0), features(2000, 512, 1)
    metric = make("kid")
    yield (
        "KID, 2,000 x 512",
        "clean-fid (100 subsets of 1,000)",
        lambda: metric.value(x, Reference(y, 2000, "")),
        lambda: fid.kernel_distance(x, y),
        1,
    )


def neighbours() -> Iterator[Row]:
    from sklearn.metrics import pairwise_distances

    x, y = features(4000, 256, 0), features(4000, 256, 1)

    def theirs() -> float:
        radius = np.partition(pairwise_distances(y), 3, axis=1)[:, 3]
        return float((pairwise_distances(x, y) <= radius).any(1).mean())

    metric: Any = make("precision")
    yield "precision, 4,000 x 256", "scikit-learn, whole matrix", lambda: metric.value(x, Reference(Manifold(y, 3), 4000, "")), theirs, 2


def paired() -> Iterator[Row]:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure, structural_similarity_index_measure

    g = torch.Generator().manual_seed(0)
    for c, h, w in ((1, 256, 256), (3, 321, 481)):
        clean = torch.rand(4, c, h, w, generator=g)
        answer = (clean + 0.1 * torch.randn(clean.shape, generator=g)).clamp(0, 1)
        target, shape = {"clean": clean}, f"4 x {c} x {h} x {w}"
        options: dict[str, Any] = {"channel_axis": 0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        pairs = list(zip(clean, answer, strict=True))
        psnr, ssim, ms = make("psnr"), make("ssim"), make("ms-ssim")

        def each(fn: Callable[..., float], pairs: list = pairs, **kwargs: Any) -> np.ndarray:
            # from the same float32 tensors; scikit-image would otherwise compute in float32
            return np.array([fn(b.double().numpy(), a.double().numpy(), **kwargs) for b, a in pairs])

        def ours(metric: Any, answer: torch.Tensor = answer, target: dict = target) -> np.ndarray:
            return metric.per_sample(answer, target).numpy()

        yield f"PSNR, {shape}", "scikit-image", partial(ours, psnr), partial(each, peak_signal_noise_ratio, data_range=1), 5
        yield f"SSIM, {shape}", "scikit-image", partial(ours, ssim), partial(each, structural_similarity, **options), 3
        doubles = (answer.double(), clean.double())

        def theirs(fn: Callable[..., Any], doubles: tuple = doubles) -> np.ndarray:
            return np.asarray(fn(*doubles, data_range=1.0, reduction="none"))

        # torchmetrics takes borders in, so its values are not these; its time is what is compared
        single = structural_similarity_index_measure
        yield f"SSIM, {shape}", "torchmetrics, float64", partial(ours, ssim), partial(theirs, single), 1
        multi = multiscale_structural_similarity_index_measure
        yield f"MS-SSIM, {shape}", "torchmetrics, float64", partial(ours, ms), partial(theirs, multi), 1


def perceptual() -> Iterator[Row]:
    import lpips

    g = torch.Generator().manual_seed(0)
    clean = torch.rand(4, 3, 128, 128, generator=g)
    answer = (clean + 0.1 * torch.randn(clean.shape, generator=g)).clamp(0, 1)
    with tempfile.TemporaryDirectory() as folder, stand_in.backbones(Path(folder), ("alex",)):
        metric, model = make("lpips"), lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)

        def theirs() -> float:
            with torch.no_grad():
                return float(model(answer, clean, normalize=True).sum()) * 0  # random trunk: only the time counts

        yield "LPIPS alex, 4 x 3 x 128 x 128", "lpips", lambda: float(metric.per_sample(answer, {"clean": clean}).sum()) * 0, theirs, 3


def fidelity() -> Iterator[Row]:
    try:
        from torch_fidelity.metric_fid import fid_statistics_to_metric
        from torch_fidelity.metric_kid import kid_features_to_metric
        from torch_fidelity.metric_prc import prc_features_to_metric
    except ImportError:
        print("torch-fidelity is not installed (pip install torch-fidelity): its rows are left out")
        return
    x, y = features(4000, 512, 0), features(4000, 512, 1)
    a, b = Moments().add(x), Moments().add(y)
    sides = [{"mu": m.mean, "sigma": m.cov} for m in (a, b)]
    yield (
        "Frechet algebra, d = 512", "torch-fidelity",
        lambda: frechet_distance(a.mean, a.cov, b.mean, b.cov),
        lambda: fid_statistics_to_metric(*sides, False)["frechet_inception_distance"], 3,
    )  # fmt: skip
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    kid = make("kid")
    yield (
        "KID, 4,000 x 512", "torch-fidelity (100 subsets of 1,000)",
        lambda: kid.value(x, Reference(y, 4000, "")),
        lambda: kid_features_to_metric(*tensors, verbose=False)["kernel_inception_distance_mean"], 1,
    )  # fmt: skip
    precision, recall = make("precision"), make("recall")
    yield (
        "precision and recall, 4,000 x 512", "torch-fidelity",
        lambda: [m.value(x, Reference(Manifold(y, 3), 4000, "")) for m in (precision, recall)],
        lambda: [prc_features_to_metric(*tensors, verbose=False)[k] for k in ("precision", "recall")], 2,
    )  # fmt: skip


def large() -> Iterator[Row]:
    """Precision of 50,000 rows beside 50,000: what counts is the memory, since scikit-learn's whole matrices would take 40 GB."""
    x, y = (np.random.default_rng(s).standard_normal((50_000, 64)).astype(np.float32) for s in (0, 1))
    metric: Any = make("precision")

    def peak() -> int:
        return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1]) // 1024

    def ours() -> float:
        Path("/proc/self/clear_refs").write_text("5")
        before = peak()
        out = metric.value(x, Reference(Manifold(y, 3), len(y), ""))
        print(f"peak memory of precision, 50,000 x 50,000: {peak() - before} MB above {before} MB")
        return out

    yield "precision, 50,000 beside 50,000, d = 64", "(nothing: time and memory)", ours, lambda: 0.0, 1


def labels() -> Iterator[Row]:
    from sklearn import metrics
    from torchmetrics.functional.classification import multiclass_calibration_error

    g = torch.Generator().manual_seed(0)
    logits, label = torch.randn(20000, 10, generator=g), torch.randint(0, 10, (20000,), generator=g)
    p = logits.double().softmax(1).numpy()

    def ours(name: str) -> float:
        metric = make(name)
        return metric.value(metric.features(logits, {"label": label}).numpy())

    area = metrics.roc_auc_score
    yield "AUROC, 20,000 x 10", "scikit-learn", lambda: ours("auroc"), lambda: area(label.numpy(), p, multi_class="ovr"), 2
    score = metrics.f1_score
    top = logits.argmax(1).numpy()
    yield "macro-F1, 20,000 x 10", "scikit-learn", lambda: ours("macro-f1"), lambda: score(label.numpy(), top, average="macro"), 3
    error = multiclass_calibration_error
    yield "ECE, 20,000 x 10", "torchmetrics", lambda: ours("ece"), lambda: float(error(logits, label, num_classes=10)), 3


def seconds(fn: Side) -> tuple[float, Any]:
    """Return how long one call took, and what it returned; with one thread in processor time, which other work disturbs less."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    out = fn()
    return clock() - start, out


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose group has this word in its name")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    groups = (frechet, statistics, resize, kernel, neighbours, fidelity, paired, perceptual, labels, large)
    print(f"{'':48}{'beside':36}{'ours':>10}{'theirs':>10}{'ratio':>8}{'apart':>10}   ({torch.get_num_threads()} threads)")
    for group in groups:
        if args.only not in group.__name__ or (group is large and args.only != "large"):
            continue
        for what, beside, ours, theirs, repeats in group():
            best = [float("inf"), float("inf")]
            values: list[Any] = [None, None]
            if repeats > 1:
                ours(), theirs()  # warm
            for _ in range(repeats):
                for i, side in enumerate((ours, theirs)):
                    took, values[i] = seconds(side)
                    best[i] = min(best[i], took)
            apart = float(np.abs(np.asarray(values[0], dtype=float) - np.asarray(values[1], dtype=float)).max())
            print(f"{what:48}{beside:36}{best[0]:9.4f}s{best[1]:9.4f}s{best[1] / best[0]:8.1f}{apart:10.1e}", flush=True)


if __name__ == "__main__":
    main()
