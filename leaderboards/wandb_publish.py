"""Publishing as a whole: what is new since the last time is sent, in an order in which inputs come before what used them.

    STORE/publish/journal.jsonl   one line per run sent: target, run, digest, where, artifacts
    STORE/wandb/                  the client's runs, while offline

A second publish finds every digest in the journal and sends nothing; one that failed half-way goes on behind the last line.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..configs.errors import RequestError
from .board import Board
from .wandb_client import Client, PublishError, Target
from .wandb_lineage import dataset_plans, leaderboard_plan, training_plans
from .wandb_plan import Input, RunPlan
from .wandb_rows import Component, own, row_plan, unit_plans

Tell = Callable[[str, RunPlan, int, int], None]
"""Hears what became of a run (``sent``, ``kept``), which, and how many of how many are through."""


class Journal:
    """What was published where. A line that a crash tore is ignored: its run is sent again, under the same id."""

    def __init__(self, store: Path) -> None:
        self.path = store / "publish" / "journal.jsonl"
        self.entries: dict[tuple[str, str], dict[str, Any]] = {}
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except OSError as e:
            raise RequestError(f"{self.path} cannot be read ({e.strerror}).") from None
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self.entries[entry["target"], entry["run"]] = entry
            except (ValueError, KeyError, TypeError):
                continue

    def find(self, target: Target, plan: RunPlan) -> dict[str, Any] | None:
        """Return the entry of a run that is published as it stands; None when it must be sent.

        An offline run counts while its folder is there, and once `wandb sync` has marked it, for the service as well.
        """
        entry = self.entries.get((target.key, plan.id))
        if entry is not None and entry["digest"] == plan.digest and (target.online or Path(entry["where"]).is_dir()):
            return entry
        if target.online:
            offline = self.entries.get((f"offline/{target.entity or '~'}/{target.project}", plan.id))
            if offline is not None and offline["digest"] == plan.digest and synced(Path(offline["where"])):
                return offline
        return None

    def add(self, target: Target, plan: RunPlan, where: str, outputs: Sequence[tuple[str, str]]) -> None:
        """Append one run, in one write, synced."""
        entry = {
            "target": target.key, "run": plan.id, "digest": plan.digest, "name": plan.name, "where": where,
            "outputs": [list(o) for o in outputs], "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n") and self.path.stat().st_size > 0
        with self.path.open("ab") as f:
            f.write((b"\n" if torn else b"") + json.dumps(entry, separators=(",", ":")).encode() + b"\n")
            f.flush()
            os.fsync(f.fileno())
        self.entries[target.key, plan.id] = entry


def synced(folder: Path) -> bool:
    """Return whether ``wandb sync`` has sent an offline run: it leaves a mark beside the run's file."""
    return folder.is_dir() and any(folder.glob("*.wandb.synced"))


@dataclass
class Outcome:
    """What a publish did: runs sent and runs that were there already, and where the new ones are."""

    sent: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    unsynced: list[str] = field(default_factory=list)


def plans(
    boards: Sequence[Board],
    components: Mapping[str, Component],
    datasets: Mapping[str, Mapping[str, Any]],
    *,
    tasks: Iterable[str] | None = None,
    units: bool = False,
    accepted: bool = False,
    weights: bool = True,
) -> list[RunPlan]:
    """Return the runs of ``tasks`` (None: of all boards), inputs first; the leaderboard, which shows every board, is not among them.

    RequestError when there is nothing to publish.
    """
    chosen = [b for b in boards if tasks is None or b.task in set(tasks)]
    rows: list[RunPlan] = []
    for board in chosen:
        for row in own(board, accepted):
            rows += unit_plans(board, row, components) if units else [row_plan(board, row, components)]
    if not rows:
        raise RequestError("There is nothing to publish: the store holds no finished unit of these tasks; `scorebench run` makes some.")
    return [*dataset_plans(chosen, datasets, accepted), *training_plans(chosen, components, weights, accepted), *rows]


def publish(
    target: Target, boards: Sequence[Board], todo: Sequence[RunPlan], tell: Tell = lambda *_: None, client: Client | None = None
) -> Outcome:
    """Send what the journal does not know yet, the leaderboard last. PublishError says how far it came; the same call goes on from there."""
    journal, client, outcome = Journal(target.store), client or Client(target), Outcome()
    results: list[Input] = []
    total = len(todo) + 1

    def one(plan: RunPlan) -> None:
        entry = journal.find(target, plan)
        if entry is None:
            _discard(journal.entries.get((target.key, plan.id)), target)
            try:
                sent = client.send(plan)
            except PublishError as e:
                done = len(outcome.sent) + len(outcome.kept)
                raise PublishError(f"{str(e).rstrip('.')} ({done} of {total} runs are published; the same command goes on from there).") from e
            journal.add(target, plan, sent.where, sent.outputs)
            entry = journal.entries[target.key, plan.id]
            outcome.sent.append(plan.id)
            outcome.where.append(sent.where)
        else:
            outcome.kept.append(plan.id)
        if not target.online and not synced(Path(entry["where"])):
            outcome.unsynced.append(entry["where"])
        if plan.job_type in ("row", "unit"):
            results.extend(Input(name, "results", version, plan.name) for name, version in entry["outputs"])
        tell("sent" if plan.id in outcome.sent else "kept", plan, len(outcome.sent) + len(outcome.kept), total)

    for plan in todo:
        one(plan)
    one(leaderboard_plan(boards, results, target.link))
    return outcome


def _discard(entry: Mapping[str, Any] | None, target: Target) -> None:
    """Remove the folder of an offline run that a newer one replaces, unless it was sent already."""
    if entry is None or target.online:
        return
    folder = Path(entry["where"])
    if folder.is_dir() and folder.name.startswith("offline-run-") and not synced(folder):
        shutil.rmtree(folder, ignore_errors=True)
