"""ELD: a denoiser trained on a calibrated physical model of the sensor's noise.

Wei, Fu, Zheng and Yang, "Physics-based Noise Modeling for Extreme Low-light Photography", IEEE TPAMI 2021, arXiv:2108.02158. The calibration
is in `sensor`; here are the noise models that the paper compares.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...configs.errors import RequestError
from ...tasks.requests import Request
from .raw import CalibratedDenoiser, drawn_scale, row_noise
from .sensor import SensorCalibration

MODELS = ("g", "gp", "ptl", "full")


class ELD(CalibratedDenoiser):
    """D = K (I + N_p) + N_read + N_row + N_q (eq. 4), with all scales from the joint law over the gain (eq. 15).

    ``model``: ``g`` Gaussian read noise alone; ``gp`` heteroscedastic, variance K x + s^2; ``ptl`` Poisson and Tukey lambda read noise;
    ``full`` adds row noise and rounding.
    """

    def __init__(
        self, calibration: SensorCalibration, model: str = "full", width: int = 16, levels: int = 4, lr: float = 2e-3, batch_size: int = 4,
        dark: str = "map", least: float = 100.0, most: float = 300.0,
    ) -> None:  # fmt: skip
        super().__init__(calibration, width, levels, lr, batch_size, dark, least, most)
        if model not in MODELS:
            raise RequestError(f"model is {model!r}; accepted: {', '.join(MODELS)}.")
        self.model = model

    def corrupted(self, signal: Tensor, gain: Tensor) -> Tensor:
        sensor = self.calibration
        if self.model in ("g", "gp"):
            out = signal + drawn_scale(sensor.gauss, gain) * torch.randn_like(signal)
            return out if self.model == "g" else out + (gain * signal.clamp_min(0)).sqrt() * torch.randn_like(signal)
        shot = gain * torch.poisson(signal.clamp_min(0) / gain)  # eq. 6: photons are counted
        read = drawn_scale(sensor.read, gain) * tukey_lambda(torch.rand_like(signal), float(sensor.lam))  # eq. 8
        if self.model == "ptl":
            return shot + read
        row = drawn_scale(sensor.row, gain) * row_noise(signal)  # eq. 10
        return shot + read + row + torch.rand_like(signal) - 0.5  # eq. 11: rounding, uniform over one code

    def denoise(self, request: Request) -> Tensor:
        for k, iso in enumerate(self.calibration.isos):  # what calibration found, for the record
            self.diagnose(f"gain-iso{iso}", float(self.calibration.gain_per_iso) * self.calibration.isos[k])
        self.diagnose("lam", float(self.calibration.lam))
        return super().denoise(request)


def tukey_lambda(u: Tensor, lam: float) -> Tensor:
    """Return Tukey lambda quantiles of uniforms; the logistic law at lam = 0."""
    u = u.clamp(1e-7, 1 - 1e-7)
    return torch.logit(u) if abs(lam) < 1e-6 else (u**lam - (1 - u) ** lam) / lam
