"""The procedural datasets against what they claim: densities, posteriors, phantoms, scenes, pages."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scorebench.datasets import pages, phantom, registry, shapes
from scorebench.datasets.shapes_reader import read


def test_digits_are_scikit_learns_and_the_split_is_stratified() -> None:
    from sklearn.datasets import load_digits

    digits, reference = registry.get("digits"), load_digits()
    ids = {s: digits.ids(s) for s in digits.splits}
    assert sorted(i for part in ids.values() for i in part) == [f"{i:04d}" for i in range(1797)]
    for split, share in {"train": 0.6, "dev": 0.1, "test": 0.3}.items():
        labels = [digits.sample(split, i)["label"] for i in ids[split]]
        assert np.abs(np.bincount(labels, minlength=10) / np.bincount(reference.target) - share).max() < 0.01
        assert abs(len(labels) / 1797 - share) < 0.01
    for i in (0, 17, 1796):
        split = next(s for s in ids if f"{i:04d}" in ids[s])
        sample = digits.sample(split, f"{i:04d}")
        assert np.array_equal(sample["image"][0] * 16, reference.images[i]) and sample["label"] == reference.target[i]


@pytest.mark.parametrize("name", ["gmm2d", "gmm2d-uneven"])
def test_mixture_density_and_score(name: str) -> None:
    mixture = registry.get(name)
    points = np.random.default_rng(0).normal(0, 2, (50, 2))
    density = sum(
        w * stats.multivariate_normal(m, c).pdf(points)
        for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    )
    assert np.allclose(mixture.log_density(points), np.log(density), atol=1e-10)
    step = 1e-5
    numeric = np.stack(
        [(mixture.log_density(points + d) - mixture.log_density(points - d)) / (2 * step) for d in step * np.eye(2)], axis=1
    )
    assert np.allclose(mixture.score(points), numeric, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["gmm2d", "gmm2d-uneven"])
def test_mixture_draws_have_its_moments(name: str) -> None:
    mixture = registry.get(name)
    x, mode = mixture.draw(40000, "a test")
    assert np.abs(np.bincount(mode, minlength=len(mixture.weights)) / 40000 - mixture.weights).max() < 0.01
    mean = mixture.weights @ mixture.means
    spread = mixture.means - mean
    covariance = np.einsum("k,kij->ij", mixture.weights, mixture.covariances) + np.einsum("k,ki,kj->ij", mixture.weights, spread, spread)
    assert np.abs(x.mean(0) - mean).max() < 0.04 and np.abs(np.cov(x.T) - covariance).max() < 0.05
    assert not np.array_equal(mixture.draw(10, "a")[0], mixture.draw(10, "b")[0])


def test_gaussian_field_has_its_covariance_and_spectrum() -> None:
    field = registry.get("gauss-lin")
    x = np.stack([field.sample("train", i)["image"].ravel() for i in field.ids("train")]).astype(float)
    c = field.covariance
    assert np.allclose(c, c.T) and np.linalg.eigvalsh(c).min() > 1e-4 and np.allclose(np.diag(c), 0.15**2)
    assert np.abs(np.cov(x.T) - c).max() < 5 * 0.15**2 * np.sqrt(2 / len(x))
    whitened = (x - field.mean) @ np.linalg.inv(np.linalg.cholesky(c)).T
    assert stats.kstest(whitened.ravel()[:20000], "norm").pvalue > 0.001


def test_gaussian_posterior_is_bayes_rule() -> None:
    field, rng = registry.get("gauss-lin"), np.random.default_rng(1)
    a, sigma = rng.normal(size=(20, 64)), 0.3
    y = rng.normal(size=20)
    mean, covariance = field.posterior(a, y, sigma)
    precision = np.linalg.inv(field.covariance) + a.T @ a / sigma**2  # information form: independent of the gain form used
    expected = np.linalg.solve(precision, np.linalg.solve(field.covariance, field.mean) + a.T @ y / sigma**2)
    assert np.allclose(mean, expected, atol=1e-8) and np.allclose(covariance, np.linalg.inv(precision), atol=1e-8)


def test_shepp_logan_agrees_with_scikit_image() -> None:
    from skimage.data import shepp_logan_phantom
    from skimage.transform import resize

    ours = registry.get("phantom").sample("test", "shepp-logan")["image"][0]
    theirs = resize(shepp_logan_phantom(), (64, 64), anti_aliasing=True)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.98 and np.abs(ours - theirs).mean() < 0.015


def test_an_ellipse_has_its_area_and_nothing_leaves_the_circle() -> None:
    disc = phantom.draw(((1.0, 0.5, 0.25, 0.1, -0.2, 30.0),), side=64, sub=8)
    assert disc.sum() / 64**2 * 4 == pytest.approx(np.pi * 0.5 * 0.25, rel=2e-3)
    rows, columns = np.nonzero(disc > 0.5)
    assert columns.mean() == pytest.approx(63 / 2 + 0.1 * 32, abs=0.1) and rows.mean() == pytest.approx(63 / 2 + 0.2 * 32, abs=0.1)
    data = registry.get("phantom")
    y, x = np.mgrid[:64, :64] - 31.5
    for i in data.ids("test"):
        assert data.sample("test", i)["image"][0][y**2 + x**2 > 32**2].max() == 0


EVERY = [pytest.param(split, None, marks=pytest.mark.slow) for split in ("train", "dev", "test")]


@pytest.mark.parametrize(("split", "count"), [("test", 300), *EVERY])
def test_the_reader_is_exact_on_every_clean_scene(split: str, count: int | None) -> None:
    data = registry.get("shapes")
    for i in data.ids(split)[:count]:
        sample = data.sample(split, i)
        reading = read(sample["image"])
        assert reading.scene == sample["scene"] and reading.error < 1e-6


def test_the_reader_is_unmoved_by_small_noise_and_notices_garbage() -> None:
    data, rng = registry.get("shapes"), np.random.default_rng(0)
    samples = [data.sample("dev", i) for i in data.ids("dev")[:150]]
    for s in samples:
        assert read(s["image"] + rng.normal(0, 0.05, s["image"].shape)).scene == s["scene"]
    assert read(rng.random((3, 32, 32))).error > 0.2
    blank = read(np.full((3, 32, 32), 24 / 255))
    assert blank.scene.things == () and blank.error < 0.02


def test_every_template_is_read_back_at_every_place_and_colour() -> None:
    rng = np.random.default_rng(3)
    for kind in shapes.KINDS:
        for size, half in shapes.SIZES.items():
            for colour in shapes.COLOURS:
                for background in shapes.BACKGROUNDS:
                    x, y = rng.integers(half, 32 - half, 2).tolist()
                    scene = shapes.Scene(background, (shapes.Thing(kind, colour, size, x, y),))
                    assert read(np.moveaxis(shapes.render(scene), -1, 0) / 255).scene == scene


def test_scenes_agree_with_their_annotations() -> None:
    data = registry.get("shapes")
    for i in data.ids("dev")[:200]:
        s = data.sample("dev", i)
        scene: shapes.Scene = s["scene"]
        assert s["label"] == shapes.KINDS.index(scene.things[0].kind)
        assert set(s["caption"].split()) <= set(shapes.WORDS)
        assert set(np.unique(s["masks"])) == set(range(len(scene.things) + 1))
        assert s["boxes"].shape == (len(scene.things), 4)
        for number, (thing, box) in enumerate(zip(scene.things, s["boxes"], strict=True), 1):
            assert thing.kind in s["caption"] and thing.colour in s["caption"]
            left, top, right, bottom = box.astype(int)
            inside = s["masks"] == number
            assert inside[top:bottom, left:right].sum() == inside.sum()
            colour = s["image"][:, thing.y, thing.x] * 255
            assert np.allclose(colour, shapes.COLOURS[thing.colour], atol=1) or thing.kind == "triangle"
        if len(scene.things) == 2:
            assert shapes.SIZES[scene.things[0].size] > shapes.SIZES[scene.things[1].size]


def test_no_test_scene_occurs_in_training() -> None:
    data = registry.get("shapes")
    train = {data.sample("train", i)["scene"] for i in data.ids("train")[:3000]}
    assert not train & {data.sample("test", i)["scene"] for i in data.ids("test")}


def test_pages_of_different_splits_share_no_sentence() -> None:
    stocks = [set(pages.sentences(s)) for s in ("train", "dev", "test")]
    assert not (stocks[0] & stocks[1] or stocks[0] & stocks[2] or stocks[1] & stocks[2])
    assert sum(map(len, stocks)) == len(set(pages.SENTENCES))


def test_pages_hold_ink_on_white_and_the_text_they_say() -> None:
    data = registry.get("pages")
    for i in data.ids("test"):
        s = data.sample("test", i)
        assert s["image"].shape == (1, 160, 256) and s["image"].max() == 1
        assert 0.02 < (s["image"] < 0.5).mean() < 0.5
        assert len(s["text"].splitlines()) >= 4
