"""Comparisons of the paired image metrics with scikit-image, torchmetrics and closed forms."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import torch

from . import stand_in
from .paired import BT601
from .proof import Proof
from .registry import make
from .weights import WEIGHTS

PairMaker = Callable[[], tuple[torch.Tensor, torch.Tensor]]


@lru_cache(maxsize=2)
def noise_pairs(side: int = 96, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uniform noise beside itself with more noise, clipped: (n, 3, side, side + 13)."""
    g = torch.Generator().manual_seed(3)
    clean = torch.rand(n, 3, side, side + 13, generator=g)
    return (clean + 0.2 * torch.randn(clean.shape, generator=g)).clamp(0, 1), clean


@lru_cache(maxsize=2)
def photo_pairs(side: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    """Return crops of photographs that scikit-image ships, beside noisy and blurred versions: (3, 3, side, side)."""
    from skimage import data

    g = torch.Generator().manual_seed(4)
    photos = [
        data.astronaut()[40 : 40 + side, 120 : 120 + side],
        data.chelsea()[20 : 20 + side, 60 : 60 + side],
        data.coffee()[60 : 60 + side, 90 : 90 + side],
    ]
    clean = torch.stack([torch.from_numpy(p.copy()).permute(2, 0, 1).float() / 255 for p in photos])
    degraded = clean + 0.1 * torch.randn(clean.shape, generator=g)
    degraded[1] = torch.nn.functional.avg_pool2d(clean[1:2], 5, 1, 2)[0]
    return degraded.clamp(0, 1), clean


def ours(name: str, pairs: tuple[torch.Tensor, torch.Tensor], **options: Any) -> np.ndarray:
    """Return the metric's values of a batch."""
    return make(name, options).per_sample(pairs[0], {"clean": pairs[1]}).numpy()


def each(pairs: tuple[torch.Tensor, torch.Tensor], fn: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
    """Return ``fn`` of every pair, as float64 arrays (C, H, W)."""
    return np.array([fn(a.double().numpy(), b.double().numpy()) for a, b in zip(*pairs, strict=True)])


def largest(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).max())


def psnr_skimage(pairs: PairMaker) -> float:
    from skimage.metrics import peak_signal_noise_ratio

    return largest(ours("psnr", pairs()), each(pairs(), lambda a, b: float(peak_signal_noise_ratio(b, a, data_range=1))))


def psnr_torchmetrics() -> float:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    a, b = photo_pairs()
    # torchmetrics takes the logarithm of its base in float32, hence 1e-5 and not 1e-9
    theirs = peak_signal_noise_ratio(a.double(), b.double(), data_range=1.0, dim=(1, 2, 3), reduction="none")
    return largest(ours("psnr", (a, b)), np.asarray(theirs))


def psnr_y_skimage() -> float:
    """skimage's rgb2ycbcr is MATLAB's; its Y is in 16 ... 235."""
    from skimage.color import rgb2ycbcr
    from skimage.metrics import peak_signal_noise_ratio

    def one(a: np.ndarray, b: np.ndarray) -> float:
        ya, yb = (rgb2ycbcr(v, channel_axis=0)[0, 4:-4, 4:-4] for v in (a, b))
        return float(peak_signal_noise_ratio(yb, ya, data_range=255))

    return largest(ours("psnr", photo_pairs(), channel="y", crop=4), each(photo_pairs(), one))


def psnr_closed() -> float:
    """A constant error e gives -20 log10 e; on Y, the error is e times the sum of the weights."""
    clean = torch.full((1, 3, 16, 16), 0.5, dtype=torch.float64)
    pair = (clean + 0.1, clean)
    return max(
        largest(ours("psnr", pair), np.array([20.0])), largest(ours("psnr", pair, channel="y"), np.array([-20 * np.log10(0.1 * sum(BT601))]))
    )


def illuminance_pairs() -> tuple[torch.Tensor, torch.Tensor]:
    """Photographs too dark by a factor of their own, with noise; some values of the clean ones are saturated."""
    answer, clean = photo_pairs()
    return answer * torch.tensor([0.5, 0.8, 0.9]).reshape(3, 1, 1, 1), (clean * 1.1).clamp(max=1)


def illuminance_skimage() -> float:
    """The factor by NumPy's least squares on the values that are not saturated, the PSNR by scikit-image."""
    from skimage.metrics import peak_signal_noise_ratio

    def one(a: np.ndarray, b: np.ndarray) -> float:
        factor = np.linalg.lstsq(a[b < 1][:, None], b[b < 1], rcond=None)[0][0]
        return float(peak_signal_noise_ratio(b, np.clip(factor * a, 0, 1), data_range=1))

    return largest(ours("psnr-illuminance", illuminance_pairs()), each(illuminance_pairs(), one))


def illuminance_closed() -> float:
    """A picture too dark by a factor is exact after the correction: 100 dB, the cap; one that is black cannot be mended."""
    clean = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    black = ours("psnr", (torch.zeros_like(clean), clean))
    return max(
        largest(ours("psnr-illuminance", (0.3 * clean, clean)), np.full(2, 100.0)),
        largest(ours("psnr-illuminance", (torch.zeros_like(clean), clean)), black),
    )


def mse_skimage() -> float:
    from skimage.metrics import mean_squared_error

    return largest(ours("mse", photo_pairs()), each(photo_pairs(), lambda a, b: float(mean_squared_error(b, a))))


def nmse_skimage() -> float:
    """skimage's NRMSE with Euclidean normalisation is the root of the NMSE."""
    from skimage.metrics import normalized_root_mse

    return largest(ours("nmse", photo_pairs()), each(photo_pairs(), lambda a, b: float(normalized_root_mse(b, a) ** 2)))


def skimage_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return scikit-image's SSIM in the setting of Wang et al."""
    from skimage.metrics import structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return float(structural_similarity(b, a, channel_axis=0, **options))


def ssim_skimage(pairs: PairMaker) -> float:
    return largest(ours("ssim", pairs()), each(pairs(), skimage_ssim))


def ssim_torchmetrics() -> float:
    """torchmetrics averages over reflected borders too (0.025 away on these images), so its map is cut to the windows inside."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = (v.double() for v in photo_pairs(128))
    _, full = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none", return_full_image=True)
    return largest(ours("ssim", (a, b)), np.asarray(full[..., 5:-5, 5:-5].mean((1, 2, 3))))


def ssim_closed() -> float:
    """An image with itself is 1; two constants a and b have (2ab + C1) / (a^2 + b^2 + C1)."""
    image = noise_pairs()[1]
    a, b = (torch.full((1, 1, 20, 20), v, dtype=torch.float64) for v in (0.3, 0.6))
    flat = (2 * 0.3 * 0.6 + 1e-4) / (0.3**2 + 0.6**2 + 1e-4)
    return max(largest(ours("ssim", (image, image)), np.ones(len(image))), largest(ours("ssim", (a, b)), np.array([flat])))


def msssim_parts(pairs: PairMaker) -> float:
    """Put together from scikit-image's SSIM, torchmetrics' contrast term (which it cuts to the windows inside) and scikit-image's block
    means.

    torchmetrics' own MS-SSIM takes the coarsest scale's SSIM over reflected borders.
    """
    from skimage.transform import downscale_local_mean
    from torchmetrics.functional.image.ssim import _ssim_update

    def one(a: np.ndarray, b: np.ndarray) -> float:
        out = 1.0
        for scale, beta in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            x, y = torch.from_numpy(a[None, None]), torch.from_numpy(b[None, None])
            _, contrast = _ssim_update(x, y, data_range=1.0, return_contrast_sensitivity=True)
            out *= max(skimage_ssim(a[None], b[None]) if scale == 4 else float(contrast), 0.0) ** beta
            a, b = (downscale_local_mean(v[: v.shape[0] // 2 * 2, : v.shape[1] // 2 * 2], (2, 2)) for v in (a, b))
        return out

    theirs = each(pairs(), lambda a, b: float(np.mean([one(x, y) for x, y in zip(a, b, strict=True)])))
    return largest(ours("ms-ssim", pairs()), theirs)


def lpips_torchmetrics(net: Literal["alex", "vgg", "squeeze"]) -> float:
    """torchmetrics has its own copy of the network and of the v0.1 heads; both sides get the same stand-in backbone."""
    from torchmetrics.functional.image import lpips as theirs

    a, b = photo_pairs(128)
    with tempfile.TemporaryDirectory() as folder, stand_in.backbones(Path(folder), (net,)):
        # theirs builds its backbone by the same name without weights, then gets the stand-in's
        model = theirs._LPIPS(pretrained=True, net=net, pnet_rand=True, use_dropout=True)
        state = torch.load(WEIGHTS[net].path, weights_only=True)
        for key, parameter in model.net.named_parameters():
            parameter.data = state["features." + key.removeprefix("slices.").split(".", 1)[1]]
        with torch.no_grad():
            expected = model.eval()(2 * a - 1, 2 * b - 1).reshape(-1)
        return largest(ours("lpips", (a, b), net=net), expected.numpy())


def dists_torchmetrics() -> float:
    from torchmetrics.functional.image import dists as theirs

    a, b = photo_pairs(128)
    with tempfile.TemporaryDirectory() as folder, stand_in.backbones(Path(folder), ("vgg",)):
        layers = _vgg_layers(WEIGHTS["vgg"].path)
        with mock.patch.object(theirs, "vgg16", lambda weights: mock.Mock(features=layers)):
            model = theirs.DISTSNetwork()
        with torch.no_grad():
            expected = model(a, b)
        return largest(ours("dists", (a, b)), expected.numpy())


def _vgg_layers(path: Path) -> torch.nn.Module:
    from torchvision import models

    with torch.device("meta"):
        layers = models.vgg16(weights=None).features
    state = {k.removeprefix("features."): v for k, v in torch.load(path, weights_only=True).items()}
    layers.load_state_dict(state, assign=True)
    return layers


def big_noise() -> tuple[torch.Tensor, torch.Tensor]:
    """Noise large enough for five scales."""
    return noise_pairs(192, 2)


PROOFS = [
    Proof("psnr", "scikit-image", "noise, RGB", 1e-9, lambda: psnr_skimage(noise_pairs)),
    Proof("psnr", "scikit-image", "photographs, RGB", 1e-9, lambda: psnr_skimage(photo_pairs)),
    Proof("psnr", "torchmetrics, dim=(1, 2, 3)", "photographs, RGB", 1e-5, psnr_torchmetrics),
    Proof("psnr", "scikit-image with its rgb2ycbcr", "photographs, Y, crop 4", 1e-5, psnr_y_skimage),
    Proof("psnr", "closed form", "constant error", 1e-9, psnr_closed),
    Proof("psnr-illuminance", "NumPy's least squares and scikit-image", "dark photographs", 1e-9, illuminance_skimage),
    Proof("psnr-illuminance", "closed form", "a factor; a black answer", 1e-9, illuminance_closed),
    Proof("mse", "scikit-image", "photographs", 1e-12, mse_skimage),
    Proof("nmse", "scikit-image (NRMSE squared)", "photographs", 1e-12, nmse_skimage),
    Proof("ssim", "scikit-image", "noise, RGB", 1e-9, lambda: ssim_skimage(noise_pairs)),
    Proof("ssim", "scikit-image", "photographs, RGB", 1e-9, lambda: ssim_skimage(photo_pairs)),
    Proof("ssim", "torchmetrics' map, windows inside", "photographs, RGB", 1e-9, ssim_torchmetrics),
    Proof("ssim", "closed form", "an image with itself; two constants", 1e-12, ssim_closed),
    Proof("ms-ssim", "scikit-image and torchmetrics, scale by scale", "noise", 1e-9, lambda: msssim_parts(big_noise)),
    Proof("ms-ssim", "scikit-image and torchmetrics, scale by scale", "photographs", 1e-9, lambda: msssim_parts(photo_pairs)),
    Proof("lpips", "torchmetrics, alex, stand-in backbone", "photographs", 1e-5, lambda: lpips_torchmetrics("alex")),
    Proof("lpips", "torchmetrics, vgg, stand-in backbone", "photographs", 1e-5, lambda: lpips_torchmetrics("vgg"), slow=True),
    Proof("lpips", "torchmetrics, squeeze, stand-in backbone", "photographs", 1e-5, lambda: lpips_torchmetrics("squeeze")),
    Proof("dists", "torchmetrics, stand-in backbone", "photographs", 1e-5, dists_torchmetrics),
]
