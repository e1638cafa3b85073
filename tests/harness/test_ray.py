"""The ray executor on real raylets on loopback: equal numbers, limits, and a node killed in mid-sweep. Skipped where ray is not installed."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import execution
from execution import Heard, context, counts, units

ray = pytest.importorskip("ray", reason="ray is not installed (extra ray)")
from scorebench.configs.errors import RequestError, RunError  # noqa: E402
from scorebench.harness.controller import Policy, Status, default_executor, run_units  # noqa: E402
from scorebench.harness.executors.inline import InlineExecutor  # noqa: E402
from scorebench.harness.executors.ray import RayExecutor  # noqa: E402
from scorebench.leaderboards.ledger import Store  # noqa: E402

pytestmark = pytest.mark.slow
QUICK = Policy(retries=3, backoff=0.2)


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with execution.included():
        yield


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TROUBLE_MARKS", str(tmp_path))
    return tmp_path


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two raylets on loopback: a head that runs nothing, and nodes that tests add and remove."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


def samples(store: Path) -> dict[str, dict[str, np.ndarray]]:
    opened = Store(store)
    return {r["unit_id"]: opened.samples(r) for r in opened.records() if r["status"] == "ok"}


def test_a_node_killed_in_mid_sweep_loses_nothing(cluster: Any, tmp_path: Path, marks: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    cluster.wait_for_nodes()
    planned = units(seeds=16, seconds=1.0) + units("learner", seeds=4, seconds=0.2 + time.time() % 1 / 1e3)
    killed: list[Any] = []

    def kill() -> None:
        killed.append(nodes.pop())
        cluster.remove_node(killed[0], allow_graceful=False)

    later = threading.Timer(0.7, kill)  # in the middle of a unit of one second

    class Killer(Heard):
        def __call__(self, status: Status) -> None:
            super().__call__(status)
            if self.outcomes()["ok"] == 4 and not later.is_alive() and not killed:
                later.start()

    heard = Killer()
    executor = default_executor("ray", options={"address": cluster.address})
    assert executor.slots == 2
    try:
        summary = run_units(planned, context(tmp_path / "store"), executor, heard, QUICK)
    finally:
        executor.close()
    later.join()
    assert killed and summary.retried >= 1
    assert (summary.ok, summary.failed, summary.trained) == (20, 0, 1), summary
    assert counts(tmp_path / "store") == {(u.unit_id, "ok"): 1 for u in planned}
    assert run_units(planned, context(tmp_path / "calm"), InlineExecutor()).ok == 20
    one, other = samples(tmp_path / "store"), samples(tmp_path / "calm")
    for unit_id in one:
        for name in one[unit_id]:
            np.testing.assert_array_equal(one[unit_id][name], other[unit_id][name], err_msg=name)
    print(f"\nray node killed: {len(planned)} units, {summary.retried} tried again, 0 lost, 0 twice, samples equal to an inline run's")


def test_limits_failures_and_a_cluster_of_its_own(tmp_path: Path, marks: Path) -> None:
    executor = RayExecutor(workers=2)
    try:
        assert executor.slots <= 2
        planned = [*units(does="hang"), *units(does="raise"), *units(does="segfault"), *units(seeds=2)]
        summary = run_units(planned, context(tmp_path / "store", time_limit=6.0), executor, Heard(), Policy(retries=1, backoff=0.1))
        kinds = {r["variant"]: r["error"]["kind"] for r in Store(tmp_path / "store").records() if r["status"] == "failed"}
        assert (summary.ok, summary.failed) == (2, 3)
        assert kinds == {"trouble[does=hang]": "timeout", "trouble[does=raise]": "error", "trouble[does=segfault]": "crashed"}
        assert not list((tmp_path / "store" / "claims").glob("[!.]*"))
    finally:
        executor.close()
    assert not ray.is_initialized()


def test_a_folder_that_nodes_do_not_share_is_said(tmp_path: Path) -> None:
    executor = RayExecutor(workers=1)
    try:
        (tmp_path / "store" / "claims").mkdir(parents=True)
        executor._marks_of(tmp_path / "store")
        for mark in executor._marks[tmp_path / "store"]:
            Path(mark).unlink()
        with pytest.raises(RunError, match=r"does not see .*claims; every node needs it"):
            run_units(units(), context(tmp_path / "store"), executor)
    finally:
        executor.close()


def test_a_cluster_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(RequestError, match="cannot be reached"):
        RayExecutor(address="127.0.0.1:1")
