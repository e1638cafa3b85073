"""RAW frames: every term of the sensor's noise against its moments, the camera pipeline and its inverse, and the tasks made of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from scorebench.configs.errors import RequestError
from scorebench.datasets import registry as datasets
from scorebench.harness import poison
from scorebench.leaderboards.statistics import too_few
from scorebench.tasks import isp, noise_raw, registry
from scorebench.tasks.randomness import keyed

QUIET = noise_raw.Exposure(gain=2.0, lam=-0.1, read=0.0, row=0.0, colour=(0.0,) * 4, white=16383, black=512)
SHAPE = (4, 200, 200)
ZERO = np.zeros(SHAPE)


def rng(name: str) -> np.random.Generator:
    return keyed("test raw", name)


# ---------------------------------------------------------------------- the law of the read noise
@pytest.mark.parametrize("lam", [-0.3, -0.12, 0.0, 0.1, 0.5])
def test_tukey_lambda_is_scipys(lam):
    u = np.linspace(0.001, 0.999, 101)
    assert np.allclose(noise_raw.tukey_lambda(u, lam), stats.tukeylambda.ppf(u, lam))
    assert noise_raw.tukey_lambda_variance(lam) == pytest.approx(stats.tukeylambda.var(lam), rel=1e-9)


def test_tukey_lambda_variance_near_the_logistic_law_is_smooth():
    assert noise_raw.tukey_lambda_variance(9.9e-4) == pytest.approx(noise_raw.tukey_lambda_variance(1.01e-3), rel=1e-4)
    with pytest.raises(RequestError, match="no variance"):
        noise_raw.tukey_lambda_variance(-0.5)


# ---------------------------------------------------------------------- each term
def test_photon_noise_has_variance_gain_times_signal():
    frame = QUIET.shoot(np.full(SHAPE, 30.0), rng("shot"))
    assert frame.mean() == pytest.approx(30.0, abs=5 * (60 / frame.size) ** 0.5)
    assert frame.var() == pytest.approx(2.0 * 30.0, rel=0.02)
    assert set(np.unique(frame) % 2) == {0}, "codes are electrons times the gain"


def test_read_noise_has_the_law_it_says():
    frame = dataclasses.replace(QUIET, read=8.0).shoot(ZERO, rng("read"))
    assert frame.var() == pytest.approx(64 * noise_raw.tukey_lambda_variance(-0.1) + 1 / 12, rel=0.03)
    assert stats.kstest(frame.ravel()[::7] / 8.0, stats.tukeylambda(-0.1).cdf).statistic < 0.03  # rounding to 1/8 of a scale


def test_row_noise_is_shared_by_a_row_of_the_mosaic():
    frame = dataclasses.replace(QUIET, row=20.0).shoot(ZERO, rng("row"))
    rows = isp.unpack(frame)
    assert rows.var(1).max() == 0 and rows[:, 0].std() == pytest.approx(20, rel=0.2)
    assert np.array_equal(frame[0], frame[1]) and np.array_equal(frame[2], frame[3])
    assert abs(np.corrcoef(frame[0, :, 0], frame[2, :, 0])[0, 1]) < 0.3


def test_colour_offsets_shading_and_rounding():
    shading = np.linspace(-3, 3, 200)[None, None, :].repeat(4, 0).repeat(200, 1)
    frame = dataclasses.replace(QUIET, colour=(5.0, 1.0, -1.0, -5.0)).shoot(ZERO, rng("colour"), shading)
    assert np.array_equal(frame, np.rint(shading + np.array([5.0, 1.0, -1.0, -5.0])[:, None, None] + 512) - 512)
    assert np.array_equal(QUIET.shoot(np.full(SHAPE, 1e6), rng("full")), np.full(SHAPE, 16383.0 - 512))
    assert QUIET.shoot(ZERO, rng("dark"), -1e6).min() == -512, "codes end at 0, black stays above it"


def test_read_noise_given_is_the_dark_frames_own():
    exposure = noise_raw.camera("a").exposure(1600)
    frame = exposure.shoot(ZERO, rng("sum")) - np.reshape(exposure.colour, (4, 1, 1))
    assert frame.std() == pytest.approx(exposure.read_noise, rel=0.02)


def test_joint_law_is_a_line_with_spread():
    camera = noise_raw.camera("c")
    k = camera.gain(800)
    drawn = np.log([camera.exposure(800, rng(f"law {i}")).read for i in range(400)])
    a, b, t = camera.read
    assert drawn.mean() == pytest.approx(a * np.log(k) + b, abs=4 * t / 20) and drawn.std() == pytest.approx(t, rel=0.15)


def test_dark_shading_is_linear_in_iso_but_for_the_black_level():
    camera = noise_raw.camera("a")
    low, middle, high = (camera.dark_shading(iso) for iso in (800, 1600, 3200))
    bend = (middle - low) / 800 - (high - middle) / 1600
    assert bend.std() < 1e-12 and middle.std() > 1
    frames = camera.dark_frames(1600, 6)
    assert np.corrcoef(frames.mean(0).ravel(), middle.ravel())[0, 1] > 0.5


def test_flat_fields_show_photon_noise():
    pair = noise_raw.camera("a").flat_frames(1600, 1600.0)
    assert pair.shape == (2, 4, 80, 80)
    assert 0.5 * (pair[0] - pair[1])[1].var() == pytest.approx(1.92 * 1600, rel=0.08)


# ---------------------------------------------------------------------- the pipeline
def test_pipeline_round_trip_is_exact_off_the_clipped_set():
    pipe = noise_raw.camera("a").isp
    linear = rng("isp").random((3, 40, 40)) * 0.6
    balanced = pipe.gains * linear
    corrected = np.tensordot(np.array(pipe.matrix), np.clip(balanced, 0, 1), 1)
    free = ((balanced < 1) & (corrected > 1e-6) & (corrected < 1)).all(0)
    back = pipe.inverse(pipe.forward(linear))
    assert 0.2 < free.mean() < 0.95
    assert np.abs(back - linear)[:, free].max() < 1e-9
    assert np.abs(back - linear)[:, ~free].max() > 1e-3
    assert np.allclose(isp.tone(isp.inverse_tone(np.linspace(0, 1, 99))), np.linspace(0, 1, 99))


def test_mosaic_packing_and_bilinear():
    rgb = rng("mosaic").random((3, 12, 10))
    samples = isp.mosaic(rgb)
    assert np.array_equal(isp.unpack(isp.pack(samples)), samples)
    assert np.array_equal(isp.pack(samples)[3], rgb[2, 1::2, 1::2])
    y, x = np.mgrid[0:12, 0:10] / 12.0
    plane = np.stack([x, y, x + y])
    inner = (slice(None), slice(1, -1), slice(1, -1))
    assert np.allclose(isp.bilinear(isp.mosaic(plane))[inner], plane[inner])
    full = isp.bilinear(samples)
    assert np.allclose(isp.mosaic(full), samples), "what was sampled stays"


# ---------------------------------------------------------------------- tasks
def test_lowlight_observation_is_the_camera_amplified():
    task = registry.get("denoising/raw-lowlight-x200")
    o = task.observe("test", task.ids()[0])
    codes = o.given["noisy"].double() * (16383 - 512) / 200
    assert torch.allclose(codes, codes.round(), atol=1e-2) and o.given["noisy"].min() < 0
    assert o.target["clean"].shape == (4, 80, 80) and o.given["iso"] in (800, 1600, 3200)
    assert o.given["gain"] == pytest.approx(1.2e-3 * o.given["iso"])
    request = task.request([task.observe("test", i) for i in task.ids()[:3]], None)  # type: ignore[arg-type]
    assert request.noisy.shape == (3, 4, 80, 80) and request.amplification == 200.0 and request.white_level == 16383


def test_unknown_cameras_take_turns_and_are_not_the_training_camera():
    task = registry.get("denoising/raw-unknown")
    gains = {o.given["gain"] / o.given["iso"] for o in (task.observe("test", i) for i in task.ids())}
    assert len({round(g, 7) for g in gains}) == 4 and not any(abs(g - 1.2e-3) < 1e-9 for g in gains)
    dev = {round(task.observe("dev", i).given["gain"] / task.observe("dev", i).given["iso"], 7) for i in task.ids("dev")}
    assert dev == {2.2e-3}
    first = task.ids()[0]
    assert task.observe("test", first, 0).given["black_level"] == 512
    assert len({round(task.observe("test", first, d).given["gain"] / task.observe("test", first, d).given["iso"], 7) for d in range(4)}) == 4


def test_the_amplifications_share_their_fits():
    keys = [registry.get(f"denoising/raw-{n}").training_key("clean") for n in ("lowlight-x100", "lowlight-x200", "lowlight-x300", "unknown")]
    assert all(k == keys[0] for k in keys)


def test_training_items():
    task = registry.get("denoising/raw-lowlight-x200")
    pair = task.training_set("paired", 0)[3]
    assert set(pair) == {"input", "target"} and pair["input"].shape == pair["target"].shape == (4, 32, 32)
    assert set(task.training_set("clean", 0)[0]) == {"target"} and set(task.training_set("noisy", 0)[0]) == {"input"}
    errors = torch.stack([(i["input"] - i["target"]) for i in (task.training_set("paired", 0)[k] for k in range(40))])
    assert 0.03 < errors.std() < 0.3 and abs(errors.mean()) < 0.02


def test_poison_reaches_no_noisy_item_and_no_calibration():
    task = registry.get("denoising/raw-lowlight-x200")
    noisy, frames = task.training_set("noisy", 0)[5]["input"], noise_raw.camera("a").dark_frames(800, 1)
    with poison.poisoned(frozenset({"noisy"})):
        inside = registry.get("denoising/raw-lowlight-x200")
        assert torch.equal(inside.training_set("noisy", 0)[5]["input"], noisy)
        clean = inside.training_set("clean", 0)[5]["target"]
        assert np.array_equal(noise_raw.camera("a").dark_frames(800, 1), frames)
    assert not torch.equal(clean, task.training_set("clean", 0)[5]["target"])


TASKS = [f"denoising/raw-{n}" for n in ("lowlight-x100", "lowlight-x200", "lowlight-x300", "unknown")]
TASKS += ["restoration/jdd-bayer", "restoration/jdd-sensor", "restoration/rgb-to-raw", "restoration/rgb-to-raw-10"]


@pytest.mark.parametrize("task_id", TASKS)
def test_claims_on_these_tasks_can_be_decided_and_no_tested_scene_is_learned_from(task_id):
    task = registry.get(task_id)
    tested = {task.observe("test", i).cluster for i in task.ids()}
    assert not too_few(len(tested))
    learned = datasets.get(task.train["dataset"])
    train = {learned.sample(task.train["split"], i).cluster for i in learned.ids(task.train["split"])}
    dev = {task.observe("dev", i).cluster for i in task.ids("dev")}
    assert len(train) >= 4 and not (tested & train or tested & dev or train & dev)


def test_every_scene_is_seen_by_two_unknown_cameras_in_two_draws():
    task = registry.get("denoising/raw-unknown")
    seen: dict[str, set[float]] = {}
    for o in (task.observe("test", i, draw) for i in task.ids() for draw in range(2)):
        seen.setdefault(o.cluster, set()).add(round(o.given["gain"] / o.given["iso"], 7))
    assert min(map(len, seen.values())) >= 2
