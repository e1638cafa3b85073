"""Metrics of enhanced speech beside the clean signal: SI-SDR, STOI and ESTOI, PESQ, segmental SNR, log-spectral distance, composites.

Answers and targets are (B, 1, T). STOI and PESQ are computed by the packages pystoi and pesq, which results in papers come from; the second
is an extra, since it has to be compiled. What `composite` holds (LLR, WSS and their mixtures) needs numpy alone."""

from __future__ import annotations

import contextlib
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

import numpy as np
import torch

from ...configs.errors import RequestError, RunError
from . import composite
from .base import Metric, Unavailable, checked, choice, signed

CAP = 100.0
"""dB beyond which a ratio is cut: an exact answer would be infinite, a silent one minus infinity, and no record can hold that."""


class SpeechMetric(Metric):
    """What metrics of (answer, clean) signals share: shape checks and one value per signal."""

    level = "sample"

    def __init__(self, sample_rate: int = 16000) -> None:
        if isinstance(sample_rate, bool) or not isinstance(sample_rate, int) or not 4000 <= sample_rate <= 96000:
            raise RequestError(f"metric {self.name} takes a sample_rate of 4000 to 96000 Hz, not {sample_rate!r}.")
        self.sample_rate = sample_rate

    def identity(self) -> str:
        return signed(self.name, f"fs={self.sample_rate}", "per-utterance")

    def pair(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return answer and clean signal as float64 (B, T) on the CPU."""
        clean = target["clean"]
        if answer.shape != clean.shape:
            raise RunError(
                f"metric {self.name} got an answer of shape {tuple(answer.shape)} for a target of {tuple(clean.shape)}.", "wrong-output"
            )
        x, y = checked(self.name, answer, rank=3), checked(self.name, clean, "target", rank=3)
        if x.shape[1] != 1:
            raise RunError(f"metric {self.name} takes one channel; this signal has {x.shape[1]}.", "wrong-output")
        return x[:, 0].cpu(), y[:, 0].cpu()

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        x, y = self.pair(answer, target)
        values = [self.one(a, c) for a, c in zip(x.numpy(), y.numpy(), strict=True)]
        return torch.tensor(values, dtype=torch.float64)

    @abstractmethod
    def one(self, answer: np.ndarray, clean: np.ndarray) -> float:
        """Return the value of one signal, both float64 (T,)."""


class SISDR(SpeechMetric):
    """Le Roux, Wisdom, Erdogan, Hershey 2019, equation 4: the clean signal is scaled to fit the answer best."""

    name = "si-sdr"
    title = "Scale-invariant signal-to-distortion ratio"
    higher_is_better = True
    unit = "dB"
    bounds = (-CAP, CAP)
    paper = "Le Roux, Wisdom, Erdogan, Hershey: SDR - half-baked or well done? ICASSP 2019."
    protocol = """10 log10(|a s|^2 / |a s - x|^2) with a = <x, s> / |s|^2 over the whole signal x, clean s, float64; cut to [-100, 100] dB.
        zero_mean takes each signal's mean away first (off, as in the paper's equations and in the tables of speech enhancement)."""

    def __init__(self, zero_mean: bool = False) -> None:
        super().__init__()
        self.zero_mean = choice(self.name, "zero_mean", zero_mean, (False, True))

    def identity(self) -> str:
        return signed(self.name, "zero-mean" if self.zero_mean else "no-mean-subtraction", "per-utterance")

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        x, s = self.pair(answer, target)
        if self.zero_mean:
            x, s = x - x.mean(1, keepdim=True), s - s.mean(1, keepdim=True)
        scaled = (x * s).sum(1, keepdim=True) / s.square().sum(1, keepdim=True).clamp_min(1e-300) * s
        signal, distortion = scaled.square().sum(1), (scaled - x).square().sum(1)
        tiny = 1e-300
        return (10 * torch.log10(signal / (distortion + tiny) + tiny)).clamp(-CAP, CAP)  # a silent answer is worst, not 0 dB

    def one(self, answer: np.ndarray, clean: np.ndarray) -> float:
        return float(self.per_sample(torch.from_numpy(answer)[None, None], {"clean": torch.from_numpy(clean)[None, None]}))


class STOI(SpeechMetric):
    """Taal et al. 2011, computed by pystoi."""

    name = "stoi"
    title = "Short-time objective intelligibility"
    higher_is_better = True
    bounds = (-1.0, 1.0 + 1e-9)
    paper = "Taal, Hendriks, Heusdens, Jensen: An algorithm for intelligibility prediction of time-frequency weighted noisy speech, TASLP 2011."
    protocol = """pystoi on the whole signal, resampled to 10 kHz, frames 40 dB below the loudest clean one left out; needs 0.4 s of speech.
        The package dithers with global random numbers; they are seeded for each signal, so the value is a function of the signals."""
    extended = False

    def unavailable(self) -> Unavailable | None:
        if find_spec("pystoi") is None:
            return Unavailable("The package pystoi is not installed.", "Run `pip install pystoi`.")
        return None

    def one(self, answer: np.ndarray, clean: np.ndarray) -> float:
        from pystoi import stoi

        with warnings.catch_warnings(record=True) as caught, _numpy_seed(0):
            warnings.simplefilter("always")
            value = float(stoi(clean, answer, self.sample_rate, extended=self.extended))
        if any("Not enough STFT frames" in str(w.message) for w in caught):
            raise RunError(f"metric {self.name} needs at least 0.4 s of speech in the clean signal; this one has less.")
        return value


class ESTOI(STOI):
    """Jensen and Taal 2016, computed by pystoi."""

    name = "estoi"
    title = "Extended short-time objective intelligibility"
    paper = "Jensen, Taal: An algorithm for predicting the intelligibility of speech masked by modulated noise maskers, TASLP 2016."
    extended = True


class PESQ(SpeechMetric):
    """ITU-T P.862 (narrow band, at 8 kHz) or P.862.2 (wide band, at 16 kHz), computed by the package pesq (an extra)."""

    name = "pesq"
    title = "Perceptual evaluation of speech quality (MOS-LQO)"
    higher_is_better = True
    bounds = (0.99, 4.65)
    paper = "ITU-T Recommendations P.862 (2001), P.862.1 (2003), P.862.2 (2007)."
    protocol = """MOS-LQO of the package pesq. mode wb: P.862.2 at 16 kHz; nb: P.862 with the P.862.1 mapping, at 8 or 16 kHz. Numbers of
        the two modes are not comparable. An answer in which the algorithm finds no speech at all gets the scale's lowest value."""

    def __init__(self, mode: str = "wb", sample_rate: int = 16000) -> None:
        super().__init__(sample_rate)
        self.mode = choice(self.name, "mode", mode, ("wb", "nb"))
        if sample_rate not in ((16000,) if mode == "wb" else (8000, 16000)):
            raise RequestError(f"metric pesq in mode {mode} takes {'16000' if mode == 'wb' else '8000 or 16000'} Hz, not {sample_rate!r}.")

    def identity(self) -> str:
        return signed(self.name, self.mode, f"fs={self.sample_rate}", "mos-lqo", "per-utterance")

    def unavailable(self) -> Unavailable | None:
        return _needs_pesq()

    def one(self, answer: np.ndarray, clean: np.ndarray) -> float:
        return pesq(answer, clean, self.sample_rate, self.mode)


class SegmentalSNR(SpeechMetric):
    """Mean over 30 ms frames of the SNR in dB, each cut to [-10, 35] (Hansen and Pellom 1998)."""

    name = "segsnr"
    title = "Segmental signal-to-noise ratio"
    higher_is_better = True
    unit = "dB"
    bounds = (-10.0, 35.0)
    paper = "Hansen, Pellom: An effective quality evaluation protocol for speech enhancement algorithms, ICSLP 1998."
    protocol = """Frames of 30 ms, Hann window, 75 % overlap; 10 log10(sum s^2 / sum (s - x)^2) cut to [-10, 35] dB; mean over all frames,
        silent ones included, as in the composite measures."""

    def one(self, answer: np.ndarray, clean: np.ndarray) -> float:
        return composite.segmental_snr(clean, answer, self.sample_rate)


class LogSpectralDistance(SpeechMetric):
    """Root mean square difference of log spectra, mean over frames (Cohen and Gannot 2008, equation 44.117)."""

    name = "lsd"
    title = "Log-spectral distance"
    higher_is_better = False
    unit = "dB"
    bounds = (0.0, 200.0)
    paper = "Cohen, Gannot: Spectral enhancement methods, Springer Handbook of Speech Processing, 2008."
    protocol = """Frames of 32 ms, Hann window, 50 % overlap; log spectra 20 log10|X| confined to 50 dB below the clean signal's largest
        value; root mean square over frequency, mean over frames. The answer is not rescaled: level counts."""
    dynamic_range = 50.0

    def one(self, answer: np.ndarray, clean: np.ndarray) -> float:
        n = 2 * round(0.016 * self.sample_rate)
        window = np.hanning(n + 1)[:-1]
        spectra = []
        for signal in (clean, answer):
            padded = np.pad(signal, (0, max(n - len(signal), 0)))
            framed = np.lib.stride_tricks.sliding_window_view(padded, n)[:: n // 2] * window
            spectra.append(np.abs(np.fft.rfft(framed, axis=1)))
        floor = max(spectra[0].max(), 1e-12) * 10 ** (-self.dynamic_range / 20)
        s, x = (20 * np.log10(np.maximum(a, floor)) for a in spectra)
        return float(np.sqrt(np.mean((s - x) ** 2, axis=1)).mean())


class _Composite(SpeechMetric):
    """A linear mixture of PESQ (wide band), LLR, WSS and segmental SNR, cut to [1, 5] (Hu and Loizou 2008)."""

    level = "sample"
    higher_is_better = True
    bounds = (1.0, 5.0)
    paper = "Hu, Loizou: Evaluation of objective quality measures for speech enhancement, TASLP 2008."
    protocol = """Hu and Loizou's coefficients with wide-band PESQ at 16 kHz, as in the tables on VoiceBank-DEMAND; LLR and WSS are means of
        the lowest 95 % of the frames, LLR is not cut at 2. Meant for recordings: in frames of digital silence LLR has no meaning."""
    rating: str

    def __init__(self) -> None:
        super().__init__(16000)

    def identity(self) -> str:
        return signed(self.name, "hu-loizou-2008", "pesq-wb", "fs=16000", "per-utterance")

    def unavailable(self) -> Unavailable | None:
        return _needs_pesq()

    def one(self, answer: np.ndarray, clean: np.ndarray) -> float:
        return composite.ratings(clean, answer, 16000, pesq(answer, clean, 16000, "wb"))[self.name]


class CSIG(_Composite):
    """Predicted rating of the speech signal's distortion, 1 to 5."""

    name = "csig"
    title = "Composite rating of signal distortion"


class CBAK(_Composite):
    """Predicted rating of the background's intrusiveness, 1 to 5."""

    name = "cbak"
    title = "Composite rating of background noise"


class COVL(_Composite):
    """Predicted overall rating, 1 to 5."""

    name = "covl"
    title = "Composite rating of overall quality"


def pesq(answer: np.ndarray, clean: np.ndarray, sample_rate: int, mode: str) -> float:
    """Return the MOS-LQO of one signal, both float64 (T,) in [-1, 1]; RunError where the clean signal holds no speech."""
    import pesq as package

    lowest = {"wb": 1.0, "nb": 1.0}[mode]
    if not np.any(answer):
        return lowest
    try:
        value = float(package.pesq(sample_rate, clean.astype(np.float32), answer.astype(np.float32), mode))
    except package.NoUtterancesError:
        raise RunError("metric pesq finds no speech in the clean signal; score it with si-sdr or lsd.") from None
    except package.PesqError as e:
        raise RunError(f"metric pesq failed on a signal of {len(clean) / sample_rate:.2f} s ({e}); it takes 0.25 s or more.") from None
    return value if np.isfinite(value) else lowest


def _needs_pesq() -> Unavailable | None:
    if find_spec("pesq") is None:
        return Unavailable("The package pesq is not installed (it needs a C compiler).", "Run `pip install 'scorebench[speech]'`.")
    return None


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator inside the block and put its state back after it."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


METRICS: dict[str, type[Metric]] = {cls.name: cls for cls in (SISDR, ESTOI, STOI, PESQ, SegmentalSNR, LogSpectralDistance, CSIG, CBAK, COVL)}
"""Metric name to class."""
