"""The operators and observations of the inverse family against definitions, independent implementations, and Bayes' rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from scipy.ndimage import convolve

from scorebench.configs.errors import RequestError
from scorebench.tasks import operators, registry
from scorebench.tasks.randomness import Rng, keyed

TASKS = ["inverse/gauss-lin", "inverse/photos-deblur", "inverse/photos-inpaint", "inverse/photos-cs25", "inverse/phantom-ct"]


def shape_of(task_id: str) -> tuple[int, ...]:
    task = registry.get(task_id)
    return tuple(task.observe("dev", task.ids("dev")[0]).target["clean"].shape)


@pytest.mark.parametrize("task_id", TASKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adjoint_is_the_adjoint(task_id: str, dtype: torch.dtype) -> None:
    physics = registry.get(task_id).operator(shape_of(task_id), dtype)
    rng = keyed("adjoint", task_id)
    x = torch.as_tensor(rng.standard_normal((2, *shape_of(task_id))), dtype=dtype)
    ax = physics.A(x)
    y = torch.as_tensor(rng.standard_normal(tuple(ax.shape)), dtype=dtype)
    left, right = (ax * y).sum(), (x * physics.A_adjoint(y)).sum()
    scale = ax.norm() * y.norm()
    assert abs(float((left - right) / scale)) < (1e-6 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("task_id", TASKS)
def test_both_precisions_are_one_operator(task_id: str) -> None:
    task = registry.get(task_id)
    x = torch.as_tensor(keyed("x", task_id).random((2, *shape_of(task_id))))
    exact = task.operator(shape_of(task_id), torch.float64).A(x)
    assert torch.allclose(task.operator(shape_of(task_id)).A(x.float()).double(), exact, atol=2e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("task_id", TASKS)
def test_observation_is_signal_plus_white_noise_of_the_level_it_says(task_id: str) -> None:
    task = registry.get(task_id)
    residuals = []
    for i in task.ids("test")[:8]:
        o = task.observe("test", i)
        exact = task.operator(tuple(o.target["clean"].shape), torch.float64).A(o.target["clean"].double()[None])[0]
        residuals.append((o.given["y"].double() - exact).flatten())
    noise = torch.cat(residuals) / task.sigma
    assert abs(float(noise.mean())) < 5 / len(noise) ** 0.5 and abs(float(noise.var()) - 1) < 5 * (2 / len(noise)) ** 0.5
    lag = float((noise[1:] * noise[:-1]).mean())
    assert abs(lag) < 5 / len(noise) ** 0.5


@pytest.mark.parametrize("task_id", TASKS)
def test_operator_is_fixed_and_noise_is_keyed(task_id: str) -> None:
    task = registry.get(task_id)
    a, b = task.ids("dev")[:2]
    first = task.observe("dev", a)
    assert first.shared["physics"] is task.observe("dev", b).shared["physics"]
    fresh = type(task)(task.spec)
    assert repr(fresh.operator(shape_of(task_id))) == repr(first.shared["physics"])
    assert fresh.observe("dev", a).hash() == first.hash() != task.observe("dev", a, draw=1).hash()
    assert not torch.equal(first.given["y"], task.observe("dev", a, draw=1).given["y"])


@pytest.mark.parametrize("task_id", TASKS)
def test_a_method_cannot_change_an_observation_through_the_operator(task_id: str) -> None:
    task = type(registry.get(task_id))(registry.get_spec(task_id))
    a = task.ids("dev")[0]
    before = task.observe("dev", a)
    for buffer in before.shared["physics"].buffers():
        buffer.zero_()
    assert torch.equal(task.observe("dev", a).given["y"], before.given["y"])


def test_request_holds_what_is_given_and_nothing_clean() -> None:
    task = registry.get("inverse/gauss-lin")
    ids = task.ids("dev")[:3]
    observations = [task.observe("dev", i) for i in ids]
    request = task.request(observations, Rng.for_samples(ids, "test"))
    assert request.keys() == ["y", "physics", "noise_level"] and request.y.shape == (3, 32) and request.noise_level == 0.05


def test_mask_keeps_exactly_its_share() -> None:
    physics = registry.get("inverse/photos-inpaint").operator((1, 96, 96))
    assert float(physics.mask.sum()) == 96 * 96 / 2 and set(physics.mask.unique().tolist()) == {0.0, 1.0}
    colour = operators.make((3, 8, 8), {"operator": "inpainting", "keep": 0.25, "sigma": 0.0}, keyed("c"))
    mask = colour.mask[0]
    assert torch.equal(mask[0], mask[1]) and torch.equal(mask[0], mask[2]) and float(mask[0].sum()) == 16


@pytest.mark.parametrize("declared", [{"kernel": "gaussian", "width": 1.6}, {"kernel": "motion", "length": 9, "angle": 30}])
def test_blur_is_scipys_periodic_convolution(declared: dict) -> None:
    k = operators.kernel(declared)
    assert k.shape[0] == k.shape[1] and k.shape[0] % 2 == 1 and k.sum() == pytest.approx(1) and k.min() >= 0
    physics = operators.make((1, 48, 40), {"operator": "blur", "sigma": 0.0, **declared}, keyed("k"), torch.float64)
    x = keyed("x").random((48, 40))
    assert np.allclose(physics.A(torch.as_tensor(x)[None, None])[0, 0], convolve(x, k, mode="wrap"), atol=1e-12)


def test_motion_kernel_is_a_stroke_of_its_length_and_angle() -> None:
    k = operators.kernel({"kernel": "motion", "length": 15, "angle": 30})
    y, x = np.mgrid[: len(k), : len(k)] - len(k) // 2
    cov = np.array([[(k * x * x).sum(), -(k * x * y).sum()], [-(k * x * y).sum(), (k * y * y).sum()]])
    values, vectors = np.linalg.eigh(cov)
    assert values[1] == pytest.approx(15**2 / 12, rel=0.05) and values[0] < 0.3
    assert np.rad2deg(np.arctan2(*vectors[::-1, 1])) % 180 == pytest.approx(30, abs=1)


def test_random_dct_is_a_signed_dct_with_orthonormal_rows() -> None:
    physics = operators.make((1, 16, 12), {"operator": "random-dct", "share": 0.25, "sigma": 0.0}, keyed("d"), torch.float64)
    x = keyed("x").standard_normal((16, 12))
    expected = dctn(physics.signs[0].numpy() * x, norm="ortho").ravel()[physics.kept.numpy()]
    assert np.allclose(physics.A(torch.as_tensor(x)[None, None])[0], expected, atol=1e-12) and len(expected) == 48
    y = torch.as_tensor(keyed("y").standard_normal((3, 48)))
    assert torch.allclose(physics.A(physics.A_adjoint(y)), y, atol=1e-12)


def test_projections_are_the_line_integrals_of_ellipses() -> None:
    """Against the closed form (Kak and Slaney 1988, section 3.1): 2 v a b sqrt(w^2 - u^2) / w^2 at distance u from the centre's projection."""
    from scorebench.datasets import phantom

    value, a, b, x0, y0, tilt = 0.8, 0.5, 0.25, 0.2, -0.15, 30.0
    picture = torch.from_numpy(phantom.draw(((value, a, b, x0, y0, tilt),), 64, 8)).double()
    ours = registry.get("inverse/phantom-ct").operator((1, 64, 64), torch.float64).A(picture[None, None])[0, 0].numpy()
    angle, position = np.deg2rad(6.0 * np.arange(30))[None, :], ((np.arange(64) - 31.5) / 32)[:, None]
    width = (a * np.cos(angle - np.deg2rad(tilt))) ** 2 + (b * np.sin(angle - np.deg2rad(tilt))) ** 2
    u = position - x0 * np.cos(angle) - y0 * np.sin(angle)
    expected = 32 * 2 * value * a * b * np.sqrt(np.clip(width - u**2, 0, None)) / width
    assert ours.shape == expected.shape == (64, 30)
    assert np.abs(ours - expected).mean() < 0.005 * expected.max() and np.corrcoef(ours.ravel(), expected.ravel())[0, 1] > 0.999


def test_posterior_is_computed_from_the_observation_and_calibrated() -> None:
    """z = (x - E[x|y]) whitened by the posterior covariance must be standard normal over the test set: the truth is a posterior draw."""
    task = registry.get("inverse/gauss-lin")
    observations = [task.observe("test", i) for i in task.ids("test")]
    target = task.target(observations)
    gap = (target["clean"] - target["posterior_mean"]).flatten(1).double().numpy()
    root = np.linalg.cholesky(target["posterior_cov"][0].double().numpy())
    z = np.linalg.solve(root, gap.T)
    assert abs(z.mean()) < 5 / z.size**0.5 and abs((z**2).mean() - 1) < 5 * (2 / z.size) ** 0.5
    expected = np.trace(target["posterior_cov"][0].numpy()) / 64
    assert (gap**2).mean() == pytest.approx(expected, rel=0.1)


def test_data_consistency_uses_the_exact_operator() -> None:
    task = registry.get("inverse/photos-deblur")
    observations = [task.observe("dev", i) for i in task.ids("dev")[:2]]
    target = task.target(observations)
    value = task.metrics["data-consistency"].per_sample(target["clean"], target)
    expected = torch.tensor([0.02 * 96 / float(o.given["y"].norm()) for o in observations])
    assert torch.allclose(value.float(), expected, rtol=0.05)


@pytest.mark.parametrize("task_id", TASKS)
def test_training_items_are_clean_and_keyed(task_id: str) -> None:
    task = registry.get(task_id)
    data, again = task.training_set("clean", 3), task.training_set("clean", 3)
    assert set(data[5]) == {"target"} and torch.equal(data[5]["target"], again[5]["target"])
    assert not torch.equal(data[5]["target"], task.training_set("clean", 4)[5]["target"])
    with pytest.raises(RequestError, match="clean training pictures only"):
        task.training_set("paired", 0)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"operator": "blurr", "sigma": 0.1}, "accepted: dense, inpainting, blur"),
        ({"operator": "dense", "sigma": 0.1}, "lacks the field 'rows'"),
        ({"operator": "blur", "kernel": "disc", "sigma": 0.1}, "accepted: gaussian, motion"),
        ({"operator": "blur", "width": 9.0, "sigma": 0.1}, "larger than the picture"),
        ({"operator": "parallel-beam", "views": 3, "sigma": 0.1}, "square grey pictures"),
    ],
)
def test_wrong_operators_are_refused(declared: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        operators.make((1, 20, 24), declared, keyed("wrong"))
