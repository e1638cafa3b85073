"""The synthetic speech dataset: equal bits in every process, splits apart, noises and rooms that are what they are called."""

from __future__ import annotations

import hashlib
import multiprocessing
import operator
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scorebench.configs.errors import RunError
from scorebench.datasets import espeak, noises, registry, rooms, sentences
from scorebench.datasets.arrays import cached_array
from scorebench.datasets.speech import FS, LENGTH, RMS, place

SPLITS = ("train", "dev", "test")
JOBS = [espeak.Utterance("A thin mist hid the church tower.", v, 205, 50) for v in ("en-us+f2", "en-gb-x-rp+m1", "en-gb-scotland+klatt")]


def digest(audio: np.ndarray) -> str:
    return hashlib.sha256(audio.tobytes()).hexdigest()


# ---------------------------------------------------------------------------------------------------- synthesis
def test_an_utterance_depends_on_nothing_said_before() -> None:
    forwards, backwards = espeak.synthesise(JOBS), espeak.synthesise(JOBS[::-1])[::-1]
    alone = [espeak.synthesise([job])[0] for job in JOBS]
    twice = espeak.synthesise([JOBS[0], JOBS[0]])
    for one, two, three in zip(forwards, backwards, alone, strict=True):
        assert one.dtype == np.int16 and len(one) > FS // 2
        assert np.array_equal(one, two) and np.array_equal(one, three)
    assert np.array_equal(twice[0], twice[1]) and np.array_equal(twice[0], forwards[0])
    assert len({digest(a) for a in forwards}) == 3, "voices must differ"


def test_two_processes_make_the_same_bits() -> None:
    code = (
        "import hashlib; from scorebench.datasets import espeak, speech; from scorebench.datasets.registry import get\n"
        "s = get('speech'); jobs = s.utterances()[:4]\n"
        "print(hashlib.sha256(s._synthesise(jobs).tobytes()).hexdigest())"
    )
    out = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)}
    speech = registry.get("speech")
    assert out == {digest(speech._synthesise(speech.utterances()[:4]))}


def test_the_library_is_never_loaded_into_this_process() -> None:
    speech = registry.get("speech")
    speech.sample("test", speech.ids("test")[0])
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc on this system")
    assert "espeak" not in maps.read_text()


def first_sample(split: str) -> str:
    speech = registry.get("speech")
    return digest(speech.sample(split, speech.ids(split)[0])["audio"])


def test_it_works_under_a_forkserver() -> None:
    """A worker reads, and may have to synthesise. What it calls is the package's: a plain ``pytest`` cannot import tests by name."""
    speech = registry.get("speech")
    read = operator.methodcaller("sample", "dev", speech.ids("dev")[0])
    with multiprocessing.get_context("forkserver").Pool(1) as pool:  # a worker that cannot start would hang without the time limits
        spoken = pool.apply_async(espeak.synthesise, (JOBS[:1],)).get(120)
        there = pool.apply_async(read, (speech,)).get(120)
    np.testing.assert_array_equal(spoken[0], espeak.synthesise(JOBS[:1])[0])
    assert digest(there["audio"]) == first_sample("dev")


def test_an_unknown_voice_is_one_sentence() -> None:
    with pytest.raises(RunError, match=r"unknown voice xx\+nobody.*reinstall espeakng-loader"):
        espeak.synthesise([*JOBS, espeak.Utterance("Hello there.", "xx+nobody")])


def test_placing_refuses_silence_and_what_does_not_fit() -> None:
    with pytest.raises(RunError, match="silence"):
        place(np.zeros(1000, np.int16), "nothing")
    tone = (8000 * np.sin(np.arange(3 * espeak.SAMPLE_RATE) / 10)).astype(np.int16)
    with pytest.raises(RunError, match="does not fit"):
        place(tone, "too long")


def test_resampling_keeps_frequencies() -> None:
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(espeak.SAMPLE_RATE) / espeak.SAMPLE_RATE)).astype(np.int16)
    spectrum = np.abs(np.fft.rfft(place(tone, "a tone").astype(float)))
    assert abs(np.argmax(spectrum) * FS / LENGTH - 440) <= 1


# ---------------------------------------------------------------------------------------------------- the dataset
def test_shape_level_and_lead_in() -> None:
    speech = registry.get("speech")
    assert [len(speech.ids(s)) for s in SPLITS] == [120, 8, 24]
    for split in SPLITS:
        for sample_id in speech.ids(split):
            audio = speech.sample(split, sample_id)["audio"]
            assert audio.dtype == np.float32 and audio.shape == (1, LENGTH)
            assert np.sqrt(np.mean(audio.astype(np.float64) ** 2)) == pytest.approx(RMS, rel=1e-3)
            assert not audio[0, : int(0.2 * FS)].any() and np.abs(audio).max() < 1
            assert np.array_equal(audio, np.round(audio * 32768) / 32768), "not on the 16-bit grid"


def test_splits_share_no_voice_and_no_sentence() -> None:
    speech = registry.get("speech")
    said = {s: [speech.sample(s, i) for i in speech.ids(s)] for s in SPLITS}
    for kind in ("voice", "text"):
        sets = {s: {sample[kind] for sample in said[s]} for s in SPLITS}
        assert not (sets["train"] & sets["test"] or sets["train"] & sets["dev"] or sets["dev"] & sets["test"])
    variants = [v["voice"].split("+")[1] for s in SPLITS for v in sentences.voices(s)]  # type: ignore[union-attr]
    assert len(variants) == len(set(variants)) == 36
    assert len({s["text"] for s in said["test"]}) == 24 and len({s["text"] for s in said["train"]}) == 60
    assert all(sample.cluster == sample["voice"] for s in SPLITS for sample in said[s])
    assert len({digest(sample["audio"]) for s in SPLITS for sample in said[s]}) == 152


def test_a_new_synthesiser_gives_a_new_fingerprint() -> None:
    """The cached fingerprint is keyed by the wheel's version and by its library file."""
    speech = registry.get("speech")
    assert "espeakng-loader" in speech.libraries and [f.name.split(".")[0] for f in speech.files()] == ["libespeak-ng"]
    assert speech.fingerprint() == speech.content_hash()


def test_damaged_and_unwritable_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(6, dtype=np.int16)

    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path))
    for _ in range(2):
        assert np.array_equal(cached_array("a", make), np.arange(6))
    assert len(made) == 1
    file = tmp_path / "datasets" / "a.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert np.array_equal(cached_array("a", make), np.arange(6)) and len(made) == 2
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("SCOREBENCH_HOME", str(blocked))
    assert np.array_equal(cached_array("a", make), np.arange(6)) and len(made) == 3


# ---------------------------------------------------------------------------------------------------- noises
def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def octave_levels(x: np.ndarray, fs: int, edges: list[int]) -> np.ndarray:
    """Mean power density in dB of octave bands starting at ``edges``."""
    power, f = np.abs(np.fft.rfft(x)) ** 2, np.fft.rfftfreq(len(x), 1 / fs)
    return np.array([10 * np.log10(power[(f >= e) & (f < 2 * e)].mean()) for e in edges])


@pytest.mark.parametrize("name", sorted(noises.MAKERS))
@pytest.mark.parametrize("fs", [8000, 16000])
def test_noises_have_unit_power_and_are_functions_of_their_generator(name: str, fs: int) -> None:
    one, two, other = (noises.MAKERS[name](rng(s), 2 * fs, fs) for s in (1, 1, 2))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert one.shape == (2 * fs,) and abs(one.mean()) < 1e-9 and np.mean(one**2) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "edges", "slope"),
    [
        ("white", [250, 500, 1000, 2000], 0.0),
        ("pink", [250, 500, 1000, 2000], -3.01),
        ("speech-shaped", [1000, 2000], -9.03),
        ("traffic", [500, 1000, 2000], -6.02),
    ],
)
def test_spectral_slopes(name: str, edges: list[int], slope: float) -> None:
    levels = np.mean([octave_levels(noises.MAKERS[name](rng(s), 64000, 16000), 16000, edges) for s in range(8)], axis=0)
    assert np.diff(levels) == pytest.approx(slope, abs=0.5)


def test_which_noises_are_stationary() -> None:
    def spread(x: np.ndarray) -> float:  # of the level of 0.1 s frames, dB
        return float(np.std(10 * np.log10((x.reshape(-1, 1600) ** 2).mean(1))))

    spreads = {n: np.mean([spread(noises.MAKERS[n](rng(s), 32000, 16000)) for s in range(6)]) for n in ("white", "traffic")}
    assert spreads["white"] < 0.5 and spreads["traffic"] > 2


def test_hum_has_mains_harmonics() -> None:
    x = noises.hum_impulses(rng(3), 32000, 16000)
    power, step = np.abs(np.fft.rfft(x)) ** 2, 0.5
    peak = np.argmax(power[int(30 / step) : int(200 / step)]) * step + 30
    assert min(peak % 50, peak % 60, 50 - peak % 50, 60 - peak % 60) <= 1
    assert np.abs(x).max() > 4, "no clicks"


def test_babble_is_made_of_the_talkers_given() -> None:
    talkers = [np.sin(2 * np.pi * f * np.arange(8000) / 16000) for f in (500, 1000)]
    x = noises.babble(rng(0), 16000, talkers, count=4)
    power = np.abs(np.fft.rfft(x)) ** 2
    assert power[[500, 1000]].sum() > 0.99 * power.sum()
    with pytest.raises(ValueError, match="at least one"):
        noises.babble(rng(0), 100, [])


# ---------------------------------------------------------------------------------------------------- rooms
def test_rooms_are_keyed_and_inside_their_bounds() -> None:
    everything = [rooms.geometry(s, i) for s, n in rooms.COUNTS.items() for i in range(n)]
    assert len(set(everything)) == sum(rooms.COUNTS.values()) and rooms.geometry("test", 3) == everything[24 + 4 + 3]
    for room in everything:
        assert 0.3 <= room.rt60 <= 0.7
        assert all(0.5 <= p <= s - 0.5 for p, s in zip(room.source[:2], room.size[:2], strict=True))
        assert 0.99 <= np.linalg.norm(np.subtract(room.source, room.microphone)) <= 3.01


def test_a_response_has_its_direct_path_reflections_and_decay_where_they_belong() -> None:
    """The direct path and the floor's reflection are where the mirror says, and energy decays by 60 dB in T60 (within a third)."""
    room = rooms.Room((5.0, 4.0, 2.7), (1.5, 1.2, 1.5), (3.4, 2.5, 1.2), 0.4)
    response = rooms.simulate(room).astype(np.float64)
    assert np.argmax(np.abs(response)) == rooms.LEAD
    distance = float(np.linalg.norm(np.subtract(room.source, room.microphone)))
    mirrored = float(np.linalg.norm(np.subtract((1.5, 1.2, -1.5), room.microphone)))
    delay = rooms.LEAD + (mirrored - distance) / 343 * rooms.FS
    around = np.abs(response[int(delay) - 2 : int(delay) + 4]).max()
    assert around > 0.25 * np.abs(response).max() * distance / mirrored
    energy = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / np.sum(response**2) + 1e-12)
    t60 = 60 / 20 * (np.argmax(energy < -25) - np.argmax(energy < -5)) / rooms.FS
    assert t60 == pytest.approx(room.rt60, rel=0.33)


def test_responses_do_not_depend_on_threads() -> None:
    pra = pytest.importorskip("pyroomacoustics")
    room = rooms.Room((4.0, 3.2, 2.5), (1.0, 1.2, 1.5), (2.4, 1.9, 1.2), 0.3)
    before = pra.constants.get("num_threads")
    try:
        outcomes = []
        for threads in (1, 4):
            pra.constants.set("num_threads", threads)
            outcomes.append(rooms.simulate(room))
            assert pra.constants.get("num_threads") == threads, "the setting must be put back"
    finally:
        pra.constants.set("num_threads", before)
    assert np.array_equal(outcomes[0], outcomes[1])


def test_early_part() -> None:
    response = np.arange(1, rooms.TAPS + 1)
    kept = rooms.early(response, 50)
    assert kept[: rooms.LEAD + 800].all() and not kept[rooms.LEAD + 800 :].any()
