"""A camera pipeline that can be run both ways, its white balance and colour matrix convex combinations of learned dictionary atoms.

Conde, McDonagh, Maggioni, Leonardis, Perez-Pellitero, "Model-Based Image Signal Processors via Learnable Dictionaries", AAAI 2022,
arXiv:2201.03210. The code was never released; what is inferred is said in the card.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...configs.errors import RequestError
from ...tasks.requests import Request
from ..method import Method
from ..nets.optimise import adamw
from ..nets.raw_unet import RawUNet
from .demosaic import bilinear

EPS = 1e-6


# ---------------------------------------------------------------------- the steps and their inverses
def tone(x: Tensor) -> Tensor:
    """Return the S-curve 3 x^2 - 2 x^3 of [0, 1]."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def inverse_tone(y: Tensor) -> Tensor:
    """Return the x with tone(x) = y; the ends are left out, where the slope is infinite."""
    return 0.5 - torch.sin(torch.asin(1 - 2 * y.clamp(EPS, 1 - EPS)) / 3)


def correct(x: Tensor, matrix: Tensor) -> Tensor:
    """Return C x for every pixel: (B, 3, H, W) and (B, 3, 3)."""
    return torch.einsum("bij,bjhw->bihw", matrix, x)


def process(linear: Tensor, gains: Tensor, matrix: Tensor, gamma: Tensor) -> list[Tensor]:
    """Return every stage from linear camera RGB (B, 3, H, W) to the picture: white balance, colour correction, gamma, tone."""
    balanced = (gains[:, :, None, None] * linear).clamp(0, 1)
    corrected = correct(balanced, matrix).clamp(EPS, 1)
    return [linear, balanced, corrected, tone(corrected ** (1 / gamma))]


def unprocess(picture: Tensor, gains: Tensor, matrix: Tensor, gamma: Tensor) -> list[Tensor]:
    """Return the same stages from the picture back: [linear, balanced, corrected, picture]."""
    corrected = inverse_tone(picture).clamp(EPS, 1) ** gamma
    balanced = correct(corrected, torch.linalg.inv(matrix))
    return [balanced / gains[:, :, None, None], balanced, corrected, picture]


def sampled(rgb: Tensor) -> Tensor:
    """Return the packed RGGB samples (B, 4, H/2, W/2) of (B, 3, H, W)."""
    return torch.stack([rgb[:, 0, 0::2, 0::2], rgb[:, 1, 0::2, 1::2], rgb[:, 1, 1::2, 0::2], rgb[:, 2, 1::2, 1::2]], 1)


def demosaicked(raw: Tensor) -> Tensor:
    """Return (B, 3, H, W), interpolated bilinearly from packed samples (B, 4, H/2, W/2)."""
    out = raw.new_zeros(len(raw), 3, 2 * raw.shape[2], 2 * raw.shape[3])
    out[:, 0, 0::2, 0::2], out[:, 1, 0::2, 1::2], out[:, 1, 1::2, 0::2], out[:, 2, 1::2, 1::2] = raw.unbind(1)
    return bilinear(out)


# ---------------------------------------------------------------------- dictionaries
class Encoder(nn.Module):
    """Weights of the atoms from a picture: three convolutions, the mean over the picture, softmax: (B, C, H, W) to (B, atoms)."""

    def __init__(self, atoms: int, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, atoms),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).softmax(1)


class MBISPLD(Method):
    """RAW from a picture by inverting the pipeline with the parameters that the encoders choose.

    Both directions share the atoms and have an encoder each per step. Atoms of gains fix green at 1; rows of colour atoms sum to 1, and every
    matrix is mixed with the identity, which keeps it invertible. ``network`` is the encoder pair of the reverse pass.
    """

    network: nn.ModuleDict
    total_steps: int
    """Set by the harness before training."""

    def __init__(self, atoms: int = 8, width: int = 16, mix: float = 0.3, lr: float = 1e-2, batch_size: int = 8) -> None:
        super().__init__()
        self.mix, self.lr, self.train_batch_size = mix, lr, batch_size
        self.gain_atoms = nn.Parameter(0.5 + 0.25 * torch.randn(atoms, 2))
        self.colour_atoms = nn.Parameter(0.5 * torch.randn(atoms, 3, 3))
        self.log_gamma = nn.Parameter(torch.tensor(2.2).log())
        self.network = nn.ModuleDict({"gains": Encoder(atoms, width), "colour": Encoder(atoms, width)})
        self.ahead = nn.ModuleDict({"gains": Encoder(atoms, width), "colour": Encoder(atoms, width)})

    def gains(self, weights: Tensor) -> Tensor:
        """Return white-balance gains (B, 3), green 1, from weights (B, atoms)."""
        red, blue = (weights @ self.gain_atoms.exp()).unbind(1)
        return torch.stack([red, torch.ones_like(red), blue], 1)

    def matrices(self, weights: Tensor) -> Tensor:
        """Return colour matrices (B, 3, 3) from weights (B, atoms): rows sum to 1."""
        eye = torch.eye(3, device=weights.device)
        atoms = self.colour_atoms - self.colour_atoms.mean(2, keepdim=True) + eye  # each row sums to 1
        return torch.einsum("bk,kij->bij", weights, (1 - self.mix) * atoms + self.mix * eye)

    def reverse(self, picture: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the stages of the reverse pass and the gains that were chosen."""
        gamma = self.log_gamma.exp()
        matrix = self.matrices(self.network["colour"](picture))
        corrected = inverse_tone(picture).clamp(EPS, 1) ** gamma
        balanced = correct(corrected, torch.linalg.inv(matrix))
        gains = self.gains(self.network["gains"](balanced))  # on the current intermediate picture
        return [balanced / gains[:, :, None, None], balanced, corrected, picture], gains

    def forward_pass(self, raw: Tensor) -> list[Tensor]:
        """Return the stages from packed RAW to the picture."""
        linear = demosaicked(raw)
        gains = self.gains(self.ahead["gains"](linear))
        matrix = self.matrices(self.ahead["colour"]((gains[:, :, None, None] * linear).clamp(0, 1)))
        return process(linear, gains, matrix, self.log_gamma.exp())

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        """L = |RGB_hat - RGB|_1 + |RAW_hat - RAW|_1 + sum over stages of |forward - reverse|_1, saturated pixels left out."""
        picture, raw = batch["input"], batch["target"]
        back, _ = self.reverse(picture)
        ahead = self.forward_pass(raw)
        free = ((picture < 0.99).all(1, keepdim=True) & (picture > 0.01).all(1, keepdim=True)).float()
        share = free.mean().clamp_min(0.05)
        stages = torch.stack([((a - b).abs() * free).mean() for a, b in zip(ahead, back, strict=True)]).sum() / share
        open_raw = sampled(free.expand(-1, 3, -1, -1))
        return stages + ((sampled(back[0]) - raw).abs() * open_raw).mean() / share

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps)

    def restore(self, request: Request) -> Tensor:
        stages, gains = self.reverse(request.degraded)
        if "gains" in request:  # for the record only: how far the chosen gains are from the true ones
            self.diagnose("gain-error", (gains / request.gains - 1).abs()[:, ::2].mean(1))
        return sampled(stages[0]).clamp(0, 1)


class FixedISP(Method):
    """The same inverse with a pipeline that is not learned: `parameters` of the simulated camera, or UPI's random ones.

    ``which``: ``oracle`` takes the gains that the task gives and the camera's own matrix (it must be told that matrix, ``matrix``);
    ``upi`` draws red and blue gains uniformly in [1.9, 2.4] and [1.5, 1.9] and a random convex mixture of the four published colour matrices,
    as Brooks et al. (CVPR 2019, arXiv:1811.11127, section 3) do.
    """

    XYZ_TO_CAMERA = torch.tensor([
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
    ])  # fmt: skip
    """Colour matrices of four cameras of the Darmstadt set, published with the paper's code."""
    RGB_TO_XYZ = torch.tensor([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
    """Linear sRGB to XYZ under D65 (IEC 61966-2-1)."""

    def __init__(self, which: str = "upi", matrix: list[list[float]] | None = None) -> None:
        super().__init__()
        if which not in ("oracle", "upi"):
            raise RequestError(f"which is {which!r}; accepted: oracle, upi.")
        if which == "oracle" and matrix is None:
            raise RequestError("the oracle pipeline needs the camera's colour matrix; give it as --set matrix=[[...], [...], [...]].")
        self.which, self.matrix = which, matrix

    def restore(self, request: Request) -> Tensor:
        picture, n = request.degraded, request.n
        gamma = torch.tensor(2.2, device=picture.device)
        if self.which == "oracle":
            gains = request.gains
            matrix = torch.tensor(self.matrix, device=picture.device).expand(n, 3, 3)
        else:
            red = request.rng.at("red").uniform((), 1.9, 2.4)
            blue = request.rng.at("blue").uniform((), 1.5, 1.9)
            gains = torch.stack([red, torch.ones_like(red), blue], 1)
            matrix = self.mixed(request.rng.at("matrix").uniform((len(self.XYZ_TO_CAMERA),), EPS, 1.0))
        return sampled(unprocess(picture, gains, matrix, gamma)[0]).clamp(0, 1)

    def mixed(self, weights: Tensor) -> Tensor:
        """Return camera-to-sRGB matrices (B, 3, 3), rows summing to 1, of weights (B, 4) of the four cameras."""
        mixture = torch.einsum("bk,kij->bij", weights / weights.sum(1, keepdim=True), self.XYZ_TO_CAMERA.to(weights.device))
        there = mixture @ self.RGB_TO_XYZ.to(weights.device)
        return torch.linalg.inv(there / there.sum(2, keepdim=True))


class RGBAsRaw(Method):
    """The picture's own values at the mosaic's places: nothing is inverted."""

    def restore(self, request: Request) -> Tensor:
        return sampled(request.degraded)


class RGBToRawUNet(Method):
    """A U-Net from the picture, folded 2 x 2, to packed RAW: what learns the same without knowing that there is a pipeline."""

    network: RawUNet
    total_steps: int
    """Set by the harness before training."""

    def __init__(self, width: int = 24, levels: int = 4, lr: float = 1e-3, batch_size: int = 1) -> None:
        super().__init__()
        self.network = RawUNet(12, width, levels)
        self.lr, self.train_batch_size = lr, batch_size

    def predicted(self, picture: Tensor) -> Tensor:
        """Return packed RAW (B, 4, H/2, W/2): of the 12 folded planes, those that the mosaic samples."""
        return sampled(F.pixel_shuffle(self.network(F.pixel_unshuffle(picture, 2)), 2))

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int = 0) -> Tensor:
        return F.l1_loss(self.predicted(batch["input"]), batch["target"])

    def configure_optimizers(self) -> Any:
        return adamw(self.parameters(), self.lr, self.total_steps)

    def restore(self, request: Request) -> Tensor:
        return self.predicted(request.degraded)
