"""Low-dose CT: the scanner's physics, the task's observations and its training data."""

import numpy as np
import pytest
import torch

from scorebench.configs.errors import RequestError
from scorebench.datasets import registry as datasets
from scorebench.tasks import registry
from scorebench.tasks.lowdose import Scanner
from scorebench.tasks.randomness import keyed

FULL, QUARTER = "denoising/phantom-ct-lowdose", "denoising/phantom-ct-lowdose-quarter"


def disc(side: int = 64, radius: float = 20.0, value: float = 0.5) -> np.ndarray:
    at = np.arange(side) - side // 2
    return value * (at[:, None] ** 2 + at[None] ** 2 <= radius**2)


def test_line_integrals_are_in_pixel_widths():
    integrals = Scanner(1000, 12).project(disc())
    assert integrals.shape == (64, 12)
    assert np.allclose(integrals[32], 0.5 * 41, atol=0.6), "through the middle: the diameter times the attenuation, in every view"
    assert np.allclose(integrals.sum(0), disc().sum(), rtol=0.01), "every view sees the whole mass"


def test_reconstruction_undoes_the_projection_up_to_its_blur():
    scanner, at = Scanner(1000, 90), np.arange(64) - 32
    back = scanner.reconstruct(scanner.project(disc()))
    assert np.abs(back - disc())[at[:, None] ** 2 + at[None] ** 2 < 16**2].max() < 0.03


def test_counts_have_poisson_noise_in_the_log():
    scanner, p = Scanner(1000, 1, density=0.1), 10.0
    measured = scanner.measure(np.full(200_000, p), keyed("t"))
    expected = 1000 * np.exp(-1.0)  # photons that arrive; the log's standard deviation is about count^-1/2 / density
    assert measured.mean() == pytest.approx(p, abs=0.03)
    assert measured.std() == pytest.approx(expected**-0.5 / 0.1, rel=0.02)
    assert np.isfinite(Scanner(1, 1).measure(np.full(100, 50.0), keyed("t"))).all(), "a ray without photons"


def test_a_quarter_of_the_dose_doubles_the_noise():
    def noise(task_id: str) -> np.ndarray:
        task = registry.get(task_id)
        seen = [task.observe("dev", i) for i in task.ids("dev")]
        return np.concatenate([(o.given["noisy"] - o.target["clean"])[0, 20:44, 20:44].flatten().numpy() for o in seen])

    full, quarter = noise(FULL), noise(QUARTER)
    assert quarter.std() / full.std() == pytest.approx(2, rel=0.1)
    assert 0.03 < full.std() < 0.07


def test_the_noise_is_not_white():
    task = registry.get(FULL)
    fields = [(o.given["noisy"] - o.target["clean"])[0, 16:48, 16:48] for o in (task.observe("dev", i) for i in task.ids("dev"))]
    z = torch.stack(fields)
    power = torch.fft.fft2(z - z.mean((1, 2), keepdim=True)).abs().square().mean(0)
    at = torch.fft.fftfreq(32).abs()
    radius = (at[:, None] ** 2 + at[None] ** 2).sqrt()
    bands = [float(power[(radius > low) & (radius <= low + 0.1)].mean()) for low in (0.0, 0.1, 0.2, 0.3, 0.4)]
    assert bands[2] > 1.3 * bands[0], f"the ramp filter lifts what is not slow: {bands}"
    assert max(bands) > 2 * min(bands), f"nor is it white: {bands}"


def test_what_a_method_is_given():
    task = registry.get(FULL)
    o = task.observe("test", "shepp-logan")
    assert set(o.given) == {"noisy"} and dict(o.shared) == {"noise_model": "low-dose-ct"}
    assert o.given["noisy"].shape == (1, 64, 64) and o.given["noisy"].min() < 0, "not clipped"
    assert torch.equal(o.given["noisy"], task.observe("test", "shepp-logan").given["noisy"])
    assert not torch.equal(o.given["noisy"], task.observe("test", "shepp-logan", draw=1).given["noisy"])
    with pytest.raises(RequestError, match="dose, views and density"):
        type(task)(task.spec.__class__(**{**task.spec.__dict__, "observe": {"dose": 1, "sigma": 3}})).scanner  # noqa: B018


def test_training_items_hold_what_they_declare(monkeypatch):
    task = type(registry.get(FULL))(registry.get_spec(FULL))
    dataset, few = datasets.get("phantom"), datasets.get("phantom").ids("train")[:3]
    monkeypatch.setattr("scorebench.tasks.images.pictures", lambda *_: tuple(dataset.sample("train", i)["image"] for i in few))
    pair, noisy, clean = (task.training_set(kind, 0)[0] for kind in ("paired", "noisy", "clean"))
    assert set(pair) == {"input", "target"} and set(noisy) == {"input"} and set(clean) == {"target"}
    assert all(v.shape == (1, 64, 64) for item in (pair, noisy, clean) for v in item.values())
    error = (pair["input"] - pair["target"])[0, 16:48, 16:48].std()
    assert 0.02 < float(error) < 0.1
    again = task.training_set("noisy", 1)
    assert any(np.array_equal(np.sort(again[k]["input"].flatten()), np.sort(noisy["input"].flatten())) for k in range(40)), "one scan a slice"
