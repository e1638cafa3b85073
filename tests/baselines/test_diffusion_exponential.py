"""Phi functions and exponential steps against quadrature, and dynamic thresholding against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from scorebench.baselines.diffusion.exact import of_dataset
from scorebench.baselines.diffusion.exponential import Node, Step, differences, node_at_lambda, nodes, phi
from scorebench.baselines.diffusion.prior import Guided
from scorebench.baselines.diffusion.schedule import EDM, Flow, Schedule, VPCosine, VPLinear
from scorebench.baselines.diffusion.thresholding import Thresholded, dynamic_threshold

SCHEDULES: list[Schedule] = [VPLinear(), VPCosine(), EDM(), Flow()]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("z", [-40.0, -3.0, -1.0, -0.999, -1e-3, -1e-12, 0.0, 1e-9, 0.3, 1.0, 5.0])
def test_phi_is_its_integral(order: int, z: float) -> None:
    value, _ = quad(lambda u: math.exp((1 - u) * z) * u ** (order - 1) / math.factorial(order - 1), 0, 1, epsabs=1e-13, epsrel=1e-12)
    assert phi(order, z) == pytest.approx(value, rel=1e-9)
    assert phi(0, z) == math.exp(z)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("kind", ["noise", "data"])
def test_steps_integrate_polynomials_exactly(schedule: Schedule, kind: str) -> None:
    """With a quadratic prediction in lambda, one step with its derivatives is the exact integral, here by quadrature."""
    s, t = node_at_lambda(schedule, -0.7), node_at_lambda(schedule, 0.9)
    assert s.lam == pytest.approx(-0.7) and s.kappa == pytest.approx(math.exp(0.7))
    c = [0.3, -1.1, 0.6]

    def slope(lam: float) -> float:
        return sum(c[n] * (lam - s.lam) ** n for n in range(3))

    sign = -1 if kind == "noise" else 1
    part, _ = quad(lambda lam: math.exp(sign * lam) * slope(lam), s.lam, t.lam, epsabs=1e-12, epsrel=1e-12)
    wanted = t.alpha / s.alpha * 2.0 - t.alpha * part if kind == "noise" else t.sigma / s.sigma * 2.0 + t.sigma * part
    terms = [torch.tensor([v], dtype=torch.float64) for v in (c[0], c[1], 2 * c[2])]
    got = Step(s, t, kind).advance(torch.tensor([2.0], dtype=torch.float64), *terms)  # type: ignore[arg-type]
    assert got.item() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_step_to_the_data_lands_on_the_prediction(schedule: Schedule) -> None:
    s, end = nodes(schedule, torch.tensor([0.4, 0.0], dtype=torch.float64))
    x, eps = torch.tensor([1.3], dtype=torch.float64), torch.tensor([0.8], dtype=torch.float64)
    data = (x - s.sigma * eps) / s.alpha
    assert torch.allclose(Step(s, end, "noise").advance(x, eps), data, rtol=1e-12)
    assert torch.allclose(Step(s, end, "data").advance(x, data), data, rtol=1e-12)
    with pytest.raises(ValueError, match="order 1"):
        Step(s, end, "data").weight(2)


def test_both_forms_are_ddim_at_order_one() -> None:
    schedule = VPCosine()
    s, t = nodes(schedule, torch.tensor([0.8, 0.5], dtype=torch.float64))
    x, eps = torch.tensor([1.3], dtype=torch.float64), torch.tensor([0.8], dtype=torch.float64)
    data = (x - s.sigma * eps) / s.alpha
    ddim = t.alpha * data + t.sigma * eps
    assert torch.allclose(Step(s, t, "noise").advance(x, eps), ddim, rtol=1e-12)
    assert torch.allclose(Step(s, t, "data").advance(x, data), ddim, rtol=1e-12)


def test_differences_are_exact_for_polynomials() -> None:
    lams = [0.4, 0.1, -0.5]
    line = [torch.tensor([3.0 - 2.0 * v]) for v in lams]
    assert torch.allclose(differences(lams[:2], line[:2])[0], torch.tensor([-2.0]), rtol=1e-5)
    curve = [torch.tensor([1 + 0.5 * v - 0.7 * v**2], dtype=torch.float64) for v in lams]
    first, second = differences(lams, curve)
    assert first.item() == pytest.approx(0.5 - 1.4 * 0.4) and second.item() == pytest.approx(-1.4)


# ------------------------------------------------------------------ dynamic thresholding
def test_thresholding_is_its_definition() -> None:
    x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 0.5, 1.0, 2.0, 8.0]).reshape(-1, 1, 1, 1)
    got = dynamic_threshold(x, 0.9).numpy()
    for row, out in zip(x.numpy(), got, strict=True):
        q = max(float(np.quantile(np.abs(row), 0.9)), 1.0)
        np.testing.assert_allclose(out, np.clip(row, -q, q) / q, rtol=1e-5)
    assert np.abs(got).max() <= 1
    assert torch.equal(dynamic_threshold(x[:1], 0.9), x[:1])  # nothing to do for what is in range


def test_thresholding_in_another_range_is_the_same() -> None:
    x = torch.randn(4, 10, generator=torch.Generator().manual_seed(1)) * 3
    assert torch.allclose(dynamic_threshold((x + 1) / 2, 0.95, (0.0, 1.0)), (dynamic_threshold(x, 0.95) + 1) / 2, atol=1e-6)


def test_a_thresholded_prior() -> None:
    base = of_dataset("gmm2d")
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.equal(Thresholded(base).denoised(x, 0.3), base.denoised(x, 0.3))  # points have no range
    base.span = (-0.5, 0.5)
    prior, t = Thresholded(base, 0.9), torch.tensor(0.3, dtype=torch.float64)
    data, eps = prior.denoised(x, t), prior.noise(x, t)
    assert data.abs().max() <= 0.5 and base.denoised(x, t).abs().max() > 0.5
    assert torch.allclose(base.schedule.alpha(t) * data + base.schedule.sigma(t) * eps, x)
    assert Thresholded(Guided(base, 3.0)).evaluations == 2
    with pytest.raises(ValueError, match="quantile"):
        Thresholded(base, 0.0)


def test_nodes_hold_the_schedule() -> None:
    schedule = VPLinear()
    t = torch.tensor([1.0, 0.3], dtype=torch.float64)
    for node, time in zip(nodes(schedule, t), t, strict=True):
        assert isinstance(node, Node) and node.time == time
        assert node.alpha == schedule.alpha(time).item() and node.lam == pytest.approx(schedule.lam(time).item())
