"""Sweep files: what is accepted and refused (with file and line), the points they stand for, and one run from file to records."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import data, good, wrong

from scorebench.configs.errors import RequestError
from scorebench.harness import sweeps
from scorebench.harness.distributions import DISTRIBUTIONS
from scorebench.harness.sweep_plan import plan_sweep
from scorebench.harness.values import parse_value, same
from scorebench.leaderboards.ledger import Store

TASK = "denoising/photos-gaussian25"
BASE: dict[str, Any] = {
    "method": "grid",
    "parameters": {"task": {"value": TASK}, "method": {"value": "tv"}, "strength": {"values": [0.5, 1.0]}},
}


def write(folder: Path, **changes: Any) -> Path:
    """Write BASE with ``changes`` (``parameters`` are merged)."""
    content = {**BASE, **changes, "parameters": {**BASE["parameters"], **changes.get("parameters", {})}}
    content["parameters"] = {k: v for k, v in content["parameters"].items() if v is not None}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def line_of(path: Path, text: str) -> int:
    return next(i for i, line in enumerate(path.read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("changes", "line", "says"),
    [
        ({"method": "gird"}, "method: gird", "accepted: grid, random, bayes"),
        ({"paramters": {}}, "paramters", "did you mean 'parameters'"),
        ({"parameters": {"task": None}}, "parameters:", "'task' is missing"),
        ({"parameters": {"method": None}}, "parameters:", "'method' is missing"),
        ({"parameters": {"task": {"value": "denoising/photo-gaussian25"}}}, "task:", "did you mean denoising/photos-gaussian25"),
        ({"parameters": {"method": {"value": "tvv"}}}, "  method:", "Unknown method 'tvv'"),
        ({"parameters": {"method": {"value": "ddim"}}}, "  method:", "can answer none of the sweep's tasks"),
        ({"method": "random", "run_cap": 3, "parameters": {"strength": {"min": 2.0, "max": 1.0}}}, "min: 2.0", "inverted or empty range"),
        ({"method": "random", "run_cap": 3, "parameters": {"strength": {"min": 2.0}}}, "  strength:", "only one of min and max"),
        ({"parameters": {"strength": {"min": 1.0, "max": 2.0}}}, "  strength:", "a grid needs a list, and 'strength' is uniform"),
        ({"parameters": {"strength": {"distribution": "unifrom", "min": 1, "max": 2}}}, "distribution: unifrom", "did you mean uniform"),
        ({"parameters": {"strength": {"vaules": [1]}}}, "vaules", "did you mean 'values'"),
        ({"parameters": {"strength": {"values": []}}}, "values: []", "a list of at least one"),
        ({"parameters": {"strength": {"values": [1.0], "q": 2}}}, "q: 2", "does not take 'q'"),
        ({"parameters": {"strength": {}}}, "  strength:", "says no values"),
        (
            {"method": "random", "run_cap": 3, "parameters": {"strength": {"distribution": "log_uniform_values", "min": 0, "max": 1}}},
            "min: 0", "needs more than 0",
        ),
        (
            {"method": "random", "run_cap": 3, "parameters": {"strength": {"distribution": "log_uniform_values", "min": "1e-3", "max": 1}}},
            "min: 1e-3", "must be a number",
        ),
        ({"parameters": {"strength": {"values": [1.0, 2.0], "probabilities": [0.5, 0.5]}}}, "  strength:", "a grid needs a list"),
        (
            {"method": "random", "run_cap": 1, "parameters": {"strength": {"values": [1.0, 2.0], "probabilities": [0.5, 0.6]}}},
            "probabilities", "sum to 1",
        ),
        ({"parameters": {"strength": {"parameters": {"a": {"min": 3, "max": 1}}}}}, "min: 3", "strength.parameters.a' is an inverted"),
        ({"parameters": {"strength": {"values": ["3"]}}}, "  strength:", "be read as another"),
        ({"parameters": {"seed": {"values": [-1]}}}, "  seed:", "integers of at least 0"),
        ({"parameters": {"budget": {"value": "nfe5"}}}, "  budget:", "has no budget 'nfe5'"),
        ({"metric": {"name": "fid", "goal": "minimize"}}, "name: fid", "does not have the metric 'fid'; it has psnr"),
        ({"metric": {"name": "psnr"}}, "metric:", "W&B minimizes then; write goal: maximize"),
        ({"metric": {"name": "psnr", "goal": "maximise"}}, "goal: maximise", "accepted: minimize, maximize"),
        ({"method": "random"}, "method: random", "how many points with run_cap"),
        ({"method": "bayes", "run_cap": 2}, "method: bayes", "needs a metric"),
        ({"run_cap": 0}, "run_cap: 0", "accepted: 1 or more"),
        ({"metric": {"name": "psnr", "goal": "maximize"}, "parameters": {"split": {"value": "test"}}}, "  split:", "nothing is chosen on test"),
        ({"parameters": {"split": {"values": ["dev", "test"]}}}, "  split:", "accepted: one value"),
        ({"metric": {"name": "psnr", "goal": "maximize"}, "early_terminate": {"type": "hyperband"}}, "early_terminate:", "needs min_iter"),
        ({"command": ["python", "train.py"]}, "command:", "scorebench, run"),
        ({"command": ["scorebench", "run", "-t", "x", "${args_no_hyphens}"]}, "command:", "belongs to the parameters"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, changes: dict[str, Any], line: str, says: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(RequestError) as e:
        sweeps.get(str(path))
    assert says in str(e.value)
    assert str(e.value).startswith(f"{path}:{line_of(path, line)}: "), str(e.value)


def test_an_unknown_hyper_parameter_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, parameters={"strenght": {"values": [1.0]}, "strength": None})
    with pytest.raises(RequestError, match=r"sweep.yaml:\d+: Method 'tv' has no hyper-parameter 'strenght'; accepted: strength") as e:
        sweeps.check_settings(sweeps.get(str(path)))
    assert f":{line_of(path, 'strenght')}:" in str(e.value)


@pytest.mark.parametrize("name", list(sweeps.known()))
def test_shipped_sweeps_are_right(name: str) -> None:
    s = sweeps.get(name)
    sweeps.check_settings(s)
    assert s.size() == len(s.configurations())
    assert s.command == ("scorebench", "run", "${args_no_hyphens}")


def test_a_grid_is_the_product_and_run_cap_cuts_it(tmp_path: Path) -> None:
    parameters = {"seed": {"min": 0, "max": 2}, "iterations": {"distribution": "q_uniform", "min": 50, "max": 200, "q": 50}}
    points = sweeps.get(str(write(tmp_path, parameters=parameters))).configurations()
    assert len(points) == 2 * 3 * 3 and len({repr(p) for p in points}) == 18
    assert {p["iterations"] for p in points} == {50, 100, 150} and {p["seed"] for p in points} == {0, 1, 2}
    assert sweeps.get(str(write(tmp_path, parameters=parameters, run_cap=5))).configurations() == points[:5]


def test_random_points_depend_on_the_seed_alone_and_grow_with_run_cap(tmp_path: Path) -> None:
    change = {"method": "random", "parameters": {"strength": {"min": 0.5, "max": 2.0}, "iterations": {"min": 10, "max": 20}}}
    some = sweeps.get(str(write(tmp_path, run_cap=4, **change))).configurations(1)
    more = sweeps.get(str(write(tmp_path, run_cap=9, **change))).configurations(1)
    assert more[:4] == some and more != sweeps.get(str(write(tmp_path, run_cap=9, **change))).configurations(2)
    assert all(0.5 <= p["strength"] <= 2 and 10 <= p["iterations"] <= 20 for p in more)
    change["parameters"]["level"] = {"values": ["given", "estimated"]}
    wider = sweeps.get(str(write(tmp_path, run_cap=9, **change))).configurations(1)
    assert [p["strength"] for p in wider] == [p["strength"] for p in more], "another parameter must not shift the draws of the first"


OPTIONS = {
    "constant": {"value": 3}, "categorical": {"values": [1, 2, 4]},
    "categorical_w_probabilities": {"values": [0, 1], "probabilities": [0.25, 0.75]},
    "int_uniform": {"min": 1, "max": 3}, "uniform": {"min": -1.0, "max": 3.0}, "q_uniform": {"min": 0.0, "max": 10.0, "q": 0.5},
    "log_uniform": {"min": -2.0, "max": 2.0}, "log_uniform_values": {"min": 0.01, "max": 100.0}, "inv_log_uniform": {"min": -2.0, "max": 2.0},
    "inv_log_uniform_values": {"min": 0.01, "max": 100.0}, "q_log_uniform": {"min": 0.0, "max": 3.0, "q": 1},
    "q_log_uniform_values": {"min": 1.0, "max": 20.0, "q": 1}, "normal": {"mu": 2.0, "sigma": 0.5}, "log_normal": {"mu": 0.5, "sigma": 0.25},
    "q_normal": {"mu": 10.0, "sigma": 4.0, "q": 2}, "q_log_normal": {"mu": 2.0, "sigma": 0.5, "q": 1}, "beta": {"a": 2.0, "b": 3.0},
    "q_beta": {"a": 2.0, "b": 3.0, "q": 0.1},
}  # fmt: skip
MOMENTS = {  # mean and standard deviation in closed form, of the value or (log) of its logarithm; for steps, before rounding
    "constant": (3, 0), "categorical": (7 / 3, math.sqrt(14 / 9)), "categorical_w_probabilities": (0.75, math.sqrt(3) / 4),
    "int_uniform": (2, math.sqrt(2 / 3)), "uniform": (1, 4 / math.sqrt(12)), "q_uniform": (5, 10 / math.sqrt(12)),
    "log_uniform": ("log", 0, 4 / math.sqrt(12)), "log_uniform_values": ("log", 0, 2 * math.log(100) / math.sqrt(12)),
    "inv_log_uniform": ("log", 0, 4 / math.sqrt(12)), "inv_log_uniform_values": ("log", 0, 2 * math.log(100) / math.sqrt(12)),
    "q_log_uniform": ((math.exp(3) - 1) / 3, math.sqrt((math.exp(6) - 1) / 6 - ((math.exp(3) - 1) / 3) ** 2)),
    "q_log_uniform_values": (19 / math.log(20), math.sqrt(399 / (2 * math.log(20)) - (19 / math.log(20)) ** 2)),
    "normal": (2, 0.5), "log_normal": ("log", 0.5, 0.25), "q_normal": (10, 4),
    "q_log_normal": (math.exp(2.125), math.exp(2.125) * math.sqrt(math.exp(0.25) - 1)), "beta": (0.4, 0.2), "q_beta": (0.4, 0.2),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(DISTRIBUTIONS))
def test_draws_have_the_moments_of_their_distribution(tmp_path: Path, kind: str) -> None:
    change = {"method": "random", "run_cap": 4000, "parameters": {"x": {"distribution": kind, **OPTIONS[kind]}}}
    p = next(p for p in sweeps.get(str(write(tmp_path, **change))).parameters if p.name == "x")
    drawn = [p.draw(f"0/{i}") for i in range(4000)]
    *log, mean, spread = MOMENTS[kind]
    values = [math.log(v) for v in drawn] if log else drawn
    q = OPTIONS[kind].get("q", 0)
    assert abs(fmean(values) - mean) <= 4 * spread / math.sqrt(4000) + 1e-9
    assert pstdev(values) == pytest.approx(math.hypot(spread, q / math.sqrt(12)), rel=0.08, abs=1e-9)
    if q:
        assert all(abs(v / q - round(v / q)) < 1e-6 for v in drawn)
    if isinstance(q, int) and q:
        assert all(isinstance(v, int) for v in drawn)


def test_values_reach_an_agents_command_line_unchanged() -> None:
    """What wandb's own launcher makes of values, `scorebench run` reads as what they were."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    values = {
        "a": 1, "b": 1e-05, "c": True, "d": None, "e": "ddim[eta=1]", "f": [1, 2.5],
        "g": {"x": 1e-07, "y": {"z": [True, None]}}, "h": "0-2", "i": 0.1,
    }  # fmt: skip
    words = create_sweep_command_args({"args": {k: {"value": v} for k, v in values.items()}})["args_no_hyphens"]
    from scorebench.harness.cli.request import asked

    request = asked([*words, "task=x", "method=y"], tasks=[], methods=[], seeds=[], draws=[], budgets=[], split=None, limit=None, settings=[])
    assert all(same(request.overrides[k], v) for k, v in values.items()), request.overrides
    assert same(parse_value("1e-3"), 0.001) and not same(1, True) and not same(1, 1.0)


@pytest.mark.parametrize("method", ["bayes", "stopped"])
def test_what_needs_wandb_is_said(tmp_path: Path, method: str) -> None:
    change: dict[str, Any] = {"metric": {"name": "psnr", "goal": "maximize"}, "run_cap": 3}
    change |= {"method": "bayes"} if method == "bayes" else {"early_terminate": {"type": "hyperband", "min_iter": 3}}
    path = write(tmp_path, **change)
    assert f"`wandb sweep {path}`" in wrong("sweep", str(path), "--store", str(tmp_path / "s"))


def test_seeds_and_prior_seeds_are_parameters(tmp_path: Path) -> None:
    change = {
        "strength": None, "task": {"value": "generation/digits"},
        "method": {"values": ["ddim", "ddim[eta=1]"]}, "budget": {"values": ["nfe5", "nfe10"]},
        "seed": {"values": [0, 1]}, "prior_seed": {"values": [0, 1]}, "split": {"value": "test"},
    }
    s = sweeps.get(str(write(tmp_path, parameters=change)))
    units = plan_sweep(s, s.configurations())
    assert len(units) == 16 == len({u.unit_id for u in units}) and {u.split for u in units} == {"test"}
    assert {(u.budget, u.seed, u.artifacts[0].seed) for u in units} == {(b, s, p) for b in ("nfe5", "nfe10") for s in (0, 1) for p in (0, 1)}
    assert len({a.key for u in units for a in u.artifacts}) == 2, "one prior for each of its seeds, shared by all units"


def test_from_a_file_to_records_and_the_chosen_one_on_test(tmp_path: Path) -> None:
    parameters = {"strength": {"values": [0.3, 1.0, 3.0]}, "iterations": {"value": 5}}
    change = {"metric": {"name": "psnr", "goal": "maximize"}, "parameters": parameters}
    path, store = write(tmp_path, **change), tmp_path / "store"
    words = ("sweep", str(path), "--store", str(store), "--executor", "inline")
    assert "3 of 3 units are due" in good(*words, "--dry-run")
    assert not (store / "ledger").exists()
    out = good(*words, "--then-test")
    assert "METRIC (dev)" in out and "Chosen on dev by psnr" in out
    records = Store(store).records()
    dev, test = ([r for r in records if r["split"] == split] for split in ("dev", "test"))
    assert len(dev) == 3 and all(r["configurations_tried"] == 3 and r["selection"] == "last" for r in dev)
    best = max(dev, key=lambda r: r["metrics"]["psnr"]["value"])
    (one,) = test
    assert (one["variant"], one["configurations_tried"], one["selection"]) == (best["variant"], 3, "dev-clean")
    again = data(*words, "--then-test")
    assert len(again) == 4 and all(r["cached"] for r in again)


def test_list_and_show(tmp_path: Path) -> None:
    assert {r["id"] for r in data("list", "sweeps")} == set(sweeps.known())
    assert data("show", "sweep", "solvers-nfe")["split"] == "test"
    assert "generation/digits" in good("show", "solvers-nfe")
    assert "did you mean" in wrong("sweep", "solver-nfe")
