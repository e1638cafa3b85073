"""One throw-away method of every kind that later methods need, through the real contracts and the real evaluator.

Gradient guidance, per-image optimisation, quantisation of a clone, two priors, editing with a source image, a watermark embedded and
detected, a policy asked step by step, a student distilled from a teacher. Each reaches a result that a method of another kind could not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorebench.baselines import components
from scorebench.baselines.diffusion.exact import GaussianMixturePrior, of_dataset
from scorebench.baselines.diffusion.grids import time_grid
from scorebench.baselines.diffusion.prior import Prior
from scorebench.baselines.diffusion.sampling import begin
from scorebench.baselines.diffusion.trained import TrainedPrior
from scorebench.baselines.generation.ddim import DDIM
from scorebench.baselines.method import Method, Request, clone
from scorebench.harness.build import fingerprint, freeze, trained_state
from scorebench.harness.evaluator import Outcome, evaluate
from scorebench.harness.training import fit
from scorebench.tasks import registry
from scorebench.tasks.base import Observation, Task
from scorebench.tasks.finite import FiniteSet
from scorebench.tasks.metrics.base import Metric
from scorebench.tasks.requests import Budget, NotGiven, Returns, check_answer
from scorebench.tasks.spec import TaskSpec

SHAPE = (1, 4, 4)


class Distance(Metric):
    """Mean squared difference to the target ``clean``."""

    name, title, level, higher_is_better = "mse", "toy", "sample", False

    def identity(self) -> str:
        return "toy-mse"

    def per_sample(self, answer: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        return (answer.double() - target["clean"].double()).square().flatten(1).mean(1)


class Toy(Task):
    """A task whose observations come from a function of (key, index); ``ability``, ``gives`` and ``returns`` are free."""

    def __init__(self, ability: str, gives: Sequence[str], returns: dict[str, Any], observe: Any, count: int = 12, train: Any = None) -> None:
        super().__init__(TaskSpec(
            f"denoising/kinds-{ability}", 1, "toy", "denoising", "gmm2d", ability, tuple(gives), returns, {"mse": {}}, "mse", "none",
            splits={"test": "test"}, budgets={"default": {}}, train=train, batch_size=5,
        ))  # fmt: skip
        self.make, self.count = observe, count

    def ids(self, split: str = "test") -> list[str]:
        return [f"q{i:02d}" for i in range(self.count)]

    def observe(self, split: str, sample_id: str, draw: int = 0) -> Observation:
        given, target = self.make(self.keyed(split, sample_id, draw, "toy"), int(sample_id[1:]))
        return Observation(sample_id, sample_id, given, target)

    def _observe(self, sample: Any, split: str, draw: int) -> Observation:
        raise AssertionError("observe is overridden")

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        return {"mse": Distance()}

    def training_set(self, trains_on: str, seed: int) -> FiniteSet:
        assert trains_on == "clean"
        return FiniteSet({"target": torch.from_numpy(np.random.default_rng(0).standard_normal((500, 2)).astype(np.float32))})


def tensor(array: Any) -> Tensor:
    return torch.as_tensor(np.asarray(array, dtype=np.float32))


def templates() -> GaussianMixturePrior:
    """Two kinds of 4x4 picture, known exactly: bright left half and bright top half."""
    left, top = np.zeros((4, 4)), np.zeros((4, 4))
    left[:, :2], top[:2] = 1, 1
    means = np.stack([left.ravel(), top.ravel()])
    prior = GaussianMixturePrior([0.5, 0.5], means, np.tile(0.02 * np.eye(16), (2, 1, 1)), shape=SHAPE)
    return freeze(prior)  # type: ignore[return-value]


def same_at_any_batch_size(method: Any, task: Task, **options: Any) -> Outcome:
    """Evaluate at two batch sizes; what each sample gets must not depend on it."""
    one, many = (evaluate(method, task, batch_size=b, **options) for b in (1, 5))
    np.testing.assert_allclose(one.per_sample["mse"], many.per_sample["mse"], rtol=1e-4, atol=1e-6)
    assert one.cost["nfe"] == many.cost["nfe"] and one.cost["backward"] == many.cost["backward"]
    return many


# ------------------------------------------------------------------ 1. guidance by the gradient of the measurement
class GradientGuidance(Method):
    """Posterior sampling with the gradient of |y - A x_0(x_t)|^2 through the prior."""

    needs_grad = True

    def __init__(self, prior: Prior, strength: float = 1.0) -> None:
        super().__init__()
        self.prior, self.strength = prior, strength

    def reconstruct(self, request: Request) -> Tensor:
        walk = begin(request, self.prior, steps=20)
        x, schedule = walk.x, self.prior.schedule
        for t, s in walk.steps():
            x = x.detach().requires_grad_(True)
            data, eps = walk.both(x, t)
            misfit = (request.y - request.mask * data).square().flatten(1).sum(1)
            (gradient,) = torch.autograd.grad(misfit.sum(), x)
            step = self.strength / misfit.detach().sqrt().clamp_min(1e-6).reshape(-1, 1, 1, 1)
            self.diagnose("misfit", misfit.detach())
            x = schedule.alpha(s) * data + schedule.sigma(s) * eps - step * gradient
        return x.detach()


def masked(prior: Prior) -> Toy:
    """Three of sixteen pixels are seen; the class of the picture follows from them."""

    def observe(rng: np.random.Generator, i: int) -> tuple[dict, dict]:
        mean = prior.network.means[i % 2].numpy().reshape(SHAPE)
        clean = mean + 0.02**0.5 * rng.standard_normal(SHAPE)
        mask = np.zeros(SHAPE)
        mask[0, 0, 3] = mask[0, 3, 0] = mask[0, 1, 2] = 1
        return {"y": tensor(mask * clean), "mask": tensor(mask)}, {"clean": tensor(clean)}

    return Toy("reconstruct", ["y", "mask"], {"kind": "image", "shape": list(SHAPE)}, observe)


def test_gradient_guidance() -> None:
    prior = templates()
    guided = same_at_any_batch_size(GradientGuidance(prior), masked(prior))
    blind = evaluate(GradientGuidance(prior, strength=0.0), masked(prior))
    assert np.median(guided.per_sample["mse"]) < 0.12 < 0.25 < np.mean(blind.per_sample["mse"])
    assert guided.cost["nfe"] == 20 and guided.cost["backward"] == 20
    assert guided.diagnostics["misfit"].shape == (12,)
    assert not prior.network.means.requires_grad


def test_gradients_are_off_unless_asked_for() -> None:
    class Silent(GradientGuidance):
        needs_grad = False

    prior = templates()
    with pytest.raises(RuntimeError, match="does not require grad"):
        evaluate(Silent(prior), masked(prior))


# ------------------------------------------------------------------ 2. optimisation per image, with intermediates handed back
class ImagePrior(Method):
    """A network fitted to each noisy picture alone; intermediates are offered to a stopping oracle."""

    needs_grad = True
    one_at_a_time = True

    def denoise(self, request: Request) -> Tensor:
        # weights come from the global generator, which the evaluator seeds per sample
        network = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 1, 3, padding=1))
        code = request.rng.at("code").normal((2, *request.noisy.shape[2:]))
        optimiser = torch.optim.Adam(network.parameters(), 0.03)
        for k in range(30):
            optimiser.zero_grad()
            out = network(code)
            (out - request.noisy).square().mean().backward()
            optimiser.step()
            if k % 10 == 9:
                self.offer("iterate", out)
        return out.detach()


def noisy_pictures() -> Toy:
    def observe(rng: np.random.Generator, i: int) -> tuple[dict, dict]:
        clean = np.full((1, 8, 8), rng.random())
        return {"noisy": tensor(clean + 0.1 * rng.standard_normal(clean.shape))}, {"clean": tensor(clean)}

    return Toy("denoise", ["noisy"], {"kind": "image"}, observe, count=4)


def test_per_image_optimisation() -> None:
    torch.manual_seed(123)
    out = evaluate(ImagePrior(), noisy_pictures(), batch_size=4)
    assert out.cost["batch_size"] == 1
    assert out.offered["iterate"].shape == (4, 3)
    # what came out last is what was answered, so the oracle's last value is the score
    np.testing.assert_allclose(out.offered["iterate"][:, -1], out.per_sample["mse"], rtol=1e-5)
    torch.manual_seed(321)  # neither the global generator nor the order of the samples matters
    alone = evaluate(ImagePrior(), noisy_pictures(), ids=["q02"])
    assert alone.per_sample["mse"][0] == out.per_sample["mse"][2]


# ------------------------------------------------------------------ 3. a changed clone of a component
class Quantised(Method):
    """DDIM on a copy of the prior whose weights are rounded to ``bits`` bits."""

    def __init__(self, prior: Prior, bits: int = 3, in_place: bool = False) -> None:
        super().__init__()
        self.prior = prior
        self.rounded = prior if in_place else freeze(clone(prior))
        with torch.no_grad():
            for p in self.rounded.parameters():
                step = p.abs().max() / (2 ** (bits - 1) - 1)
                p.copy_((p / step).round() * step)

    def sample(self, request: Request) -> Tensor:
        return DDIM(self.rounded).sample(request)  # type: ignore[arg-type]


def network_prior() -> TrainedPrior:
    torch.manual_seed(0)
    prior = TrainedPrior((2,), network="mlp", network_options={"width": 16, "depth": 1, "embedding": 16}, scale=1.0, shift=0.0)
    for p in prior.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return freeze(prior)  # type: ignore[return-value]


def drawn(count: int = 10) -> Toy:
    return Toy("sample", [], {"kind": "points", "shape": [2]}, lambda rng, i: ({}, {"clean": torch.zeros(2)}), count)


def test_a_clone_may_change_and_the_original_does_not() -> None:
    prior = network_prior()
    before = fingerprint(prior)
    method = Quantised(prior)
    assert all(torch.unique(p).numel() <= 8 for p in method.rounded.parameters())
    out = same_at_any_batch_size(method, drawn(), budget=Budget("nfe7", 7))
    assert out.cost["nfe"] == 7, "the clone's evaluations count"
    assert fingerprint(prior) == before
    plain = evaluate(DDIM(prior), drawn(), budget=Budget("nfe7", 7))
    assert not np.allclose(plain.per_sample["mse"], out.per_sample["mse"])
    Quantised(prior, in_place=True)
    assert fingerprint(prior) != before, "a component changed in place is noticed by its fingerprint"


# ------------------------------------------------------------------ 4. two priors
class TwoPriors(Method):
    """Samples the geometric mean of two densities: the mean of two scores, two evaluations a step."""

    def __init__(self, prior: Prior, second: Prior) -> None:
        super().__init__()
        self.prior, self.second = prior, second

    def sample(self, request: Request) -> Tensor:
        assert request.budget.nfe is not None
        schedule = self.prior.schedule
        x = self.prior.start(request.rng.at("x_T").normal(self.prior.shape))
        times = time_grid(schedule, request.budget.nfe // 2)
        for t, s in pairwise(times):
            eps = 0.5 * (self.prior.noise(x, t) + self.second.noise(x, t))
            x = schedule.alpha(s) * (x - schedule.sigma(t) * eps) / schedule.alpha(t) + schedule.sigma(s) * eps
        return x


def test_two_priors() -> None:
    spec = registry.get_spec("generation/gmm2d")
    needs = {"prior": {"form": "vp", "data": "task"}, "second": {"id": "gmm2d-uneven"}}
    ids = {role: components.resolve(role, need, spec, "two-priors") for role, need in needs.items()}
    assert ids == {"prior": "gmm2d", "second": "gmm2d-uneven"}
    method = TwoPriors(**{role: freeze(of_dataset(i)) for role, i in ids.items()})  # type: ignore[arg-type]
    out = same_at_any_batch_size(method, drawn(), budget=Budget("nfe20", 20))
    assert out.cost["nfe"] == 20

    # the two Gaussians' geometric mean is known: precision-weighted, here the midpoint
    def gaussian(m: float) -> Prior:
        return freeze(GaussianMixturePrior([1.0], [[m, 0.0]], [0.25 * np.eye(2)]))  # type: ignore[return-value]

    pair = TwoPriors(gaussian(-1.0), gaussian(2.0))
    task = drawn(400)
    answers = evaluate(pair, task, budget=Budget("nfe80", 80), batch_size=200, keep=lambda _: True).answers
    points = np.stack([answers[i] for i in task.ids()]).astype(np.float64)
    assert points.mean(0) == pytest.approx([0.5, 0.0], abs=0.15)


# ------------------------------------------------------------------ 5. editing a source image
class Edit(Method):
    """SDEdit with a class: noise the source to time ``t``, denoise towards the label that is asked for."""

    def __init__(self, prior: Prior, strength: float = 0.8, steps: int = 20) -> None:
        super().__init__()
        self.prior, self.strength, self.steps = prior, strength, steps

    def edit(self, request: Request) -> Tensor:
        schedule = self.prior.schedule
        times = torch.linspace(self.strength, 0, self.steps + 1, dtype=torch.float64)
        noise = request.rng.at("noise").normal(self.prior.shape)
        x = schedule.add_noise(self.prior.encode(request.source), noise, times[0])
        cond = self.prior.condition(request)
        for t, s in pairwise(times):
            data = self.prior.denoised(x, t, cond)
            x = schedule.alpha(s) * data + schedule.sigma(s) * (x - schedule.alpha(t) * data) / schedule.sigma(t)
        return self.prior.decode(x)


def test_editing_with_a_source_image() -> None:
    prior = templates()
    means = prior.network.means.float().reshape(2, *SHAPE)

    def observe(rng: np.random.Generator, i: int) -> tuple[dict, dict]:
        source = means[i % 2].numpy() + 0.1 * rng.standard_normal(SHAPE)
        return {"source": tensor(source), "label": torch.tensor(1 - i % 2)}, {"clean": means[1 - i % 2]}

    task = Toy("edit", ["source", "label"], {"kind": "image", "shape": list(SHAPE)}, observe)
    assert same_at_any_batch_size(Edit(prior), task).per_sample["mse"].max() < 0.06  # the other class, within its spread
    faint = evaluate(Edit(prior, strength=0.05), task)
    assert faint.per_sample["mse"].min() > 0.12, "little noise leaves the source as it was"


# ------------------------------------------------------------------ 6. a watermark: two abilities of one method, an attack in between
class Watermark(Method):
    """Spread spectrum: adds +- a keyed pattern per bit; detects by correlation."""

    def __init__(self, strength: float = 0.5) -> None:
        super().__init__()
        self.strength = strength

    def patterns(self, key: int, bits: int, shape: tuple[int, ...]) -> Tensor:
        size = int(np.prod(shape))
        random = torch.randn(size, bits, generator=torch.Generator().manual_seed(key))
        flat = torch.cat([torch.ones(size, 1), random], 1)  # orthogonal to a constant picture, and to each other
        return torch.linalg.qr(flat).Q[:, 1:].T.reshape(bits, *shape)

    def embed(self, request: Request) -> Tensor:
        signs = 2 * request.message.float() - 1
        patterns = self.patterns(request.key, request.message.shape[1], tuple(request.image.shape[1:]))
        return request.image + self.strength * torch.einsum("nb,bchw->nchw", signs, patterns)

    def detect(self, request: Request) -> Tensor:
        assert request.returns.shape is not None
        patterns = self.patterns(request.key, request.returns.shape[0], tuple(request.image.shape[1:]))
        return torch.einsum("nchw,bchw->nb", request.image, patterns)


class WatermarkTask(Toy):
    """Embeds a message, adds noise to the picture, asks for the message; the detector is not shown it."""

    BITS = 4

    def __init__(self) -> None:
        def observe(rng: np.random.Generator, i: int) -> tuple[dict, dict]:
            bits = rng.integers(0, 2, self.BITS)
            given = {"image": torch.full((1, 8, 8), 0.5), "message": torch.as_tensor(bits), "key": 7}
            return given, {"clean": tensor(2.0 * bits - 1), "attack": tensor(0.05 * rng.standard_normal((1, 8, 8)))}

        super().__init__("embed", ["image", "message", "key"], {"kind": "scores", "shape": [self.BITS]}, observe)

    def ask(self, method: Any, request: Request, observations: Sequence[Observation]) -> Tensor:
        marked = request.then("embed", Returns("image", (1, 8, 8)), image=request.image, message=request.message, key=request.key)
        picture = check_answer(method.embed(marked), marked) + self.target(observations)["attack"]
        return method.detect(request.then("detect", self.returns(), image=picture, key=request.key)).sign()


def test_watermark_embed_and_detect() -> None:
    out = same_at_any_batch_size(Watermark(), WatermarkTask())
    assert out.per_sample["mse"].max() == 0, "every bit is read back"
    assert evaluate(Watermark(strength=0.0), WatermarkTask()).per_sample["mse"].mean() > 1, "about half of them without a mark"

    class Peeks(Watermark):
        def detect(self, request: Request) -> Tensor:
            return 2.0 * request.message - 1

    with pytest.raises(NotGiven, match="does not give 'message'; it gives image, key"):
        evaluate(Peeks(), WatermarkTask())


# ------------------------------------------------------------------ 7. a policy, asked at every step
class Policy(Method):
    """Walks towards the goal by at most ``speed`` a step, with a little noise of its own."""

    def __init__(self, speed: float = 0.5) -> None:
        super().__init__()
        self.speed = speed

    def act(self, request: Request) -> Tensor:
        way = request.goal - request.state
        return way * (self.speed / way.norm(dim=1, keepdim=True).clamp_min(self.speed)) + 1e-3 * request.rng.at("action").normal((2,))


class Episode(Toy):
    """A point in the plane is steered for 10 steps; the answer is the trajectory, scored by where it ends."""

    STEPS = 10

    def __init__(self) -> None:
        def observe(rng: np.random.Generator, i: int) -> tuple[dict, dict]:
            goal = rng.uniform(-2, 2, 2)
            return {"state": torch.zeros(2), "goal": tensor(goal)}, {"clean": tensor(goal)}

        super().__init__("act", ["state", "goal"], {"kind": "trajectory", "shape": [self.STEPS + 1, 2]}, observe)

    def ask(self, method: Any, request: Request, observations: Sequence[Observation]) -> Tensor:
        path = [request.state]
        for _ in range(self.STEPS):
            asked = request.then("act", Returns("trajectory", (2,)), state=path[-1], goal=request.goal)
            path.append(path[-1] + check_answer(method.act(asked), asked).clamp(-1, 1))
        return torch.stack(path, 1)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        class Last(Distance):
            def per_sample(self, answer: Tensor, target: Mapping[str, Tensor]) -> Tensor:
                return super().per_sample(answer[:, -1], target)

        return {"mse": Last()}


def test_a_policy_is_asked_step_by_step() -> None:
    assert same_at_any_batch_size(Policy(), Episode()).per_sample["mse"].max() < 1e-4
    assert evaluate(Policy(speed=0.01), Episode()).per_sample["mse"].mean() > 0.3


# ------------------------------------------------------------------ 8. a student distilled from a teacher
class Student(Method):
    """One network evaluation, trained on what the teacher makes of the same noise in many."""

    train_batch_size = 64

    def __init__(self, teacher: Prior, width: int = 32) -> None:
        super().__init__()
        self.teacher = teacher
        self.network = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, 2))

    def networks(self) -> Iterator[nn.Module]:
        yield self.network  # type: ignore[misc]  # the teacher is not asked at inference

    def teach(self, z: Tensor) -> Tensor:
        schedule, x = self.teacher.schedule, self.teacher.start(z)
        times = time_grid(schedule, 6)
        with torch.no_grad():
            for t, s in pairwise(times):
                eps = self.teacher.noise(x, t)
                x = schedule.alpha(s) * (x - schedule.sigma(t) * eps) / schedule.alpha(t) + schedule.sigma(s) * eps
        return x

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        assert self.network is not None
        z = torch.randn_like(batch["target"])
        return (self.network(z) - self.teach(z)).square().mean()

    def configure_optimizers(self) -> Any:
        assert self.network is not None
        return torch.optim.Adam(self.network.parameters(), 1e-2)

    def sample(self, request: Request) -> Tensor:
        assert self.network is not None
        return self.network(request.rng.at("x_T").normal((2,)))


def test_a_student_learns_from_a_teacher() -> None:
    teacher = freeze(GaussianMixturePrior([1.0], [[1.5, -0.5]], [[[0.3, 0.1], [0.1, 0.2]]]))
    before = fingerprint(teacher)
    task = drawn(500)
    student, report = fit(lambda: Student(teacher), task, "clean", gflops=0.015, seed=0)  # type: ignore[arg-type]
    assert report.steps > 50 and report.losses[-1][1] < 0.02 < report.losses[0][1]
    assert fingerprint(teacher) == before and not any(p.requires_grad for p in teacher.parameters())
    assert set(trained_state(student, {"teacher": teacher})) == set(f"network.{n}" for n in student.network.state_dict())
    out = evaluate(student, task, budget=Budget("nfe1", 1), batch_size=100, keep=lambda _: True)
    assert out.cost["nfe"] == 1 and out.cost["params"] == 2 * 32 + 32 + 32 * 2 + 2
    points = np.stack([out.answers[i] for i in task.ids()]).astype(np.float64)
    assert points.mean(0) == pytest.approx([1.5, -0.5], abs=0.12)
    z = torch.randn(200, 2, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        assert (student.network(z) - student.teach(z)).square().mean() < 0.02 < student.teach(z).var(0).mean()
