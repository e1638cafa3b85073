"""Planning: what becomes a unit, what its ids depend on, what is refused, what is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import execution
from execution import TASK, context

from scorebench.baselines import card as cards
from scorebench.baselines.card import Variant
from scorebench.configs.errors import RequestError
from scorebench.harness import artifacts
from scorebench.harness.controller import records_of, run_units
from scorebench.harness.environment import environment, environment_key
from scorebench.harness.executors.inline import InlineExecutor
from scorebench.harness.identity import content_id
from scorebench.harness.plan import Skipped, plan, undone
from scorebench.harness.unit import Unit
from scorebench.leaderboards.ledger import Store
from scorebench.tasks import registry

POINTS = "generation/gmm2d"


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with execution.included():
        yield


def one(*words: Any, **options: Any) -> Unit:
    (unit,) = plan([TASK], ["trouble"], *words, **options)
    return unit


def test_units_are_the_product_and_ids_are_unique() -> None:
    units = plan([POINTS], ["ddim", "ddpm"], seeds=[0, 1], draws=[0, 5])
    tracks = list(registry.get_spec(POINTS).budgets)
    assert len(units) == len(tracks) * 2 * 2 * 2 == len({u.unit_id for u in units}) == len({u.spec_id for u in units})
    assert {u.budget for u in units} == set(tracks) and {(u.seed, u.draw) for u in units} == {(0, 0), (0, 5), (1, 0), (1, 5)}
    assert len(plan([POINTS, POINTS], ["ddim", "ddim"], seeds=[1, 1])) == len(tracks), "what is asked twice is one unit"


def test_ids_are_what_the_spec_says() -> None:
    for unit in plan([POINTS, TASK], ["ddim", "moment-gaussian", "trouble", "plain-cnn"], seeds=[3], skipped=[]):
        assert unit.spec_id == content_id(unit.spec)
        used = sorted(unit.artifacts, key=lambda a: a.role)
        weights = [f"pinned {pin['sha256']}" if (pin := artifacts.pin_of(a)) else a.key for a in used]
        assert unit.unit_id == content_id(unit.spec_id, unit.code, *weights)
        assert unit.spec["task"] == f"{unit.task}@{registry.get_spec(unit.task).version}"
        assert unit.spec["data"] == registry.get(unit.task).dataset.fingerprint()
        assert set(unit.spec["hparams"]) == set(unit.hparams)


def test_planning_again_gives_the_same_ids() -> None:
    assert one() == one() and one().unit_id == one(batch_size=3, threads=2, device="cuda:1", precision="bf16-mixed").unit_id


def test_the_seeds_of_a_row_share_their_code() -> None:
    """A board calls a row stale by its code, and pools the seeds of one code."""
    units = plan([TASK], ["plain-cnn"], seeds=[0, 1])
    assert len({u.code for u in units}) == 1 and len({u.unit_id for u in units}) == 2


def test_everything_that_matters_changes_the_spec() -> None:
    variants = [
        one(),
        one(seeds=[1]),
        one(draws=[1]),
        one(split="dev"),
        one(limit=5),
        one(overrides={"seconds": 0.25}),
        one(overrides={"does": "nan"}),
    ]
    assert len({u.spec_id for u in variants}) == len(variants)
    assert one(overrides={"seconds": 0}).spec["hparams"] == one().spec["hparams"], "0 and 0.0 are one value"


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    ids = []
    for number, content in enumerate((b"one", b"one", b"two")):
        file = tmp_path / f"{number}.pth"
        file.write_bytes(content)
        ids.append(plan([TASK], ["trouble"], overrides={"does": str(file)})[0].spec["hparams"])
    assert ids[0] == ids[1] != ids[2]


def test_code_changes_the_unit_and_not_the_spec(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mine.py").write_text("from scorebench import Method\n\nclass Mine(Method):\n    def logits(self, request):\n        return 1\n")
    (folder / "mine.yaml").write_text("id: mine\ntitle: mine\ntarget: mine:Mine\nabilities: [logits]\n")
    with execution.included(folder):
        (before,) = plan([TASK], ["mine"])
        (folder / "mine.py").write_text((folder / "mine.py").read_text().replace("return 1", "return 2"))
        (after,) = plan([TASK], ["mine"])
    assert before.spec_id == after.spec_id and before.unit_id != after.unit_id


def test_an_edited_task_without_a_new_version_is_another_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = one()
    specs = dict(registry.specs())
    specs[TASK] = replace(specs[TASK], metrics={**specs[TASK].metrics, "accuracy": {"margin": 0.5}}, title="Another title")
    monkeypatch.setattr(registry, "specs", lambda: specs)
    assert one().unit_id == before.unit_id, "margins and titles change no number"
    specs[TASK] = replace(specs[TASK], options={**specs[TASK].options, "count": 7})
    assert one().unit_id != before.unit_id and one().spec_id == before.spec_id


def test_seeds_of_deterministic_methods_and_of_fits() -> None:
    (unit,) = plan([TASK], ["logistic-regression"], seeds=[4, 5, 6])
    assert unit.seed == 0, "a second seed would change nothing"
    learners = plan([TASK], ["learner"], seeds=[4, 5])
    assert len({u.component("fit").key for u in learners}) == 1, "stochastic: inference leaves the fit alone"
    trained = plan([TASK], ["plain-cnn"], seeds=[4, 5])
    assert len({u.component("fit").key for u in trained}) == 2 and [u.component("fit").seed for u in trained] == [4, 5]


def test_fits_are_shared_across_draws_budgets_and_tasks_that_train_alike() -> None:
    gaussian = plan([POINTS], ["moment-gaussian"], draws=[0, 1], budgets=["all"])
    assert len(gaussian) > 2 and len({u.component("fit").key for u in gaussian}) == 1
    by_train: dict[str, set[str]] = {}
    for unit in plan(["denoising"], ["dncnn"], skipped=[]):
        fit = unit.component("fit")
        assert fit is not None and fit.gflops > 0
        by_train.setdefault(content_id(registry.get(unit.task).training_key("paired")), set()).add(fit.recipe)
    assert by_train and all(len(recipes) == 1 for recipes in by_train.values())
    assert len(set.union(*by_train.values())) == len(by_train)
    clean, noisy = (plan([t], ["plain-cnn"])[0].component("fit") for t in (TASK, "classification/digits-noisy-labels40"))
    assert clean is not None and noisy is not None and clean.key != noisy.key


def test_budgets() -> None:
    tracks = list(registry.get_spec(POINTS).budgets)
    assert [u.budget for u in plan([POINTS], ["ddim"])] == tracks
    assert [u.budget for u in plan([POINTS], ["ddim"], budgets=["default"])] == tracks, "a task without a track of that name"
    assert [u.budget for u in plan([POINTS], ["ddim"], budgets=[tracks[1]])] == [tracks[1]]
    assert [u.budget for u in plan([POINTS], ["moment-gaussian"])] == [tracks[0]], "its record fits every larger track"
    assert [u.budget for u in plan([POINTS], ["moment-gaussian"], budgets=["all"])] == tracks
    with pytest.raises(RequestError, match=f"did you mean {tracks[1]}"):
        plan([POINTS], ["ddim"], budgets=[tracks[1] + "0"])


@pytest.mark.parametrize(
    ("words", "options", "says"),
    [
        (("classification/digit", "trouble"), {}, "did you mean classification/digits"),
        ((TASK, "troubel"), {}, "did you mean trouble"),
        ((TASK, "trouble[fast]"), {}, "has no preset 'fast'"),
        ((TASK, "ddim"), {}, "cannot answer task classification/digits: the task asks for 'logits'"),
        (("denoising/raw-unknown", "nlm"), {}, "its card leaves out denoising/raw-*"),
        ((TASK, "trouble"), {"overrides": {"dose": 1}}, "no hyper-parameter 'dose'"),
        ((TASK, "trouble"), {"split": "train"}, "no split 'train'; accepted: test, dev"),
        ((TASK, "trouble"), {"seeds": [-1]}, "seed -1"),
        ((TASK, "trouble"), {"seeds": []}, "seed"),
        ((TASK, "trouble"), {"draws": [2**31]}, "draw"),
        ((TASK, "trouble"), {"limit": 0}, "--limit is 0"),
        ((TASK, "trouble"), {"batch_size": -2}, "--batch-size is -2"),
    ],
)
def test_wrong_requests_are_one_sentence(words: tuple[str, str], options: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as e:
        plan([words[0]], [words[1]], **options)
    assert says in str(e.value) and "\n" not in str(e.value)
    with pytest.raises(RequestError, match="No method was named"):
        plan([TASK], [])


def test_patterns_of_a_card_may_take_tasks_out() -> None:
    def answers(*tasks: str) -> list[bool]:
        card = replace(cards.get("nlm"), tasks=tasks)
        return [card.answers(t, "denoise") for t in ("denoising/photos-gaussian25", "denoising/raw-unknown", "other/x")]

    assert answers("denoising/*") == [True, True, False]
    assert answers("denoising/*", "!denoising/raw-*") == [True, False, False]
    assert answers("!denoising/raw-*") == [True, False, True], "exclusions alone: all others"
    assert replace(cards.get("nlm"), tasks=("!denoising/raw-*",)).families == ["denoising"]


def test_cells_that_cannot_be_run_are_listed_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCOREBENCH_DATA", str(tmp_path))
    skipped: list[Skipped] = []
    units = plan([TASK, POINTS], ["ddim", "trouble"], skipped=skipped)
    assert {(u.task, u.variant.method) for u in units} == {(TASK, "trouble"), (POINTS, "ddim")}
    assert {(s.task, s.variant) for s in skipped} == {(TASK, "ddim"), (POINTS, "trouble")}
    assert all("cannot answer" in s.reason for s in skipped)
    with pytest.raises(RequestError):
        plan([TASK], ["trouble[nope]"], skipped=[])


def test_done_means_equal_unit_and_environment_and_ok(tmp_path: Path) -> None:
    good, bad = plan([TASK], ["trouble"])[0], plan([TASK], ["trouble"], overrides={"does": "raise"})[0]
    summary = run_units([good, bad], context(tmp_path), InlineExecutor())
    assert (summary.ok, summary.failed) == (1, 1)
    assert undone([good, bad], Store(tmp_path)) == ([bad], [good])
    there = replace(good, precision="bf16-mixed")
    assert undone([there], Store(tmp_path)) == ([there], []), "another environment is another measurement"
    first, second = records_of([good, bad], Store(tmp_path))
    assert first is not None and first["status"] == "ok" and first["environment_key"] == environment_key(environment())
    assert second is not None and second["status"] == "failed"
    assert first["unit_id"] == good.unit_id and first["code"] == good.code and first["data_fingerprint"] == good.spec["data"]


def test_pinned_weights_stand_in_the_unit_by_their_content(monkeypatch: pytest.MonkeyPatch) -> None:
    (plain,) = plan([TASK], ["plain-cnn"], pins=False)
    fit = plain.component("fit")
    assert fit is not None
    pins = {fit.recipe: {"recipe": fit.recipe, "sha256": "1" * 64, "file": "x", "name": "x"}}
    monkeypatch.setattr(artifacts, "pins", lambda: pins)
    (pinned,) = plan([TASK], ["plain-cnn"])
    pins[fit.recipe]["sha256"] = "2" * 64
    (other,) = plan([TASK], ["plain-cnn"])
    assert len({u.unit_id for u in (plain, pinned, other)}) == 3
    assert len({u.spec_id for u in (plain, pinned, other)}) == 1, "gate and claims pair by the spec"
    assert plan([TASK], ["plain-cnn"], pins=False)[0].unit_id == plain.unit_id


def test_variant_and_overrides_belong_together() -> None:
    (unit,) = plan([TASK], [Variant("trouble")], overrides={"seconds": 0.5})
    assert str(unit.variant) == "trouble[seconds=0.5]" and unit.hparams["seconds"] == 0.5


def test_units_pickle_small_and_equal() -> None:
    import pickle

    for unit in plan([POINTS], ["ddim"]):
        data = pickle.dumps(unit)
        assert pickle.loads(data) == unit and len(data) < 5000


def test_many_units_are_planned_quickly() -> None:
    """Issue: 100,000 in under 10 s (benchmarks/planning.py). Here 10,000, in processor time, on whatever machine this is."""
    before = os.times()
    units = plan([POINTS], ["ddim"], seeds=range(2500))
    after = os.times()
    assert len(units) == 2500 * len(registry.get_spec(POINTS).budgets)
    assert after.user - before.user < 5.0


@pytest.mark.parametrize("change", [{"target": ".baselines.generation.ddpm:DDPM"}, {"uses": {"external_weights": ["somewhere"]}}])
def test_another_class_or_other_facts_are_another_unit(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    """A card pointed at another class of the same arguments must not be taken for done; nor may a corrected track stay on old records."""
    from scorebench.baselines import card as cards

    (before, *_) = plan([POINTS], ["ddim[eta=1]"])
    known = dict(cards.cards())
    edited = replace(known["ddim"], presets={"eta=1": {"set": {}}}, **change)
    same = replace(known["ddim"], presets={"eta=1": {"set": {}}})
    ids = []
    for card in (same, edited):
        monkeypatch.setattr(cards, "cards", lambda card=card: {**known, "ddim": card})
        ids.append(plan([POINTS], ["ddim[eta=1]"])[0])
    assert ids[0].spec_id != ids[1].spec_id and ids[0].unit_id != ids[1].unit_id and before.spec_id


def test_a_metric_that_becomes_available_runs_the_unit_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from scorebench.tasks.metrics.base import Unavailable
    from scorebench.tasks.metrics.classify import Accuracy

    with_it = one()
    monkeypatch.setattr(Accuracy, "unavailable", lambda self: Unavailable("not here", "get it"))
    assert one().unit_id != with_it.unit_id and one().spec_id == with_it.spec_id
    monkeypatch.undo()
    monkeypatch.setattr(Accuracy, "identity", lambda self: "accuracy|another protocol")
    assert one().unit_id != with_it.unit_id


DIGITS = "generation/digits"


def test_other_trainings_of_a_prior_are_units_of_one_row() -> None:
    units = plan([DIGITS], ["ddim"], budgets=["nfe5"], seeds=[0, 1], prior_seeds=[0, 2])
    assert [(u.seed, u.artifacts[0].seed) for u in units] == [(0, 0), (1, 0), (0, 2), (1, 2)]
    assert len({u.unit_id for u in units}) == 4 and len({u.code for u in units}) == 1 and {str(u.variant) for u in units} == {"ddim"}
    assert units[0].unit_id == plan([DIGITS], ["ddim"], budgets=["nfe5"])[0].unit_id
    assert len(plan([POINTS], ["ddim"], budgets=["nfe5"], prior_seeds=[0, 1, 2])) == 1, "an exact prior has no training to repeat"


def test_trainings_of_an_ensemble_keep_its_members_apart():
    units = plan(["denoising/photos-correlated"], ["score-dvi"], prior_seeds=[0, 1, 2])
    seeds = [sorted(a.seed for a in u.artifacts) for u in units]
    assert seeds == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert units[0].unit_id == plan(["denoising/photos-correlated"], ["score-dvi"])[0].unit_id
    for u in units:
        assert len({a.key for a in u.artifacts}) == 3


def test_a_role_is_filled_by_name() -> None:
    (unit,) = plan([DIGITS], ["ddim"], budgets=["nfe5"], overrides={"prior": "digits"})
    assert unit.artifacts[0].owner == "digits" and str(unit.variant) == "ddim[prior=digits]"
    with pytest.raises(RequestError, match="list priors"):
        plan([DIGITS], ["ddim"], overrides={"prior": 3})
    with pytest.raises(RequestError, match="Unknown prior"):
        plan([DIGITS], ["ddim"], overrides={"prior": "digit"})


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_record_holds_finite_hyper_parameters_only(value: float) -> None:
    with pytest.raises(RequestError, match=r"'eta' is (inf|nan), which a record cannot hold"):
        plan([DIGITS], ["ddim"], budgets=["nfe5"], overrides={"eta": value})
