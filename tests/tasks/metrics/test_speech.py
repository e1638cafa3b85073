"""Speech metrics against independent implementations (torchmetrics, pystoi, pesq, naive loops) and against cases known in closed form."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.linalg import solve_toeplitz, toeplitz

from scorebench.configs.errors import RequestError, RunError
from scorebench.datasets import registry as datasets
from scorebench.tasks.metrics import composite
from scorebench.tasks.metrics import speech as module
from scorebench.tasks.metrics.registry import SPEECH, make

FS = 16000


@pytest.fixture(scope="module")
def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    """(answers, clean), (3, 1, T): utterances with noise at about 10, 5 and 0 dB."""
    data = datasets.get("speech")
    clean = np.stack([data.sample("dev", i)["audio"] for i in data.ids("dev")[:3]])
    noise = np.random.default_rng(0).standard_normal(clean.shape) * 0.05
    answers = clean * 0.9 + noise * 10 ** (-np.array([10, 5, 0])[:, None, None] / 20)
    return torch.from_numpy(answers.astype(np.float32)), torch.from_numpy(clean)


def value(name: str, answer: torch.Tensor, clean: torch.Tensor, **options: object) -> torch.Tensor:
    return make(name, options).per_sample(answer, {"clean": clean})


# ---------------------------------------------------------------------------------------------------- SI-SDR
@pytest.mark.parametrize("zero_mean", [False, True])
def test_si_sdr_equals_torchmetrics(pairs: tuple[torch.Tensor, torch.Tensor], zero_mean: bool) -> None:
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as theirs

    answer, clean = pairs[0].double() + 0.01, pairs[1].double()
    expected = theirs(answer[:, 0], clean[:, 0], zero_mean=zero_mean)
    assert torch.allclose(value("si-sdr", answer, clean, zero_mean=zero_mean), expected, atol=1e-9)


def test_si_sdr_in_closed_form() -> None:
    t = torch.arange(16000) / 16000
    s, n = torch.sin(2 * torch.pi * 100 * t), torch.sin(2 * torch.pi * 300 * t)  # orthogonal, equal energy
    for db in (-10.0, 0.0, 7.5, 30.0):
        x = (0.3 * (s + 10 ** (-db / 20) * n))[None, None].double()
        assert value("si-sdr", x, s[None, None]).item() == pytest.approx(db, abs=1e-4)
    assert value("si-sdr", 2.5 * s[None, None].double(), s[None, None].double()).item() == 100
    assert value("si-sdr", torch.zeros(1, 1, 16000), s[None, None]).item() == -100
    assert value("si-sdr", n[None, None].double(), s[None, None].double()).item() < -90


# ---------------------------------------------------------------------------------------------------- STOI, ESTOI
@pytest.mark.parametrize(("name", "extended"), [("stoi", False), ("estoi", True)])
def test_intelligibility_equals_pystoi(pairs: tuple[torch.Tensor, torch.Tensor], name: str, extended: bool) -> None:
    from pystoi import stoi

    ours = value(name, *pairs)
    expected = [stoi(c[0].double().numpy(), a[0].double().numpy(), FS, extended=extended) for a, c in zip(*pairs, strict=True)]
    assert ours.tolist() == pytest.approx(expected, abs=1e-6)
    assert ours[0] > ours[1] > ours[2]


def test_intelligibility_leaves_the_global_generator_alone(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    np.random.seed(5)
    expected = np.random.standard_normal(3)
    np.random.seed(5)
    one = value("estoi", *pairs)
    assert np.array_equal(np.random.standard_normal(3), expected)
    assert torch.equal(one, value("estoi", *pairs)), "two calls must agree to the last bit"


def test_intelligibility_needs_speech() -> None:
    clean = torch.zeros(1, 1, 16000)
    clean[..., :1600] = torch.sin(torch.arange(1600) / 5)
    with pytest.raises(RunError, match=r"at least 0\.4 s"):
        value("estoi", clean, clean)


# ---------------------------------------------------------------------------------------------------- segmental SNR, LSD
def test_segmental_snr_in_closed_form() -> None:
    s = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 1, 16000)))
    for gain, db in ((0.9, 20.0), (0.5, 6.0206), (1 - 1e-4, 35.0), (11.0, -10.0)):  # error (1 - g) s in every frame; cut at both ends
        assert value("segsnr", gain * s, s).item() == pytest.approx(db, abs=1e-3)


def test_log_spectral_distance_against_a_loop(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    answer, clean = (p[0, 0].double().numpy() for p in pairs)
    window = np.hanning(513)[:512]
    starts = range(0, len(clean) - 511, 256)
    clean_spectra = [np.abs(np.fft.fft(clean[k : k + 512] * window)[:257]) for k in starts]
    floor = max(s.max() for s in clean_spectra) / 10**2.5
    total = 0.0
    for k, s in zip(starts, clean_spectra, strict=True):
        x = np.abs(np.fft.fft(answer[k : k + 512] * window)[:257])
        total += np.sqrt(np.mean((20 * np.log10(np.maximum(s, floor) / np.maximum(x, floor))) ** 2))
    assert value("lsd", pairs[0][:1], pairs[1][:1]).item() == pytest.approx(total / len(starts), rel=1e-9)
    assert value("lsd", pairs[1], pairs[1]).abs().max() == 0


def test_log_spectral_distance_of_a_gain() -> None:
    """A tone twice as loud differs by 6.02 dB in the bins above the floor only; an impulse train has all bins above it."""
    impulses = torch.zeros(1, 1, 16000)
    impulses[..., 128::256] = 1.0  # one or two per frame: the flat spectrum of an impulse, summed
    single = torch.zeros(1, 1, 512)
    single[..., 256] = 1.0
    assert value("lsd", 2 * single, single).item() == pytest.approx(20 * np.log10(2), abs=1e-6)


# ---------------------------------------------------------------------------------------------------- composites
def test_llr_against_scipy(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    answer, clean = (p[1, 0].double().numpy() for p in pairs)
    clean = clean + 1e-3 * np.random.default_rng(2).standard_normal(len(clean))  # no digital silence
    values = []
    for s, x in zip(composite.frames(clean, FS), composite.frames(answer, FS), strict=True):
        r = [np.array([np.dot(f[: len(f) - k], f[k:]) for k in range(17)]) for f in (s, x)]
        a_s, a_x = (np.concatenate([[1.0], -solve_toeplitz(q[:16], q[1:])]) for q in r)
        matrix = toeplitz(r[0])
        values.append(np.log((a_x @ matrix @ a_x) / (a_s @ matrix @ a_s)))
    values.sort()
    expected = np.mean(values[: round(0.95 * len(values))])
    assert composite.log_likelihood_ratio(clean, answer, FS) == pytest.approx(expected, rel=1e-6)
    assert composite.log_likelihood_ratio(clean, 3 * clean, FS) == pytest.approx(0, abs=1e-6)
    assert expected > 0.1


def test_wss_against_a_loop(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    answer, clean = (p[1, 0].double().numpy() for p in pairs)

    def bands(frame: np.ndarray) -> list[float]:
        power = np.abs(np.fft.fft(frame, 1024))[:512] ** 2
        out = []
        for centre, width in zip(composite.CENTRES, composite.WIDTHS, strict=True):
            filt = [np.exp(-11 * ((j - np.floor(centre / 8000 * 512)) / (width / 8000 * 512)) ** 2) * 70 / width for j in range(512)]
            energy = sum(w * p for w, p in zip(filt, power, strict=True) if w > np.exp(-30 / 4.606))
            out.append(max(10 * np.log10(max(energy, 1e-300)), -100))
        return out

    def weights(e: list[float]) -> list[float]:
        slope, out = np.diff(e), []
        for i in range(24):
            n = i
            if slope[i] > 0:
                while n < 24 and slope[n] > 0:
                    n += 1
                peak = e[n - 1]
            else:
                while n >= 0 and slope[n] <= 0:
                    n -= 1
                peak = e[n + 1]
            out.append(20 / (20 + max(e) - e[i]) * 1 / (1 + peak - e[i]))
        return out

    part = slice(8000, 12000)
    values = []
    eps = np.finfo(float).eps
    for s, x in zip(composite.frames(clean[part] + eps, FS), composite.frames(answer[part] + eps, FS), strict=True):
        e_s, e_x = bands(s), bands(x)
        w = (np.array(weights(e_s)) + np.array(weights(e_x))) / 2
        values.append(np.sum(w * (np.diff(e_s) - np.diff(e_x)) ** 2) / np.sum(w))
    values.sort()
    expected = np.mean(values[: round(0.95 * len(values))])
    assert composite.weighted_spectral_slope(clean[part], answer[part], FS) == pytest.approx(expected, rel=1e-9)
    assert composite.weighted_spectral_slope(clean, clean, FS) == 0


def test_ratings_of_a_perfect_answer(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    """LLR and WSS are zero and the segmental SNR is at its cap, so what is left is the formulas' constants."""
    s = np.random.default_rng(3).standard_normal(16000) * 0.1
    out = composite.ratings(s, s, FS, 2.0)
    assert out == pytest.approx({"csig": 3.093 + 1.206, "cbak": 1.634 + 0.956 + 0.063 * 35, "covl": 1.594 + 1.61}, abs=1e-6)
    assert composite.ratings(s, s, FS, 4.64)["csig"] == 5.0
    rumble = np.cumsum(s)  # its spectrum falls by 12 dB per octave more than that of the white noise it is compared with
    assert composite.ratings(rumble, np.random.default_rng(4).standard_normal(16000), FS, 1.0)["covl"] == 1.0


# ---------------------------------------------------------------------------------------------------- PESQ
def test_pesq_is_unavailable_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for name in ("pesq", "csig", "cbak", "covl"):
        why = make(name).unavailable()
        assert why is not None and "pesq" in why.because and "scorebench[speech]" in why.remedy
    assert make("si-sdr").unavailable() is None


def test_pesq_passes_signals_in_the_right_order(pairs: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in package: the reference comes first, float32, with rate and mode; what it returns is what is recorded."""

    class Package:
        PesqError = NoUtterancesError = type("PesqError", (Exception,), {})

        @staticmethod
        def pesq(rate: int, reference: np.ndarray, degraded: np.ndarray, mode: str) -> float:
            assert (rate, mode) == (FS, "wb") and reference.dtype == np.float32
            assert np.array_equal(reference, pairs[1][0, 0].numpy()) and np.allclose(degraded, pairs[0][0, 0].numpy())
            return 1.75

    monkeypatch.setitem(sys.modules, "pesq", Package)
    assert value("pesq", pairs[0][:1], pairs[1][:1]).item() == 1.75
    assert value("pesq", torch.zeros_like(pairs[1][:1]), pairs[1][:1]).item() == 1.0


def test_pesq_equals_its_package(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    package = pytest.importorskip("pesq", reason="the extra `speech` is not installed")
    expected = [package.pesq(FS, c[0].numpy(), a[0].numpy(), "wb") for a, c in zip(*pairs, strict=True)]
    assert value("pesq", *pairs).tolist() == pytest.approx(expected, abs=1e-5)
    assert value("pesq", pairs[1], pairs[1]).min() > 4.6
    clean = (pairs[1] + 1e-3 * torch.randn(pairs[1].shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    direct = composite.ratings(clean[0, 0].double().numpy(), pairs[0][0, 0].double().numpy(), FS, value("pesq", pairs[0], clean)[0].item())
    assert value("cbak", pairs[0], clean)[0].item() == direct["cbak"] > 1


# ---------------------------------------------------------------------------------------------------- protocol
def test_identities_and_options() -> None:
    assert make("si-sdr").identity() == "si-sdr|no-mean-subtraction|per-utterance"
    assert make("pesq", {"mode": "nb", "sample_rate": 8000}).identity() == "pesq|nb|fs=8000|mos-lqo|per-utterance"
    assert make("estoi", {"sample_rate": 8000}).identity() != make("estoi").identity()
    for name, options in (("pesq", {"mode": "wb", "sample_rate": 8000}), ("pesq", {"mode": "xx"}), ("estoi", {"sample_rate": "fast"})):
        with pytest.raises(RequestError):
            make(name, options)


def test_registry_lists_what_the_module_has() -> None:
    assert set(SPEECH) == set(module.METRICS)
    for name, cls in module.METRICS.items():
        info = SPEECH[name]
        assert (info.title, info.level, info.higher_is_better) == (cls.title, cls.level, cls.higher_is_better)
        assert type(make(name)) is cls


def test_wrong_shapes_are_refused(pairs: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(RunError, match="shape"):
        value("si-sdr", pairs[0][..., :-1], pairs[1])
    with pytest.raises(RunError, match="one channel"):
        value("lsd", pairs[0].expand(-1, 2, -1), pairs[1].expand(-1, 2, -1))
    with pytest.raises(RunError, match="NaN"):
        value("si-sdr", pairs[0] * float("nan"), pairs[1])
