"""Audits a bundle: what its files, its records and its methods must withstand before their numbers stand beside others.

Each check ends as ``passed``, ``failed``, ``note`` (worth a reader's eye) or ``skipped``, with one sentence. Rescoring runs the bundle's own
method: an audit executes code of whoever made the bundle, as merging it would.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..baselines import card as cards
from ..baselines import components
from ..baselines.registry import method_class
from ..configs.errors import RequestError, ScorebenchError
from ..configs.loader import home
from ..leaderboards import record as records
from ..leaderboards.record import Record
from ..tasks import registry as tasks
from ..tasks.base import Task
from ..tasks.requests import Budget
from . import runner
from .build import Builder
from .bundle import Bundle, files_of, sha256
from .environment import environment, environment_key
from .evaluator import evaluate
from .overlap import overlap
from .plan import plan
from .poison import poisoned
from .unit import RunContext, Unit

SAME = 1e-3
"""Per-sample values of the same unit in the same environment agree to this much, absolutely or relatively."""
FAR = 4.0
"""Standard errors that a mean may move under a fresh noise key."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """What one check found."""

    name: str
    about: str
    outcome: str
    says: str


def audit(bundle: Bundle, *, rerun: bool = True, units: int | None = None, fresh_draw: int = 0, tell: Progress = lambda _: None) -> list[Check]:
    """Check a bundle. ``rerun`` False leaves out what executes its methods; ``units`` bounds how many are run again; ``fresh_draw`` is the
    noise draw that nobody could know (it must not be one of the bundle's)."""
    found = hashes(bundle)
    if any(c.outcome == "failed" for c in found):
        return found  # what follows would speak about other files than were submitted
    for folder in bundle.plugins:
        cards.include(folder)
        tasks.include(folder)
        components.include(folder)
    for r in bundle.records:
        tell(f"record of {r['variant']} on {r['task']}")
        found += recorded(bundle, r)
    for task_id in dict.fromkeys(r["task"] for r in bundle.records):
        tell(f"training data of {task_id}")
        found.append(shared(task_id))
    if not rerun:
        return found
    refused = {c.about for c in found if c.outcome == "failed" and c.name in ("record", "task")}
    for r in [r for r in bundle.records if label(r) not in refused][:units]:
        tell(f"{label(r)}: run again")
        found += rescored(bundle, r, fresh_draw)
    return found


def label(r: Record) -> str:
    """Return a record's name in reports."""
    budget = "" if r["budget"] == "default" else f" {r['budget']}"
    return f"{r['variant']} on {r['task']}{budget} seed {r['seed']} draw {r['draw']}"


# ------------------------------------------------------------------ files and records
def hashes(bundle: Bundle) -> list[Check]:
    """Check that every file is there, unchanged, and that there is no other."""
    expected = bundle.manifest["files"]
    there = {str(p.relative_to(bundle.folder)): p for p in files_of(bundle.folder)}
    wrong = [n for n in expected if n not in there] + [n for n, p in there.items() if n not in expected or sha256(p) != expected[n]]
    for r in bundle.records:
        entry = r.get("samples") or {}
        if expected.get(str(entry.get("file"))) != entry.get("sha256"):
            wrong.append(f"the samples of {label(r)}")
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return [Check("files", "bundle", "failed", f"{wrong[0]}{more} is missing, changed or not in the manifest.")]
    return [Check("files", "bundle", "passed", f"{len(expected)} files have the hashes that the manifest names.")]


def recorded(bundle: Bundle, r: Record) -> list[Check]:
    """Check one record: the task is known here, its invariants hold, it saw the observations that this machine makes, its protocol is ours."""
    about = label(r)
    try:
        task = tasks.get(r["task"])
        card = cards.get(r["method"])
    except RequestError as e:
        return [Check("task", about, "failed", str(e))]
    if task.version != r["task_version"]:
        return [Check("task", about, "failed", f"it was made on version {r['task_version']} of the task; here is {task.version}.")]
    try:
        bounds = {n: m.bounds for n, m in task.metrics.items()}
        records.validate(r, bundle.samples(r), bounds=bounds, expected_ids=task.ids(r["split"]))
    except ScorebenchError as e:
        return [Check("record", about, "failed", str(e))]
    out = []
    seen = task.observation_hash(r["split"], r["draw"])
    if seen != r["observation_hash"]:
        says = f"it saw other observations ({r['observation_hash'][:12]}) than this machine makes ({seen[:12]})."
        same = r["environment_key"] == environment_key(environment())
        out.append(Check("observations", about, "failed" if same else "note", says + ("" if same else " Its library versions differ.")))
    known = {n: m.identity() for n, m in task.metrics.items() if m.level == "sample"}  # a set's identity holds its reference, computed later
    foreign = [n for n, e in r["metrics"].items() if n in known and "value" in e and e["identity"] != known[n]]
    if foreign:
        out.append(Check("protocol", about, "failed", f"{foreign[0]} was measured as {r['metrics'][foreign[0]]['identity']}, not as here."))
    if dict(r["facts"]) != dict(card.uses):
        out.append(Check("facts", about, "failed", f"the record says the method uses {r['facts']}, its card {dict(card.uses)}: another track."))
    if card.trains_on in ("paired", "clean", "unpaired") and not (card.uses.get("clean_images") or card.uses.get("labels")):
        says = f"the card learns from {card.trains_on} data and does not say that it uses clean images or labels."
        out.append(Check("facts", about, "failed", says))
    return out or [Check("record", about, "passed", "invariants, observations, protocol and facts hold.")]


def shared(task_id: str) -> Check:
    """Check that a task does not train on what it tests on."""
    try:
        found = overlap(tasks.get(task_id))
    except ScorebenchError as e:
        return Check("overlap", task_id, "skipped", str(e))
    if not found["train"]:
        return Check("overlap", task_id, "passed", "the task has no training data of its own.")
    both = sorted({*found["ids"], *found["contents"]})
    if both:
        says = f"{len(both)} of {found['test']} test samples are in the training data ({', '.join(both[:3])})."
        return Check("overlap", task_id, "failed", says)
    if found["clusters"]:
        says = f"training and test data share {len(found['clusters'])} sources ({', '.join(found['clusters'][:3])})."
        return Check("overlap", task_id, "note", says)
    return Check("overlap", task_id, "passed", f"none of {found['test']} test samples is among {found['train']} training samples.")


# ------------------------------------------------------------------ running again
def rescored(bundle: Bundle, r: Record, fresh_draw: int) -> list[Check]:
    """Run a record's unit again: among poisoned data, as it was, and with a noise draw nobody could know."""
    about = label(r)
    try:
        here = _plan(bundle, r, r["draw"])
    except ScorebenchError as e:
        return [Check("rescore", about, "failed", f"it cannot be planned again: {e}")]
    out = []
    if here.spec_id != r["spec_id"]:
        out.append(Check("specification", about, "note", "the method, its settings or its files are not those the record was made with."))
    elif here.code != r["code"]:
        out.append(Check("code", about, "note", "the code is not that which the record was made with; what follows was run with the bundle's."))
    try:
        told = _outcome(here, frozenset({cards.get(r["method"]).trains_on}))  # first: what a method remembers of it spoils the next run
        again, arrays = runner.run_unit(here, _context(bundle))
        out += [_compared(bundle, r, again, arrays), _unmoved(about, told, arrays)]
        fresh, fresh_arrays = runner.run_unit(_plan(bundle, r, fresh_draw), _context(bundle))
        out.append(_consistent(bundle, r, fresh, fresh_arrays))
    except (Exception, SystemExit) as e:  # a method of somebody else may raise anything
        kind, why = runner.describe(e) if isinstance(e, Exception) else ("error", "it ended the process.")
        out.append(Check("rescore", about, "failed", f"it did not run again ({kind}): {why}"))
    return out


def _context(bundle: Bundle) -> RunContext:
    return RunContext(store=bundle.folder, include=tuple(bundle.plugins))


def _plan(bundle: Bundle, r: Record, draw: int) -> Unit:
    prior = next((a.get("seed") for role, a in r["artifacts"].items() if role != "fit" and isinstance(a, dict)), None)
    more: dict[str, Any] = {"prior_seeds": [prior]} if prior else {}
    return plan([r["task"]], [bundle.variant(r)], seeds=[r["seed"]], draws=[draw], budgets=[r["budget"]], split=r["split"], **more)[0]


def _outcome(unit: Unit, trains_on: frozenset[str]) -> dict[str, np.ndarray]:
    """Fit and evaluate a unit among poisoned data, its fits stored nowhere but in a folder that is then removed; return its values."""
    builder = Builder()
    for ref in unit.artifacts:
        for part in ref.walk():
            if part.kind == "prior":
                builder.artifact(part)  # in the true world: it belongs to the package, not to the method
    with _borrowed_home(unit), poisoned(trains_on):
        task = tasks.get(unit.task)
        card = cards.get(unit.variant.method)
        method, _ = Builder().method(unit, card, method_class(card))
        budget = Budget(unit.budget, task.spec.budgets.get(unit.budget, {}).get("nfe"))
        outcome = evaluate(
            method, task, split=unit.split, seed=unit.seed, draw=unit.draw, budget=budget, batch_size=unit.batch_size, ids=task.ids(unit.split)
        )
    values = {f"metric/{n}": v for n, v in outcome.per_sample.items()} | {f"features/{n}": v for n, v in outcome.features.items()}
    return {"ids": np.array(outcome.ids), **values}


@contextlib.contextmanager
def _borrowed_home(unit: Unit) -> Iterator[None]:
    """Use a home folder that has everything of the true one but fits: what is learned among poisoned data must not be kept under its key."""
    true, before = home(), os.environ.get("SCOREBENCH_HOME")
    fits = {part.key for ref in unit.artifacts for part in ref.walk() if part.kind == "fit"}
    with tempfile.TemporaryDirectory(prefix="scorebench-audit-") as name:
        lent = Path(name)
        (lent / "artifacts").mkdir()
        for entry in true.iterdir() if true.is_dir() else []:
            if entry.name not in ("artifacts", "store", "runs"):
                (lent / entry.name).symlink_to(entry.resolve())
        for entry in (true / "artifacts").iterdir() if (true / "artifacts").is_dir() else []:
            if entry.name not in fits and not entry.name.startswith("."):
                (lent / "artifacts" / entry.name).symlink_to(entry.resolve())
        os.environ["SCOREBENCH_HOME"] = str(lent)
        try:
            yield
        finally:
            if before is None:
                os.environ.pop("SCOREBENCH_HOME", None)
            else:
                os.environ["SCOREBENCH_HOME"] = before


# ------------------------------------------------------------------ comparing
def _compared(bundle: Bundle, r: Record, again: Record, arrays: dict[str, np.ndarray]) -> Check:
    """Compare a record with its unit run again: equal per sample in an equal environment, else within the margins."""
    task, claimed = tasks.get(r["task"]), bundle.samples(r)
    same = r["environment_key"] == again["environment_key"]
    for name, entry in r["metrics"].items():
        now = again["metrics"].get(name) or {}
        if "value" not in entry or "value" not in now:
            continue
        allowed = SAME * max(1.0, abs(entry["value"])) if same else _allowed(task, r, name)
        moved = abs(now["value"] - entry["value"])
        if same and entry["level"] == "sample":
            apart = np.abs(arrays[f"metric/{name}"] - claimed[f"metric/{name}"])
            moved = float((apart / np.maximum(1.0, np.abs(claimed[f"metric/{name}"]))).max())
            allowed = SAME
        if not moved <= allowed:
            where = "at one sample" if same and entry["level"] == "sample" else "on average"
            says = f"{name} is {now['value']:.6g} when run again, the record says {entry['value']:.6g}"
            says += f" (apart by {moved:.3g} {where}, allowed {allowed:.3g})."
            return Check("rescore", label(r), "failed", says)
    says = "run again, every value is the record's."
    if not same:
        says = "run again in another environment, every mean is within its margin of the record's."
    return Check("rescore", label(r), "passed", says)


def _allowed(task: Task, r: Record, name: str) -> float:
    """Return how far a mean may move in another environment: the metric's margin, three of them where a network is trained again."""
    from ..leaderboards.statistics import margin_value

    margin = margin_value(task.margin(name), r["metrics"][name]["value"])
    return (3 if any(role == "fit" for role in r["artifacts"]) else 1) * margin + SAME


def _unmoved(about: str, told: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> Check:
    """Compare a run among poisoned data with an honest one on this machine: nothing may change."""
    for name, values in told.items():
        if name == "ids" or name not in arrays:
            continue
        honest = np.asarray(arrays[name], dtype=np.float64)
        coarse = 1e-2 if name.startswith("features/") else 1e-6  # features are stored as float16
        if not np.allclose(np.asarray(values, dtype=np.float64), honest, rtol=coarse, atol=coarse):
            worst = float(np.abs(np.asarray(values, dtype=np.float64) - honest).max())
            what = name.partition("/")[2]
            says = f"with clean data replaced by garbage its {what} changes (by up to {worst:.3g}): it sees data it must not see."
            return Check("poison", about, "failed", says)
    return Check("poison", about, "passed", "with clean data replaced by garbage nothing changes.")


def _consistent(bundle: Bundle, r: Record, fresh: Record, arrays: dict[str, np.ndarray]) -> Check:
    """Compare a record with the same unit under a fresh noise key, over clusters: its mean may move by chance, not by more."""
    task, claimed = tasks.get(r["task"]), bundle.samples(r)
    if fresh["observation_hash"] == r["observation_hash"] and task.spec.ability != "sample":
        return Check("fresh noise", label(r), "passed", "the task's observations have no noise to draw anew.")
    from ..leaderboards.statistics import margin_value

    for name, entry in r["metrics"].items():
        now = fresh["metrics"].get(name) or {}
        if "value" not in entry or "value" not in now:
            continue
        moved = now["value"] - entry["value"]
        if entry["level"] == "sample":
            apart = arrays[f"metric/{name}"] - claimed[f"metric/{name}"]
            _, where = np.unique(claimed["clusters"], return_inverse=True)
            sums = np.bincount(where, weights=apart - apart.mean())
            error = float(np.sqrt((sums**2).sum())) / len(apart)
        else:
            error = float(np.hypot(entry.get("se") or 0.0, now.get("se") or 0.0))
            if not error:
                continue
        allowed = FAR * error + margin_value(task.margin(name), entry["value"]) + SAME
        if abs(moved) > allowed:
            says = f"{name} is {now['value']:.6g} with a fresh noise key, the record says {entry['value']:.6g}"
            says += f" (allowed to move by {allowed:.3g})."
            return Check("fresh noise", label(r), "failed", says)
    return Check("fresh noise", label(r), "passed", "with a fresh noise key every mean moves by no more than chance.")


__all__ = ["Check", "audit", "label"]
