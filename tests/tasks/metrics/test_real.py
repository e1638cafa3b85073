"""The metrics on the official DnCNN-S-25 checkpoint's answers for Set12, beside scikit-image (needs $SCOREBENCH_DATA)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from scorebench.tasks.metrics.registry import make

DATA = Path(os.environ.get("SCOREBENCH_DATA", "/nonexistent").split(os.pathsep)[0])
CHECKPOINT = DATA / "checkpoints" / "dncnn-s-25" / "net.pth"


@pytest.mark.slow
@pytest.mark.skipif(not CHECKPOINT.is_file() or not (DATA / "set12").is_dir(), reason="SCOREBENCH_DATA lacks set12 or checkpoints/dncnn-s-25")
def test_ssim_of_the_official_checkpoint_is_scikit_images() -> None:
    from PIL import Image
    from skimage.metrics import structural_similarity

    layers: list[torch.nn.Module] = [torch.nn.Conv2d(1, 64, 3, padding=1, bias=False), torch.nn.ReLU()]
    for _ in range(15):
        layers += [torch.nn.Conv2d(64, 64, 3, padding=1, bias=False), torch.nn.BatchNorm2d(64), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.Conv2d(64, 1, 3, padding=1, bias=False)).eval()
    state = torch.load(CHECKPOINT, map_location="cpu", weights_only=True)
    network.load_state_dict({k.removeprefix("module.dncnn."): v for k, v in state.items()})
    ours, theirs, psnr = [], [], []
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    for number, path in enumerate(sorted((DATA / "set12").glob("*.png"))):
        clean = torch.from_numpy(np.asarray(Image.open(path).convert("L"), dtype=np.float32))[None, None] / 255
        noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(number))
        with torch.no_grad():
            answer = (noisy - network(noisy)).clamp(0, 1)
        ours.append(make("ssim").per_sample(answer, {"clean": clean}).item())
        psnr.append(make("psnr").per_sample(answer, {"clean": clean}).item())
        theirs.append(structural_similarity(clean[0, 0].double().numpy(), answer[0, 0].double().numpy(), **options))
    assert len(ours) == 12
    print(f"Set12, sigma 25: SSIM {np.mean(ours):.6f} (scikit-image {np.mean(theirs):.6f}), PSNR {np.mean(psnr):.3f} dB")
    assert np.abs(np.array(ours) - np.array(theirs)).max() < 1e-9
    assert np.mean(psnr) == pytest.approx(30.404, abs=0.05)
