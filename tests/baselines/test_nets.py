"""Networks against their papers: sizes, invariances, and independent implementations."""

import deepinv
import pytest
import torch

from scorebench.baselines.nets.dncnn import DnCNN
from scorebench.baselines.nets.drunet import DRUNet
from scorebench.baselines.nets.nafnet import NAFNet, local_mean, simple_gate
from scorebench.baselines.nets.optimise import adamw, cosine
from scorebench.baselines.nets.padding import pad_to_multiple


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def randomised(network: torch.nn.Module, gain: float = 0.5, seed: int = 0) -> torch.nn.Module:
    """Give every weight a random value, also those that start at zero, so that nothing is hidden by the initialisation."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (gain / max(1, p[0].numel()) ** 0.5 if p.ndim > 1 else 0.1))
    return network.eval()


# ---------------------------------------------------------------------- DnCNN
def test_dncnn_has_the_published_size_and_layers():
    """17 convolutions: 9*64 + 15*9*64^2 + 9*64, and 2*64 for each of 15 batch norms: 0.556 M (the official repository says 0.56 M)."""
    network = DnCNN()
    assert parameters(network) == 9 * 64 + 15 * 9 * 64 * 64 + 9 * 64 + 15 * 2 * 64 == 556_032
    assert sum(isinstance(m, torch.nn.Conv2d) for m in network.modules()) == 17
    assert parameters(DnCNN(1, 8, 32, norm=False)) == 9 * 32 + 6 * 9 * 32 * 32 + 9 * 32


def test_dncnn_takes_the_key_layout_of_the_published_checkpoints():
    """Keys of SaoYan/DnCNN-PyTorch: convolutions at 0, 2, 5, ..., 47 and batch norms at 3, 6, ..., 45, without biases."""
    shapes = {"dncnn.0.weight": (64, 1, 3, 3), "dncnn.47.weight": (1, 64, 3, 3)}
    for n in range(2, 45, 3):
        shapes[f"dncnn.{n}.weight"] = (64, 64, 3, 3)
        shapes |= {f"dncnn.{n + 1}.{name}": (64,) for name in ("weight", "bias", "running_mean", "running_var")}
    mine = {k: tuple(v.shape) for k, v in DnCNN().state_dict().items() if not k.endswith("num_batches_tracked")}
    assert mine == shapes


def test_dncnn_equals_deepinvs():
    theirs = deepinv.models.DnCNN(1, 1, depth=6, nf=8, bias=True, pretrained=None).eval()
    mine = DnCNN(1, 6, 8, norm=False, bias=True)
    state = dict(zip(mine.state_dict(), theirs.state_dict().values(), strict=True))
    # deepinv learns the residual with the other sign: x = y + R(y)
    state |= {k: -v for k, v in state.items() if k.startswith("dncnn.10.")}
    order = [k for k, _ in theirs.named_parameters()]
    assert order[0].startswith("in_conv") and order[-1].startswith("out_conv")
    mine.load_state_dict(state)
    y = torch.rand(2, 1, 20, 24)
    with torch.no_grad():
        assert torch.allclose(mine.eval()(y), theirs(y), atol=1e-6)


def test_bias_free_dncnn_is_homogeneous_and_the_others_are_not():
    y = torch.rand(1, 1, 24, 24)
    free, biased = randomised(DnCNN(1, 5, 8, norm=False)), randomised(DnCNN(1, 5, 8, norm=False, bias=True))
    with torch.no_grad():
        assert torch.allclose(free(3 * y), 3 * free(y), atol=1e-5)
        assert not torch.allclose(biased(3 * y), 3 * biased(y), atol=1e-2)


def test_a_new_dncnn_without_norm_is_the_identity():
    y = torch.rand(1, 1, 16, 16)
    assert torch.equal(DnCNN(1, 8, 32, norm=False, bias=True, centre=0.5)(y), y)


# ---------------------------------------------------------------------- DRUNet
def test_drunet_has_the_published_size_and_equals_deepinvs():
    """32.64 M parameters for grey images, with the key names of the official checkpoints."""
    mine, theirs = DRUNet(), deepinv.models.DRUNet(1, 1, pretrained=None).eval()
    assert parameters(mine) == 32_638_656 == parameters(theirs)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    y = torch.rand(1, 1, 40, 48)
    with torch.no_grad():
        assert torch.allclose(mine.eval()(y, 0.1), theirs(y, 0.1), atol=1e-6)


@pytest.mark.parametrize("a", [0.1, 2.5, 255.0])
def test_drunet_is_homogeneous_in_image_and_level(a):
    network = randomised(DRUNet(1, (8, 16, 32), 2)).double()
    y = torch.rand(2, 1, 21, 30, dtype=torch.float64)
    sigma = torch.tensor([0.05, 0.2], dtype=torch.float64)
    with torch.no_grad():
        once = network(y, sigma)
        assert torch.allclose(network(a * y, a * sigma), a * once, rtol=1e-9, atol=1e-10)
        assert not torch.allclose(network(y, 2 * sigma), once, atol=1e-3)  # the level is used


def test_drunet_takes_one_level_or_one_per_picture():
    network = randomised(DRUNet(1, (8, 16), 1))
    y = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(network(y, 0.1), network(y, torch.tensor([0.1, 0.1])))
        assert torch.allclose(network(y, torch.tensor([0.1, 0.3]))[1:], network(y[1:], 0.3), atol=1e-6)


# ---------------------------------------------------------------------- NAFNet
@pytest.mark.parametrize(("blocks", "millions"), [(((2, 2, 4, 8), 12, (2, 2, 2, 2)), 29.16), (((1, 1, 1, 28), 1, (1, 1, 1, 1)), 17.11)])
def test_nafnet_has_the_published_sizes(blocks, millions):
    """NAFNet-SIDD-width32 has 29.16 M and NAFNet-GoPro-width32 17.11 M parameters (official repository)."""
    assert parameters(NAFNet(3, 32, *blocks)) / 1e6 == pytest.approx(millions, abs=0.005)


def test_a_new_nafnet_changes_nothing_in_its_blocks():
    block = NAFNet(3, 8, (1,), 1, (1,)).middle_blks
    x = torch.rand(1, 16, 8, 8)
    assert torch.equal(block(x), x)


def test_simple_gate_multiplies_the_halves():
    x = torch.rand(2, 6, 3, 3)
    assert torch.equal(simple_gate(x), x[:, :3] * x[:, 3:])


@pytest.mark.parametrize(("shape", "size"), [((9, 12), 4), ((9, 12), 5), ((7, 30), 9), ((16, 16), 1)])
def test_local_mean_is_the_mean_of_the_window_moved_inside(shape, size):
    x = torch.rand(1, 2, *shape)
    out = local_mean(x, size)
    kh, kw = min(size, shape[0]), min(size, shape[1])
    for i in range(shape[0]):
        for j in range(shape[1]):
            top = min(max(i - (shape[0] - (shape[0] - kh + 1)) // 2, 0), shape[0] - kh)
            left = min(max(j - (shape[1] - (shape[1] - kw + 1)) // 2, 0), shape[1] - kw)
            window = x[..., top : top + kh, left : left + kw].mean((-2, -1))
            assert torch.allclose(out[..., i, j], window, atol=1e-6)


def test_local_mean_is_global_when_the_window_covers_the_picture():
    x = torch.rand(2, 3, 10, 14)
    assert torch.equal(local_mean(x, 14), x.mean((-2, -1), keepdim=True))


def test_channel_attention_pools_globally_in_training_and_locally_in_evaluation():
    network = randomised(NAFNet(1, 8, (1, 1), 1, (1, 1)), 2.0)
    y = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        everywhere = network(y)
        network.pool_over(24)
        local = network(y)
        assert not torch.allclose(local, everywhere, atol=1e-5)
        assert torch.allclose(network.train()(y), everywhere, atol=1e-6)  # training never sees windows
        network.eval()
        network.pool_over(64)
        assert torch.allclose(network(y), everywhere, atol=1e-6)
        network.pool_over(None)
        assert torch.equal(network(y), everywhere)


def test_local_pooling_makes_far_pixels_irrelevant():
    """With windows the answer at one corner does not see a change at the other; with global pooling it does."""
    network = randomised(NAFNet(1, 8, (1,), 1, (1,)), 2.0)
    y = torch.rand(1, 1, 128, 128)
    changed = y.clone()
    changed[..., 96:, 96:] += 1
    with torch.no_grad():
        corner = (slice(None), slice(None), slice(0, 16), slice(0, 16))
        assert not torch.allclose(network(y)[corner], network(changed)[corner], atol=1e-6)
        network.pool_over(24)
        assert torch.allclose(network(y)[corner], network(changed)[corner], atol=1e-6)


# ---------------------------------------------------------------------- shared
@pytest.mark.parametrize("build", [lambda: NAFNet(3, 8, (1, 1), 1, (1, 1)), lambda: DnCNN(3, 4, 8, norm=False)])
@pytest.mark.parametrize("size", [(31, 45), (16, 16), (1, 3)])
def test_any_size_goes_in_and_comes_out(build, size):
    x = torch.rand(2, 3, *size)
    assert build().eval()(x).shape == x.shape


@pytest.mark.parametrize("shape", [(5, 7), (8, 8), (1, 2), (3, 9)])
def test_padding_keeps_the_picture_and_reaches_the_multiple(shape):
    x = torch.rand(1, 1, *shape)
    padded = pad_to_multiple(x, 8)
    assert padded.shape[-2] % 8 == padded.shape[-1] % 8 == 0
    assert torch.equal(padded[..., : shape[0], : shape[1]], x)
    assert max(padded.shape[-2] - shape[0], padded.shape[-1] - shape[1]) < 8


def test_the_learning_rate_rises_and_falls_to_zero():
    factors = [cosine(k, 200) for k in range(201)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == 1.0 and factors[-1] == pytest.approx(0, abs=1e-9)
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    built = adamw([torch.nn.Parameter(torch.zeros(1))], 0.1, 200)
    assert built["lr_scheduler"]["interval"] == "step" and built["optimizer"].param_groups[0]["lr"] == pytest.approx(0.01)
