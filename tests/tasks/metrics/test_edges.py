"""Constant images, single samples, NaN, 8-bit input, wrong shapes; and cutting a set into batches changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scorebench.configs.errors import RequestError, RunError
from scorebench.tasks.metrics.base import Hashed
from scorebench.tasks.metrics.registry import make

IMAGE = ("psnr", "psnr-illuminance", "ssim", "mse", "nmse")


def images(n: int = 5, side: int = 24, channels: int = 3) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(0)
    clean = torch.rand(n, channels, side, side, generator=g)
    return (clean + 0.1 * torch.randn(clean.shape, generator=g)).clamp(0, 1), {"clean": clean}


@pytest.mark.parametrize("name", IMAGE)
def test_8_bit_images_are_refused_not_misread(name: str) -> None:
    answer, target = images()
    with pytest.raises(RunError, match=r"dtype torch\.uint8; give floating point values") as caught:
        make(name).per_sample((answer * 255).to(torch.uint8), target)
    assert caught.value.kind == "wrong-output"
    with pytest.raises(RunError, match=r"target of dtype torch\.uint8"):
        make(name).per_sample(answer, {"clean": (target["clean"] * 255).to(torch.uint8)})


@pytest.mark.parametrize("name", IMAGE)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(name: str, bad: float) -> None:
    answer, target = images()
    answer[2, 0, 3, 3] = bad
    with pytest.raises(RunError, match="1 values that are NaN or infinite") as caught:
        make(name).per_sample(answer, target)
    assert caught.value.kind == "not-finite"


@pytest.mark.parametrize("name", IMAGE)
def test_a_wrong_shape_is_refused(name: str) -> None:
    answer, target = images()
    with pytest.raises(RunError, match="for a target of"):
        make(name).per_sample(answer[:, :1], target)


@pytest.mark.parametrize(("name", "expected"), [("psnr", 100.0), ("psnr-illuminance", 100.0), ("ssim", 1.0), ("mse", 0.0), ("nmse", 0.0)])
def test_an_exact_answer_has_the_best_value(name: str, expected: float) -> None:
    _, target = images()
    assert make(name).per_sample(target["clean"], target).tolist() == pytest.approx([expected] * 5, abs=1e-12)


@pytest.mark.parametrize("name", ["psnr", "psnr-illuminance", "ssim", "mse"])
def test_constant_images_have_a_finite_value(name: str) -> None:
    flat = torch.full((2, 1, 24, 24), 0.5)
    for level in (0.0, 0.5, 1.0):
        assert torch.isfinite(make(name).per_sample(flat, {"clean": torch.full_like(flat, level)})).all()


def test_the_illuminance_correction_only_helps_where_nothing_is_saturated() -> None:
    answer, target = images()
    for factor in (0.2, 0.7, 1.0, 1.5):
        plain, fitted = (make(n).per_sample(answer * factor - 0.05, target) for n in ("psnr", "psnr-illuminance"))
        assert (fitted >= plain - 1e-9).all()
    saturated = {"clean": torch.where(target["clean"] > 0.5, 1.0, target["clean"])}
    dark = 0.5 * target["clean"]  # fitted where the frame is below 1: the factor is 2 there, whatever stands at the saturated values
    below = make("psnr-illuminance").per_sample(dark, saturated)
    assert below.tolist() == pytest.approx(make("psnr").per_sample(target["clean"], saturated).tolist(), rel=1e-5)


def test_nmse_of_a_black_image_is_refused() -> None:
    flat = torch.zeros(2, 1, 8, 8)
    with pytest.raises(RunError, match="zero everywhere"):
        make("nmse").per_sample(flat, {"clean": flat})


def test_small_images_are_refused_by_windows() -> None:
    answer, target = images(side=10)
    with pytest.raises(RunError, match="at least 11 x 11"):
        make("ssim").per_sample(answer, target)
    with pytest.raises(RunError, match="at least 176"):
        make("ms-ssim").per_sample(answer, target)
    with pytest.raises(RunError, match="nothing is left"):
        make("psnr", {"crop": 5}).per_sample(answer, target)


def test_the_luma_is_of_colour_images_only() -> None:
    answer, target = images(channels=1)
    with pytest.raises(RunError, match="takes RGB images"):
        make("psnr", {"channel": "y"}).per_sample(answer, target)


def test_quantise_rounds_and_does_not_truncate() -> None:
    clean = torch.full((1, 1, 4, 4), 0.5)
    answer = clean + 0.0019  # 127.98 grey levels: rounds to 128, truncates to 127
    found = make("mse", {"quantise": True}).per_sample(answer, {"clean": clean})
    assert found.item() == pytest.approx((128 / 255 - 0.5) ** 2, rel=1e-6)


@pytest.mark.parametrize("name", [*IMAGE, "accuracy", "nll", "score-error", "posterior-distance"])
def test_batches_do_not_matter_to_a_sample(name: str) -> None:
    answer, target = sample_batch(name)
    whole = make(name).per_sample(answer, target)
    assert whole.dtype == torch.float64 and whole.shape == (len(answer),)
    parts = [make(name).per_sample(answer[i : i + 2], {k: v[i : i + 2] for k, v in target.items()}) for i in range(0, len(answer), 2)]
    assert torch.allclose(whole, torch.cat(parts), rtol=0, atol=1e-12)


def sample_batch(name: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(1)
    if name in IMAGE:
        return images()
    if name in ("accuracy", "nll"):
        return torch.randn(5, 4, generator=g), {"label": torch.randint(0, 4, (5,), generator=g)}
    if name == "score-error":
        return torch.randn(5, 2, generator=g), {"score": torch.randn(5, 2, generator=g), "sigma": torch.rand(5, generator=g)}
    eye = torch.eye(4).expand(5, 4, 4)
    return torch.randn(5, 9, 4, generator=g), {"clean": torch.zeros(5, 4), "posterior_mean": torch.zeros(5, 4), "posterior_cov": eye}


SETS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("fd-digits", {}, (1, 8, 8)),
    ("fd-shapes", {}, (3, 32, 32)),
    ("precision", {"on": "digits"}, (1, 8, 8)),
    ("recall", {"on": "digits"}, (1, 8, 8)),
    ("density", {"on": "digits"}, (1, 8, 8)),
    ("coverage", {"on": "digits"}, (1, 8, 8)),
    ("memorisation", {}, (1, 8, 8)),
    ("nearest-train-distance", {}, (1, 8, 8)),
    ("sliced-wasserstein", {}, (2,)),
    ("w2", {}, (2,)),
]


@pytest.mark.parametrize(("name", "options", "shape"), SETS, ids=[s[0] for s in SETS])
def test_batches_do_not_matter_to_a_set(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(2)
    metric = make(name, options)
    fake, real = torch.rand(60, *shape, generator=g), torch.rand(50, *shape, generator=g)
    values, hashes = set(), set()
    for cuts in ([60], [1, 59], [7] * 8 + [4]):
        rows = np.concatenate([metric.features(part, {}).numpy() for part in fake.split(cuts)])
        assert rows.shape[0] == 60 and rows.ndim == 2
        reference = metric.reference([{"answer": part} for part in real.split(13 if len(cuts) > 1 else 50)])
        assert reference.n == 50
        hashes.add(reference.hash)
        values.add(round(metric.value(rows, reference), 5))
    assert len(values) == 1 and len(hashes) == 1
    identity = metric.set_identity(60, reference.hash)
    assert "|n=60|" in identity and identity.endswith(f"ref={reference.hash[:12]}")


@pytest.mark.parametrize(("name", "says"), [("fd-digits", "at least 2 samples"), ("recall", "more than 3 samples")])
def test_one_sample_is_refused_where_it_has_no_value(name: str, says: str) -> None:
    metric = make(name, {} if name == "fd-digits" else {"on": "digits"})
    reference = metric.reference([{"answer": torch.rand(20, 1, 8, 8)}])
    with pytest.raises(RunError, match=says):
        metric.value(metric.features(torch.rand(1, 1, 8, 8), {}).numpy(), reference)


@pytest.mark.parametrize("name", ["fd-digits", "kid", "inception-score", "precision", "w2"])
def test_features_that_are_not_finite_are_refused(name: str) -> None:
    metric = make(name, {"on": "digits"} if name == "precision" else {"splits": 1} if name == "inception-score" else {})
    rows = np.full((30, 32), np.nan)
    good = torch.rand(40, 1, 8, 8)
    reference = make("precision", {"on": "digits"}).reference([{"answer": good}]) if name == "precision" else None
    if name == "fd-digits":
        reference = metric.reference([{"answer": good}])
    if name == "w2":
        reference = metric.reference([{"answer": torch.rand(30, 32)}])
    with pytest.raises(RunError, match="NaN or infinite") as caught:
        metric.value(rows, reference)
    assert caught.value.kind == "not-finite"


def test_images_of_the_wrong_size_are_refused_by_shipped_features() -> None:
    with pytest.raises(RunError, match=r"take images of shape \(1, 8, 8\)"):
        make("fd-digits").features(torch.rand(2, 3, 32, 32), {})
    with pytest.raises(RunError, match=r"dtype torch\.uint8"):
        make("fd-digits").features(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), {})


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(RunError, match="labels from 0 to 7"):
        make("nll").per_sample(torch.randn(2, 4), {"label": torch.tensor([0, 7])})


def test_auroc_of_one_class_is_refused_and_of_two_is_the_second_class() -> None:
    metric = make("auroc")
    logits, label = torch.tensor([[0.0, 1.0], [0.0, 2.0], [1.0, 0.0]]), torch.tensor([0, 1, 0])
    assert metric.value(metric.features(logits, {"label": label}).numpy()) == 1.0
    with pytest.raises(RunError, match="at least two classes"):
        metric.value(metric.features(logits, {"label": torch.zeros(3, dtype=torch.long)}).numpy())


def test_certified_accuracy_takes_votes() -> None:
    votes = torch.zeros(3, 2, 4)
    votes[:, :, 2] = torch.tensor([100.0, 100.0, 51.0])[:, None]
    votes[2, :, 1] = 49
    found = make("certified-accuracy", {"radius": 0.25, "sigma": 0.25}).per_sample(votes, {"label": torch.tensor([2, 1, 2])})
    assert found.tolist() == [1.0, 0.0, 0.0]  # right and certified; wrong; too close to call
    with pytest.raises(RunError, match="vote counts"):
        make("certified-accuracy").per_sample(torch.rand(3, 4), {"label": torch.zeros(3)})


def test_mode_coverage_needs_labels_and_enough_points() -> None:
    metric = make("mode-coverage")
    with pytest.raises(RequestError, match="reference set with labels"):
        metric.reference([{"answer": torch.rand(5, 2)}])
    with pytest.raises(RunError, match="too few for its covariance"):
        metric.reference([{"answer": torch.rand(5, 2), "label": torch.tensor([0, 0, 0, 0, 1])}])


def test_metrics_of_posteriors_say_what_they_take() -> None:
    with pytest.raises(RunError, match=r"posterior samples of shape \(B, S, ...\)"):
        make("posterior-distance").per_sample(
            torch.rand(2, 4), {"clean": torch.rand(2, 4), "posterior_mean": torch.rand(2, 4), "posterior_cov": torch.rand(2, 4, 4)}
        )
    with pytest.raises(RunError, match="operator"):
        make("data-consistency").per_sample(torch.rand(2, 4), {"y": torch.rand(2, 4)})


def test_exact_posterior_samples_are_calibrated_and_near_and_narrow_ones_are_not() -> None:
    """Closed-form posterior of a Gaussian under y = x + noise, in five dimensions."""
    g = torch.Generator().manual_seed(3)
    n, s, d = 400, 64, 5
    x = torch.randn(n, d, generator=g)
    y = x + 0.5 * torch.randn(n, d, generator=g)
    mean, var = y / 1.25, 0.2
    target = {"clean": x, "posterior_mean": mean, "posterior_cov": (var * torch.eye(d)).expand(n, d, d)}
    z = torch.randn(n, s, d, generator=g)
    calibration, distance = make("posterior-calibration"), make("posterior-distance")
    found = {w: mean[:, None] + w * var**0.5 * z for w in (0.5, 1.0, 2.0)}
    errors = {w: calibration.value(calibration.features(v, target).numpy()) for w, v in found.items()}
    distances = {w: float(distance.per_sample(v, target).mean()) for w, v in found.items()}
    assert errors[1.0] < 0.02 < 0.1 < min(errors[0.5], errors[2.0])
    assert distances[1.0] < 0.25 < 0.45 < min(distances[0.5], distances[2.0])


def test_hashing_sees_every_bit_and_no_batching() -> None:
    def digest(batches: list[dict[str, torch.Tensor]]) -> tuple[str, int]:
        hashed = Hashed(batches)
        for _ in hashed:
            pass
        return hashed.hash(), hashed.n

    x, label = torch.rand(6, 2), torch.arange(6)
    whole = digest([{"answer": x, "label": label}])
    assert whole == digest([{"answer": x[:1], "label": label[:1]}, {"answer": x[1:], "label": label[1:]}])
    changed = x.clone()
    changed[5, 1] = torch.nextafter(changed[5, 1], torch.tensor(2.0))
    assert digest([{"answer": changed, "label": label}])[0] != whole[0]
