"""FFDNet, blind DnCNN and Restormer: their sizes and equations against independent implementations, and that short trainings learn."""

from __future__ import annotations

import deepinv
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from scorebench.baselines import card as cards
from scorebench.baselines.denoising.dncnn_b import DnCNNBlind
from scorebench.baselines.denoising.ffdnet import FFDNetMethod
from scorebench.baselines.denoising.noisy_input import NoisyInput
from scorebench.baselines.method import DataSpec
from scorebench.baselines.nets.ffdnet import FFDNet
from scorebench.baselines.nets.restormer import GDFN, MDTA, Restormer, Scale
from scorebench.baselines.registry import hyper_parameters, method_class
from scorebench.baselines.restoration.restormer import RestormerMethod
from scorebench.harness.training import fit
from scorebench.tasks import registry

from .test_denoising import psnr
from .test_nets import parameters, randomised

GAUSSIAN, BLIND = "denoising/photos-gaussian25", "denoising/photos-gaussian-blind"


# ---------------------------------------------------------------------- FFDNet
def test_ffdnet_has_the_published_sizes():
    """Grey: 15 layers of 64 channels on 4 + 1 planes; colour: 12 of 96 on 12 + 1."""
    assert parameters(FFDNet()) == (5 * 9 + 1) * 64 + 13 * (64 * 9 + 1) * 64 + (64 * 9 + 1) * 4 == 485_316
    assert parameters(FFDNet(3, 12, 96)) == (13 * 9 + 1) * 96 + 10 * (96 * 9 + 1) * 96 + (96 * 9 + 1) * 12 == 852_108
    assert [k for k in FFDNet().state_dict() if "weight" in k] == [f"model.{2 * i}.weight" for i in range(15)]


def test_ffdnet_is_its_definition():
    """Phases cut out by hand, the level as a plane of its own, convolutions and ReLUs, phases put back by hand."""
    network = randomised(FFDNet(1, 3, 6), gain=1.5)
    y, sigma = torch.rand(2, 1, 8, 10), torch.tensor([0.1, 0.4])
    planes = [y[:, 0, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    x = torch.stack([*planes, sigma[:, None, None].expand(2, 4, 5)], 1)
    for k in (0, 2):
        x = F.relu(F.conv2d(x, network.model[k].weight, network.model[k].bias, padding=1))
    x = F.conv2d(x, network.model[4].weight, network.model[4].bias, padding=1)
    expected = torch.empty_like(y)
    for plane, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected[:, 0, i::2, j::2] = x[:, plane]
    with torch.no_grad():
        assert torch.allclose(network(y, sigma), expected, atol=1e-6)
        assert network(y[..., :7, :9], 0.1).shape == (2, 1, 7, 9)
        assert torch.equal(FFDNet(1, 3, 6, residual=True)(y, 0.1), y), "a residual network starts at the identity"


def test_ffdnet_learns_and_heeds_the_level():
    """A short training at all levels helps at two of them, and the level it is told decides how much is taken away."""
    method, _ = fit(lambda: FFDNetMethod(DataSpec("image", 1), depth=5, width=24), registry.get(GAUSSIAN), "clean", gflops=40, seed=0)
    for task in (GAUSSIAN, "denoising/photos-gaussian50"):
        assert psnr(method.eval(), task) > psnr(NoisyInput(), task) + 3
    task = registry.get(GAUSSIAN)
    image = task.observe("test", task.ids()[0]).given["noisy"].double().numpy()
    with torch.no_grad():
        taken = [float(np.std(method.filtered(image, s / 255) - image)) for s in (5, 25, 50)]
    assert taken[0] < taken[1] < taken[2]


def test_ffdnet_estimates_the_level_where_it_is_not_given():
    card = cards.get("ffdnet")
    for task_id in (BLIND, "denoising/photos-correlated", "denoising/sidd-real", "denoising/cbsd68-gaussian-blind"):
        assert hyper_parameters(card, FFDNetMethod, "default", task_id, {})["level"] == "estimated"
    assert hyper_parameters(card, FFDNetMethod, "default", GAUSSIAN, {})["level"] == "given"


# ---------------------------------------------------------------------- blind DnCNN
def test_the_blind_network_is_trained_at_levels_of_its_own():
    """Its training step draws levels in [0, 55] / 255 for the crops it is handed, whatever the task's noise is."""
    torch.manual_seed(0)
    method = DnCNNBlind(DataSpec("image", 1), depth=3, width=4)
    seen = []
    method.network.register_forward_hook(lambda _, args, out: seen.append(args[0]))
    clean = torch.full((400, 1, 16, 16), 0.5)
    method.training_step({"target": clean})
    levels = (seen[0] - clean).flatten(1).std(1) * 255
    assert 50 < levels.max() < 62 and levels.min() < 3
    assert float(levels.mean()) == pytest.approx(27.5, abs=3)


def test_blind_presets_are_the_papers():
    card = cards.get("dncnn-b")
    cls = method_class(card)
    full = cls(DataSpec("image", 1), **hyper_parameters(card, cls, "full", GAUSSIAN, {}))
    assert sum(isinstance(m, torch.nn.Conv2d) for m in full.network.modules()) == 20
    free = cls(DataSpec("image", 1), **hyper_parameters(card, cls, "bias-free", GAUSSIAN, {})).network
    y = torch.rand(1, 1, 12, 12)
    randomised(free)
    with torch.no_grad():
        assert torch.allclose(free(3 * y), 3 * free(y), atol=1e-5)


# ---------------------------------------------------------------------- Restormer
def test_restormer_equals_deepinvs():
    """The same weights under the same names give the same answer, on four scales and an odd number of refinement blocks."""
    theirs = deepinv.models.Restormer(1, 1, dim=8, num_blocks=[1, 2, 1, 1], num_refinement_blocks=1, heads=[1, 2, 4, 8], pretrained=None).eval()
    mine = Restormer(1, 8, (1, 2, 1, 1), 1, (1, 2, 4, 8))
    randomised(theirs, gain=1.0)
    mine.load_state_dict(theirs.state_dict())
    y = torch.rand(2, 1, 32, 40)
    with torch.no_grad():
        assert torch.allclose(mine.eval()(y), theirs(y), atol=1e-5)
        assert not torch.allclose(theirs(y), y, atol=1e-2)
        assert mine(y[..., :29, :31]).shape == (2, 1, 29, 31)


def test_restormer_has_the_published_size():
    with torch.device("meta"):
        assert parameters(Restormer()) == parameters(deepinv.models.Restormer(pretrained=None)) == 26_111_668


def test_attention_is_over_channels_by_its_definition():
    """Head by head with loops: softmax over keys of the scaled cosine of two channels' rows of pixels."""
    module = randomised(MDTA(4, 2), gain=2.0)
    x = torch.rand(1, 4, 3, 5)
    with torch.no_grad():
        q, k, v = F.conv2d(F.conv2d(x, module.qkv.weight), module.qkv_dwconv.weight, padding=1, groups=12).flatten(2)[0].chunk(3)
        out = torch.zeros(4, 15)
        for head in range(2):
            for a in (2 * head, 2 * head + 1):
                cosines = [float(q[a] @ k[b] / q[a].norm() / k[b].norm() * module.temperature[head, 0, 0]) for b in (2 * head, 2 * head + 1)]
                weights = np.exp(cosines) / np.exp(cosines).sum()
                out[a] = weights[0] * v[2 * head] + weights[1] * v[2 * head + 1]
        expected = F.conv2d(out.reshape(1, 4, 3, 5), module.project_out.weight)
        assert torch.allclose(module(x), expected, atol=1e-5)


def test_the_gate_and_the_scaling():
    module = randomised(GDFN(4, 2.66), gain=2.0)
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        a, b = F.conv2d(F.conv2d(x, module.project_in.weight), module.dwconv.weight, padding=1, groups=20).chunk(2, 1)
        assert torch.allclose(module(x), F.conv2d(F.gelu(a) * b, module.project_out.weight), atol=1e-5)
        y = Scale(4)(5 * x + 3)
    assert torch.allclose(y, (5 * x + 3) / (5 * x).std(1, keepdim=True, unbiased=False), atol=1e-3), "the mean stays"


def test_restormer_learns():
    method, report = fit(
        lambda: RestormerMethod(DataSpec("image", 1), width=8, blocks=(1, 1), heads=(1, 2)), registry.get(GAUSSIAN), "paired", gflops=25, seed=0
    )
    assert report.steps > 30
    assert psnr(method.eval(), GAUSSIAN, count=4) > psnr(NoisyInput(), GAUSSIAN, count=4) + 2
