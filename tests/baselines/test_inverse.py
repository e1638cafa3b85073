"""Inverse methods against closed forms: exact Gaussian posteriors, normal equations, another implementation of total variation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.restoration import denoise_tv_chambolle
from torch import nn

from scorebench.baselines.diffusion.exact import GaussianMixturePrior
from scorebench.baselines.inverse.dpir import DPIR, turned, turned_back
from scorebench.baselines.inverse.fbp import FBP
from scorebench.baselines.inverse.linear import proximal_data, square_norm
from scorebench.baselines.inverse.tv_fista import TVFista, divergence, gradient, total_variation
from scorebench.baselines.inverse.wiener import Wiener
from scorebench.baselines.inverse.zero_filled import ZeroFilled
from scorebench.configs.errors import RunError
from scorebench.datasets import registry as datasets
from scorebench.tasks import operators, registry
from scorebench.tasks.randomness import Rng, keyed
from scorebench.tasks.requests import Request, Returns

TASKS = ["inverse/gauss-lin", "inverse/photos-deblur", "inverse/photos-inpaint", "inverse/photos-cs25", "inverse/phantom-ct"]


def asked(task_id: str, n: int, split: str = "dev") -> tuple:
    task = registry.get(task_id)
    ids = task.ids(split)[:n]
    observations = [task.observe(split, i) for i in ids]
    return task, observations, task.request(observations, Rng.for_samples(ids, "test"))


def score(task_id: str, method: nn.Module, n: int = 6, metric: str = "psnr") -> float:
    task, observations, request = asked(task_id, n)
    answer = task.accept(method.reconstruct(request), request, observations)  # type: ignore[operator]
    return float(task.metrics[metric].per_sample(answer, task.target(observations)).mean())


class Shrink(nn.Module):
    """The exact denoiser of N(mean, C): argmin_z -s^2 log p(z) + ||z - x||^2 / 2, which is both its MAP and its posterior mean."""

    def __init__(self) -> None:
        super().__init__()
        field = datasets.get("gauss-lin")
        self.mean, self.covariance = torch.as_tensor(field.mean), torch.as_tensor(field.covariance)

    def forward(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        gain = torch.linalg.solve(self.covariance + sigma**2 * torch.eye(64, dtype=torch.float64), self.covariance)
        return (self.mean + (x.flatten(1).double() - self.mean) @ gain).reshape(x.shape).to(x.dtype)


# ---------------------------------------------------------------------- closed forms
def test_wiener_is_the_exact_posterior_mean() -> None:
    task, observations, request = asked("inverse/gauss-lin", 64)
    answer = Wiener(GaussianMixturePrior.of_dataset("gauss-lin")).reconstruct(request)
    assert torch.allclose(answer, task.target(observations)["posterior_mean"], atol=2e-6)


def test_wiener_refuses_a_mixture() -> None:
    _, _, request = asked("inverse/gauss-lin", 2)
    with pytest.raises(RunError, match="this one is a mixture"):
        Wiener(GaussianMixturePrior.of_dataset("gmm2d")).reconstruct(request)


def test_dpir_reaches_the_joint_minimiser_of_its_two_equations() -> None:
    """At a constant level s, HQS minimises ||y - Ax||^2 / (2 sigma^2) + ||x - z||^2 / (2 s^2) - log p(z): quadratic here."""
    task, _, request = asked("inverse/gauss-lin", 4)
    s, sigma, prior = 0.2, 0.05, Shrink()
    # start = floor = s keeps the level at s; lam undoes that the floor then stands for sigma in a_k
    answer = DPIR(prior, steps=250, start=s, floor=s, lam=(sigma / s) ** 2).reconstruct(request).flatten(1).double()
    a = torch.as_tensor(task.matrix((1, 8, 8)))
    # eliminate x: y ~ N(A z, sigma^2 I + s^2 A A^T), so z is the posterior mean under the widened noise
    noise = sigma**2 * torch.eye(32, dtype=torch.float64) + s**2 * a @ a.T
    gain = prior.covariance @ a.T @ torch.linalg.inv(a @ prior.covariance @ a.T + noise)
    expected = prior.mean + (request.y.double() - a @ prior.mean) @ gain.T
    assert torch.allclose(answer, expected, atol=1e-4)


def test_dpir_with_falling_levels_approaches_the_posterior_mean() -> None:
    task, observations, request = asked("inverse/gauss-lin", 32)
    exact = task.target(observations)["posterior_mean"]
    gap = [float((DPIR(Shrink(), steps=k, lam=1.0).reconstruct(request) - exact).square().mean()) for k in (4, 64)]
    spread = float(task.target(observations)["posterior_cov"][0].trace() / 64)
    assert gap[1] < gap[0] and gap[1] < 0.1 * spread


@pytest.mark.parametrize("task_id", TASKS)
def test_proximal_data_solves_its_normal_equations(task_id: str) -> None:
    _, observations, request = asked(task_id, 2)
    a = 0.3 if "ct" not in task_id else 30.0
    z = torch.as_tensor(keyed("z").random((2, *observations[0].target["clean"].shape)), dtype=torch.float32)
    x = proximal_data(request.physics, request.y, z, a)
    residual = request.physics.A_adjoint(request.physics.A(x) - request.y) + a * (x - z)
    assert float(residual.norm() / request.physics.A_adjoint(request.y).norm()) < 1e-4


@pytest.mark.parametrize("task_id", TASKS)
def test_square_norm_is_the_largest_eigenvalue(task_id: str) -> None:
    task, observations, request = asked(task_id, 1)
    shape = tuple(observations[0].target["clean"].shape)
    found = square_norm(request.physics, shape)
    if task_id == "inverse/gauss-lin":
        expected = float(np.linalg.norm(task.matrix(shape), 2) ** 2)
    elif task_id == "inverse/phantom-ct":
        expected = float(request.physics.compute_norm(torch.ones(1, *shape), max_iter=300, tol=1e-7, verbose=False, squared=True))
    else:
        expected = 1.0  # a mask, orthonormal rows, a kernel that sums to one
    assert expected <= found <= 1.03 * expected


# ---------------------------------------------------------------------- total variation
def test_divergence_is_minus_the_adjoint_of_the_gradient() -> None:
    rng = keyed("tv")
    x, p = torch.as_tensor(rng.standard_normal((2, 3, 7, 5))), torch.as_tensor(rng.standard_normal((2, 3, 2, 7, 5)))
    assert torch.allclose((gradient(x) * p).sum(), -(x * divergence(p)).sum())
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)
    assert float(total_variation(ramp)[0]) == 16.0


def test_tv_prox_beats_scikit_image_at_its_own_objective() -> None:
    x = datasets.get("photos-grey").sample("dev", "flower-r0c1")["image"][None]
    noisy = torch.as_tensor(x + 0.1 * keyed("n").standard_normal(x.shape), dtype=torch.float32)
    weight = 0.1
    ours, _ = TVFista(inner=300).prox(noisy, weight, None, torch.zeros_like(gradient(noisy)))
    theirs = torch.as_tensor(denoise_tv_chambolle(noisy[0, 0].numpy(), weight=weight, eps=1e-9, max_num_iter=2000))[None, None]

    def objective(u: torch.Tensor) -> float:
        return float(weight * total_variation(u) + 0.5 * (u - noisy).square().sum())

    assert objective(ours) <= objective(theirs) * (1 + 1e-4)
    assert float((ours - theirs.float()).abs().mean()) < 2e-3


@pytest.mark.parametrize("task_id", TASKS)
def test_tv_fista_lowers_its_objective_step_by_step(task_id: str) -> None:
    _, _, request = asked(task_id, 2)
    lam = 0.3 * request.noise_level
    physics, values = request.physics, []
    for k in (0, 1, 2, 5, 15, 40):
        method = TVFista(0.3, iterations=k)
        x = method.reconstruct(request)
        lam = 0.3 * request.noise_level * square_norm(physics, tuple(x.shape[1:])) ** 0.5
        values.append(method.objective(physics.A(x), request.y, x, lam))
    for earlier, later in pairwise(values):
        assert (later <= earlier * (1 + 1e-6)).all()
    assert (values[-1] < 0.9 * values[0]).all()


def test_tv_fista_is_at_a_minimum() -> None:
    """No random direction lowers the objective from where it stops."""
    _, _, request = asked("inverse/photos-deblur", 1)
    method = TVFista(0.3, iterations=300)
    x = method.reconstruct(request)
    lam = 0.3 * request.noise_level * square_norm(request.physics, tuple(x.shape[1:])) ** 0.5
    at = float(method.objective(request.physics.A(x), request.y, x, lam))
    rng = keyed("directions")
    for scale in (1e-3, 1e-2):
        for _ in range(5):
            step = torch.as_tensor(rng.standard_normal(tuple(x.shape)), dtype=torch.float32)
            moved = (x + scale * step).clamp(0, 1)
            assert float(method.objective(request.physics.A(moved), request.y, moved, lam)) > at


# ---------------------------------------------------------------------- tomography
def test_fbp_inverts_180_noiseless_views_and_falls_with_fewer() -> None:
    data = datasets.get("phantom")
    heads = torch.stack([torch.from_numpy(data.sample("test", i)["image"]) for i in data.ids("test")[:6]])
    values = []
    for views in (180, 60, 30):
        physics = operators.make((1, 64, 64), {"operator": "parallel-beam", "views": views, "sigma": 0.0}, keyed("ct"))
        request = Request(
            "reconstruct",
            {"y": physics.A(heads), "physics": physics, "noise_level": 0.0},
            n=6, rng=Rng([0] * 6), returns=Returns("image", (1, 64, 64), (0.0, 1.0)),
        )  # fmt: skip
        mse = (FBP().reconstruct(request).clamp(0, 1) - heads).square().mean((1, 2, 3))
        values.append(float((-10 * torch.log10(mse)).mean()))
    assert values[0] > 25 and values[0] > values[1] > values[2]


def test_hann_window_passes_a_constant_and_stops_the_highest_frequency() -> None:
    n = 64
    flat = torch.ones(1, 1, n, 2)
    assert torch.allclose(FBP.smoothed(flat)[:, :, 8:-8], flat[:, :, 8:-8], atol=0.02)
    assert FBP.smoothed(flat * (-1.0) ** torch.arange(n)[:, None])[:, :, 8:-8].abs().max() < 0.02


def test_fbp_refuses_other_operators() -> None:
    _, _, request = asked("inverse/photos-deblur", 1)
    with pytest.raises(RunError, match="parallel-beam"):
        FBP().reconstruct(request)
    with pytest.raises(RunError, match="accepted: ramp, hann"):
        FBP("boxcar")


# ---------------------------------------------------------------------- rows of the board
def test_zero_filled_is_what_its_description_says() -> None:
    _, _, request = asked("inverse/photos-deblur", 2)
    assert torch.equal(ZeroFilled().reconstruct(request), request.y)
    for task_id in ("inverse/photos-inpaint", "inverse/photos-cs25"):
        _, _, request = asked(task_id, 2)
        assert torch.allclose(ZeroFilled().reconstruct(request), request.physics.A_adjoint(request.y), atol=1e-4)


@pytest.mark.parametrize("task_id", TASKS)
def test_tv_fista_beats_doing_nothing(task_id: str) -> None:
    assert score(task_id, TVFista(0.05, iterations=60), 3) > score(task_id, ZeroFilled(), 3) + 1


@pytest.mark.parametrize("task_id", TASKS)
@pytest.mark.parametrize(
    "make", [ZeroFilled, lambda: TVFista(0.2, iterations=20), lambda: DPIR(lambda x, s: x / (1 + s**2))], ids=["zero", "tv", "dpir"]
)
def test_an_answer_does_not_depend_on_the_batch(task_id: str, make) -> None:  # type: ignore[no-untyped-def]
    _, _, request = asked(task_id, 3)
    together = make().reconstruct(request)
    for k in range(3):
        task = registry.get(task_id)
        i = task.ids("dev")[k]
        alone = make().reconstruct(task.request([task.observe("dev", i)], Rng.for_samples([i], "test")))
        assert torch.allclose(alone[0], together[k], atol=2e-5)


def test_turns_are_undone() -> None:
    x = torch.arange(24.0).reshape(1, 1, 4, 6)
    seen = set()
    for k in range(8):
        assert torch.equal(turned_back(turned(x, k), k), x)
        seen.add(tuple(turned(x, k).flatten().tolist()))
    assert len(seen) == 8
