"""RAW denoisers: calibration finds the sensor, the transform's bias is what Monte Carlo says, estimation is within its error, proxies learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from scorebench.baselines import card as cards
from scorebench.baselines import components
from scorebench.baselines.denoising import noise_estimation as cne
from scorebench.baselines.denoising import sensor, vst
from scorebench.baselines.denoising.eld import ELD, tukey_lambda
from scorebench.baselines.denoising.gat_bm3d import GATBM3D, HADAMARD
from scorebench.baselines.denoising.noisy_input import NoisyInput
from scorebench.baselines.denoising.pnnp import PNNP, Proxy, cdf, ddl, divergence
from scorebench.baselines.denoising.yond import YOND
from scorebench.baselines.nets.raw_unet import RawUNet
from scorebench.configs.errors import RequestError
from scorebench.harness.training import fit
from scorebench.tasks import noise_raw, registry
from scorebench.tasks.randomness import Rng, keyed
from scorebench.tasks.requests import Request

LOWLIGHT, UNKNOWN = "denoising/raw-lowlight-x200", "denoising/raw-unknown"


@pytest.fixture(scope="module")
def calibration() -> sensor.SensorCalibration:
    return sensor.SensorCalibration("a", frames=40)


def asked(task_id: str, count: int, split: str = "test"):
    task = registry.get(task_id)
    observations = [task.observe(split, i) for i in task.ids(split)[:count]]
    return task, observations, task.request(observations, Rng(range(count)))


def psnr(method, task_id: str, count: int = 2) -> float:
    task, observations, request = asked(task_id, count)
    with torch.no_grad():
        answer = task.accept(method.denoise(request), request, observations)
    return float(task.metrics["psnr"].per_sample(answer, task.target(observations)).mean())


# ---------------------------------------------------------------------- calibration (ELD)
@pytest.mark.parametrize("lam", [-0.2, -0.05, 0.1])
def test_ppcc_recovers_shape_and_scale(lam):
    values = 3 * noise_raw.tukey_lambda(keyed("ppcc", lam).random(200_000), lam)
    found, scale = sensor.read_law(values)
    assert found == pytest.approx(lam, abs=0.021) and scale == pytest.approx(3, rel=0.03)
    shapes = np.arange(-0.3, 0.31, 0.05)
    theirs = [stats.probplot(values[:4000], sparams=(s,), dist=stats.tukeylambda)[1] for s in shapes]
    ours = sensor.probability_plot(values[:4000], shapes.tolist())
    assert np.allclose([c for c, _ in ours], [r for *_, r in theirs], atol=1e-5)
    assert np.allclose([s for _, s in ours], [slope for slope, *_ in theirs], rtol=1e-3)


def test_calibration_recovers_the_sensor(calibration):
    true = noise_raw.camera("a")
    assert float(calibration.gain_per_iso) == pytest.approx(true.gain_per_iso, rel=0.02)
    assert float(calibration.lam) == pytest.approx(true.lam, abs=0.03)
    for law, ours in ((true.read, calibration.read), (true.row, calibration.row)):
        for iso in true.isos:
            k = math.log(true.gain(iso))
            assert ours[0] * k + ours[1] == pytest.approx(law[0] * k + law[1], abs=0.06)
    for iso in true.isos:
        mean = true.dark_shading(iso) + np.array(true.colour)[:, None, None] * iso / 1600
        ours = calibration.shading(iso, (4, 80, 80)).numpy()
        assert (mean - ours).std() < 0.6 * mean.std()
        flat = calibration.shading(iso, (4, 80, 80), per_pixel=False).numpy()
        assert np.allclose(flat[:, 0, 0], ours.mean((1, 2)), atol=1e-4)


def test_rows_are_split_off_the_dark_frames():
    frames = keyed("rows").normal(0, 1, (5, 4, 60, 60))
    shared = keyed("rows", 2).normal(0, 2, (5, 120))
    for k in range(5):
        frames[k] += noise_raw.packed_rows(shared[k])
    rows, pixels = sensor.split_rows(frames)
    assert np.corrcoef(rows.ravel(), shared.ravel())[0, 1] > 0.99
    assert sensor.row_scale(rows, pixels) == pytest.approx(shared.std(), rel=0.03)
    assert np.abs(pixels[:, :2].mean((1, 3))).max() < 1e-12


@pytest.mark.parametrize("model", ["g", "gp", "ptl", "full"])
def test_each_noise_model_has_its_moments(calibration, model):
    torch.manual_seed(0)
    method = ELD(calibration, model)
    gain, level = torch.full((64, 1, 1, 1), 1.92), 25.0
    noise = method.corrupted(torch.full((64, 4, 48, 48), level), gain) - level
    read2 = math.exp(calibration.read[0] * math.log(1.92) + calibration.read[1]) ** 2 * noise_raw.tukey_lambda_variance(float(calibration.lam))
    row2 = math.exp(calibration.row[0] * math.log(1.92) + calibration.row[1]) ** 2
    gauss2 = math.exp(calibration.gauss[0] * math.log(1.92) + calibration.gauss[1]) ** 2
    shot = 1.92 * level
    expected = {"g": gauss2, "gp": gauss2 + shot, "ptl": read2 + shot, "full": read2 + shot + row2 + 1 / 12}[model]
    assert float(noise.var()) == pytest.approx(expected, rel=0.03)
    rows = noise[:, :2].mean((1, 3)).var()
    assert float(rows) == pytest.approx(expected / 96 if model != "full" else row2 + (expected - row2) / 96, rel=0.15)


def test_tukey_lambda_in_torch_is_numpys():
    u = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    for lam in (-0.2, 0.0, 0.14):
        assert np.allclose(tukey_lambda(u, lam).numpy(), noise_raw.tukey_lambda(u.numpy(), lam))


def test_the_mean_dark_frame_is_taken_off(calibration):
    task, observations, request = asked(LOWLIGHT, 4)
    clean = task.target(observations)["clean"]
    bias = {dark: (ELD(calibration, dark=dark).corrected(request) - clean) for dark in ("none", "channel", "map")}
    assert torch.equal(bias["none"], request.noisy - clean)
    spread = [float(bias[d].std()) for d in ("none", "channel", "map")]
    assert spread[2] < spread[1] < spread[0]
    with pytest.raises(RequestError, match="map, channel, none"):
        ELD(calibration, dark="bright")


def test_a_short_training_denoises(calibration):
    task = registry.get(LOWLIGHT)
    method, _ = fit(lambda: ELD(calibration, width=4, levels=2, lr=1e-2), task, "clean", gflops=8, seed=0)
    assert psnr(method, LOWLIGHT) > psnr(NoisyInput(), LOWLIGHT) + 1.5


# ---------------------------------------------------------------------- the transform (YOND)
@pytest.mark.parametrize(("gain", "read"), [(2.0, 3.0), (0.3, 1.7), (24.5, 25.9)])
@pytest.mark.parametrize("electrons", [0.5, 2.0, 10.0, 80.0])
def test_bias_is_monte_carlos(gain, read, electrons):
    rng, n = keyed("vst", gain, electrons), 400_000
    y = gain * rng.poisson(electrons, n) + read * rng.standard_normal(n)
    found = vst.forward(y, gain, read).mean() - vst.forward(np.float64(gain * electrons), gain, read)
    assert found == pytest.approx(float(vst.bias(np.array(gain * electrons), gain, read)), abs=4.5 / n**0.5)


def test_expectation_matching_takes_the_bias_off():
    gain, read, n = 2.0, 3.0, 400_000
    rng = keyed("matched")
    y = gain * rng.poisson(2.0, n) + read * rng.standard_normal(n)
    z, at = vst.forward(y, gain, read), vst.forward(np.float64(2 * gain), gain, read)
    matched = z - vst.bias(np.maximum(y, 0), gain, read)
    assert z.mean() - at < -0.12 and abs(matched.mean() - at) < 0.01
    assert 0.98 < matched.std() < 1.05


def test_closed_bias_meets_the_integral_and_inverses_invert():
    for sigma in (0.5, 2.0):
        numeric = vst.bias(np.array([49.9]), 1.0, sigma)
        assert numeric == pytest.approx(vst.closed_bias(np.array([49.9]), sigma), abs=1e-3)
    x = np.linspace(0, 300, 50)
    assert np.allclose(vst.inverse(vst.forward(x, 2.0, 3.0), 2.0, 3.0), x)
    means = vst.forward(x, 2.0, 3.0) + vst.bias(x, 2.0, 3.0)
    assert np.abs(vst.unbiased_inverse(means, 2.0, 3.0) - x)[x > 4].max() < 0.12


def test_estimation_finds_gain_and_read_noise():
    """On frames of patches the coarse estimate is within 15 % (gain) and 10 % (read noise), and the clean frame's help makes it better."""
    rng = keyed("cne")
    blocks = rng.random((4, 8, 8)) * 0.6 + 0.02
    clean = np.kron(blocks, np.ones((1, 40, 40)))
    gain, read = 0.004, 0.02
    noisy = gain * rng.poisson(clean / gain) + read * rng.standard_normal(clean.shape)
    b = cne.coarse(noisy, 15)
    assert b[0] == pytest.approx(gain, rel=0.15) and math.sqrt(b[1]) == pytest.approx(read, rel=0.1)
    f = cne.fine(noisy, clean, 15, b)
    assert f[0] == pytest.approx(gain, rel=0.05) and math.sqrt(f[1]) == pytest.approx(read, rel=0.05)


def test_a_clean_pilot_improves_estimates_on_photographs():
    task = registry.get(UNKNOWN)
    errors = []
    for i in task.ids():
        o = task.observe("test", i)
        full = (o.given["white_level"] - o.given["black_level"]) / o.given["amplification"]
        noisy, clean = o.given["noisy"].double().numpy(), o.target["clean"].double().numpy()
        b = cne.coarse(noisy, 15)
        errors.append([abs(v[0] * full / o.given["gain"] - 1) for v in (b, cne.fine(noisy, clean, 15, b))])
    coarse, fine = np.median(errors, 0)
    assert fine < 0.1 < coarse


def test_yond_answers_blind_and_records_its_errors():
    torch.manual_seed(0)
    method = YOND(width=4, levels=2).eval()
    _, _, request = asked(UNKNOWN, 2)
    with torch.no_grad():
        assert method.denoise(request).shape == request.noisy.shape
    notes, _ = method.take_notes()
    assert set(notes) == {
        "gain-error-coarse", "gain-error-fine", "gain-error-gained", "read-noise-error-coarse", "read-noise-error-fine"
    }  # fmt: skip
    names = ("noisy", "white_level", "black_level", "amplification")
    blind = Request("denoise", {k: getattr(request, k) for k in names}, n=2, rng=request.rng, returns=request.returns)
    with torch.no_grad():
        assert torch.equal(method.denoise(blind), method.denoise(request))
    with pytest.raises(RequestError, match="estimated, given"):
        YOND(level="guessed")


def test_a_short_training_makes_yond_denoise():
    method, _ = fit(lambda: YOND(width=4, levels=2, lr=1e-2), registry.get(UNKNOWN), "clean", gflops=16, seed=0)
    assert psnr(method, UNKNOWN) > psnr(NoisyInput(), UNKNOWN) + 0.3


def test_bm3d_behind_the_transform():
    assert np.allclose(HADAMARD @ HADAMARD.T, np.eye(4))
    assert psnr(GATBM3D(), LOWLIGHT, 1) > psnr(NoisyInput(), LOWLIGHT, 1) + 5


# ---------------------------------------------------------------------- proxies (PNNP)
def test_distribution_functions_are_numpys():
    values = torch.randn(500)
    x = torch.linspace(-2, 2, 30)
    ordered = np.sort(values.numpy())
    assert np.allclose(cdf(values, x).numpy(), np.interp(x.numpy(), ordered, np.linspace(0, 1, 500)), atol=1e-5)
    assert float(ddl(values, values)) == 0
    assert float(ddl(values * 2, values)) > 0.3


def test_the_distribution_loss_lowers_the_quantile_distance():
    """A proxy that starts as a Gaussian learns heavy tails."""
    torch.manual_seed(0)
    proxy = Proxy()
    target = tukey_lambda(torch.rand(40_000), -0.2)
    target = target / target.std()
    gain = torch.zeros(1)
    optimiser = torch.optim.Adam(proxy.parameters(), 5e-3)
    u = torch.linspace(0.001, 0.999, 400)

    def distance() -> float:
        with torch.no_grad():
            made = proxy(torch.randn(40_000, 1, generator=torch.Generator().manual_seed(1)), gain)[:, 0]
        return float((torch.quantile(made, u) - torch.quantile(target, u)).abs().mean())

    before = distance()
    for _ in range(250):
        optimiser.zero_grad()
        ddl(proxy(torch.randn(2048, 1), gain)[:, 0], target[torch.randint(len(target), (2048,))]).backward()
        optimiser.step()
    assert distance() < 0.5 * before


def test_high_bit_recovery_undoes_rounding(calibration):
    method = PNNP(calibration)
    dark = method.darks()[0]
    smooth = torch.from_numpy(dark["quantiles"]).float()[torch.randint(1, len(dark["quantiles"]) - 1, (20_000,))]
    again = method.recovered(smooth.round(), dark)
    assert float((again - smooth.round()).abs().max()) <= 0.5001
    assert stats.ks_2samp(again.numpy(), smooth.numpy()).statistic < 0.02 < stats.ks_2samp(smooth.round().numpy(), smooth.numpy()).statistic


def test_proxies_start_at_the_physics_and_a_training_taken_up_keeps_them(calibration):
    method = PNNP(calibration)
    for dark in method.darks():
        with torch.no_grad():
            made = method.pixel(torch.randn(50_000, 1), torch.tensor([dark["log_gain"]]))
        assert float(made.std()) == pytest.approx(float(dark["pixels"].std()), rel=0.05)
    other = PNNP(calibration)
    with torch.no_grad():
        method.pixel.scale += 1
    other.load_state_dict(method.state_dict())
    other.darks()
    assert torch.equal(other.pixel.scale, method.pixel.scale)


def test_divergence_is_zero_for_equal_and_the_closed_form_for_gaussians():
    a, b = keyed("kl").normal(0, 1, (2, 400_000))
    assert divergence(a, b, 1.0) < 1e-3
    assert divergence(a, 1.2 * b, 1.0) == pytest.approx(math.log(1.2) + 0.5 / 1.44 - 0.5, abs=3e-3)


# ---------------------------------------------------------------------- the network
def test_network_takes_any_size_and_scale():
    net = RawUNet(4, 4, 3, guided=True)
    torch.nn.init.normal_(net.down[0].conv2.weight, std=0.1)
    x, t = torch.rand(2, 4, 21, 34), torch.tensor([0.1, 0.2])
    out = net(x, t)
    assert out.shape == x.shape
    assert torch.allclose(net(3 * x + 1, 3 * t), 3 * out + 1, atol=1e-4), "a guided network scales with its input"
    assert not torch.allclose(net(x, 3 * t), out, atol=1e-4)


def test_all_trained_denoisers_have_one_network(calibration):
    sizes = {sum(p.numel() for p in m.network.parameters()) for m in (ELD(calibration), PNNP(calibration))}
    assert len(sizes) == 1
    assert cards.get("yond").uses.get("noise_known") is None and cards.get("yond-known").uses["noise_known"]


def test_no_dark_frame_of_another_camera_is_subtracted():
    for name, preset in (("eld", "default"), ("eld", "channel"), ("eld", "gp"), ("pnnp", "default")):
        assert cards.get(name).preset(preset, "denoising/raw-unknown")["dark"] == "none"
    assert cards.get("eld").preset("channel", "denoising/raw-lowlight-x200")["dark"] == "channel"


def test_the_other_camera_was_trained_on_the_noise_of_the_unknown_ones(calibration):
    """yond's claims compare with networks whose gain x amplification covers the test's; the presets for low light do not."""
    task = registry.get(UNKNOWN)
    asked_for = [o.given["gain"] * o.given["amplification"] for o in (task.observe("test", i) for i in task.ids())]
    card = cards.get("eld")
    low, high = calibration.gains

    def covered(preset: str) -> float:
        values = {"least": 100.0, "most": 300.0, **card.preset(preset, UNKNOWN)}
        return float(np.mean([low * values["least"] <= a * 1.02 and a <= high * values["most"] * 1.02 for a in asked_for]))

    rivals = {c["right"] for c in cards.get("yond").claims if c["id"].startswith("over-other-camera")}
    assert rivals == {"eld[wide]", "eld[gp-wide]"}
    assert covered("wide") == covered("gp-wide") == 1 and covered("default") < 0.7
    assert card.preset("wide", UNKNOWN)["dark"] == "none"


def test_clipping_bounds_what_the_network_sees_and_says():
    torch.manual_seed(0)
    method = YOND(width=4, levels=2, clip=True).eval()
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, x, t):
            seen.append(x)
            return 3 * x - 1

    method.network = Watched()  # type: ignore[assignment]
    codes = keyed("clip").normal(0, 40, (4, 16, 16))
    out = method.stabilised(codes, 200.0, 2.0, 3.0)
    assert float(seen[0].min()) == 0 and float(seen[0].max()) <= 1
    assert out.min() >= -1e-6 and out.max() <= 200 * (1 + 1e-6)
    method.clip = False
    method.stabilised(codes, 200.0, 2.0, 3.0)
    assert float(seen[1].min()) < 0


def test_the_window_is_where_blocks_are_looked_for():
    _, _, request = asked(LOWLIGHT, 1)
    wide, again, narrow = (GATBM3D(window=w).denoise(request) for w in (39, 39, 9))
    assert torch.equal(wide, again) and not torch.equal(wide, narrow)


def test_published_numbers_stand_in_for_frames():
    """The Sony's gain law meets the ends of its calibrated range (ISO 2000 to about 12800), and ELD trains with its laws."""
    card = components.get("raw-sensor-sid-sony")
    published = sensor.PublishedSensor(**card.hparams)
    assert float(published.gain(torch.tensor(2000.0))) == pytest.approx(published.gains[0], rel=0.02)
    assert float(published.gain(torch.tensor(12800.0))) == pytest.approx(published.gains[1], rel=0.02)
    torch.manual_seed(0)
    noise = ELD(published).corrupted(torch.zeros(8, 4, 64, 64), torch.full((8, 1, 1, 1), 3.06))
    assert float(noise.std()) == pytest.approx(3.92, rel=0.06), "the repository's own Gaussian scale at ISO 3200"
    assert torch.equal(published.shading(1600, (4, 3, 2)), torch.zeros(4, 3, 2))
