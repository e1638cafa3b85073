"""Schedules, conversions and time grids: round trips, monotonicity, limits, in float64 and float32."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorebench.baselines.diffusion.conversions import FORMS, convert
from scorebench.baselines.diffusion.grids import GRIDS, time_grid
from scorebench.baselines.diffusion.schedule import EDM, Flow, Schedule, VPCosine, VPDiscrete, VPLinear, make

SCHEDULES: dict[str, Schedule] = {
    "vp-linear": VPLinear(),
    "vp-cosine": VPCosine(),
    "ddpm": VPDiscrete.linear(),
    "edm": EDM(),
    "flow": Flow(t_max=0.999),
}
every = pytest.mark.parametrize("name", SCHEDULES)
PARTS = st.floats(0.0, 1.0, allow_nan=False)
QUICK = settings(max_examples=60, deadline=None)


def inside(schedule: Schedule, part: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A time between t_min and t_max."""
    return torch.tensor(schedule.t_min + part * (schedule.t_max - schedule.t_min), dtype=dtype)


@every
@QUICK
@given(part=PARTS)
def test_lambda_inverts_in_float64(name: str, part: float) -> None:
    schedule = SCHEDULES[name]
    t = inside(schedule, part)
    assert schedule.t_of_lam(schedule.lam(t)).item() == pytest.approx(t.item(), rel=1e-9, abs=1e-12)


@every
@QUICK
@given(part=PARTS)
def test_lambda_inverts_in_float32(name: str, part: float) -> None:
    """The error of t is that of one rounding of lambda, carried through the slope: no digits are lost on top of that."""
    schedule = SCHEDULES[name]
    t = inside(schedule, part, torch.float32)
    lam = schedule.lam(t)
    lam64 = schedule.lam(t.double())
    assert lam.dtype == torch.float32
    assert abs(lam.item() - lam64.item()) <= 4e-6 * max(1.0, abs(lam64.item()))
    again = schedule.lam(schedule.t_of_lam(lam).double())
    assert abs(again.item() - lam.item()) <= 2e-5 * max(1.0, abs(lam.item()))


@every
@QUICK
@given(part=PARTS)
def test_lambda_is_log_of_the_ratio_and_vp_preserves_variance(name: str, part: float) -> None:
    schedule = SCHEDULES[name]
    t = inside(schedule, part)
    a, s = schedule.alpha(t), schedule.sigma(t)
    assert schedule.lam(t).item() == pytest.approx(math.log(a) - math.log(s), rel=1e-9, abs=1e-9)
    assert schedule.kappa(t).item() == pytest.approx(s.item() / a.item(), rel=1e-12)
    if name in ("vp-linear", "vp-cosine", "ddpm"):
        assert (a**2 + s**2).item() == pytest.approx(1, abs=1e-12)


@every
@QUICK
@given(part=PARTS)
def test_derivatives_agree_with_autograd(name: str, part: float) -> None:
    schedule = SCHEDULES[name]
    t = inside(schedule, 0.001 + 0.998 * part).requires_grad_(True)
    for value, slope in ((schedule.alpha(t), schedule.d_alpha(t)), (schedule.sigma(t), schedule.d_sigma(t))):
        if value.requires_grad:  # alpha of EDM is constant
            (wanted,) = torch.autograd.grad(value, t, retain_graph=True, allow_unused=True)
            assert slope.item() == pytest.approx(0.0 if wanted is None else wanted.item(), rel=1e-8, abs=1e-10)
        else:
            assert slope.item() == 0


@every
def test_monotone_and_limits(name: str) -> None:
    schedule = SCHEDULES[name]
    t = torch.linspace(schedule.t_min, schedule.t_max, 4001, dtype=torch.float64)
    assert (schedule.lam(t).diff() < 0).all()
    assert (schedule.sigma(t).diff() > 0).all()
    assert (schedule.alpha(t).diff() <= 0).all()
    zero = torch.zeros((), dtype=torch.float64)
    assert schedule.alpha(zero).item() == 1
    assert schedule.sigma(zero).item() == 0
    assert schedule.lam(zero).item() == math.inf
    assert not torch.isnan(schedule.t_of_lam(torch.tensor([-30.0, 30.0]))).any()


@pytest.mark.parametrize("name", ["vp-linear", "vp-cosine"])
def test_float32_keeps_its_digits_at_both_ends(name: str) -> None:
    schedule = SCHEDULES[name]
    for value in (1e-6, 1e-4, 1e-2, 0.5, 0.99):
        t32 = torch.tensor(value, dtype=torch.float32)
        for f in (schedule.sigma, schedule.alpha):
            exact = f(t32.double()).item()
            # log alpha near the noisy end amplifies the rounding of t by its own size
            assert f(t32).item() == pytest.approx(exact, rel=1e-5)


def test_known_values() -> None:
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    # integral of beta over [0, 1] is 10.05
    assert VPLinear().alpha(t)[2].item() == pytest.approx(math.exp(-10.05 / 2), rel=1e-12)
    assert float(VPLinear().kappa(t[2])) == pytest.approx(math.sqrt(math.exp(10.05) - 1), rel=1e-9)  # 152, Karras et al., table 1
    # the discrete table approaches the continuous one; log(1 - beta) against -beta leaves sum beta^2 / 4 = 0.034 at the end
    assert VPDiscrete.linear().alpha(t[1:]).tolist() == pytest.approx(VPLinear().alpha(t[1:]).tolist(), rel=4e-2)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    table = VPDiscrete.linear()
    knots = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    assert torch.allclose(table.alpha(knots) ** 2, torch.cumprod(1 - betas, 0), rtol=1e-12)
    assert torch.allclose(table.step(knots), torch.arange(1000, dtype=torch.float64), atol=1e-9)
    cosine = VPCosine()
    f = [math.cos((v + 0.008) / 1.008 * math.pi / 2) ** 2 for v in (0.0, 0.3)]
    assert cosine.alpha(torch.tensor(0.3, dtype=torch.float64)).item() ** 2 == pytest.approx(f[1] / f[0], rel=1e-12)


def test_bad_tables_and_names_are_refused() -> None:
    for bad in ((0.5,), (0.5, 0.6), (1.0, 0.5), (0.5, 0.0)):
        with pytest.raises(ValueError, match="strictly decreasing"):
            VPDiscrete(alpha_bar=bad)
    with pytest.raises(ValueError, match="accepted: vp-linear"):
        make("linear")


@every
@QUICK
@given(part=st.floats(0.01, 0.99), source=st.sampled_from(FORMS), target=st.sampled_from(FORMS), seed=st.integers(0, 9))
def test_conversions_agree_with_the_definition_and_invert(name: str, part: float, source: str, target: str, seed: int) -> None:
    schedule = SCHEDULES[name]
    t = inside(schedule, part)
    g = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(3, 4, generator=g, dtype=torch.float64), torch.randn(3, 4, generator=g, dtype=torch.float64)
    a, s = schedule.alpha(t), schedule.sigma(t)
    x = a * x0 + s * eps
    forms = {
        "data": x0, "noise": eps, "score": -eps / s, "v": a * eps - s * x0,
        "velocity": schedule.d_alpha(t) * x0 + schedule.d_sigma(t) * eps,
    }  # fmt: skip
    got = convert(forms[source], x, t, schedule, source, target)  # type: ignore[arg-type]
    assert torch.allclose(got, forms[target], rtol=1e-6, atol=1e-6)
    back = convert(got, x, t, schedule, target, source)  # type: ignore[arg-type]
    assert torch.allclose(back, forms[source], rtol=1e-6, atol=1e-6)


def test_conversion_takes_one_time_per_sample() -> None:
    schedule, g = VPLinear(), torch.Generator().manual_seed(0)
    x, p = torch.randn(3, 1, 2, 2, generator=g), torch.randn(3, 1, 2, 2, generator=g)
    t = torch.tensor([0.1, 0.5, 0.9])
    together = convert(p, x, t, schedule, "v", "noise")
    for i in range(3):
        one = convert(p[i : i + 1], x[i : i + 1], t[i].double(), schedule, "v", "noise")
        assert torch.allclose(together[i : i + 1], one, rtol=1e-5, atol=1e-6)


@every
@pytest.mark.parametrize("kind", GRIDS)
@QUICK
@given(steps=st.integers(1, 60), end=st.sampled_from([0.0, 1.0]))
def test_grids(name: str, kind: str, steps: int, end: float) -> None:
    schedule = SCHEDULES[name]
    stop = end * schedule.t_min
    grid = time_grid(schedule, steps, kind, stop)  # type: ignore[arg-type]
    assert grid.shape == (steps + 1,) and grid.dtype == torch.float64
    assert grid[0].item() == schedule.t_max
    assert grid[-1].item() == pytest.approx(stop, abs=1e-15)
    assert (grid.diff() < 0).all()


def test_grids_are_what_they_are_called() -> None:
    schedule = VPLinear()
    assert torch.allclose(time_grid(schedule, 4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], dtype=torch.float64))
    assert torch.allclose(time_grid(schedule, 4, "quadratic"), torch.tensor([16, 9, 4, 1, 0], dtype=torch.float64) / 16)
    lam = schedule.lam(time_grid(schedule, 5, "uniform-lambda", end=1e-3))
    assert torch.allclose(lam.diff(), lam.diff()[0].expand(5), rtol=1e-6)
    # Karras et al. 2022, eq. 5, on the EDM path itself
    i = torch.arange(6, dtype=torch.float64)
    wanted = (80 ** (1 / 7) + i / 5 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert torch.allclose(time_grid(EDM(), 5, "karras", end=0.002), wanted, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: time_grid(VPLinear(), 0), "at least 1 step"),
        (lambda: time_grid(VPLinear(), 3, end=1.0), "must end inside"),
        (lambda: time_grid(VPLinear(), 3, "log"), "accepted: uniform-t"),  # type: ignore[arg-type]
        (lambda: time_grid(Flow(), 3, "karras"), "finite lambda"),
    ],
)
def test_bad_grids_are_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()


# ------------------------------------------------------------------ remembered scalars
@pytest.mark.parametrize("schedule", [VPLinear(), VPCosine(), EDM(), Flow(), VPDiscrete.linear()], ids=lambda s: type(s).__name__)
def test_remembered_scalars_are_the_computed_ones(schedule: Schedule) -> None:
    """A single time is answered from memory the second time; the answer is that of a tensor of times, and changing it changes nothing."""
    for value in (0.2, 0.7):
        for dtype in (torch.float32, torch.float64):
            one, many = torch.tensor(value, dtype=dtype), torch.tensor([value, 0.5], dtype=dtype)
            for name in ("alpha", "sigma", "lam", "d_alpha", "d_sigma", "t_of_lam"):
                function = getattr(schedule, name)
                first = function(one)
                assert first.dtype == dtype and torch.allclose(first, function(many)[0], rtol=1e-6)
                again = function(one)
                again += 1
                assert torch.equal(function(one), first)


def test_derivatives_are_not_lost_to_memory() -> None:
    """Times that are differentiated, forwards, backwards or under vmap, are computed, although the same values are remembered."""
    schedule = VPCosine()
    t = torch.tensor(0.3, dtype=torch.float64)
    wanted = schedule.d_alpha(t)
    schedule.alpha(t)
    _, forward = torch.func.jvp(schedule.alpha, (t,), (torch.ones_like(t),))
    backward = torch.func.grad(schedule.alpha)(t)
    leaf = t.clone().requires_grad_()
    (reverse,) = torch.autograd.grad(schedule.alpha(leaf), leaf)
    for got in (forward, backward, reverse):
        assert torch.allclose(got, wanted)
    assert torch.allclose(torch.func.vmap(schedule.alpha)(torch.stack([t, t])), schedule.alpha(t))
    x, p = torch.ones(2, 3, dtype=torch.float64), torch.full((2, 3), 0.5, dtype=torch.float64)
    _, slope = torch.func.jvp(lambda u: convert(p, x, u, schedule, "v", "data"), (t,), (torch.ones_like(t),))
    assert torch.allclose(slope, schedule.d_alpha(t) * x - schedule.d_sigma(t) * p)


def test_memory_is_bounded() -> None:
    schedule = VPLinear()
    for t in torch.linspace(0, 1, 9000, dtype=torch.float64):
        schedule.alpha(t)
    assert len(schedule.__dict__["_memory"]) <= 4096
