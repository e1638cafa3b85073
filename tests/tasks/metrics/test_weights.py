"""Weights that are not on the machine: said why and what to do; and the whole path with stand-in files of the same interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scorebench.configs.errors import RequestError, RunError
from scorebench.tasks.metrics import cache, stand_in
from scorebench.tasks.metrics.base import Unavailable
from scorebench.tasks.metrics.extractors import inception, shipped
from scorebench.tasks.metrics.registry import describe, make
from scorebench.tasks.metrics.weights import WEIGHTS, WeightFile, file_sha256

NEEDS = {
    "fid": "inception", "kid": "inception", "inception-score": "inception", "precision": "inception", "recall": "inception",
    "density": "inception", "coverage": "inception", "lpips": "alex", "dists": "vgg",
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in.inception_file(tmp_path_factory.mktemp("script"), d=32, name="mine.pt")


def photos(n: int, seed: int = 0, side: int = 40) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("name", "weights"), NEEDS.items())
def test_absent_weights_are_said_with_their_remedy(name: str, weights: str, home: Path) -> None:
    missing = make(name).unavailable()
    assert isinstance(missing, Unavailable)
    file = WEIGHTS[weights]
    assert missing.because == f"{name} needs {file.file}, which is not in {home / 'weights'}."
    for part in (f"`scorebench data fetch weights:{weights}`", file.file, file.sha256, file.url, str(home / "weights")):
        assert part in missing.remedy
    assert set(missing.as_dict()) == {"because", "remedy"}
    assert "unavailable: " in describe(name)


def test_another_file_under_the_right_name_is_refused(home: Path) -> None:
    (home / "weights").mkdir(parents=True)
    WEIGHTS["inception"].path.write_bytes(b"not the network")
    missing = make("fid").unavailable()
    assert missing is not None and "is not the file fid needs" in missing.because and WEIGHTS["inception"].sha256 in missing.remedy


def test_the_right_file_makes_the_metric_available(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the stand-in in the place of the published file, and its hash in the place of the published hash."""
    (home / "weights").mkdir(parents=True)
    path = stand_in.inception_file(home / "weights")
    expected = WeightFile("inception", path.name, "nowhere", file_sha256(path))
    monkeypatch.setitem(WEIGHTS, "inception", expected)
    fid, kid = make("fid"), make("kid")
    assert fid.unavailable() is None and kid.unavailable() is None
    assert fid.identity() == f"fid|inception-2015@{expected.sha256[:12]}|clean|round8"
    real, fake = photos(12), photos(10, 1)
    assert fid.features(fake, {}).shape == (10, 2048)
    for metric in (fid, kid, make("precision"), make("recall"), make("density"), make("coverage")):
        reference = metric.reference([{"answer": real}])
        value = metric.value(metric.features(fake, {}).numpy(), reference)
        assert np.isfinite(value)
        if metric.name == "fid":
            assert value > 0 and metric.value(metric.features(real, {}).numpy(), reference) == pytest.approx(0, abs=1e-6 * value)
    score = make("inception-score", {"splits": 2})
    rows = score.features(fake, {})
    assert rows.shape == (10, 1008) and torch.allclose(rows.sum(1), torch.ones(10)) and score.value(rows.numpy()) >= 1


def test_a_users_own_network_gives_the_metric_another_name(script: Path) -> None:
    digest = file_sha256(script)[:12]
    for name, other in (("fid", "frechet"), ("kid", "mmd-cubic")):
        metric = make(name, {"weights": str(script)})
        assert metric.unavailable() is None
        assert metric.identity().startswith(f"{other}[mine@{digest}]|clean|round8")
    assert make("precision", {"weights": str(script)}).identity().startswith(f"precision|mine@{digest}|")
    assert make("inception-score", {"weights": str(script)}).identity().startswith("score[mine@")
    with pytest.raises(RequestError, match="fit the Inception weights only"):
        make("fid", {"weights": str(script), "statistics": "cifar10/train/32"})


def test_a_file_that_is_no_network_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(RequestError, match="is not a TorchScript file"):
        make("fid", {"weights": str(path)}).features(photos(2), {})


def test_images_are_rounded_to_8_bits_and_grey_ones_repeated(script: Path) -> None:
    network = inception("mine", script, "clean")
    x = photos(3)
    rounded = (x * 255).round() / 255
    assert torch.equal(network(x), network(rounded))
    grey = x[:, :1].clone()
    assert torch.equal(network(grey), network(grey.repeat(1, 3, 1, 1)))
    with pytest.raises(RunError, match="1 or 3 channels"):
        network(torch.rand(2, 4, 8, 8))


def test_published_statistics_are_a_reference(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / "weights"
    (folder / "clean-fid").mkdir(parents=True)
    path = stand_in.inception_file(folder)
    monkeypatch.setitem(WEIGHTS, "inception", WeightFile("inception", path.name, "nowhere", file_sha256(path)))
    absent = make("fid", {"statistics": "cifar10/train/32"})
    missing = absent.unavailable()
    assert missing is not None and "cifar10_clean_train_32.npz" in missing.because and "clean-fid/stats" in missing.remedy
    plain, plain_kid = make("fid"), make("kid")
    real, fake = photos(8), photos(7, 1)
    rows = plain.features(real, {}).numpy().astype(np.float64)
    np.savez(folder / "clean-fid" / "cifar10_clean_train_32.npz", mu=rows.mean(0), sigma=np.cov(rows.T))
    np.savez(folder / "clean-fid" / "cifar10_clean_train_32_kid.npz", feats=rows)
    for metric, ordinary in ((absent, plain), (make("kid", {"statistics": "cifar10/train/32"}), plain_kid)):
        assert metric.unavailable() is None and not metric.needs_reference and ordinary.needs_reference
        features = metric.features(fake, {}).numpy()
        expected = ordinary.value(features, ordinary.reference([{"answer": real}]))
        assert metric.value(features) == pytest.approx(expected, rel=1e-5)
        assert "ref=cifar10_clean_train_32" in metric.identity() and "@" in metric.identity().split("ref=")[1]
    np.savez(folder / "clean-fid" / "bad_clean_train_32.npz", other=rows)
    with pytest.raises(RequestError, match="not a statistics file with mu and sigma"):
        make("fid", {"statistics": "bad/train/32"}).value(features)


def test_the_network_runs_once_per_batch_for_all_metrics(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = inception("mine", script, "clean")
    calls: list[int] = []
    inside = network.embed
    monkeypatch.setattr(network, "embed", lambda x: (calls.append(len(x)), inside(x))[1])
    x = photos(4)
    for name in ("fid", "kid", "precision", "recall"):
        make(name, {"weights": str(script)}).features(x, {})
    assert calls == [4]
    x.mul_(0.5)  # changed in place: what was remembered is not of this batch any more
    changed = make("fid", {"weights": str(script)}).features(x, {})
    assert calls == [4, 4] and torch.equal(changed, inside(x))


def test_a_reference_set_is_embedded_once_per_machine(home: Path) -> None:
    metric: Any = make("fd-digits")
    images = torch.rand(70, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    opened: list[int] = []

    def batches() -> list[dict[str, torch.Tensor]]:
        opened.append(1)
        return [{"answer": part} for part in images.split(32)]

    first = metric.cached_reference("digits|test", batches)
    second = metric.cached_reference("digits|test", batches)
    shared = make("precision", {"on": "digits"}).cached_reference("digits|test", batches)
    direct = metric.reference(batches())
    assert len(opened) == 2  # the first one, and the direct one
    assert first.hash == second.hash == shared.hash == direct.hash and first.n == shared.n == 70
    assert np.array_equal(first.data.cov, second.data.cov) and np.allclose(first.data.cov, direct.data.cov, atol=1e-12)
    metric.cached_reference("digits|dev", batches)
    assert len(opened) == 3  # another set
    file = next((home / "features").glob("*.f32"))
    file.write_bytes(file.read_bytes()[:100])  # torn
    again = [metric.cached_reference(f"digits|{s}", batches) for s in ("test", "dev")]
    assert len(opened) == 4 and all(np.array_equal(r.data.cov, first.data.cov) for r in again)


def test_a_home_that_cannot_be_written_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("SCOREBENCH_HOME", str(blocked))
    rows = cache.rows("digits", "key", shipped("digits"), lambda: [{"answer": torch.rand(5, 1, 8, 8)}])
    assert rows.array.shape == (5, 32)


def test_backbones_stand_in_only_inside_the_context(tmp_path: Path) -> None:
    published = WEIGHTS["squeeze"]
    pair = photos(2, side=64)
    with stand_in.backbones(tmp_path, ("squeeze",)):
        metric = make("lpips", {"net": "squeeze"})
        assert metric.unavailable() is None and published.sha256 not in metric.identity()
        noisy = (pair + 0.1 * torch.randn(pair.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
        values = metric.per_sample(noisy, {"clean": pair})
        assert values.dtype == torch.float64 and (values > 0).all()
        assert metric.per_sample(pair, {"clean": pair}).abs().max() < 1e-12
        with pytest.raises(RunError, match="for a target of"):
            metric.per_sample(pair, {"clean": pair[:, :, :32]})
    assert WEIGHTS["squeeze"] is published


def test_shipped_networks_tell_their_classes_and_state_how_they_were_made() -> None:
    import json

    from safetensors import safe_open

    for name, least in (("digits", 0.97), ("shapes", 0.8)):
        network = shipped(name)
        with safe_open(network.path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
        assert facts["dataset"] == name and facts["split"] == "train" and facts["seed"] == 20240
        assert min(facts["accuracy_test"]) > least
        assert network.path.stat().st_size < 1 << 20
        assert network.id == f"{name}@{file_sha256(network.path)[:12]}"


def test_the_shipped_digits_accuracy_is_the_stated_one() -> None:
    from scorebench.tasks.metrics.train_features import load

    images, label = load("digits", "test")
    with torch.no_grad():
        found = shipped("digits").net(images).argmax(1)
    assert float((found == label[:, 0]).double().mean()) == pytest.approx(0.9889, abs=1e-3)


def test_fd_digits_is_small_for_digits_and_huge_for_noise() -> None:
    """Sanity: train against test, a moment-matched Gaussian, Gaussian noise."""
    from scorebench.tasks.metrics.train_features import load

    train, test = load("digits", "train")[0], load("digits", "test")[0]
    g = torch.Generator().manual_seed(0)
    noise = (0.3 + 0.35 * torch.randn(train.shape, generator=g)).clamp(0, 1)
    metric = make("fd-digits")
    reference = metric.reference([{"answer": test}])
    digits, far = (metric.value(metric.features(x, {}).numpy(), reference) for x in (train, noise))
    assert 0 < digits < 4 and far > 60 * digits


@pytest.mark.slow
def test_the_digits_network_is_made_again_by_its_command(tmp_path: Path) -> None:
    from scorebench.tasks.metrics import train_features

    threads = torch.get_num_threads()
    try:
        train_features.main(["digits", "--out", str(tmp_path / "digits.safetensors")])
    finally:
        torch.set_num_threads(threads)
    again = make("fd-digits")
    assert again.unavailable() is None
    from scorebench.tasks.metrics.extractors import Shipped

    images = train_features.load("digits", "dev")[0]
    fresh, kept = Shipped("digits", tmp_path / "digits.safetensors")(images), shipped("digits")(images.clone())
    # other versions of torch may round differently; the features stay close to the shipped ones
    assert float((fresh - kept).norm() / kept.norm()) < 0.2
