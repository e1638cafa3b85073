"""BM3D: its transforms against their definitions, block matching against a search by brute force, and what it does to pictures."""

import numpy as np
import pytest
import torch

from scorebench.baselines.denoising import bm3d as module
from scorebench.baselines.denoising.bm3d import BM3D, PROFILES, Step, bm3d
from scorebench.baselines.denoising.collaborative import Aggregate, grid, haar, nearest, pixel_distances, spectra, spectral_distances, transform
from scorebench.baselines.denoising.nlm import NonLocalMeans
from scorebench.configs.errors import RequestError
from scorebench.tasks import registry
from scorebench.tasks.randomness import Rng, keyed
from scorebench.tasks.requests import Request, Returns

SIGMA = 25 / 255


def picture(size: int = 64) -> np.ndarray:
    """A crop of an embedded photograph, (1, size, size) float64."""
    task = registry.get("denoising/photos-gaussian25")
    return task.observe("test", task.ids()[0]).target["clean"].numpy().astype(np.float64)[:, :size, :size]


def noisy(clean: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    return clean + keyed("bm3d").normal(0, sigma, clean.shape)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


# ---------------------------------------------------------------------- transforms
def lifted(x: np.ndarray) -> list[float]:
    """Bior 1.5 by lifting, another route to the same wavelet: Haar's differences, then the means corrected by their neighbours' differences."""
    if len(x) == 1:
        return [float(x[0])]
    a, d = (x[0::2] + x[1::2]) / np.sqrt(2), (x[0::2] - x[1::2]) / np.sqrt(2)
    a = a + (3 * np.roll(d, 2) - 22 * np.roll(d, 1) + 22 * np.roll(d, -1) - 3 * np.roll(d, -2)) / 128
    return [*lifted(a), *d]


def test_bior15_is_the_lifted_wavelet_with_rows_of_norm_one():
    expected = np.stack([lifted(e) for e in np.eye(8)], axis=1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    forward, inverse = transform("bior1.5", 8)
    assert np.allclose(forward, expected, atol=1e-12)
    assert np.allclose(inverse @ forward, np.eye(8), atol=1e-12)
    assert np.allclose(forward[1:].sum(1), 0, atol=1e-12)  # all but the mean ignore a constant


@pytest.mark.parametrize("n", [8, 11, 12])
def test_dct_is_its_definition(n):
    k, i = np.arange(n)[:, None], np.arange(n)
    expected = np.sqrt(2 / n) * np.cos(np.pi * (2 * i + 1) * k / (2 * n))
    expected[0] = np.sqrt(1 / n)
    assert np.allclose(transform("dct", n)[0], expected)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32])
def test_haar_is_orthonormal_undone_and_begins_with_the_mean(size):
    matrix = haar(np.eye(size)[None])[0]
    assert np.allclose(matrix @ matrix.T, np.eye(size))
    assert np.allclose(matrix[0], size**-0.5)
    x = keyed("haar", size).normal(0, 1, (3, size, 5))
    assert np.allclose(haar(x), np.einsum("ij,gjm->gim", matrix, x))
    assert np.allclose(haar(haar(x), back=True), x)


def test_spectra_are_those_of_each_block():
    image, (forward, _) = keyed("s").random((13, 17)), transform("bior1.5", 8)
    out = spectra(image, forward).reshape(6, 10, 8, 8)
    assert np.allclose(out[4, 7], forward @ image[4:12, 7:15] @ forward.T)


# ---------------------------------------------------------------------- block matching
def brute(image: np.ndarray, y: int, x: int, n: int, reach: int) -> dict[int, float]:
    h, w = image.shape[0] - n + 1, image.shape[1] - n + 1
    own = image[y : y + n, x : x + n]
    return {
        r * w + c: float(((own - image[r : r + n, c : c + n]) ** 2).sum())
        for r in range(max(0, y - reach), min(h, y + reach + 1))
        for c in range(max(0, x - reach), min(w, x + reach + 1))
    }


@pytest.mark.parametrize("n", [5, 8, 11])
def test_groups_are_the_nearest_blocks_found_by_brute_force(n):
    image, reach, most = keyed("match", n).random((26, 31)), 6, 8
    rows, cols = grid(26 - n + 1, 4), grid(31 - n + 1, 4)
    width, limit = 31 - n + 1, n * n / 6.5
    seen, sizes = [], set()
    for group in nearest(pixel_distances(image, rows, cols, n, reach), rows, cols, width, reach, most, limit):
        for members in group:
            found = brute(image, *divmod(int(members[0]), width), n, reach)
            ranked = sorted((k for k in found if found[k] <= limit), key=found.__getitem__)
            size = 1 << (min(len(ranked), most).bit_length() - 1)
            assert members.tolist() == ranked[:size]
            seen.append(members[0])
            sizes.add(size)
    assert sorted(seen) == sorted(int(r * width + c) for r in rows for c in cols)
    assert len(sizes) > 1, "the limit of this test should bind for some groups"


def test_spectral_distances_are_pixel_distances_where_nothing_was_cut():
    image, rows, cols = keyed("d").random((30, 33)), grid(19, 4), grid(22, 4)
    whole = spectra(image, transform("dct", 12)[0])
    a, b = pixel_distances(image, rows, cols, 12, 5), spectral_distances(whole, (19, 22), rows, cols, 5)
    assert np.array_equal(np.isinf(a), np.isinf(b))
    assert np.allclose(a[np.isfinite(a)], b[np.isfinite(b)])


def test_the_grid_reaches_the_last_position():
    assert grid(11, 3).tolist() == [0, 3, 6, 9, 10] and grid(1, 3).tolist() == [0]


def test_unfiltered_blocks_aggregate_to_the_picture():
    image, (forward, inverse) = keyed("a").random((20, 23)), transform("bior1.5", 8)
    taper = np.kaiser(8, 2.0)
    sums = Aggregate(image.shape, inverse, np.outer(taper, taper), image.dtype)
    spectrum = spectra(image, forward)
    for place in (np.arange(len(spectrum)).reshape(-1, 4), np.array([[3, 3, 17, 40]])):
        sums.add(place, spectrum[place], keyed("w").random(len(place)) + 0.1)
    above, below = sums.result()
    assert np.allclose(above / below, image)


# ---------------------------------------------------------------------- one group, from the equations
def test_shrinkage_follows_the_equations():
    sigma, noise = 0.2, keyed("g").normal(0, 0.3, (2, 4, 9))
    hard = Step("dct", 3, 4, 1, 0, lambda3D=2.7)
    matrix = haar(np.eye(4)[None])[0]
    estimate, weight = module._shrink(noise, None, sigma, hard)
    for g in range(2):
        y = matrix @ noise[g]
        y[np.abs(y) < 2.7 * sigma] = 0
        assert np.allclose(estimate[g], matrix.T @ y)
        assert weight[g] == pytest.approx(1 / max(1, np.count_nonzero(y)))
    basic = keyed("b").normal(0, 0.3, (2, 4, 9))
    estimate, weight = module._shrink(noise, basic, sigma, hard)
    for g in range(2):
        wiener = (matrix @ basic[g]) ** 2 / ((matrix @ basic[g]) ** 2 + sigma**2)
        assert np.allclose(estimate[g], matrix.T @ (wiener * (matrix @ noise[g])), atol=1e-6)
        assert weight[g] == pytest.approx(1 / (wiener**2).sum(), rel=1e-5)


# ---------------------------------------------------------------------- pictures
@pytest.mark.parametrize(("profile", "level"), [("normal", 25), ("normal", 50), ("release", 50)])
def test_bm3d_is_above_nlm(profile, level):
    clean = picture()
    seen = noisy(clean, level / 255)
    other = NonLocalMeans(strength=0.6 if level == 25 else 0.5, patch=7, reach=8).filtered(seen, level / 255)
    assert psnr(BM3D(profile).filtered(seen, level / 255), clean) > psnr(other, clean) + 0.1


def test_the_second_step_helps():
    clean = picture()
    planes = noisy(clean).astype(np.float32)
    basic = module._filter(planes, None, SIGMA, PROFILES["normal"][0][0], 1.0)
    assert psnr(bm3d(planes, SIGMA, PROFILES["normal"][0]), clean) > psnr(basic, clean) + 0.1


def test_colour_is_grouped_by_luminance_and_gains_over_channels_alone():
    clean = picture(48) * np.array([0.9, 0.8, 0.7])[:, None, None]  # channels that agree, as those of photographs do
    seen = noisy(clean)
    alone = np.concatenate([BM3D().filtered(plane[None], SIGMA) for plane in seen])
    assert psnr(BM3D().filtered(seen, SIGMA), clean) > psnr(alone, clean) + 0.5


def test_a_grey_picture_in_colour_has_the_grey_estimate():
    grey, sigma = noisy(picture(40), 20 / 255), 20 / 255
    colour = BM3D().filtered(np.repeat(grey, 3, 0), np.sqrt(3) * sigma)  # R + G + B over sqrt(3) is grey, and its noise, times sqrt(3)
    assert np.allclose(colour, colour.mean(0), atol=1e-5)
    difference = np.abs(colour[0] - BM3D().filtered(grey, sigma)[0])
    assert np.median(difference) < 1e-5 and difference.mean() < 1e-3  # rounding moves single coefficients across the threshold


def test_strips_change_nothing(monkeypatch):
    seen = noisy(picture(48))
    whole = BM3D().filtered(seen, SIGMA)
    monkeypatch.setattr(module, "STRIP", 48 * 24)
    strips = BM3D().filtered(seen, SIGMA)
    assert np.median(np.abs(strips - whole)) < 1e-6 and np.abs(strips - whole).mean() < 1e-4


def test_batches_and_repetition_change_no_bit():
    seen = torch.from_numpy(np.stack([noisy(picture(32)), noisy(picture(32))[:, ::-1].copy()]).astype(np.float32))

    def ask(x: torch.Tensor) -> torch.Tensor:
        given = {"noisy": x, "noise_model": "gaussian", "noise_level": SIGMA}
        return BM3D().denoise(Request("denoise", given, n=len(x), rng=Rng(range(len(x))), returns=Returns("image")))

    both = ask(seen)
    assert torch.equal(both, ask(seen)) and torch.equal(both[1:], ask(seen[1:]))
    assert both.dtype == torch.float32 and both.shape == seen.shape


@pytest.mark.parametrize("shape", [(1, 5, 9), (1, 8, 8), (3, 13, 40)])
@pytest.mark.parametrize("level", [25, 50])
def test_small_and_flat_pictures(shape, level):
    flat = np.full(shape, 0.5)
    assert np.allclose(BM3D().filtered(flat, level / 255), flat, atol=1e-3)  # Wiener's factors shrink the mean too, a little
    out = BM3D("release").filtered(noisy(flat), level / 255)
    assert out.shape == shape and np.abs(out - flat).mean() < 0.5 * SIGMA


def test_without_noise_next_to_nothing_changes():
    clean = picture()
    assert np.abs(BM3D().filtered(clean, 1e-6) - clean).max() < 1e-4
    assert BM3D().filtered(clean, 0.0) is clean


def test_an_unknown_profile_is_one_sentence():
    with pytest.raises(RequestError, match="normal, release"):
        BM3D("best")
