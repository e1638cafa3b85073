"""Speech tasks: levels are what they say, observations are keyed, targets are aligned, training never sees what is scored."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scorebench.configs.errors import RequestError
from scorebench.datasets import rooms
from scorebench.datasets.speech import Speech
from scorebench.tasks import registry
from scorebench.tasks.randomness import Rng
from scorebench.tasks.requests import NotGiven
from scorebench.tasks.speech import SpeechTask
from scorebench.tasks.speech_signals import Recordings, add_noise, recordings
from scorebench.tasks.speech_training import Mixes

NOISE = ("speech/speech-noise", "speech/speech-noise-stationary5", "speech/speech-noise-nonstationary")


def task(task_id: str = "speech/speech-noise") -> SpeechTask:
    found = registry.get(task_id)
    assert isinstance(found, SpeechTask)
    if (why := found.dataset.missing()) is not None:
        pytest.skip(why)
    return found


def changed(task_id: str = "speech/speech-noise", **fields: Any) -> SpeechTask:
    return SpeechTask(replace(registry.get_spec(task_id), **fields))


# ---------------------------------------------------------------------------------------------------- observations
@pytest.mark.parametrize("task_id", NOISE)
def test_the_level_is_what_the_condition_says(task_id: str) -> None:
    t = task(task_id)
    for position, sample_id in enumerate(t.ids("test")[:9]):
        o = t.observe("test", sample_id)
        clean, noisy = (x.double() for x in (o.target["clean"], o.given["noisy"]))
        snr = 10 * torch.log10(clean.square().sum() / (noisy - clean).square().sum())
        assert snr.item() == pytest.approx(t.condition("test", position, 0)[1], abs=0.02)


@pytest.mark.parametrize("draw", [0, 3])
def test_every_draw_has_the_same_mix_of_conditions(draw: int) -> None:
    t = task()
    pairs = Counter(t.condition("test", k, draw) for k in range(24))
    assert len(pairs) == 18, "six noises at three levels"
    assert set(Counter(noise for noise, _ in pairs.elements()).values()) == {4}
    assert set(Counter(level for _, level in pairs.elements()).values()) == {8}
    assert [t.condition("test", k, 0) for k in range(24)] != [t.condition("test", k, 1) for k in range(24)]


@pytest.mark.parametrize("task_id", [NOISE[0], "speech/speech-reverb"])
def test_observations_are_functions_of_their_key(task_id: str) -> None:
    t, again = task(task_id), SpeechTask(registry.get_spec(task_id))
    ids = t.ids("test")[:3]
    hashes = [t.observe("test", i).hash() for i in ids]
    torch.manual_seed(1)
    np.random.seed(1)
    assert [again.observe("test", i).hash() for i in reversed(ids)][::-1] == hashes
    assert t.observe("test", ids[0], 1).hash() != hashes[0]
    for sample_id in ids:
        noisy = t.observe("test", sample_id).given["noisy"]
        assert noisy.shape == (1, 32000) and noisy.dtype == torch.float32 and noisy.abs().max() < 1
        assert torch.equal(noisy, torch.round(noisy * 32768) / 32768), "observations are rounded to 16 bits"


def test_a_mixture_that_would_clip_is_scaled_with_its_target() -> None:
    clean = np.sin(np.arange(16000) / 20).astype(np.float32) * 0.9
    target, noisy = add_noise(clean, "white", 0.0, np.random.default_rng(0), 16000)
    assert np.abs(noisy).max() <= 0.99
    gain = np.dot(target, clean) / np.dot(clean, clean)
    assert gain < 0.5 and np.abs(target - gain * clean).max() < 1e-4


def test_a_request_holds_nothing_clean() -> None:
    t = task()
    observations = [t.observe("dev", i) for i in t.ids("dev")[:2]]
    request = t.request(observations, Rng.for_samples(["a", "b"]))
    assert request.keys() == ["noisy", "sample_rate"] and request.sample_rate == 16000
    for name in ("clean", "sample_id", "snr", "text", "noise"):
        with pytest.raises(NotGiven):
            getattr(request, name)


def test_babble_is_made_of_other_speakers_of_the_split() -> None:
    bank = recordings("speech", "test")
    for position in (0, 1, 13):
        others = bank.others(position)
        assert len(others) == 22 and not any(np.array_equal(o, bank.clean(p)) for o in others for p in (position, position ^ 1))


# ---------------------------------------------------------------------------------------------------- rooms
def test_reverberation_is_the_target_plus_late_reflections() -> None:
    t = task("speech/speech-reverb")
    sample_id = t.ids("test")[0]
    dry = t.dataset.sample("test", sample_id)["audio"][0].astype(np.float64)
    o = t.observe("test", sample_id)
    late = (o.given["noisy"] - o.target["clean"])[0].double().numpy()
    index = int(t.keyed("test", sample_id, 0, "room").integers(rooms.COUNTS["test"]))
    response = rooms.responses("test")[index].astype(np.float64)
    tail = response - rooms.early(response, 50)
    padded = np.concatenate([np.zeros(rooms.TAPS), dry, np.zeros(rooms.LEAD)])
    times = np.arange(0, len(dry), 97)  # the definition of convolution, at some instants
    expected = np.array([padded[t + rooms.LEAD + 1 : t + rooms.LEAD + 1 + rooms.TAPS] @ tail[::-1] for t in times])
    scale = np.dot(expected, late[times]) / np.dot(expected, expected)
    assert np.abs(late[times] - scale * expected).max() < 1e-4 and np.abs(late[times]).max() > 1e-3
    spectra = [np.fft.rfft(x, 2 * len(dry)) for x in (o.target["clean"][0].double().numpy(), dry)]
    lag = int(np.argmax(np.fft.irfft(spectra[0] * spectra[1].conj())))
    assert lag in (0, 1, 2 * len(dry) - 1), "the target is aligned with the dry signal's direct path"


# ---------------------------------------------------------------------------------------------------- training
def test_items_are_functions_of_seed_and_index() -> None:
    one, two = task().training_set("paired", 0), changed().training_set("paired", 0)
    backwards = [two[i] for i in (7, 3)]
    for item, again in zip((one[7], one[3]), backwards, strict=True):
        assert set(item) == {"input", "target", "sample_rate"} and item["input"].shape == item["target"].shape == (1, 16000)
        assert all(torch.equal(item[k], again[k]) for k in ("input", "target"))
    assert not torch.equal(one[3]["input"], one[7]["input"])
    assert not torch.equal(one[3]["input"], task().training_set("paired", 1)[3]["input"])
    with pytest.raises(IndexError):
        one[len(one)]


@pytest.mark.parametrize(
    ("trains_on", "names"),
    [
        ("paired", {"input", "target"}),
        ("unpaired", {"input", "target"}),
        ("noisy", {"input"}),
        ("noisy-pairs", {"input", "input2"}),
        ("clean", {"target"}),
    ],
)
def test_items_hold_what_is_declared_and_nothing_else(trains_on: str, names: set[str]) -> None:
    item = task().training_set(trains_on, 0)[5]
    assert set(item) == names | {"sample_rate"}
    assert all(item[n].shape == (1, 16000) and item[n].dtype == torch.float32 for n in names)


def test_noise_is_fresh_for_pairs_and_fixed_without_clean_recordings() -> None:
    spec = registry.get_spec("speech/speech-noise")
    whole = changed(train={**spec.train, "seconds": 2.0, "snr": [0]})  # type: ignore[dict-item]
    noisy, pairs, fresh = (whole.training_set(kind, 0) for kind in ("noisy", "noisy-pairs", "paired"))
    assert isinstance(noisy, Mixes) and isinstance(fresh, Mixes)
    seen: dict[int, torch.Tensor] = {}
    repeated = 0
    for i in range(60):
        position = int(noisy.keyed[i].integers(len(noisy.bank)))
        item = noisy[i]["input"]
        if position in seen:
            repeated += 1
            assert torch.equal(item, seen[position]), "a recording has one noise, always the same"
        seen[position] = item
    assert repeated > 3
    position = int(pairs.keyed[0].integers(len(noisy.bank)))  # type: ignore[attr-defined]
    clean = torch.from_numpy(noisy.bank.clean(position)).double()
    first, second = (pairs[0][n][0].double() for n in ("input", "input2"))
    residuals = [x - (x @ clean) / (clean @ clean) * clean for x in (first, second)]
    assert abs(torch.corrcoef(torch.stack(residuals))[0, 1]) < 0.2, "the two copies have independent noise"


def test_training_reads_the_training_split_only(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = task().training_set("paired", 0)[11]
    load = Speech._load

    def poisoned(self: Speech, split: str, sample_id: str) -> Any:
        assert split == "train", f"training read {split}/{sample_id}"
        return load(self, split, sample_id)

    monkeypatch.setattr(Speech, "_load", poisoned)
    t = changed()
    bank = Recordings("speech", "train")
    assert t.train is not None
    items = Mixes(t.train, bank, "paired", 0)
    assert torch.equal(items[11]["input"], expected["input"])
    for i in range(20):
        items[i]


def test_training_levels_span_the_declared_range() -> None:
    t = changed()
    assert t.train is not None
    items, levels = t.training_set("paired", 0), []
    for i in range(40):
        item = items[i]
        noise = (item["input"] - item["target"]).double().square().mean()
        levels.append(10 * np.log10(0.05**2 / float(noise)))
    assert -6 < min(levels) < 0 and 10 < max(levels) < 16


def test_keys_share_fits_where_training_is_equal() -> None:
    keys = {i: task(i).training_key("paired") for i in (*NOISE, "speech/speech-reverb")}
    assert keys[NOISE[0]] == keys[NOISE[1]] == keys[NOISE[2]] != keys["speech/speech-reverb"]
    assert len(keys["speech/speech-reverb"]["rooms"]) == 64
    assert task().training_key("noisy") != keys[NOISE[0]]
    mini = SpeechTask(registry.get_spec("speech/voicebank-mini"))  # its key needs no recording of its own
    assert mini.training_key("paired") == keys[NOISE[0]]


# ---------------------------------------------------------------------------------------------------- wrong declarations
@pytest.mark.parametrize(
    ("block", "match"),
    [
        ({"kind": "noise", "noises": ["whyte"], "snr": [0]}, "whyte.*accepted: white"),
        ({"kind": "noise", "noises": ["white"]}, "observe.snr"),
        ({"kind": "noise", "noises": ["white"], "snr": {"from": 5, "to": 0}}, "from: low"),
        ({"kind": "echo"}, "echo.*accepted: noise, reverb, recorded"),
        ({"kind": "reverb", "late_ms": 3}, "unknown field 'observe.late_ms'"),
    ],
)
def test_a_wrong_declaration_is_one_sentence(block: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=match):
        changed(observe=block)


def test_what_cannot_be_trained_is_one_sentence() -> None:
    with pytest.raises(RequestError, match="offers no training data"):
        changed(train=None).training_set("paired", 0)
    with pytest.raises(RequestError, match="two noisy copies"):
        task("speech/speech-reverb").training_set("noisy-pairs", 0)
    with pytest.raises(RequestError, match="trains_on 'labels'"):
        task().training_set("labels", 0)


# ---------------------------------------------------------------------------------------------------- real recordings
def test_digit_strings_of_disjoint_speakers() -> None:
    t = task("speech/fsdd-noise")
    clusters = {split: {t.observe(split, i).cluster for i in t.ids(split)} for split in ("test", "dev")}
    assert t.train is not None
    train = t.training_set("paired", 0)
    assert isinstance(train, Mixes)
    voices = [*clusters["test"], *clusters["dev"], *set(train.bank.clusters)]
    assert len(voices) == len(set(voices)) == 6
    assert len(t.ids("test")) == 25 and {t.observe("test", i).given["noisy"].shape for i in t.ids("test")} == {(1, 16000)}
    bank = t.recordings("test")
    first = bank.clean(0)
    own = t.dataset.sample("test", bank.ids[0])["audio"][0]
    assert not first[:1600].any() and np.array_equal(first[1600 : 1600 + len(own)], own)
    assert train[0]["input"].shape == (1, 8000)


def test_recorded_pairs_are_handed_over_as_they_are() -> None:
    t = task("speech/voicebank-mini")
    assert len(t.ids("test")) == 4 and len(t.ids("dev")) == 2
    for sample_id in t.ids("test"):
        o, sample = t.observe("test", sample_id), t.dataset.sample("test", sample_id)
        assert np.array_equal(o.given["noisy"].numpy(), sample["noisy"]) and np.array_equal(o.target["clean"].numpy(), sample["audio"])
        assert o.hash() == t.observe("test", sample_id, 1).hash(), "nothing is drawn"


@pytest.mark.parametrize(("noises", "levels"), [(1, 2), (2, 3), (5, 3), (6, 3), (3, 1), (1, 4)])
def test_every_pair_of_noise_and_level_is_met(monkeypatch, noises, levels):
    task = registry.get("speech/speech-noise")
    names, snr = [f"n{i}" for i in range(noises)], list(range(levels))
    monkeypatch.setattr(task, "how", {**task.how, "noises": names, "snr": snr})
    monkeypatch.setattr(task, "ids", lambda split="test": [str(i) for i in range(noises * levels)])
    met = {task.condition("test", i, 0) for i in range(noises * levels)}
    assert met == {(n, float(v)) for n in names for v in snr}
