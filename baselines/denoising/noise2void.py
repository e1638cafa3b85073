"""Noise2Void (Krull, Buchholz and Jug 2019, arXiv:1811.10980): a network that predicts single noisy pixels from what surrounds them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..method import DataSpec
from .selfsup import SelfSupervised, crops


def stratified(y: torch.Tensor, cell: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one pixel in every ``cell`` x ``cell`` cell of each picture of (B, C, H, W): rows and columns, int64 (B, n)."""
    down, across = -(-y.shape[-2] // cell), -(-y.shape[-1] // cell)
    row = torch.randint(cell, (len(y), down, across), device=y.device) + cell * torch.arange(down, device=y.device)[:, None]
    column = torch.randint(cell, (len(y), down, across), device=y.device) + cell * torch.arange(across, device=y.device)
    return row.clamp_max(y.shape[-2] - 1).flatten(1), column.clamp_max(y.shape[-1] - 1).flatten(1)


def elsewhere(row: torch.Tensor, column: torch.Tensor, shape: tuple[int, int], reach: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw for every pixel another one of the (2 reach + 1)^2 window around it, never itself; at borders the window is moved inside."""
    side = 2 * reach + 1
    top, left = (row - reach).clamp(0, shape[0] - side), (column - reach).clamp(0, shape[1] - side)
    own = (row - top) * side + column - left
    other = torch.randint(side * side - 1, row.shape, device=row.device)
    other = other + (other >= own)  # skips the pixel itself, so all others are equally likely
    return top + other // side, left + other % side


class Noise2Void(SelfSupervised):
    """Blind spots by masking: about 1.5 % of a patch's pixels, one per 8 x 8 cell, are given the value of a random other pixel
    of their 5 x 5 neighbourhood; the loss is the squared error to the noisy values that stood there, on those pixels alone.

    Noise that is independent between pixels cannot be predicted from the surroundings, and the signal can. Answers come from
    one pass over the picture as it is, by a network without an outer connection (``skip``), as the paper's has none.
    """

    def __init__(self, data: DataSpec, cell: int = 8, reach: int = 2, skip: bool = False, lr: float = 4e-3, batch_size: int = 4) -> None:
        super().__init__(data, lr, batch_size, skip)
        self.cell, self.reach = cell, reach

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int = 0) -> torch.Tensor:
        y = crops(batch)
        row, column = stratified(y, self.cell)
        from_row, from_column = elsewhere(row, column, (y.shape[-2], y.shape[-1]), self.reach)
        picture = torch.arange(len(y), device=y.device)[:, None]
        masked = y.clone()
        masked[picture, :, row, column] = y[picture, :, from_row, from_column]
        predicted = self.network(masked)[picture, :, row, column]
        return (predicted - y[picture, :, row, column]).square().mean()
