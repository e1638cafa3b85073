"""Counted cost against torch's own counter and known numbers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scorebench.harness import cost


@pytest.mark.parametrize(
    ("net", "x"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 3, 2, stride=2)), torch.ones(2, 3, 16, 16)),
        (nn.MultiheadAttention(16, 4, batch_first=True), torch.ones(2, 5, 16)),
        (nn.GRU(8, 16, batch_first=True), torch.ones(2, 5, 8)),
        (nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 8)), torch.ones(4, 8)),
    ],
)
@pytest.mark.parametrize("backward", [False, True])
def test_flops_equal_torchs_counter(net: nn.Module, x: torch.Tensor, backward: bool) -> None:
    def go() -> None:
        out = net(x, x, x)[0] if isinstance(net, nn.MultiheadAttention) else net(x)
        out = out[0] if isinstance(out, tuple) else out
        if backward:
            out.sum().backward()

    with torch.set_grad_enabled(backward):
        with cost.FlopCount() as ours:
            go()
        with FlopCounterMode(display=False) as theirs:
            go()
    assert ours.total == theirs.get_total_flops() > 0


def test_counting_changes_no_number() -> None:
    net, x = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 3)), torch.rand(2, 1, 20, 20)
    with torch.no_grad(), cost.FlopCount(), cost.RowCounter([net]):
        counted = net(x)
    with torch.no_grad():
        assert torch.equal(counted, net(x))


def test_rows_of_nested_and_shared_networks_count_once() -> None:
    inner = nn.Linear(2, 2)
    outer = nn.Sequential(inner, nn.ReLU())
    with cost.RowCounter([outer, inner, outer]) as rows:
        outer(torch.ones(5, 2))
    assert rows.forward == 5
    outer(torch.ones(5, 2))
    assert rows.forward == 5  # the hooks are gone


def test_backward_rows() -> None:
    net, x = nn.Linear(2, 2), torch.ones(3, 2, requires_grad=True)
    with cost.RowCounter([net]) as rows:
        torch.autograd.grad(net(x).sum(), x)
        net(x)
    assert (rows.forward, rows.backward) == (6, 3)


def test_stopwatch_keeps_the_warm_up_apart() -> None:
    watch = cost.Stopwatch(torch.device("cpu"))
    for n in (2, 2, 1):
        with watch.request(n):
            pass
    summary = watch.summary()
    assert summary["warm"] and len(watch.per_sample) == 5 and summary["sample_s_p95"] >= summary["sample_s_median"]
    assert cost.Stopwatch(torch.device("cpu")).summary()["sample_s_median"] is None


def test_peak_memory_sees_a_large_array() -> None:
    """In a process of its own: one that has run other tests has freed memory at hand, and a new array need not raise its resident set."""
    code = (
        "import torch; from scorebench.harness import cost; memory = cost.PeakMemory(torch.device('cpu')); before = memory.read()\n"
        "if before is None or not memory.resettable: print('unknown')\n"
        "else: big = torch.ones(64 * 2**20 // 4); print(memory.read() - before)"
    )
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    if grown == "unknown":
        pytest.skip("this system does not report or reset the high-water mark")
    assert 50 < float(grown) < 80


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_backward_pass_costs_two_forward_passes(groups: int, transposed: bool) -> None:
    """torch's own formula counts the weight gradient of a grouped convolution ``groups`` times too many."""
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    net = kind(8, 8, 2 if transposed else 3, stride=2 if transposed else 1, groups=groups)
    x = torch.ones(2, 8, 12, 12, requires_grad=True)
    with cost.FlopCount() as forward:
        out = net(x)
    with cost.FlopCount() as backward:
        out.sum().backward()
    assert backward.total == 2 * forward.total > 0
    with cost.FlopCount() as weights_only:
        net(x.detach()).sum().backward()
    assert weights_only.total == 2 * forward.total
