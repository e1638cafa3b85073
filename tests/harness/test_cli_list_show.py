"""`scorebench list` and `scorebench show`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import data, good, wrong

from scorebench.baselines.card import cards
from scorebench.datasets import registry as datasets
from scorebench.harness.cli.listing import KINDS
from scorebench.tasks.metrics import registry as metrics
from scorebench.tasks.registry import specs
from scorebench.tasks.spec import FAMILIES


def test_methods_and_tasks_have_the_promised_shape() -> None:
    methods = data("list", "methods")
    assert [m["id"] for m in methods] == list(cards())
    assert all({"id", "families", "title", "uses", "needs"} <= set(m) for m in methods)
    tasks = data("list", "tasks")
    assert [t["id"] for t in tasks] == list(specs())
    assert all({"id", "version", "family", "dataset", "primary"} <= set(t) for t in tasks)


@pytest.mark.parametrize("family", FAMILIES)
def test_family_selects(family: str) -> None:
    tasks = data("list", "tasks", "--family", family)
    assert tasks and {t["family"] for t in tasks} == {family}
    assert all(family in m["families"] for m in data("list", "methods", "--family", family))
    used = {t["dataset"] for t in tasks}
    assert {d["id"] for d in data("list", "datasets", "--family", family)} == used
    assert {m["id"] for m in data("list", "metrics", "--family", family)} == {m for t in tasks for m in t["metrics"]}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_lists_in_plural_and_singular(kind: str) -> None:
    assert good("list", kind) == good("list", kind.removesuffix("s"))
    assert isinstance(data("list", kind), list)


def test_the_text_names_every_id() -> None:
    text = good("list", "methods")
    assert all(i in text for i in cards())
    assert {d["id"] for d in data("list", "datasets")} == set(datasets.known())


def test_list_refuses() -> None:
    assert "did you mean tasks" in wrong("list", "tsks")
    assert "--family" in wrong("list", "priors", "--family", "speech")
    assert "'spech'" in wrong("list", "tasks", "--family", "spech")
    assert "no such folder" in wrong("list", "methods", "--include", "/nowhere/at/all")


@pytest.mark.parametrize("task", list(specs()))
def test_every_task_can_be_shown(task: str) -> None:
    text = good("show", task)
    spec = specs()[task]
    assert spec.title in text and spec.primary in text and spec.do_nothing in text
    assert data("show", "task", task)["version"] == spec.version


@pytest.mark.parametrize("method", list(cards()))
def test_every_method_can_be_shown(method: str) -> None:
    text = good("show", "method", method)
    assert cards()[method].title in " ".join(text.split())


@pytest.mark.parametrize("name", datasets.known())
def test_every_dataset_can_be_shown(name: str) -> None:
    d = data("show", "dataset", name)
    assert d["licence"] and d["source"] and (d["samples"] if d["here"] else d["missing"])


@pytest.mark.parametrize("name", metrics.known())
def test_every_metric_can_be_shown(name: str) -> None:
    assert name in good("show", "metric", name)


def test_show_guesses_the_kind_or_says_that_it_cannot() -> None:
    assert good("show", "psnr").startswith("metric psnr: Peak signal-to-noise ratio")
    message = wrong("show", "gmm2d")
    assert "a dataset and a prior" in message and "scorebench show prior gmm2d" in message
    assert "Unknown id" in wrong("show", "nothing-of-that-name-at-all")
    assert "did you mean metric" in wrong("show", "metrik", "psnr")
    assert "Expected [KIND] ID" in wrong("show", "a", "b", "c")
    assert "Unknown task" in wrong("show", "task", "denoising/phots")
    assert "no preset" in wrong("show", "method", "ddim[no-such]")


def test_show_on_a_folder_that_is_not_there() -> None:
    assert "nowhere" in wrong("show", "folder:/nowhere/at/all")
