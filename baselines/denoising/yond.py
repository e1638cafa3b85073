"""YOND: blind RAW denoising without any data of the camera.

Feng, Wang, Huang, Cao, Zhu and Huang, "YOND: Practical Blind Raw Image Denoising Free from Camera-Specific Data Dependency",
arXiv:2506.03645. The noise is estimated from the frame itself (CNE), made white Gaussian by an expectation-matched transform (EM-VST), removed
by a network that is told its level (SNR-Net), and estimated once more with that result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import Method
from ..nets.optimise import adamw
from ..nets.raw_unet import RawUNet
from . import noise_estimation as cne
from . import vst

CORRECTION = 1.03
"""What the official code multiplies the level by, since a bias read off the noisy pixel leaves a little more noise."""


class YOND(Method):
    """``level``: ``estimated`` (CNE) or ``given`` (the request's gain and read noise). ``refine``: fine estimates after the coarse one.
    ``matched``: subtract the transform's bias before denoising (EM-VST), else take the exact unbiased inverse behind. ``box``: CNE's.
    ``clip``: bound the network's input and output by [0, 1], as the official code does."""

    network: RawUNet
    total_steps: int
    """Set by the harness before training."""

    def __init__(
        self, level: str = "estimated", refine: int = 1, matched: bool = True, box: int = 15, width: int = 16, levels: int = 4,
        low: float = 5.0, high: float = 50.0, lr: float = 2e-3, batch_size: int = 4, clip: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if level not in ("estimated", "given"):
            raise RequestError(f"level is {level!r}; accepted: estimated, given.")
        self.level, self.refine, self.matched, self.box, self.clip = level, refine, matched, box, clip
        self.network = RawUNet(4, width, levels, guided=True).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.low, self.high, self.lr, self.train_batch_size = low / 255, high / 255, lr, batch_size

    # ------------------------------------------------------------------ SNR-Net: clean frames and white Gaussian noise
    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        clean = batch["target"].contiguous(memory_format=torch.channels_last)
        sigma = torch.empty(len(clean), device=clean.device).uniform_(self.low, self.high)
        noisy = clean + sigma[:, None, None, None] * torch.randn_like(clean)
        return F.l1_loss(self.network(noisy, sigma), clean)

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps)

    # ------------------------------------------------------------------ one frame
    def stabilised(self, codes: np.ndarray, full: float, gain: float, read: float) -> np.ndarray:
        """Return the denoised frame in DN from ``codes`` (4, h, w) in DN; ``full`` is the DN of full intensity."""
        z = vst.forward(codes, gain, read)
        if self.matched:
            z = z - vst.bias(np.maximum(codes, 0), gain, read)  # the bias at the noisy pixel: the clean one is not known
        lower, upper = (float(vst.forward(np.array(v), gain, read)) for v in (0.0, full))
        t = (CORRECTION if self.matched else 1.0) / (upper - lower)
        x = torch.from_numpy(((z - lower) / (upper - lower)).astype(np.float32)).to(self.device)[None]
        answer = self.network(x.clamp(0, 1) if self.clip else x, torch.tensor([t], device=self.device))[0]
        out = (answer.clamp(0, 1) if self.clip else answer).double().cpu().numpy()
        return (vst.inverse if self.matched else vst.unbiased_inverse)(out * (upper - lower) + lower, gain, read)

    def denoise(self, request: Request) -> Tensor:
        n = len(request.noisy)
        frames = request.noisy.detach().cpu().numpy().astype(np.float64)
        white, black, r = (_each(v, n) for v in (request.white_level, request.black_level, request.amplification))
        full = (white - black) / r
        known = (_each(request.gain, n), _each(request.read_noise, n)) if self.level == "given" else None
        out, found = [], []
        for k, noisy in enumerate(frames):
            codes = noisy * full[k]
            if known is not None:
                out.append(self.stabilised(codes, full[k], known[0][k], known[1][k]) / full[k])
                continue
            b = cne.coarse(noisy, self.box)
            estimates = [as_dn(b, full[k])]
            clean = self.stabilised(codes, full[k], *estimates[0]) / full[k]
            for _ in range(self.refine):
                b = cne.fine(noisy, np.clip(clean, 0, 1), self.box, b)
                estimates.append(as_dn(b, full[k]))
                clean = self.stabilised(codes, full[k], *estimates[-1]) / full[k]
            out.append(clean)
            found.append(estimates)
        self._report(request, found)
        return torch.from_numpy(np.stack(out).astype(np.float32)).to(request.noisy.device)

    def _report(self, request: Request, found: list[list[tuple[float, float]]]) -> None:
        """Record the relative errors of coarse and last estimate where the truth is given; no answer depends on it."""
        if not found or "gain" not in request:
            return
        true = np.stack([_each(request.gain, len(found)), _each(request.read_noise, len(found))], -1)
        errors = np.abs(np.array(found) / true[:, None] - 1)
        for j, name in enumerate(("gain", "read-noise")):
            self.diagnose(f"{name}-error-coarse", torch.from_numpy(errors[:, 0, j]))
            self.diagnose(f"{name}-error-fine", torch.from_numpy(errors[:, -1, j]))
        self.diagnose("gain-error-gained", torch.from_numpy(errors[:, 0, 0] - errors[:, -1, 0]))


def as_dn(line: tuple[float, float], full: float) -> tuple[float, float]:
    """Return (K, s) in DN from (b1, b2) on the scale of [0, 1]; a gain that came out as zero or less becomes 1/1000 of a code."""
    b1, b2 = line
    return max(b1 * full, 1e-3), float(np.sqrt(max(b2, 0.0)) * full)


def _each(value: Any, n: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(torch.as_tensor(value).cpu(), dtype=np.float64), (n,))
