"""ART, the artifact removal transformer (Chuang, Chang, Huang and Bessas 2024, arXiv:2409.07326): sequence to sequence on EEG windows."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ...configs.errors import RequestError
from ..method import DataSpec
from ..nets.transformer import Block, sinusoids
from .recordings import TrainedOnWindows

DECODERS = ("clean", "noisy", "none")


class ARTNet(nn.Module):
    """Tokens are time samples: a 1 x 1 convolution from the electrodes, times sqrt(width), plus sinusoidal positions.

    ``forward(noisy, shown)``: windows (B, C, T); ``shown`` (B, C, T) is what the decoder sees, shifted to the right by one sample here, so that
    position t is answered from ``shown`` before t and all of ``noisy``. Without decoder layers the encoder alone answers.
    """

    positions: torch.Tensor

    def __init__(self, channels: int, width: int, heads: int, hidden: int, encoders: int, decoders: int, dropout: float, length: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(channels, width, 1)
        self.enter_shown = nn.Conv1d(channels, width, 1) if decoders else None
        self.encoder = nn.ModuleList(Block(width, heads, hidden, dropout) for _ in range(encoders))
        self.decoder = nn.ModuleList(Block(width, heads, hidden, dropout, causal=True, cross=True) for _ in range(decoders))
        self.encoded, self.decoded = nn.LayerNorm(width), nn.LayerNorm(width) if decoders else nn.Identity()
        self.leave = nn.Linear(width, channels)
        self.register_buffer("positions", sinusoids(length, width), persistent=False)
        self.scale = width**0.5
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.xavier_uniform_(p)

    def tokens(self, enter: nn.Module, windows: torch.Tensor) -> torch.Tensor:
        return enter(windows).transpose(1, 2) * self.scale + self.positions[: windows.shape[-1]]

    def forward(self, noisy: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        memory = self.tokens(self.enter, noisy)
        for block in self.encoder:
            memory = block(memory)
        x = memory = self.encoded(memory)
        if self.enter_shown is not None:
            x = self.tokens(self.enter_shown, F.pad(shown[..., :-1], (1, 0)))
            for block in self.decoder:
                x = block(x, memory)
            x = self.decoded(x)
        return self.leave(x).transpose(1, 2)


class ART(TrainedOnWindows):
    """``decoder``: what the decoder is shown in training: ``clean`` (teacher forcing; the mean squared error is then of one-step-ahead
    predictions), ``noisy``, or ``none``: no decoder, an encoder with as many more layers. At inference it is always shown the noisy window, in
    one
    pass, as in the released code: with teacher forcing, training and inference differ."""

    network: ARTNet

    def __init__(
        self,
        data: DataSpec,
        width: int = 48,
        heads: int = 4,
        hidden: int = 128,
        layers: int = 2,
        decoder: str = "clean",
        dropout: float = 0.0,
        lr: float = 2e-3,
        batch_size: int = 16,
    ) -> None:
        super().__init__()
        if decoder not in DECODERS:
            raise RequestError(f"decoder is {decoder!r}; accepted: {', '.join(DECODERS)}.")
        length = data.shape[-1] if data.shape else 1024
        depths = (2 * layers, 0) if decoder == "none" else (layers, layers)
        self.network = ARTNet(data.channels, width, heads, hidden, *depths, dropout, length)
        self.decoder, self.lr, self.train_batch_size = decoder, lr, batch_size

    def loss(self, noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(self.network(noisy, clean if self.decoder == "clean" else noisy), clean)

    def cleaned(self, noisy: torch.Tensor) -> torch.Tensor:
        return self.network(noisy, noisy)
