"""Tiles: every pixel answered once, and as the whole picture would be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorebench.baselines.nets import tiling
from scorebench.baselines.nets.dncnn import DnCNN
from scorebench.baselines.nets.drunet import DRUNet
from scorebench.baselines.nets.ffdnet import FFDNet
from scorebench.baselines.nets.nafnet import NAFNet
from scorebench.baselines.nets.restormer import Restormer
from scorebench.harness.cost import RowCounter

from .test_nets import randomised


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 400), tile=st.integers(1, 120), halo=st.integers(0, 40))
def test_spans_answer_every_pixel_once_with_its_halo(size, tile, halo):
    answered = []
    for start, stop, first, last in tiling.spans(size, tile, halo):
        answered += range(first, last)
        assert start == max(0, first - halo) and stop == min(size, last + halo)
    assert answered == list(range(size))


def picture(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def same(network: torch.nn.Module, y: torch.Tensor, *args: float, limit: int, halo: int | None = None) -> tuple[float, float]:
    """Return the largest difference from the untiled answer, and the size of what the network does to the picture."""
    with torch.no_grad():
        whole = network(y, *args)
        cut = tiling.tiled(network, y, *args, halo=network.halo if halo is None else halo, multiple=network.stride, limit=limit)
    assert cut.shape == whole.shape
    return float((cut - whole).abs().max()), float((whole - y).std())


def test_a_17_layer_dncnn_is_the_same_in_tiles():
    """The published network on 100 x 140 pixels in tiles of 64 x 64, of which 30 x 30 are their own."""
    torch.manual_seed(0)
    network = randomised(DnCNN(), gain=2.0)
    difference, effect = same(network, picture(1, 1, 100, 140), limit=64 * 64)
    assert effect > 1e-2 and difference < 1e-5


def averaging(network: torch.nn.Module) -> torch.nn.Module:
    """Give every convolution equal positive weights, so that all a network can see counts and nothing cancels."""
    for m in network.modules():
        if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.constant_(m.weight, 1 / m.weight[0].numel())
            if m.bias is not None:
                torch.nn.init.zeros_(m.bias)
    return network.eval()


def test_a_halo_too_small_is_noticed():
    network = averaging(DnCNN(1, 17, 4))
    y = picture(1, 1, 100, 140)
    assert same(network, y, limit=64 * 64)[0] < 1e-6
    assert same(network, y, limit=64 * 64, halo=8)[0] > 1e-4


LOOKING = [DnCNN(1, 17, 2), FFDNet(1, 6, 2), DRUNet(1, (2, 2, 2), 1), DRUNet(1, (2, 2), 2)]


@pytest.mark.parametrize("network", LOOKING, ids=lambda n: type(n).__name__)
def test_no_output_looks_further_than_the_halo(network):
    """Where the gradient of one output is not zero: within the halo for every phase, and for DnCNN exactly as far as it."""
    network = averaging(network).double()
    y = picture(1, 1, 192, 192).double().requires_grad_()
    args = () if isinstance(network, DnCNN) else (0.1,)
    answer = network(y, *args)
    for place in range(96, 96 + network.stride):
        (gradient,) = torch.autograd.grad(answer[0, 0, place, place], y, retain_graph=True)
        rows = gradient[0, 0].abs().sum(1).nonzero().flatten()
        furthest = max(place - int(rows[0]), int(rows[-1]) - place)
        assert furthest <= network.halo
        assert furthest == 17 or not isinstance(network, DnCNN)
        assert network.halo <= 2 * furthest + 8, "the halo is not wastefully wide"


@pytest.mark.parametrize("size", [(96, 130), (101, 97), (64, 257)])
def test_networks_with_strides_keep_phase_and_padding(size):
    """Odd sizes, so that the padding at the right and bottom edge has to be that of the whole picture."""
    y = picture(2, 1, *size)
    for network in (FFDNet(1, 5, 8), FFDNet(1, 5, 8, residual=True), DRUNet(1, (8, 16, 32), 1)):
        difference, effect = same(randomised(network, gain=1.5), y, 0.1, limit=64 * 64)
        assert effect > 1e-2 and difference < 1e-5, type(network).__name__


def test_nafnet_with_windows_is_the_same_and_with_global_pooling_is_not():
    network = randomised(NAFNet(1, 8, (1, 1), 1, (1, 1)), gain=1.5)
    y = picture(1, 1, 270, 270)
    network.pool_over(16)
    assert same(network, y, limit=190 * 190)[0] < 1e-5
    network.pool_over(None)
    assert same(network, y, limit=190 * 190)[0] > 1e-4


def test_restormer_attends_over_a_tile():
    """Attention over the picture is not attention over its tiles; the answers differ, by less than what the network does."""
    network = randomised(Restormer(1, 8, (1, 1), 1, (1, 2)), gain=1.0)
    difference, effect = same(network, picture(1, 1, 160, 200), limit=120 * 120)
    assert 1e-4 < difference < 3 * effect


def test_small_pictures_are_left_whole_bit_for_bit(monkeypatch):
    network = randomised(DnCNN(1, 4, 8))
    y = picture(1, 1, 40, 50)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        assert torch.equal(tiling.tiled(network, y, halo=4, limit=2000), network(y))
    assert len(calls) == 2


def test_a_picture_in_tiles_counts_as_one_evaluation():
    network = DnCNN(1, 4, 8).eval()
    with RowCounter([network]) as counter, torch.no_grad():
        tiling.tiled(network, picture(3, 1, 100, 100), halo=4, limit=1000)
    assert counter.forward == 3


def test_no_tile_is_larger_than_the_limit_asks():
    """Tiles with their halo stay at the limit wherever the halo leaves room for a tile of its own width."""
    seen = []
    network = DnCNN(1, 4, 8).eval()
    network.dncnn.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-2] * args[0].shape[-1]))
    with torch.no_grad():
        tiling.tiled(network, picture(1, 1, 150, 310), halo=4, limit=2500)
    assert max(seen) <= 2500 and len(seen) == 32
