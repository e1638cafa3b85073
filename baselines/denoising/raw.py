"""What the denoisers of RAW frames share: one small U-Net, an L1 loss, and the subtraction of the mean dark frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import Method
from ..nets.optimise import adamw
from ..nets.raw_unet import RawUNet
from .sensor import SensorCalibration

DARK = ("map", "channel", "none")


class RawDenoiser(Method):
    """A U-Net on packed RAW frames (B, 4, h, w), trained with L1 (Chen et al., CVPR 2018, arXiv:1805.01934), Adam and a cosine schedule."""

    network: RawUNet
    total_steps: int
    """Set by the harness before training."""

    def __init__(self, width: int = 16, levels: int = 4, lr: float = 2e-3, batch_size: int = 4) -> None:
        super().__init__()
        self.network = RawUNet(4, width, levels).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.lr, self.train_batch_size = lr, batch_size

    def configure_optimizers(self) -> Any:
        return adamw(self.network.parameters(), self.lr, self.total_steps)

    def loss(self, noisy: Tensor, clean: Tensor) -> Tensor:
        return F.l1_loss(self.network(noisy.contiguous(memory_format=torch.channels_last)), clean)

    def denoise(self, request: Request) -> Tensor:
        return self.network(request.noisy)


class RawUNetMethod(RawDenoiser):
    """Trained on pairs of a noisy and a clean frame of the camera itself."""

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        return self.loss(batch["input"], batch["target"])


class CalibratedDenoiser(RawDenoiser):
    """Trained on clean frames and a noise model of a calibrated sensor; subclasses say what noise `corrupted` adds, in DN.

    ``dark``: what is subtracted from a frame to be denoised: the sensor's mean dark frame per pixel (``map``, the dark shading correction of
    arXiv:2310.09126), its mean per plane (``channel``, the colour offset of arXiv:2108.02158), or nothing, for frames of other cameras.
    """

    def __init__(
        self, calibration: SensorCalibration, width: int = 16, levels: int = 4, lr: float = 2e-3, batch_size: int = 4, dark: str = "map",
        least: float = 100.0, most: float = 300.0,
    ) -> None:  # fmt: skip
        super().__init__(width, levels, lr, batch_size)
        if dark not in DARK:
            raise RequestError(f"dark is {dark!r}; accepted: {', '.join(DARK)}.")
        self.calibration, self.dark, self.amplifications = calibration, dark, (least, most)

    def corrupted(self, signal: Tensor, gain: Tensor) -> Tensor:
        """Return a noisy copy of the expected DN ``signal`` (B, 4, h, w) at ``gain`` (B, 1, 1, 1), from the global generator."""
        raise AssertionError("abstract")

    def synthetic(self, clean: Tensor) -> Tensor:
        """Return noisy frames: amplification r uniform, log K uniform in the calibrated range, signal x (white - black) / r."""
        size = (len(clean), 1, 1, 1)
        r = torch.empty(size, device=clean.device).uniform_(*self.amplifications)
        gain = torch.empty(size, device=clean.device).uniform_(*torch.tensor(self.calibration.gains).log().tolist()).exp()
        with torch.no_grad():
            return self.corrupted(clean * self.calibration.span / r, gain) * r / self.calibration.span

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        return self.loss(self.synthetic(batch["target"]), batch["target"])

    def corrected(self, request: Request) -> Tensor:
        """Return the noisy frames without the sensor's mean dark frame."""
        noisy = request.noisy
        if self.dark == "none":
            return noisy
        n = len(noisy)
        iso, r, white, black = (
            torch.as_tensor(v, dtype=torch.float32).expand(n).tolist()
            for v in (request.iso, request.amplification, request.white_level, request.black_level)
        )
        dark = [self.calibration.shading(iso[k], noisy.shape[1:], self.dark == "map") * r[k] / (white[k] - black[k]) for k in range(n)]
        return noisy - torch.stack(dark)

    def denoise(self, request: Request) -> Tensor:
        return self.network(self.corrected(request))


def drawn_scale(law: tuple[float, float, float], gain: Tensor) -> Tensor:
    """Return scales (B, 1, 1, 1) drawn from a joint law (a, b, t): log s ~ N(a log K + b, t^2)."""
    a, b, t = law
    return torch.exp(a * gain.log() + b + t * torch.randn_like(gain))


def row_noise(signal: Tensor) -> Tensor:
    """Return unit normals that the pixels of a mosaic row share, as they reach the packed planes: (B, 4, h, 1)."""
    upper, lower = torch.randn(2, len(signal), 1, signal.shape[2], 1, device=signal.device)
    return torch.cat([upper, upper, lower, lower], 1)
