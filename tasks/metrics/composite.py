"""Frame measures of speech quality: segmental SNR, log-likelihood ratio (LLR), weighted spectral slope (WSS), and Hu and Loizou's mixtures.

Follows Loizou, Speech Enhancement: Theory and Practice (2nd ed., 2013), chapter 11: frames of 30 ms, Hann window, 75 % overlap.
"""

from __future__ import annotations

import numpy as np

EPS = float(np.finfo(np.float64).eps)

# Klatt 1982: centres and widths of the 25 critical bands, in Hz
CENTRES = np.array([
    50.0, 120.0, 190.0, 260.0, 330.0, 400.0, 470.0, 540.0, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30, 1288.72, 1442.54,
    1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63,
])  # fmt: skip
WIDTHS = np.array([
    70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823, 168.154,
    183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136,
])  # fmt: skip


def frames(signal: np.ndarray, fs: int) -> np.ndarray:
    """Return the windowed frames of a signal, (n, round(0.03 fs)); the last, partly filled hop is left out. Short signals are padded."""
    size, hop = round(0.03 * fs), int(0.25 * 0.03 * fs)
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, size + 1) / (size + 1)))
    signal = np.pad(signal, (0, max(size + hop - len(signal), 0)))
    count = int(len(signal) / hop - size / hop)
    return np.lib.stride_tricks.sliding_window_view(signal, size)[::hop][:count] * window


def lowest(values: np.ndarray, share: float = 0.95) -> float:
    """Return the mean of the lowest ``share`` of the values: a few frames must not decide."""
    return float(np.sort(values)[: max(round(len(values) * share), 1)].mean())


def segmental_snr(clean: np.ndarray, processed: np.ndarray, fs: int) -> float:
    """Return the mean over frames of the SNR in dB, each cut to [-10, 35]."""
    signal = np.sum(frames(clean, fs) ** 2, axis=1)
    noise = np.sum(frames(clean - processed, fs) ** 2, axis=1)
    return float(np.clip(10 * np.log10(signal / (noise + EPS) + EPS), -10, 35).mean())


def lpc(autocorrelation: np.ndarray) -> np.ndarray:
    """Return prediction error filters (n, P+1), first entry 1, of autocorrelations (n, P+1), by the Levinson-Durbin recursion."""
    n, order = autocorrelation.shape[0], autocorrelation.shape[1] - 1
    a = np.zeros((n, order + 1))
    a[:, 0] = 1.0
    error = autocorrelation[:, 0].copy()
    for i in range(1, order + 1):
        reflection = -np.sum(a[:, :i] * autocorrelation[:, i:0:-1], axis=1) / np.where(error == 0, EPS, error)
        a[:, 1 : i + 1] += reflection[:, None] * a[:, i - 1 :: -1][:, :i]
        error = error * (1 - reflection**2)
    return a


def log_likelihood_ratio(clean: np.ndarray, processed: np.ndarray, fs: int) -> float:
    """Return the mean LLR of the lowest 95 % of the frames: log of how much worse the processed signal's LPC filter predicts the clean
    one."""
    order = 10 if fs < 10000 else 16
    correlations = []
    for signal in (clean, processed):
        x = frames(signal + EPS, fs)
        size = 2 ** int(np.ceil(np.log2(2 * x.shape[1])))
        correlations.append(np.fft.irfft(np.abs(np.fft.rfft(x, size, axis=1)) ** 2, axis=1)[:, : order + 1])
    of_clean, of_processed = (lpc(r) for r in correlations)
    index = np.abs(np.subtract.outer(np.arange(order + 1), np.arange(order + 1)))
    toeplitz = correlations[0][:, index]
    above = np.einsum("ni,nij,nj->n", of_processed, toeplitz, of_processed)
    below = np.einsum("ni,nij,nj->n", of_clean, toeplitz, of_clean)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = above / below
    ratio = np.where(np.isfinite(ratio) & (ratio > 0), ratio, 1000.0)
    return lowest(np.log(ratio))


def weighted_spectral_slope(clean: np.ndarray, processed: np.ndarray, fs: int) -> float:
    """Return Klatt's WSS distance, mean of the lowest 95 % of the frames: squared differences of spectral slopes, weighted near peaks."""
    slopes, weights = [], []
    filters = None
    for signal in (clean, processed):
        x = frames(signal + EPS, fs)
        size = 2 ** int(np.ceil(np.log2(2 * x.shape[1])))
        filters = _filters(size // 2, fs) if filters is None else filters
        power = np.abs(np.fft.rfft(x, size, axis=1)[:, : size // 2]) ** 2
        energy = np.maximum(10 * np.log10(np.maximum(power @ filters.T, 1e-300)), -100.0)  # dB, (n, 25)
        slope = np.diff(energy, axis=1)
        peak = _nearest_peak(slope, energy)
        level = energy[:, :-1]
        weights.append(20 / (20 + energy.max(1, keepdims=True) - level) * 1 / (1 + peak - level))
        slopes.append(slope)
    weight = (weights[0] + weights[1]) / 2
    return lowest(np.sum(weight * (slopes[0] - slopes[1]) ** 2, axis=1) / np.sum(weight, axis=1))


def _filters(bins: int, fs: int) -> np.ndarray:
    """Return the Gaussian critical band filters (25, bins), cut 30 dB below their top."""
    centre = np.floor(CENTRES / (fs / 2) * bins)[:, None]
    width = (WIDTHS / (fs / 2) * bins)[:, None]
    filters = np.exp(-11 * ((np.arange(bins) - centre) / width) ** 2 + np.log(WIDTHS[0] / WIDTHS)[:, None])
    return filters * (filters > np.exp(-30.0 / (2.0 * 2.303)))


def _nearest_peak(slope: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Return the energy (n, 24) of the peak that each band's slope leads to.

    Where the slope rises, Loizou's published code takes the band before the top; so does this, since scores are compared with his.
    """
    bands = slope.shape[1]
    up = np.full(slope.shape, bands)
    for i in range(bands - 2, -1, -1):
        up[:, i] = np.where(slope[:, i + 1] > 0, up[:, i + 1], i + 1)
    down = np.full(slope.shape, -1)
    for i in range(1, bands):
        down[:, i] = np.where(slope[:, i - 1] <= 0, down[:, i - 1], i - 1)
    return np.take_along_axis(energy, np.where(slope > 0, up - 1, down + 1), axis=1)


def ratings(clean: np.ndarray, processed: np.ndarray, fs: int, pesq: float) -> dict[str, float]:
    """Return csig, cbak and covl, each cut to [1, 5] (Hu and Loizou 2008, table VIII)."""
    llr = log_likelihood_ratio(clean, processed, fs)
    wss = weighted_spectral_slope(clean, processed, fs)
    snr = segmental_snr(clean, processed, fs)
    out = {
        "csig": 3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss,
        "cbak": 1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * snr,
        "covl": 1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss,
    }
    return {name: float(np.clip(value, 1.0, 5.0)) for name, value in out.items()}
