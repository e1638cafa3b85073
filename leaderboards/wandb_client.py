"""Sends a `RunPlan` with the wandb client: offline into the store, or to the service. The only module that imports wandb for publishing."""

from __future__ import annotations

import netrc
import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..configs.errors import RequestError, ScorebenchError
from .wandb_plan import Cell, Content, Output, Picture, RunPlan, Sound, TablePlan

REACH = 10.0
"""Seconds in which the service must answer at all."""


class PublishError(ScorebenchError):
    """Publishing began and could not be finished: no network, refused, timed out. Exit code 1; the same command goes on."""


@dataclass
class Target:
    """Where to publish: project and entity (None: the account's own), online or offline, and the store that keeps the client's files.

    ``link``: a registry collection that boards are linked to; ``timeout``: seconds that one run may take to arrive.
    """

    project: str
    entity: str | None
    online: bool
    store: Path
    base_url: str
    timeout: float = 600.0
    link: str | None = None

    @property
    def key(self) -> str:
        """Return what the journal knows the target by."""
        return f"{self.base_url.rstrip('/') if self.online else 'offline'}/{self.entity or '~'}/{self.project}"


def check_project(project: str, entity: str | None) -> None:
    """Raise RequestError unless W&B would take the names."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,126}", project):
        raise RequestError(f"--project {project!r} is no name W&B takes; accepted: up to 127 letters, digits, '.', '_', '-'.")
    if entity is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}", entity):
        raise RequestError(f"--entity {entity!r} is no name W&B takes; accepted: letters, digits, '.', '_', '-'.")


def base_url() -> str:
    """Return the service's address: ``WANDB_BASE_URL``, the client's settings, or its default."""
    import wandb

    return str(os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url)


def has_account(url: str) -> bool:
    """Return whether credentials for the service are on this machine (environment or netrc); asks nobody."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    places = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for place in places:
        try:
            if netrc.netrc(Path(place).expanduser()).hosts.get(urllib.parse.urlsplit(url).netloc):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def reach(url: str) -> None:
    """Raise PublishError when nothing answers at the service's address; any HTTP answer will do."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=REACH):
            return
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as e:
        why = " ".join(str(getattr(e, "reason", e)).split())
        raise PublishError(f"{url} cannot be reached ({why}); publish with --offline, and send it later with `wandb sync`.") from None


@dataclass
class Sent:
    """What became of a run: where it is (a folder or an address) and the artifacts it made, as (name, version)."""

    where: str
    outputs: list[tuple[str, str]] = field(default_factory=list)


class Client:
    """Sends runs to a `Target`, one after the other."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def send(self, plan: RunPlan) -> Sent:
        """Send one run and wait until it is stored; PublishError in one sentence when that fails."""
        content = plan.make()
        try:
            with environment(self.target), tempfile.TemporaryDirectory(prefix="scorebench-") as scratch:
                return self._send(plan, content, Path(scratch))
        except PublishError:
            raise
        except Exception as e:  # the client raises its own errors, TimeoutError, ValueError and what its transports raise
            raise PublishError(f"run {plan.name!r} could not be published: {reason(e)}") from e

    def _send(self, plan: RunPlan, content: Content, scratch: Path) -> Sent:
        run = start(self.target, plan)
        done = False
        try:
            for step, values in content.history:
                run.log(values, step=step)
            media: dict[str, Any] = {name: picture(p) for name, p in content.media.items()}
            media |= {name: table(t, scratch) for name, t in content.tables.items()}
            if media:
                run.log(media)
            for name, value in plan.summary.items():
                run.summary[name] = value
            for title, text in content.alerts:
                run.alert(title, text, level="ERROR")
            if self.target.online:
                for i in plan.inputs:
                    run.use_artifact(i.path, type=i.type)
            waiting = [(o, run.log_artifact(artifact(o), aliases=["latest", o.version])) for o in content.outputs]
            if self.target.online:
                for o, logged in waiting:
                    logged.wait(timeout=int(self.target.timeout))
                    if self.target.link and o.type == "board":
                        run.link_artifact(logged, self.target.link)
            where = str(run.url) if self.target.online else str(Path(run.dir).parent)
            done = True
        finally:
            run.finish(exit_code=0 if done else 1)
        return Sent(where, [(o.name, o.version) for o in content.outputs])


def start(target: Target, plan: RunPlan) -> Any:
    """Begin (or, online, take up again) a run."""
    import wandb

    return wandb.init(
        project=target.project, entity=target.entity, id=plan.id, name=plan.name, group=plan.group, job_type=plan.job_type,
        tags=list(plan.tags), config=plan.config, notes=plan.notes or None, dir=target.store, reinit="create_new", allow_val_change=True,
        mode="online" if target.online else "offline", resume="allow" if target.online else None, save_code=False, settings=settings(target),
    )  # fmt: skip


def settings(target: Target) -> Any:
    """Return the client's settings: silent, nothing gathered about this machine, and an end to waiting."""
    import wandb

    return wandb.Settings(
        silent=True, console="off", program="scorebench", disable_git=True, disable_code=True, x_disable_stats=True,
        x_disable_meta=True, x_disable_machine_info=True,
        x_save_requirements=False, host="", init_timeout=min(90.0, target.timeout), finish_timeout=target.timeout if target.online else 0.0,
        finish_timeout_raises=target.online, x_graphql_retry_max=3, x_graphql_timeout_seconds=min(30.0, target.timeout),
        x_file_stream_retry_max=3, x_file_transfer_retry_max=3,
    )  # fmt: skip


@contextmanager
def environment(target: Target) -> Iterator[None]:
    """Keep the client's staged files and caches in the store, where ``wandb sync`` finds them later; what the user has set counts."""
    folder = target.store / "publish"
    wanted = {"WANDB_DATA_DIR": folder / "data", "WANDB_CACHE_DIR": folder / "cache", "WANDB_ARTIFACT_DIR": folder / "artifacts"}
    added = {k: str(v.resolve()) for k, v in wanted.items() if k not in os.environ}
    added |= {"WANDB_SILENT": "true"} if "WANDB_SILENT" not in os.environ else {}
    os.environ.update(added)
    try:
        yield
    finally:
        for k in added:
            os.environ.pop(k, None)


def reason(error: BaseException) -> str:
    """Return why the client gave up, in one line without addresses of objects."""
    text = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    if isinstance(error, TimeoutError) or "timed out" in text.lower() or "timeout" in text.lower():
        return f"the service did not answer in time ({text})."
    return f"{text}."


# ------------------------------------------------------------------ plain data to the client's own
def picture(p: Picture) -> Any:
    """Return a picture as the client's."""
    import wandb

    return wandb.Image(p.pixels, caption=p.caption or None)


def table(t: TablePlan, scratch: Path) -> Any:
    """Return a table as the client's; sounds go through files in ``scratch``."""
    import wandb

    def made(cell: Cell) -> Any:
        if isinstance(cell, Picture):
            return picture(cell)
        if isinstance(cell, Sound):
            path = scratch / f"{os.urandom(8).hex()}.wav"
            path.write_bytes(cell.wav)
            return wandb.Audio(str(path), caption=cell.caption or None)
        return cell

    return wandb.Table(columns=list(t.columns), data=[[made(c) for c in row] for row in t.rows], allow_mixed_types=False)


def artifact(o: Output) -> Any:
    """Return an artifact as the client's, with its files added."""
    import wandb

    out = wandb.Artifact(o.name, o.type, description=o.description or None, metadata=dict(o.metadata))
    for name in sorted(o.files):
        content = o.files[name]
        if isinstance(content, Path):
            out.add_file(str(content), name=name, policy="immutable", skip_cache=True)
        else:
            with out.new_file(name, mode="wb") as f:
                f.write(content)
    return out


def sync_command(where: Sequence[str]) -> str:
    """Return the command that sends offline runs to the service."""
    folders: Mapping[str, None] = dict.fromkeys(str(Path(w).parent) for w in where)
    return "; ".join(f"wandb sync {folder}/offline-run-*" for folder in folders)
