"""Faster Diffusion: all key steps is DDIM, batched decoding is decoding one by one, counted steps, fewer FLOPs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scorebench.baselines.diffusion.trained import TrainedPrior
from scorebench.baselines.generation.ddim import DDIM
from scorebench.baselines.generation.faster_diffusion import FasterDiffusion
from scorebench.baselines.nets.unet import ScoreUNet
from scorebench.configs.errors import RequestError
from scorebench.harness.cost import FlopCount, RowCounter

from .ring import counted, request, ring

SHAPE = (3, 16, 16)


def prior(**options: Any) -> TrainedPrior:
    torch.manual_seed(0)
    made = TrainedPrior(shape=SHAPE, network_options={"widths": [8, 16], "embedding": 16, "patch": 2}, schedule="vp-cosine", **options)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return made.eval().requires_grad_(False)


def test_the_two_halves_are_the_network() -> None:
    for options in ({"classes": 3}, {"captions": {"tokens": 7, "length": 4, "width": 8}}):
        network = prior(**options).network
        assert isinstance(network, ScoreUNet)
        x, level = torch.randn(2, *SHAPE), torch.randn(2)
        label = torch.tensor([0, 2]) if "classes" in options else torch.tensor([[0, 1, 2, 3], [4, 5, 6, 6]])
        told = network.told(level, label, 2)
        assert torch.equal(network.decode(*network.encode(x, *told), *told), network(x, level, label))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_with_all_key_steps_it_is_ddim(guidance: float) -> None:
    p, label = prior(classes=3), torch.tensor([0, 1, 2])
    ours = FasterDiffusion(p, keys="all", inject=0, guidance=guidance).sample(request(3, 12, SHAPE, label=label))
    theirs = DDIM(p, guidance=guidance).sample(request(3, 12, SHAPE, label=label))
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_block_is_its_decoder_passes_one_by_one() -> None:
    p = prior(captions={"tokens": 7, "length": 4, "width": 8})
    method, x = FasterDiffusion(p), torch.randn(2, *SHAPE)
    words, times = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 6]]), [torch.tensor(t, dtype=torch.float64) for t in (0.8, 0.7, 0.6)]
    told = [p.network.told(p.level(t, 2).float(), words, 2) for t in times]
    features = p.network.encode(x, *told[0])
    for got, one in zip(method.block(x, times, words), told, strict=True):
        assert torch.allclose(got, p.network.decode(*features, *one), atol=1e-5)


def test_key_steps() -> None:
    method = FasterDiffusion(prior())
    assert method.key_steps(50) == [0, 1, 2, 3, 5, 10, 15, 25, 35]
    for n in (1, 2, 5, 10, 20):
        keys = method.key_steps(n)
        assert keys[0] == 0 and keys == sorted(set(keys)) and keys[-1] < n
    assert FasterDiffusion(prior(), keys="uniform").key_steps(10) == [0, 4, 8]


@pytest.mark.parametrize("nfe", [1, 5, 10, 20, 50])
def test_every_step_is_counted(nfe: int) -> None:
    method = FasterDiffusion(prior())
    assert counted(method, nfe, shape=SHAPE) == nfe
    notes, _ = method.take_notes()
    assert notes["encoder-share"] == [len(method.key_steps(nfe)) / nfe]


def test_guidance_counts_two() -> None:
    method = FasterDiffusion(prior(classes=3), guidance=2.0)
    with RowCounter(method.networks()) as rows:
        method.sample(request(3, 20, SHAPE, label=torch.tensor([0, 1, 2])))
    assert rows.forward == 60


def test_it_takes_fewer_operations() -> None:
    p, flops = prior(), []
    for method in (FasterDiffusion(p), DDIM(p)):
        with FlopCount() as count:
            method.sample(request(2, 50, SHAPE))
        flops.append(count.total)
    assert flops[0] < 0.75 * flops[1]


def test_other_priors_are_refused() -> None:
    with pytest.raises(RequestError, match="U-Net"):
        FasterDiffusion(ring())
    with pytest.raises(ValueError, match="accepted: paper, uniform, all"):
        FasterDiffusion(prior(), keys="none")  # type: ignore[arg-type]
