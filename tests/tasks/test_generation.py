"""Generation tasks: what is asked, what it is compared with, what may be learned from; and the resolution of a prior."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scorebench.baselines import components
from scorebench.configs.errors import RequestError
from scorebench.configs.loader import Document, load_object
from scorebench.datasets import registry as datasets
from scorebench.datasets.local import OwnFolder
from scorebench.datasets.shapes import WORDS
from scorebench.datasets.shapes_captions import LENGTH, PAD, tokens
from scorebench.tasks import registry
from scorebench.tasks.generation import GenerationTask
from scorebench.tasks.randomness import Rng

EMBEDDED = [i for i, s in registry.specs().items() if s.family == "generation" and i.split("/")[1] in (
    "gmm2d", "gmm2d-uneven", "digits", "digits-class", "shapes")]  # fmt: skip


def test_the_embedded_tasks_are_there() -> None:
    assert len(EMBEDDED) == 5


@pytest.mark.parametrize("task_id", EMBEDDED)
def test_questions(task_id: str) -> None:
    task = registry.get(task_id)
    ids = task.ids("test")
    assert ids[0] == "sample-0000" and len(ids) == len(set(ids)) == task.spec.options["count"]
    observations = [task.observe("test", i) for i in ids[:23]]
    rng = Rng.for_samples(ids[:23])
    request = task.request(observations, rng)
    assert request.n == 23 and request.keys() == list(task.spec.gives)
    assert {o.cluster for o in observations} == set(ids[:23])
    if "label" in task.spec.gives:
        assert request.label.tolist() == [i % 10 for i in range(23)]
    assert list(task.spec.budgets) == ["nfe5", "nfe10", "nfe20", "nfe50"]
    # the question does not depend on split or draw; the answers are noise's business
    assert task.observation_hash("test", 0, ids[:5]) == task.observation_hash("dev", 3, ids[:5])


@pytest.mark.parametrize("task_id", EMBEDDED)
def test_reference_and_training_sets_are_different_real_samples(task_id: str) -> None:
    task = registry.get(task_id)
    dataset = datasets.get(task.spec.dataset)
    sets = {split: list(task.reference_set(split)) for split in ("test", "dev")}
    for split, batches in sets.items():
        assert sum(len(b["answer"]) for b in batches) == len(dataset.ids(split))
        assert tuple(batches[0]["answer"].shape[1:]) == tuple(task.spec.returns["shape"])
        first = dataset.sample(split, dataset.ids(split)[0])
        assert torch.equal(batches[0]["answer"][0], torch.from_numpy(first[task.entry]))
    training = task.training_set("clean", 0)
    assert len(training) == len(dataset.ids("train"))  # type: ignore[arg-type]
    item = training[3]
    assert set(item) == {"target", "label"} and item["target"].dtype == torch.float32
    assert torch.equal(item["target"], task.training_set("clean", 7)[3]["target"]), "nothing in it depends on the seed"
    seen = {training[i]["target"].numpy().tobytes() for i in range(len(training))}  # type: ignore[arg-type]
    test = {row.numpy().tobytes() for b in sets["test"] for row in b["answer"]}
    assert len(seen & test) / len(test) < 0.01, "test samples are not in the training set"


@pytest.mark.parametrize("task_id", EMBEDDED)
def test_every_metric_sees_the_reference(task_id: str) -> None:
    """Real held-out samples score better than the same number of constant ones."""
    task = registry.get(task_id)
    real = torch.cat([b["answer"] for b in task.reference_set("dev")])[:200]
    noise = torch.rand(real.shape, generator=torch.Generator().manual_seed(0))
    for metric in task.metrics.values():
        if metric.level != "set" or metric.unavailable() is not None:
            continue
        reference = metric.reference(task.reference_set("test"))
        good, bad = (metric.value(metric.features(x, {}).numpy(), reference) for x in (real, noise))
        assert good > bad if metric.higher_is_better else good < bad, metric.name


def test_a_set_that_is_not_offered_is_refused() -> None:
    task = registry.get("generation/digits")
    with pytest.raises(RequestError, match="offers clean samples only"):
        task.training_set("paired", 0)
    with pytest.raises(RequestError, match="no split 'val'; accepted: test, dev"):
        task.ids("val")
    with pytest.raises(RequestError, match=r"options\.count"):
        GenerationTask(replace(task.spec, options={"entry": "image"})).ids()
    with pytest.raises(RequestError, match="accepted: balanced"):
        GenerationTask(replace(task.spec, observe={"label": "random"})).observe("test", "sample-0000")
    with pytest.raises(RequestError, match="no training data"):
        GenerationTask(replace(task.spec, train=None)).training_set("clean", 0)


# ------------------------------------------------------------------ captions
def test_captions_are_of_the_splits_scenes_and_of_nothing_else() -> None:
    task, dataset = registry.get("generation/shapes-caption"), datasets.get("shapes")
    ids = task.ids("test")[:5]
    observations = [task.observe("test", i) for i in ids]
    request = task.request(observations, Rng.for_samples(ids))
    assert set(request.keys()) == {"caption", "tokens"}
    assert request.caption == [dataset.sample("test", i)["caption"] for i in dataset.ids("test")[:5]]
    assert request.tokens.shape == (5, LENGTH) and request.tokens.dtype == torch.int64
    words = [" ".join(WORDS[k] for k in row.tolist() if k != PAD) for row in request.tokens]
    assert words == request.caption, "tokens say the caption"
    assert task.observation_hash("test", 0, ids) == task.observation_hash("test", 5, ids) != task.observation_hash("dev", 0, ids)


def test_training_items_by_caption_hold_its_tokens() -> None:
    task, dataset = registry.get("generation/shapes-caption"), datasets.get("shapes")
    item = task.training_set("clean", 0)[7]
    assert set(item) == {"target", "label", "tokens"}
    assert item["tokens"].tolist() == tokens(dataset.sample("train", dataset.ids("train")[7])["caption"])
    assert "tokens" not in registry.get("generation/shapes-class").training_set("clean", 0)[0]


def test_the_scenes_asked_for_score_one_and_others_less() -> None:
    task, dataset = registry.get("generation/shapes-caption"), datasets.get("shapes")
    target = task.target([task.observe("dev", i) for i in task.ids("dev")[:30]])
    answer = torch.stack([torch.from_numpy(dataset.sample("dev", i)["image"]) for i in dataset.ids("dev")[:31]])
    for name in ("attribute-accuracy", "caption-match"):
        metric = task.metrics[name]
        assert metric.per_sample(answer[:30], target).mean() == 1
        assert metric.per_sample(answer[1:], target).mean() < 0.6
        # a label asks for the kind of the main object alone
        labels = torch.tensor([dataset.sample("dev", i)["label"] for i in dataset.ids("dev")[:30]])
        assert metric.per_sample(answer[:30], {"label": labels}).mean() == 1
        assert metric.per_sample(answer[:30], {"label": (labels + 1) % 4}).max() == 0
    empty = torch.full((1, 3, 32, 32), 0.5)
    assert task.metrics["attribute-accuracy"].per_sample(empty, {"attributes": target["attributes"][:1]}).item() < 0.5


def test_strange_captions_are_refused() -> None:
    task = registry.get("generation/shapes-caption")
    with pytest.raises(RequestError, match="unknown word 'purple'"):
        tokens("a large purple circle")
    with pytest.raises(RequestError, match="has 17 words"):
        tokens("a " * 17)
    with pytest.raises(RequestError, match="accepted: scenes"):
        GenerationTask(replace(task.spec, observe={"caption": "random"})).observe("test", "sample-0000")


def test_the_prior_follows_from_what_the_task_gives() -> None:
    need = {"form": "vp", "data": "task"}
    wanted = {"shapes": "shapes", "shapes-class": "shapes", "shapes-caption": "shapes-caption"}
    assert {name: components.resolve("prior", need, spec(name)) for name in wanted} == wanted
    assert components.resolve("prior", {**need, "cond": "caption"}, spec("shapes")) == "shapes-caption"


# ------------------------------------------------------------------ priors by need
def spec(name: str):  # type: ignore[no-untyped-def]
    return registry.get_spec(f"generation/{name}")


@pytest.mark.parametrize(
    ("need", "task", "wanted"),
    [
        ({"form": "vp", "data": "task"}, "gmm2d", "gmm2d"),
        ({"form": "edm", "cond": "class"}, "gmm2d-uneven", "gmm2d-uneven"),
        ({"form": "flow", "kind": "trained"}, "digits", "digits"),
        ({"form": "vp", "data": "gauss-lin"}, "digits", "gauss-lin"),
        ({"id": "gmm2d"}, "digits", "gmm2d"),
        ("gmm2d", "digits", "gmm2d"),
    ],
)
def test_a_need_is_resolved(need: object, task: str, wanted: str) -> None:
    assert components.resolve("prior", need, spec(task)) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("need", "task", "message"),
    [
        ({"form": "vp", "cond": "caption"}, "gmm2d", r"needs a prior on dataset 'gmm2d' \(form: vp, cond: caption\).*there is: gmm2d"),
        ({"form": "denoiser"}, "digits", "none is declared"),
        ({"data": "nowhere"}, "digits", "there is: none"),
        ({"id": "gmm3d"}, "digits", "Unknown prior 'gmm3d'; did you mean gmm2d"),
        ({"shape": "vp"}, "digits", "needs.prior has 'shape'; accepted: id, form, cond, data, kind"),
    ],
)
def test_a_need_that_cannot_be_met_is_one_sentence(need: dict, task: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        components.resolve("prior", need, spec(task), "some-method")


def test_two_equally_good_priors_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    card = components.get("gmm2d")
    monkeypatch.setattr(components, "priors", lambda: {"a": card, "b": replace(card, id="b")})
    with pytest.raises(RequestError, match="name one with"):
        components.resolve("prior", {"form": "vp"}, spec("gmm2d"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "learned"}, "'kind' is 'learned'; accepted: exact, trained, external"),
        ({"target": "nothing"}, "must read 'module:Class'"),
        ({"kind": "trained"}, "'task' is missing"),
        ({"kind": "trained", "task": "generation/digits"}, "'gflops' is missing"),
        ({"colour": 3}, "unknown field 'colour'"),
    ],
)
def test_a_bad_declaration_names_file_and_field(change: dict, message: str, tmp_path: Path) -> None:
    data = {"id": "x", "title": "x", "target": "a:B", "kind": "exact", "form": "vp", "data": "gmm2d"} | change
    file = tmp_path / "x.yaml"
    file.write_text("\n".join(f"{k}: {v}" for k, v in data.items()))
    with pytest.raises(RequestError, match=message) as e:
        components.parse(Document(file, data))
    assert str(file) in str(e.value)


# ------------------------------------------------------------------ the user's own pictures
def own_pictures(root: Path, splits: tuple[str, ...] = ("train", "dev", "test"), n: int = 6) -> Path:
    rng = np.random.default_rng(0)
    for split in splits:
        (root / split).mkdir(parents=True)
        for i in range(n):
            size = (40 + 3 * i, 50) if i % 2 else (32, 32)
            pixels = rng.integers(0, 256, (*size, 3) if i % 3 else size, dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / f"{i}.png")
    return root


def test_a_task_is_pointed_at_a_folder_by_its_name(tmp_path: Path) -> None:
    place = own_pictures(tmp_path / "faces")
    (task_id,) = registry.match([f"generation/folder:{place}"])
    assert task_id == f"generation/folder:{place}" == registry.get_spec(task_id).id
    task = registry.get(task_id)
    assert task.dataset.missing() is None and task.version == registry.get_spec("generation/folder").version
    real = torch.cat([b["answer"] for b in task.reference_set("test")])
    assert real.shape == (6, 3, 32, 32) and real.dtype == torch.float32
    # a picture of the right size is taken as it is; others are squared and resized, antialiased, and rounded to 8 bits
    same = np.asarray(Image.open(place / "test/2.png")).astype(np.float32) / 255
    assert torch.equal(real[2], torch.from_numpy(same).permute(2, 0, 1))
    assert torch.equal((real * 255).round() / 255, real)
    wide = Image.open(place / "test/1.png").convert("RGB")
    side = min(wide.size)
    left, top = (wide.size[0] - side) // 2, (wide.size[1] - side) // 2
    # plane by plane as floats, since Pillow rounds to 8 bits between rows and columns otherwise
    square = wide.crop((left, top, left + side, top + side))
    planes = [plane.convert("F").resize((32, 32), Image.Resampling.BICUBIC) for plane in square.split()]
    theirs = np.clip(np.stack([np.asarray(p) for p in planes]) / 255, 0, 1)
    assert np.abs(real[1].numpy() - theirs)[:, 3:-3, 3:-3].max() < 0.51 / 255, "borders are mirrored here, and cut in Pillow"
    items = task.training_set("clean", 0)
    assert len(items) == 6 and set(items[0]) == {"target"} and items[0]["target"].max() <= 1  # type: ignore[arg-type]
    other = registry.get(f"generation/folder-64:{place}")
    assert next(other.reference_set("dev"))["answer"].shape == (6, 3, 64, 64)


def test_a_flat_folder_is_compared_with_and_not_trained_on(tmp_path: Path) -> None:
    flat = own_pictures(tmp_path / "flat", ("",))
    task = registry.get(f"generation/folder:{flat}")
    assert sum(len(b["answer"]) for b in task.reference_set("test")) == 6
    with pytest.raises(RequestError, match="has no split 'train'"):
        task.training_set("clean", 0)


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOREBENCH_DATA", raising=False)
    assert "generation/folder:PATH" in str(OwnFolder().missing())
    with pytest.raises(RequestError, match="is not a folder"):
        registry.get(f"generation/folder:{tmp_path}/nothing").dataset.ids("test")
    with pytest.raises(RequestError, match="Unknown task"):
        registry.match([f"generation/digits:{tmp_path}"])
    monkeypatch.setenv("SCOREBENCH_DATA", str(tmp_path))
    own_pictures(tmp_path / "folder")
    assert OwnFolder().missing() is None and len(OwnFolder().ids("train")) == 6


@pytest.mark.parametrize("name", ["mnist", "mnist-10k", "cifar10"])
def test_recipes_of_the_users_priors_build(name: str) -> None:
    card, task = components.get(name), spec(name)
    assert components.resolve("prior", {"form": "vp", "data": "task"}, task) == name
    prior = load_object(card.target)(**card.hparams)
    assert prior.shape == tuple(task.returns["shape"]) and prior.classes == 10
    x = torch.randn(2, *prior.shape)
    assert prior.denoised(x, 0.5, torch.tensor([3, -1])).shape == x.shape
