"""``scorebench publish``: boards, rows, results and checkpoints to Weights & Biases, or into a folder that ``wandb sync`` sends later."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...configs.errors import RequestError
from .common import emit_json, include_folders, include_option, json_option, parse_duration, store_option, store_path

if TYPE_CHECKING:
    from ...leaderboards.board import Board
    from ...leaderboards.sources import Gathered
    from ...leaderboards.wandb_client import Target
    from ...leaderboards.wandb_rows import Component


@click.command("publish")
@click.argument("what", nargs=-1, metavar="[TASK|FAMILY|all]")
@click.option("--project", default="scorebench", show_default=True, metavar="NAME", help="The W&B project.")
@click.option("--entity", metavar="NAME", help="The W&B user or team (default: your account's).")
@click.option("--offline/--online", "offline", default=None, help="Default: online with a W&B account on this machine, else offline.")
@click.option("--units", is_flag=True, help="One run per unit instead of one per row (W&B advises at most 10,000 runs a project).")
@click.option("--accepted", is_flag=True, help="Also the accepted records that ship with the package, as runs of their own.")
@click.option("--no-weights", is_flag=True, help="Checkpoints by hash only.")
@click.option("--link", metavar="COLLECTION", help="Link boards to a registry collection, e.g. wandb-registry-boards/scorebench (online).")
@click.option("--report", metavar="SUITE", help="Also a W&B Report on a suite's tasks (online; needs wandb-workspaces).")
@click.option("--timeout", default="10m", show_default=True, metavar="T", help="How long one run may take to arrive.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent.")
@store_option
@include_option
@json_option
def publish(
    what: tuple[str, ...], project: str, entity: str | None, offline: bool | None, units: bool, accepted: bool, no_weights: bool,
    link: str | None, report: str | None, timeout: str, dry_run: bool, store: Path | None, include: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Publish boards, rows, results and checkpoints to Weights & Biases. What was published before is not sent again."""
    include_folders(include)
    from ...leaderboards import wandb_publish as publishing
    from ...leaderboards.gate_alert import night_plans
    from ...leaderboards.wandb_client import check_project
    from ...tasks.registry import match

    check_project(project, entity)
    seconds = parse_duration(timeout)
    where = store_path(store)
    if not (where / "ledger").is_dir():
        raise RequestError(f"{where} is no store: there are no records in it; give --store DIR, or run something first.")
    chosen = match(what) if what and "all" not in what else None
    wanted = suite_tasks(report) if report else ()
    boards, components, datasets = material(where, accepted)
    todo = publishing.plans(boards, components, datasets, tasks=chosen, units=units, accepted=accepted, weights=not no_weights)
    todo += night_plans(where)
    target = destination(project, entity, offline, where, seconds, link, dry_run)
    if dry_run:
        told = [{"run": p.id, "name": p.name, "group": p.group, "job_type": p.job_type, "tags": list(p.tags), "digest": p.digest} for p in todo]
        say_plan(told, target, as_json)
        return
    if report and not target.online:
        raise RequestError("--report needs the W&B service; leave --offline out, or run `wandb login` first.")
    from ..claims import hold

    (where / "claims").mkdir(exist_ok=True)
    live = sys.stderr.isatty() and not as_json

    def tell(outcome: str, plan: Any, done: int, total: int) -> None:
        if outcome == "sent" and not as_json:
            click.echo(f"sent      {plan.job_type} {plan.name} ({done} of {total})")
        elif live:
            click.echo(f"\r{done} of {total}" + ("\n" if done == total else ""), nl=False, err=True)

    with hold(where / "claims", "publish", lambda: click.echo("waiting for another process to publish this store.", err=True)):
        outcome = publishing.publish(target, boards, todo, tell)
        address = send_report(report, wanted, boards, target) if report else None
    if as_json:
        emit_json({**vars(outcome), "online": target.online, "project": project, "report": address})
        return
    say(outcome, target)
    if address:
        click.echo(f"The report is at {address}.")


def destination(
    project: str, entity: str | None, offline: bool | None, store: Path, timeout: float, link: str | None, dry_run: bool
) -> Target:
    """Return where to publish: what was asked for, else ``WANDB_MODE``, else online where there is an account. The service must answer."""
    from ...leaderboards.wandb_client import Target, base_url, has_account, reach

    mode = os.environ.get("WANDB_MODE", "")
    if offline is None and mode in ("disabled", "off"):
        raise RequestError("WANDB_MODE is disabled; unset it, or say --offline or --online.")
    url = base_url()
    if offline is None:
        offline = mode in ("offline", "dryrun") or not has_account(url)
    elif not offline and not has_account(url):
        raise RequestError(f"There is no W&B account for {url} on this machine; run `wandb login`, or publish with --offline.")
    if link and offline:
        raise RequestError("--link needs the W&B service; leave --offline out, or run `wandb login` first.")
    if not offline and not dry_run:
        reach(url)
    return Target(project, entity or os.environ.get("WANDB_ENTITY") or None, not offline, store.resolve(), url, timeout, link)


def live_to(store: Path) -> str:
    """Ask for trainings to be logged while they run, to ``WANDB_PROJECT`` or "scorebench"; return one sentence that says where."""
    from .. import live

    project = os.environ.get("WANDB_PROJECT") or "scorebench"
    target = destination(project, None, None, store, 600.0, None, False)
    live.enable(target)
    return f"Trainings are logged live to {target.base_url if target.online else store / 'wandb'}, project {project}."


def material(store: Path, accepted: bool) -> tuple[list[Board], dict[str, Component], dict[str, dict[str, Any]]]:
    """Return what publishing starts from: the boards with rows of the user's own, what is known of components, and of datasets."""
    from ...datasets import registry as datasets
    from ...leaderboards.wandb_rows import own
    from ...tasks.registry import specs
    from .board import build_all, gathered

    records = gathered(store)
    known = set(specs())
    mine = {r["task"] for r in records.records() if accepted or r["source"] == "run"}
    boards = [b for b in build_all([t for t in specs() if t in mine & known], records) if own(b, accepted)]
    facts = {}
    for name in {str(b.meta.get("dataset")) for b in boards}:
        d = datasets.get(name)
        facts[name] = {k: getattr(d, k) for k in ("version", "title", "kind", "licence", "pixels", "source")}
    return boards, components_of(records, [b.task for b in boards], logged_live(store)), facts


def logged_live(store: Path) -> frozenset[str]:
    """Return the ids of the training runs that have their losses already."""
    try:
        return frozenset((store / "publish" / "live.txt").read_text(encoding="utf-8").split())
    except OSError:
        return frozenset()


def components_of(records: Gathered, tasks: Iterable[str], live: frozenset[str] = frozenset()) -> dict[str, Component]:
    """Return what this machine knows of the trained components behind the tasks' records, by version."""
    from ...configs.loader import home
    from ...leaderboards.wandb_rows import Component
    from .. import artifacts

    by_sha = {p["sha256"]: p for p in artifacts.pins().values()}
    out: dict[str, Component] = {}
    for task in dict.fromkeys(tasks):
        for r in records.records(task):
            for role, entry in r["artifacts"].items():
                if not isinstance(entry, Mapping) or not entry.get("sha256") or f"sha-{entry['sha256'][:12]}" in out:
                    continue
                sha, pin = entry["sha256"], by_sha.get(entry["sha256"])
                folder = home() / "artifacts" / str(entry.get("key"))
                meta: dict[str, Any] = dict(pin or {})
                path = artifacts.PACKAGE / pin["file"] if pin else None
                if pin is None:
                    meta, path = stored(folder, sha)
                dataset, pixels = learned_from(meta.get("task") or (task if role == "fit" else None))
                kind = str(meta.get("kind") or ("fit" if role == "fit" else "prior"))
                made = Component(
                    sha, str(entry.get("key", sha)), str(entry.get("owner", role)), kind, entry.get("seed"), meta, path, dataset, pixels
                )
                if made.run_id in live:  # its losses are there; logging them again would double them
                    made = replace(made, meta={k: v for k, v in meta.items() if k != "losses"})
                out[made.version] = made
    return out


def stored(folder: Path, sha256: str) -> tuple[dict[str, Any], Path | None]:
    """Return the report and the weights of a stored component; nothing when they are not here, or are others by now."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
    except (OSError, ValueError):
        return {}, None
    path = folder / "weights.safetensors"
    return (meta, path) if meta.get("sha256") == sha256 and path.is_file() else ({}, None)


def learned_from(task: str | None) -> tuple[str, str]:
    """Return (dataset, pixels) that a component was trained on; unknown counts as never to be shown."""
    from ...datasets import registry as datasets
    from ...tasks.registry import get_spec, specs

    if task is None or task not in specs():
        return "", "never"
    spec = get_spec(task)
    name = str((spec.train or {}).get("dataset", spec.dataset))
    return name, datasets.get(name).pixels


def suite_tasks(name: str) -> tuple[str, ...]:
    """Return the tasks of a suite."""
    from ..suites import get

    return tuple(get(name).tasks())


def send_report(suite: str, tasks: tuple[str, ...], boards: list[Board], target: Target) -> str:
    """Save a Report on a suite's tasks and return its address."""
    from ...leaderboards.wandb_report import content, save

    return save(content(suite, [b for b in boards if b.task in tasks]), target)


def say_plan(told: list[dict[str, Any]], target: Target, as_json: bool) -> None:
    """Print what would be sent."""
    if as_json:
        emit_json({"online": target.online, "project": target.project, "runs": told})
        return
    for p in told:
        click.echo(f"{p['job_type']:<12} {p['run']:<34} {p['name']}")
    click.echo(f"{len(told) + 1} runs, the leaderboard last, {'to ' + target.base_url if target.online else 'offline'}.")


def say(outcome: Any, target: Target) -> None:
    """Print what was done, and how to send what is not at the service yet."""
    from ...leaderboards.wandb_client import sync_command

    if not outcome.sent:
        click.echo(f"Nothing is new: all {len(outcome.kept)} runs were published before.")
    else:
        kept = f", {len(outcome.kept)} were published before" if outcome.kept else ""
        click.echo(f"Published {len(outcome.sent)} runs to {target.project if target.online else target.store / 'wandb'}{kept}.")
    if outcome.unsynced:
        click.echo(f"{len(outcome.unsynced)} of them wait to be sent; with an account (`wandb login`), this sends them:")
        click.echo(f"  {sync_command(outcome.unsynced)}")
