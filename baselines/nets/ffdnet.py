"""FFDNet: a plain stack of convolutions on the four half-resolution phases of a picture and a map of the noise level.

Zhang, Zuo and Zhang, IEEE TIP 27(9), 2018, arXiv:1710.04026, section III.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class FFDNet(nn.Module):
    """x = F(y, M): y is unshuffled into 4 half-size planes per channel (eq. 4), the level map M joins them, ``depth`` 3x3 convolutions with
    ReLUs between them follow, and the answer is shuffled back.

    ``FFDNet()`` is the published grey network (15 layers of 64 channels, 0.485 M parameters; colour: 12 of 96) as it is after training, when
    batch norm has been merged into the convolutions, with the parameter names of the common PyTorch checkpoints (``model.N.*``).
    ``residual``: the stack predicts the noise, and sees y - 1/2; the paper lets it predict the picture, which needs a long training.
    y (B, channels, H, W) of any size; sigma: a number or (B,), in the units of y.
    """

    def __init__(self, channels: int = 1, depth: int = 15, width: int = 64, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.halo, self.stride = 2 * depth + 2, 2  # how far an output looks, and on which grid a tile may begin (see `tiling`)
        layers: list[nn.Module] = [nn.Conv2d(4 * channels + 1, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
        self.model = nn.Sequential(*layers, nn.Conv2d(width, 4 * channels, 3, padding=1))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.orthogonal_(m.weight, gain=2**0.5)
                nn.init.zeros_(m.bias)  # type: ignore[arg-type]
        if residual:  # start at the identity, as the DnCNN here does
            nn.init.zeros_(self.model[-1].weight)  # type: ignore[arg-type]

    def forward(self, y: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        height, width = y.shape[-2:]
        padded = F.pad(y, (0, width % 2, 0, height % 2), mode="replicate")
        x = F.pixel_unshuffle(padded - 0.5 if self.residual else padded, 2)
        level = torch.as_tensor(sigma, dtype=y.dtype, device=y.device).reshape(-1, 1, 1, 1)
        out = F.pixel_shuffle(self.model(torch.cat([x, level.expand(len(y), 1, *x.shape[-2:])], 1)), 2)
        return (padded - out if self.residual else out)[..., :height, :width]
