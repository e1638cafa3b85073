"""DVT: exact recovery of what was planted, mirrored views, what each phase may learn; the controls; the frozen network and its tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scorebench.baselines.denoising.dvt import DVT, DVTStage2, Factors, centres, cleaned, corners, distance, stage1
from scorebench.baselines.denoising.feature_means import PositionMean, ViewAverage
from scorebench.baselines.method import DataSpec
from scorebench.configs.errors import RequestError
from scorebench.datasets.keys import keyed
from scorebench.harness.poison import poisoned
from scorebench.tasks import registry, vit
from scorebench.tasks.vit_features import artefact, classes

PLANTED, NATURAL = "denoising/vit-features-planted", "denoising/vit-features"
C, H = 6, 4


def draw(seed: int):  # type: ignore[no-untyped-def]
    g = torch.Generator().manual_seed(seed)
    return lambda n, k: torch.randint(n, (k,), generator=g)


def synthetic(boxes: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return a smooth field at the tokens of the picture, an artefact, and what a network with that artefact says of picture and views."""
    g = torch.Generator().manual_seed(0)
    table = torch.randn(1, C, 4, 4, generator=g)
    field = lambda p: F.grid_sample(  # noqa: E731
        table.expand(len(p), -1, -1, -1), 2 * p.permute(0, 2, 3, 1) - 1, padding_mode="border", align_corners=False
    )
    star = torch.randn(C, H, H, generator=g)
    star -= star.mean((1, 2), keepdim=True)
    places = vit.places(boxes, H).float()
    clean = field(centres(H, H)[None])[0]
    return clean, star, clean + star, field(places) + star, places


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


# ---------------------------------------------------------------------- stage 1
def split(boxes: np.ndarray, steps: int = 400, wrong_flips: bool = False):  # type: ignore[no-untyped-def]
    clean, star, noisy, views, places = synthetic(boxes)
    if wrong_flips:
        places = vit.places(boxes * np.array([1, 1, 1, 1, 0]), H).float()
    torch.manual_seed(0)
    return clean, star, noisy, stage1(noisy, views, places, draw(1), steps=steps, batch=512, side=12)


def test_a_planted_artefact_is_recovered_up_to_a_constant() -> None:
    clean, star, noisy, parts = split(vit.crops(keyed("b"), 150, (0.25, 1.0)), 900)
    assert correlation(parts.artefact, star) > 0.9995
    assert parts.artefact.mean((1, 2)).abs().max() < 1e-6
    assert (cleaned(noisy, parts, "map") - clean).square().mean() < 1e-3 * star.square().mean()
    assert (cleaned(noisy, parts, "field") - clean).square().mean() < 1e-2 * star.square().mean()


def test_mirrored_views_must_be_mirrored() -> None:
    boxes = vit.crops(keyed("b"), 150, (0.25, 1.0))
    assert 50 < boxes[:, 4].sum() < 100
    right, wrong = (correlation(p.artefact, star) for _, star, _, p in (split(boxes), split(boxes, wrong_flips=True)))
    assert right > 0.99 > 0.97 > wrong


def test_views_that_move_nothing_leave_field_and_artefact_confounded() -> None:
    _, star, _, parts = split(np.repeat(vit.WHOLE, 20, 0))
    assert correlation(parts.artefact, star) < 0.9


def test_the_second_phase_teaches_h_alone_what_is_left_and_does_not_move_the_artefact() -> None:
    torch.manual_seed(0)
    parts = Factors(C, H * H, 8)
    raw, places = torch.randn(32, C), torch.rand(2, 32)
    index, weight = corners(places, 8)
    token = torch.randint(H * H, (32,))
    parts(raw, index, weight, token, False).backward()
    assert parts.artefact.grad is not None and all(p.grad is None for p in parts.residual.parameters())
    parts.zero_grad(set_to_none=True)
    parts(raw, index, weight, token, True).backward()
    got = [p.grad.clone() for p in parts.residual.parameters()]
    assert parts.artefact.grad is None and parts.field.grad is not None
    both = (parts.at(index, weight) + parts.artefact[token]).detach()
    h = parts.residual(raw)
    alone = torch.autograd.grad(0.1 * F.mse_loss(h, raw - both) + 0.02 * h.abs().mean(), list(parts.residual.parameters()))
    for a, b in zip(got, alone, strict=True):
        torch.testing.assert_close(a, b)
    field = parts.field.grad.clone()
    (expected,) = torch.autograd.grad(distance(parts.at(index, weight) + parts.artefact[token].detach() + h.detach(), raw), [parts.field])
    torch.testing.assert_close(field, expected)


def test_the_table_is_read_bilinearly() -> None:
    table, places = torch.randn(5 * 5, C), torch.rand(2, 40)
    index, weight = corners(places, 5)
    grid = 2 * places.T[None, None] - 1
    theirs = F.grid_sample(table.T.reshape(1, C, 5, 5), grid, padding_mode="border", align_corners=False)[0, :, 0].T
    torch.testing.assert_close((table[index] * weight[..., None]).sum(1), theirs)


# ---------------------------------------------------------------------- stage 2 and the controls
def items(n: int) -> list[dict[str, Tensor]]:
    out = []
    for i in range(n):
        clean, star, _, views, places = synthetic(vit.crops(keyed("t", i), 20, (0.25, 1.0)))
        shift = torch.randn(C, H, H, generator=torch.Generator().manual_seed(i))
        out.append({"input": clean + shift + star, "views": views, "places": places})
    return out


def test_stage_2_learns_the_answers_of_stage_1_on_its_scenes() -> None:
    torch.manual_seed(0)
    first = {"stage1_steps": 60, "stage1_batch": 128, "side": 8}
    method = DVTStage2(DataSpec("map", C, (C, H, H)), scenes=3, steps=150, batch=8, lr=1e-2, answer="map", **first)
    torch.manual_seed(5)
    method.learn(items(4))
    torch.manual_seed(5)
    targets = []
    for item in items(3):
        parts = stage1(item["input"], item["views"], item["places"], lambda n, k: torch.randint(n, (k,)), 60, 128, 8)
        targets.append(cleaned(item["input"], parts, "map"))
    got = method.network(torch.stack([i["input"] for i in items(3)])).detach()
    raw = torch.stack([i["input"] for i in items(3)])
    assert F.mse_loss(got, torch.stack(targets)) < 0.1 * F.mse_loss(raw, torch.stack(targets))


def test_the_position_mean_is_that_of_the_scenes_without_its_own_mean() -> None:
    data = items(5)
    method = PositionMean(DataSpec("map", C, (C, H, H)), scenes=3)
    method.learn(data)
    mean = torch.stack([d["input"] for d in data[:3]]).mean(0)
    torch.testing.assert_close(method.mean, mean - mean.mean((1, 2), keepdim=True))


def test_views_of_the_picture_itself_average_to_it_and_an_artefact_averages_out() -> None:
    clean, star, noisy, views, places = synthetic(vit.crops(keyed("v"), 400, (0.25, 1.0)))
    same = ViewAverage.average(torch.zeros_like(clean), clean.expand(7, -1, -1, -1), centres(H, H).expand(7, -1, -1, -1))
    torch.testing.assert_close(same, clean)
    got = ViewAverage.average(noisy, views, places)
    assert (got - clean).square().mean() < 0.5 * star.square().mean()
    none = ViewAverage.average(noisy, views[:1], torch.zeros_like(places[:1]))
    assert torch.equal(none[:, 1:], noisy[:, 1:])


def test_an_unknown_answer_is_one_sentence() -> None:
    with pytest.raises(RequestError, match="accepted: residual, map, field"):
        DVT(answer="clean")


# ---------------------------------------------------------------------- the network, its views and its tasks
def test_places_are_where_the_pixels_of_a_view_come_from() -> None:
    """A picture whose channels are its own coordinates: what a view shows is where it lies, mirrored or not."""
    boxes = vit.crops(keyed("c"), 30, (0.25, 0.6))
    y, x = torch.meshgrid(*[(torch.arange(32) + 0.5) / 32] * 2, indexing="ij")
    shown = vit.cut(torch.stack([x, y]).expand(30, -1, -1, -1), boxes)
    seen = vit.places(boxes, 32).clamp(1 / 64, 1 - 1 / 64)  # beyond the centres of the outermost pixels these are repeated
    torch.testing.assert_close(shown, seen, atol=1e-6, rtol=0)
    assert torch.allclose(vit.places(vit.WHOLE, 4)[0].float(), centres(4, 4))
    for i, mirrored in enumerate(boxes[:, 4]):
        assert (shown[i, 0, 0].diff().sum() < 0) == bool(mirrored) and shown[i, 1, :, 0].diff().sum() > 0


def test_the_shipped_network_says_how_it_was_made_and_features_are_rounded() -> None:
    from safetensors import safe_open

    assert vit.FILE.stat().st_size < 1 << 19
    with safe_open(vit.FILE, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    assert facts["dataset"] == "shapes" and facts["split"] == "train"
    sample = registry.get(PLANTED).dataset.sample("dev", "dev-00000")
    maps = vit.features(torch.from_numpy(sample["image"])[None])
    assert maps.shape == (1, 64, 8, 8) and torch.equal(maps * vit.LEVELS, (maps * vit.LEVELS).round())
    with torch.no_grad():
        assert (vit.ViT()(torch.rand(1, 3, 32, 32))).shape == (1, 64, 64)


def test_a_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from scorebench.configs.errors import RunError

    other = tmp_path / "other.safetensors"
    other.write_bytes(vit.FILE.read_bytes()[:-1])
    monkeypatch.setattr(vit, "FILE", other)
    with pytest.raises(RunError, match="missing or damaged"):
        vit.frozen.__wrapped__()


def test_what_is_planted_is_the_same_everywhere_and_known_to_the_metrics_alone() -> None:
    task, natural = registry.get(PLANTED), registry.get(NATURAL)
    g = artefact(1.0)
    assert g.mean((1, 2)).abs().max() < 1e-6 and torch.allclose(g.square().mean((1, 2)), torch.ones(64))
    o, plain = (t.observe("dev", "dev-00003") for t in (task, natural))
    assert set(o.given) == {"noisy", "views", "places"} and set(plain.target) == {"classes"}
    assert set(natural.metrics) == {"probe-miou"} == set(task.metrics) - {"rrmse", "correlation", "removed-correlation"}
    torch.testing.assert_close(o.given["noisy"] - plain.given["noisy"], g)
    torch.testing.assert_close(o.target["clean"], plain.given["noisy"].flatten(1))
    item = task.training_set("noisy", 0)[1]
    again = natural.training_set("noisy", 0)[1]
    torch.testing.assert_close(item["views"] - again["views"], g.expand_as(item["views"]))
    assert set(item) == {"input", "views", "places"} and len(task.training_set("noisy", 0)) == 64
    with pytest.raises(RequestError, match="not 'clean'"):
        task.training_set("clean", 0)


def test_tokens_have_the_class_they_show_most_of() -> None:
    sample = registry.get(NATURAL).dataset.sample("dev", "dev-00001")
    thing = sample["scene"].things[0]
    found = classes(sample["scene"])
    assert found[thing.y // 4, thing.x // 4] == 1 + sample["label"] and found.shape == (8, 8) and (found == 0).any()


def test_poison_changes_nothing_that_is_learned() -> None:
    def learned() -> Tensor:
        method = PositionMean(DataSpec("map", 64, (64, 8, 8)), scenes=2)
        method.learn(registry.get(PLANTED).training_set("noisy", 0))
        return method.mean

    true = learned()
    with poisoned(frozenset({"noisy"})):
        from scorebench.tasks import registry as inside

        method = PositionMean(DataSpec("map", 64, (64, 8, 8)), scenes=2)
        method.learn(inside.get(PLANTED).training_set("noisy", 0))
    assert torch.equal(true, method.mean)
