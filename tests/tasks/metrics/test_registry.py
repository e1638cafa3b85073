"""Names, options and descriptions of the metrics."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scorebench.configs.errors import RequestError
from scorebench.tasks import registry as tasks
from scorebench.tasks.metrics import registry
from scorebench.tasks.metrics.base import Metric


@pytest.mark.parametrize("name", registry.known())
def test_the_table_says_what_the_class_says(name: str) -> None:
    info, cls = registry.info(name), registry.load(name)
    assert issubclass(cls, Metric)
    assert (info.name, info.title, info.level, info.higher_is_better) == (cls.name, cls.title, cls.level, cls.higher_is_better)
    assert info.family in {"image", "signal", "distribution", "oracle", "posterior", "classification", "speech"}
    low, high = cls.bounds
    assert low < high


def test_all_speech_metrics_are_listed() -> None:
    from scorebench.tasks.metrics.speech import METRICS

    assert set(registry.SPEECH) == set(METRICS)


@pytest.mark.parametrize("name", registry.known())
def test_the_description_holds_identity_protocol_and_options(name: str) -> None:
    text = registry.describe(name)
    metric = registry.make(name)
    assert metric.identity() in text and metric.identity().split("|")[0].split("[")[0] == name
    assert " ".join(type(metric).protocol.split()) in text and len(type(metric).protocol) > 40


def test_unknown_names_and_options_are_one_sentence() -> None:
    with pytest.raises(RequestError, match="Unknown metric 'psnrr'; did you mean psnr"):
        registry.make("psnrr")
    with pytest.raises(RequestError, match="metric psnr has no option 'chanel'; did you mean channel"):
        registry.make("psnr", {"chanel": "y"})
    with pytest.raises(RequestError, match="metric accuracy has no option 'top'; accepted: none"):
        registry.make("accuracy", {"top": 5})


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("psnr", {"channel": "lab"}, "accepted: rgb, y"),
        ("psnr", {"crop": -1}, "an integer of at least 0"),
        ("ssim", {"crop": 1.5}, "an integer of at least 0"),
        ("ece", {"bins": True}, "an integer of at least 1"),
        ("lpips", {"net": "resnet"}, "accepted: alex, vgg, squeeze"),
        ("fid", {"mode": "fast"}, "accepted: clean, legacy"),
        ("fid", {"weights": "/no/such/file.pt"}, "no such file"),
        ("fid", {"statistics": "cifar10"}, "NAME/SPLIT/RES"),
        ("precision", {"on": "clip"}, "accepted: inception, digits, shapes"),
        ("mode-coverage", {"share": 2}, "a number from 0 to 1"),
        ("memorisation", {"ratio": 0}, "a number between 0 and 1"),
        ("certified-accuracy", {"alpha": 0.7}, "a number from"),
        ("oracle-nll", {"dataset": "digits"}, "exact density"),
        ("sliced-wasserstein", {"projections": 0}, "an integer from 1"),
    ],
)
def test_bad_values_are_refused_with_what_is_accepted(name: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        registry.make(name, options)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_options_change_the_identity() -> None:
    for name, options in [
        ("psnr", {"channel": "y"}),
        ("psnr", {"crop": 4}),
        ("psnr", {"quantise": True}),
        ("ssim", {"crop": 2}),
        ("lpips", {"net": "vgg"}),
        ("fid", {"mode": "legacy"}),
        ("fid", {"statistics": "cifar10/train/32"}),
        ("kid", {"mode": "legacy"}),
        ("inception-score", {"splits": 1}),
        ("precision", {"k": 5}),
        ("precision", {"on": "digits"}),
        ("ece", {"bins": 10}),
        ("w2", {"points": 10}),
        ("oracle-nll", {"dataset": "gmm2d-uneven"}),
        ("certified-accuracy", {"radius": 1.0}),
        ("memorisation", {"ratio": 0.5}),
        ("mode-coverage", {"share": 0.5}),
        ("sliced-wasserstein", {"projections": 10}),
        ("posterior-distance", {"projections": 10}),
    ]:
        assert registry.make(name, options).identity() != registry.make(name).identity(), (name, options)


def test_identities_of_different_metrics_differ() -> None:
    identities = [registry.make(name).identity() for name in registry.known()]
    assert len(set(identities)) == len(identities)


def test_the_metrics_of_every_task_can_be_made() -> None:
    for task_id, spec in tasks.specs().items():
        for name, options in spec.metrics.items():
            made = registry.make(name, {k: v for k, v in options.items() if k != "margin"})
            assert made.identity(), task_id


def test_names_and_facts_need_no_torch() -> None:
    code = (
        "import sys; from scorebench.tasks.metrics.registry import known, info; [info(n).title for n in known()];"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0
