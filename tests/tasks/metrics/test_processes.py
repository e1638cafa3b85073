"""Two processes (gloo) give the values of one, and 21 images count 21, not 22."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from scorebench.tasks.metrics.base import Reference
from scorebench.tasks.metrics.frechet import Moments, frechet_distance
from scorebench.tasks.metrics.registry import make

HERE = Path(__file__).resolve().parent


def worker() -> ModuleType:
    """Return the module that both processes run."""
    spec = importlib.util.spec_from_file_location("metrics_worker", HERE / "worker.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_processes_score_21_images_as_one_does(tmp_path: Path) -> None:
    started = [subprocess.Popen([sys.executable, "-P", str(HERE / "worker.py"), str(rank), str(tmp_path)]) for rank in (0, 1)]
    assert [p.wait(timeout=120) for p in started] == [0, 0]
    parts = pickle.loads((tmp_path / "gathered.pkl").read_bytes())
    alone = worker()
    values, rows, moments = alone.score(range(alone.COUNT))
    for name in alone.SAMPLE:
        first, second = parts[0][0][name], parts[1][0][name]
        assert (len(first), len(second)) == (11, 10) and not set(first) & set(second)
        together = {**first, **second}
        assert len(together) == 21 and together == values[name]
    for name in alone.SET:
        together = {**parts[0][1][name], **parts[1][1][name]}
        ordered = torch.stack([together[i] for i in range(alone.COUNT)])
        assert torch.equal(ordered, torch.stack([rows[name][i] for i in range(alone.COUNT)]))
        metric = make(name)
        assert "|n=21" in metric.set_identity(len(ordered))
    merged = Moments().merge(parts[0][2]).merge(parts[1][2])
    assert merged.n == moments.n == 21
    assert np.allclose(merged.mean, moments.mean, rtol=1e-12) and np.allclose(merged.cov, moments.cov, rtol=1e-9, atol=1e-12)
    eye = (np.zeros(32), np.eye(32))
    assert frechet_distance(merged.mean, merged.cov, *eye) == pytest.approx(frechet_distance(moments.mean, moments.cov, *eye), rel=1e-9)
    fd = make("fd-digits")
    whole = torch.stack([rows["fd-digits"][i] for i in range(alone.COUNT)]).numpy()
    assert fd.value(whole, Reference(Moments.known(*eye), 0, "")) == pytest.approx(frechet_distance(merged.mean, merged.cov, *eye), rel=1e-4)
