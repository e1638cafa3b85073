"""Comparisons of the set-level metrics with clean-fid, scikit-learn, SciPy and closed forms."""

from __future__ import annotations

import tempfile
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy import linalg

from ...datasets import registry as datasets
from ...datasets.shapes import Scene
from ...datasets.shapes_captions import attributes
from . import stand_in
from .base import Reference
from .extractors import inception, shipped
from .frechet import Moments, frechet_distance, frechet_from_features
from .manifold import Manifold
from .proof import Proof
from .registry import make
from .resize import bicubic


@lru_cache(maxsize=4)
def correlated(n: int = 700, d: int = 48, shift: float = 0.3, seed: int = 0) -> np.ndarray:
    """Return n rows of d correlated, shifted, heavy-tailed features."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((d, d)) / np.sqrt(d)
    return (rng.standard_t(6, (n, d)) @ mix + shift * rng.standard_normal(d)).astype(np.float32)


@lru_cache(maxsize=4)
def digits(split: str) -> torch.Tensor:
    """Return the images of a digits split, (N, 1, 8, 8)."""
    dataset = datasets.get("digits")
    return torch.stack([torch.as_tensor(dataset.sample(split, i)["image"]) for i in dataset.ids(split)])


@lru_cache(maxsize=4)
def digit_features(split: str) -> np.ndarray:
    """Return their fd-digits features."""
    return shipped("digits")(digits(split)).numpy()


@lru_cache(maxsize=2)
def tiles(n: int = 24, side: int = 64) -> torch.Tensor:
    """Return tiles of photographs as float images holding 8-bit values, (n, 3, side, side)."""
    from skimage import data

    photo = torch.from_numpy(np.concatenate([data.astronaut(), data.coffee()[:, :512].repeat(2, 0)[:512]])).permute(2, 0, 1)
    places = torch.randint(0, 440, (n, 2), generator=torch.Generator().manual_seed(2)).tolist()
    return torch.stack([photo[:, 2 * y : 2 * y + side, x : x + side] for y, x in places]).float() / 255


def cleanfid_distance(m1: np.ndarray, c1: np.ndarray, m2: np.ndarray, c2: np.ndarray) -> float:
    """Return clean-fid's own frechet_distance; its call of sqrtm(disp=False) is served, since new SciPy dropped that argument."""
    from cleanfid import fid

    def sqrtm(matrix: np.ndarray, disp: bool = True) -> Any:
        root = linalg.sqrtm(matrix)
        return root if disp else (root, 0.0)

    with mock.patch.object(fid, "linalg", mock.Mock(sqrtm=sqrtm)):
        return float(fid.frechet_distance(m1, c1, m2, c2))


def stats(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance as clean-fid computes them."""
    return np.mean(x.astype(np.float64), axis=0), np.cov(x.astype(np.float64), rowvar=False)


def relative(ours: float, theirs: float) -> float:
    """Return the relative difference."""
    return abs(ours - theirs) / abs(theirs)


def frechet_cleanfid(x: np.ndarray, y: np.ndarray) -> float:
    return relative(frechet_from_features(x, y), cleanfid_distance(*stats(x), *stats(y)))


def frechet_closed() -> float:
    """Commuting covariances: |m|^2 + sum (s1 - s2)^2; a set with itself: 0; a known non-commuting pair in two dimensions."""
    rng = np.random.default_rng(1)
    q, _ = np.linalg.qr(rng.standard_normal((20, 20)))
    s1, s2, m = rng.uniform(0.1, 2, 20), rng.uniform(0.1, 2, 20), rng.standard_normal(20)
    exact = float((m**2).sum() + ((s1 - s2) ** 2).sum())
    found = frechet_distance(np.zeros(20), q * s1**2 @ q.T, m, q * s2**2 @ q.T)
    # 2 x 2: tr (AB)^1/2 = sqrt(tr AB + 2 sqrt det AB)
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 3.0]])
    flat = float(np.trace(a) + np.trace(b) - 2 * np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b))))
    zero = np.zeros(2)
    same = frechet_from_features(correlated(), correlated())
    return max(abs(found - exact), abs(frechet_distance(zero, a, zero, b) - flat), same)


def frechet_merged() -> float:
    """Moments merged from uneven parts equal those of numpy on the whole, also far from the origin."""
    x = correlated().astype(np.float64) + 1000
    merged = Moments()
    for part in np.split(x, [1, 4, 400]):
        merged.merge(Moments().add(part))
    return max(float(np.abs(merged.mean - x.mean(0)).max()), float(np.abs(merged.cov - np.cov(x.T)).max()))


def resize_pil(to: int) -> float:
    """Return the largest difference from PIL, in grey levels, shrinking and growing, of float images in 0 ... 255."""
    from cleanfid.resize import make_resizer

    resizer = make_resizer("PIL", False, "bicubic", (to, to))
    worst = 0.0
    for h, w in ((64, 64), (32, 32), (480, 321), (299, 299), (513, 640)):
        image = torch.from_numpy(np.random.default_rng(h).integers(0, 256, (1, 3, h, w))).float()
        theirs = resizer(image[0].permute(1, 2, 0).numpy())
        mine = bicubic(image, (to, to)).clamp(0, 255)[0].permute(1, 2, 0).numpy()
        worst = max(worst, float(np.abs(mine - theirs).max()))
    return worst


def features_cleanfid(mode: str) -> float:
    """The whole path of fid on a stand-in file: rounding, resizing, scaling and layers, beside clean-fid's own classes."""
    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.resize import build_resizer

    with tempfile.TemporaryDirectory() as folder:
        path = stand_in.inception_file(Path(folder))
        theirs = InceptionV3W(folder, download=False, resize_inside=mode == "legacy")
        mine = inception("stand-in", path, mode)(tiles())
        resize = build_resizer("clean" if mode == "clean" else "legacy_tensorflow")
        pixels = (tiles() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        batch = torch.stack([torch.from_numpy(np.asarray(resize(p), dtype=np.float32)).permute(2, 0, 1) for p in pixels])
        with torch.no_grad():
            return float((mine - theirs(batch)).abs().max() / mine.abs().max())


def fid_cleanfid() -> float:
    """fid's value on stand-in features, fewer samples than dimensions, beside clean-fid's distance."""
    with tempfile.TemporaryDirectory() as folder:
        path = stand_in.inception_file(Path(folder), d=64, name="own.pt")
        metric = make("fid", {"weights": str(path)})
        x, y = tiles(), tiles(24, 48)
        reference = metric.reference([{"answer": y[:10]}, {"answer": y[10:]}])
        fx, fy = (metric.features(v, {}).numpy() for v in (x, y))
        return relative(metric.value(fx, reference), cleanfid_distance(*stats(fx), *stats(fy)))


def kid_cleanfid() -> float:
    """clean-fid's estimate with one subset that holds the whole set."""
    from cleanfid import fid

    x, y = correlated(300).astype(np.float64), correlated(300, seed=1).astype(np.float64)
    theirs = fid.kernel_distance(x, y, num_subsets=1, max_subset_size=300)
    return abs(make("kid").value(x, Reference(y, 300, "")) - theirs)


def kid_closed() -> float:
    """Equal sets: 0 after the bias of the U-statistic is put back; two points a side by hand."""
    x = correlated(50)
    k = (x.astype(np.float64) @ x.T / x.shape[1] + 1) ** 3
    n = len(x)
    expected = 2 * (k.sum() - np.trace(k)) / (n * (n - 1)) - 2 * k.mean()
    a, b = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    by_hand = 1.0 + 27.0 - 2 * (1 + 1 + 8 + 27) / 4  # k(0,1) = 1, k(1,2) = 27; cross: k(0,1), k(0,2), k(1,1), k(1,2)
    metric = make("kid")
    return max(abs(metric.value(x, Reference(x, n, "")) - expected), abs(metric.value(a, Reference(b, 2, "")) - by_hand))


def score_closed() -> float:
    """Certain predictions spread over K classes score K; equal predictions score 1."""
    metric = make("inception-score", {"splits": 2})
    certain = np.tile(np.eye(8), (10, 1))
    return max(abs(metric.value(certain) - 8), abs(metric.value(np.full((40, 8), 1 / 8)) - 1))


def score_torchmetrics() -> float:
    """torchmetrics' formula from logits, one split (it shuffles before it splits)."""
    from torchmetrics.image.inception import InceptionScore

    logits = torch.randn(200, 30, generator=torch.Generator().manual_seed(0)) * 2

    class Given(torch.nn.Module):
        num_features = 30

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return logits

    theirs = InceptionScore(feature=Given(), splits=1)
    theirs.update(torch.zeros(200, 3, 8, 8, dtype=torch.uint8))
    mean, _ = theirs.compute()
    return abs(make("inception-score", {"splits": 1}).value(logits.double().softmax(1).numpy()) - float(mean))


def neighbours_sklearn(name: str) -> float:
    """The definitions, written out on scikit-learn's nearest neighbours and full distance matrices, on digits features."""
    from sklearn.metrics import pairwise_distances
    from sklearn.neighbors import NearestNeighbors

    real, fake = digit_features("test").astype(np.float64), digit_features("dev").astype(np.float64)
    metric: Any = make(name, {"on": "digits"})

    def radius(rows: np.ndarray) -> np.ndarray:
        return NearestNeighbors(n_neighbors=metric.k + 1).fit(rows).kneighbors(rows)[0][:, -1]

    between = pairwise_distances(real, fake)
    held = between <= radius(real)[:, None]
    theirs = {
        "precision": held.any(0).mean(),
        "recall": (between <= radius(fake)[None]).any(1).mean(),
        "density": held.sum() / (metric.k * len(fake)),
        "coverage": (between.min(1) <= radius(real)).mean(),
    }[name]
    return abs(metric.value(fake, Reference(Manifold(real, metric.k), len(real), "")) - float(theirs))


def fd_digits() -> float:
    """The metric's whole path on digits, train against test."""
    metric = make("fd-digits")
    found = metric.value(metric.features(digits("train"), {}).numpy(), metric.reference([{"answer": digits("test")}]))
    return relative(found, cleanfid_distance(*stats(digit_features("train")), *stats(digit_features("test"))))


def fd_shapes() -> float:
    """The metric's whole path on scenes of dev against test, in uneven batches."""
    dataset = datasets.get("shapes")
    a, b = (torch.stack([torch.as_tensor(dataset.sample(s, i)["image"]) for i in dataset.ids(s)[:200]]) for s in ("dev", "test"))
    metric = make("fd-shapes")
    found = metric.value(metric.features(a, {}).numpy(), metric.reference([{"answer": b[:150]}, {"answer": b[150:]}]))
    return relative(found, cleanfid_distance(*(v for x in (a, b) for v in stats(shipped("shapes")(x).numpy()))))


def kernel_cleanfid(name: str) -> float:
    """The metric's whole path beside clean-fid's estimate with one subset of all, on rows standardised here; sets of one size."""
    from cleanfid import fid

    dataset = datasets.get(name)
    a, b = (torch.stack([torch.as_tensor(dataset.sample(s, i)["image"]) for i in dataset.ids(s)[:160]]) for s in ("dev", "test"))
    metric = make(f"kd-{name}")
    found = metric.value(metric.features(a, {}).numpy(), metric.reference([{"answer": b[:100]}, {"answer": b[100:]}]))
    x, y = (shipped(name)(v).double().numpy() for v in (a, b))
    rms = np.sqrt(np.trace(np.cov(y.T, bias=True)) / y.shape[1])
    return abs(found - fid.kernel_distance((x - y.mean(0)) / rms, (y - y.mean(0)) / rms, num_subsets=1, max_subset_size=160))


def attributes_relabelled() -> float:
    """Clean scenes, asked for by the captions of other scenes: the share of equal attributes, counted word by word from the scenes."""
    dataset = datasets.get("shapes")
    rows = [dataset.sample("dev", i) for i in dataset.ids("dev")[:120]]
    asked = rows[1:] + rows[:1]
    answer = torch.stack([torch.as_tensor(r["image"]) for r in rows])
    target = {"attributes": torch.tensor([attributes(r["scene"]) for r in asked])}

    def facts(scene: Scene) -> dict[str, object]:
        out: dict[str, object] = {"ground": scene.background, "count": len(scene.things), "side": scene.relation()}
        for k, thing in enumerate(scene.things):
            out |= {f"{what}{k}": getattr(thing, what) for what in ("kind", "colour", "size")}
        return {k: v for k, v in out.items() if v is not None}

    pairs = [(facts(a["scene"]), facts(r["scene"])) for a, r in zip(asked, rows, strict=True)]
    share = [sum(shown.get(k) == v for k, v in wanted.items()) / len(wanted) for wanted, shown in pairs]
    whole = [float(all(shown.get(k) == v for k, v in wanted.items())) for wanted, shown in pairs]
    found = (make(n).per_sample(answer, target).numpy() for n in ("attribute-accuracy", "caption-match"))
    return max(float(np.abs(f - np.array(s)).max()) for f, s in zip(found, (share, whole), strict=True))


def copies_sklearn(name: str) -> float:
    """The definition on scikit-learn's neighbours; half of the samples are near-copies of training digits."""
    from sklearn.neighbors import NearestNeighbors

    train = digits("train").flatten(1).double()
    fake = torch.cat([digits("dev").flatten(1).double(), train[:150] + 0.01]).numpy()
    near = NearestNeighbors(n_neighbors=2).fit(train.numpy()).kneighbors(fake)[0]
    theirs = (near[:, 0] < near[:, 1] / 3).mean() if name == "memorisation" else near[:, 0].mean() / 8
    metric = make(name)
    return abs(metric.value(fake, metric.reference([{"answer": train}])) - float(theirs))


def coverage_closed() -> float:
    """Distant clusters of k + 1 equal pairs: covered where a sample lies in one, and nowhere else."""
    real = np.repeat(np.arange(5.0) * 100, 6)[:, None] + np.tile(np.arange(6.0), 5)[:, None]
    fake = np.array([[2.0], [3.0], [202.0], [1000.0]])
    reference = Reference(Manifold(real, 5), 30, "")
    options = {"on": "digits"}
    found = [make(n, {**options, "k": 5}).value(fake, reference) for n in ("precision", "density", "coverage")]
    # the sample 2 lies in the balls of all six points of its cluster (radius 5, 4, 3, 3, 4, 5), so does 3; 202 likewise; 1000 in none
    return float(np.abs(np.array(found) - [3 / 4, 18 / (5 * 4), 12 / 30]).max())


PROOFS = [
    Proof(
        "fid",
        "clean-fid's distance, relative",
        "correlated features, 700 x 48",
        1e-8,
        lambda: frechet_cleanfid(correlated(), correlated(seed=1)),
    ),
    Proof("fid", "clean-fid's distance, relative", "stand-in features, 24 x 64, both rank-deficient", 1e-4, fid_cleanfid),
    Proof("fid", "closed form", "commuting and 2 x 2 covariances; equal sets", 1e-9, frechet_closed),
    Proof("fid", "numpy mean and cov", "moments merged from uneven parts", 1e-8, frechet_merged),
    Proof("fid", "clean-fid's PIL resize, grey levels", "to 299 x 299", 0.01, lambda: resize_pil(299)),
    Proof("fid", "clean-fid's PIL resize, grey levels", "to 100 x 100", 0.01, lambda: resize_pil(100)),
    Proof("fid", "clean-fid's network class, relative", "photograph tiles, stand-in file, clean", 1e-5, lambda: features_cleanfid("clean")),
    Proof("fid", "clean-fid's network class, relative", "photograph tiles, stand-in file, legacy", 1e-5, lambda: features_cleanfid("legacy")),
    Proof("kid", "clean-fid, one subset of all", "correlated features, 300 x 48", 1e-9, kid_cleanfid),
    Proof("kid", "closed form", "equal sets; two points a side", 1e-9, kid_closed),
    Proof("inception-score", "torchmetrics, one split", "random logits", 1e-4, score_torchmetrics),
    Proof("inception-score", "closed form", "certain and equal predictions", 1e-9, score_closed),
    *(
        Proof(n, "scikit-learn neighbours", "digits features, dev against test", 1e-12, partial(neighbours_sklearn, n))
        for n in ("precision", "recall", "density", "coverage")
    ),
    Proof("fd-digits", "clean-fid's distance, relative", "digits, train against test", 1e-8, fd_digits),
    Proof("fd-shapes", "clean-fid's distance, relative", "scenes, dev against test", 1e-8, fd_shapes),
    *(
        Proof(f"kd-{n}", "clean-fid, one subset of all", "standardised features, dev against test", 1e-9, partial(kernel_cleanfid, n))
        for n in ("digits", "shapes")
    ),
    *(
        Proof(n, "counted from the scenes", "clean scenes under each other's captions", 1e-12, attributes_relabelled)
        for n in ("attribute-accuracy", "caption-match")
    ),
    Proof("memorisation", "scikit-learn neighbours", "digits, half of them near-copies", 1e-9, lambda: copies_sklearn("memorisation")),
    Proof(
        "nearest-train-distance",
        "scikit-learn neighbours",
        "digits, half of them near-copies",
        1e-6,
        lambda: copies_sklearn("nearest-train-distance"),
    ),
    Proof("coverage", "closed form (also precision, density)", "clusters on a line", 1e-12, coverage_closed),
]
