"""Commands for maintainers: the accepted records, the lock of observations, and the weights that ship with the package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...configs.errors import RequestError
from .common import include_folders, include_option, store_option, store_path
from .request import Integers, flat

if TYPE_CHECKING:
    from ...leaderboards.sources import Gathered
    from ..unit import ArtifactRef


@click.command("lock")
@click.argument("tasks", nargs=-1, metavar="[TASK...]")
def lock(tasks: tuple[str, ...]) -> None:
    """Recompute configs/tasks/observations.lock for the tasks named (default: all whose data are here)."""
    from ...tasks import registry
    from .. import lock as locking

    chosen = registry.match(tasks) if tasks else None
    try:
        locking.update(chosen, path=locking.LOCK, say=click.echo)
    except OSError as e:
        raise RequestError(f"{locking.LOCK} cannot be written ({e.strerror}); run this in a writable checkout.") from None
    click.echo(str(locking.LOCK))


@click.command("pin")
@click.option("-t", "--task", "tasks", multiple=True, help="Task ids, families or globs.")
@click.option("-m", "--method", "methods", multiple=True, help="Variants whose fits and priors are to be shipped.")
@click.option("-s", "--seed", "seeds", multiple=True, type=Integers())
@click.option("--prior-seed", "prior_seeds", multiple=True, type=Integers(), help="Other trainings of the priors.")
@click.option("--suite", help="Ship every fit and prior that a suite needs.")
@click.option("--again", is_flag=True, help="Train again what is pinned already.")
@include_option
def pin(
    tasks: tuple[str, ...], methods: tuple[str, ...], seeds: tuple, prior_seeds: tuple, suite: str | None, again: bool,
    include: tuple[Path, ...],
) -> None:  # fmt: skip
    """Train fits and priors (where they are not stored) and ship their weights: baselines/weights, configs/pins.yaml."""
    include_folders(include)
    if bool(suite) == bool(tasks or methods):
        raise RequestError("Name either --suite NAME, or tasks and methods with -t and -m.")
    from ...tasks import registry
    from .. import artifacts, suites
    from ..build import Builder
    from ..plan import plan

    others = tuple(flat(prior_seeds))
    one = suites.Cell(tuple(registry.match(tasks)), methods, tuple(flat(seeds)) or (0,), prior_seeds=others) if not suite else None
    chosen = (one,) if one else suites.get(suite or "").cells
    refs: dict[str, ArtifactRef] = {}
    for cell in chosen:
        for unit in plan(cell.tasks, suites.expand(cell), seeds=cell.seeds, prior_seeds=cell.prior_seeds, pins=False, skipped=[]):
            refs.update({ref.key: ref for a in unit.artifacts for ref in a.walk()})
    if not refs:
        raise RequestError("Nothing of what was named is trained, so there is nothing to ship.")
    builder = Builder(pins=False, say=lambda text: click.echo(text, err=True))
    for ref in refs.values():
        if not again and artifacts.pin_of(ref) is not None:
            click.echo(f"{ref}: pinned already")
            continue
        artifact = builder.artifact(ref)
        command = f"scorebench pin --again {_words(tasks, methods, seeds, suite, others)}"
        entry = artifacts.pin(artifact, pin_name(ref, refs.values()), command=command, code=ref.key)
        size = (artifacts.PACKAGE / entry["file"]).stat().st_size
        click.echo(f"{ref}: {entry['file']}, {size / 1e6:.2f} MB, trained in {entry.get('train_s', 0):.0f} s")


def pin_name(ref: ArtifactRef, others: Iterable[ArtifactRef]) -> str:
    """Return the file name of a pin: owner, task and seed; the preset too where another fit would have the same name."""
    if ref.kind == "prior":
        from ...baselines import components

        declared = components.get(ref.owner).seed
        return ref.owner if ref.seed == declared else f"{ref.owner}-s{ref.seed}"
    parts = [ref.owner, (ref.task or "").replace("/", "-"), f"s{ref.seed}"]
    same = [o for o in others if (o.kind, o.owner, o.task, o.seed) == (ref.kind, ref.owner, ref.task, ref.seed)]
    return "-".join(parts if len(same) < 2 else [*parts, ref.recipe[:6]])


def _words(tasks: tuple[str, ...], methods: tuple[str, ...], seeds: tuple, suite: str | None, priors: Sequence[int]) -> str:
    if suite:
        return f"--suite {suite}"
    words = [f"-t {t}" for t in tasks] + [f"-m {m}" for m in methods] + [f"-s {s}" for s in flat(seeds)]
    words += [f"--prior-seed {s}" for s in priors]
    return " ".join(words)


@click.command("accept")
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("--reason", required=True, help="Why these records become the reference: it stands beside them.")
@click.option("--release", is_flag=True, help="They become the release's reference too, which nightly compares with besides the last accepted.")
@store_option
@include_option
def accept(tasks: tuple[str, ...], reason: str, release: bool, store: Path | None, include: tuple[Path, ...]) -> None:
    """Write the store's finished records of TASK... (ids, families, globs) to the accepted reference that ships with the package.

    With --release and a store without records, what is accepted already becomes the release's reference.
    """
    include_folders(include)
    from ...leaderboards import reference
    from ...leaderboards.ledger import Store
    from ...tasks import registry
    from .board import gathered

    if not reason.strip():
        raise RequestError("--reason is empty; say why these records become the reference.")
    chosen = registry.match(tasks)
    path = store_path(store)
    if not Store(path).tasks() and not release:
        raise RequestError(f"{path} holds no records; run something first, or name another with --store DIR.")
    sources = gathered(path)
    kept = reference.load_reference(reference.HERE)
    records = to_accept(chosen, sources, kept, reason.strip())
    try:
        counts = reference.accept(lambda r: (sources if r["task"] in chosen else kept).samples(r), records, reference.HERE)
        released = reference.release(chosen, reference.HERE) if release else {}
    except OSError as e:
        raise RequestError(f"The reference cannot be written ({e.strerror}); run this in a writable checkout.") from None
    new = sum("accepted" in r["provenance"] and r["source"] == "run" for r in records)
    click.echo(f"{new} records of this store are accepted; now in the reference: {', '.join(f'{n} {f}' for f, n in counts.items())}.")
    if released:
        click.echo(f"Now in the release's reference: {', '.join(f'{n} {f}' for f, n in released.items())}.")


def to_accept(tasks: Sequence[str], sources: Gathered, kept: Gathered, reason: str) -> list[dict[str, Any]]:
    """Return what the reference of the tasks' families will hold: the rows of their boards, and the accepted records of their other tasks.

    The latter come from ``kept``, the reference alone: in ``sources`` a store that still has them stands before it. Rows are taken as boards
    show them (the newest code, whole runs, nothing chosen on test data, nothing submitted).
    """
    from ...tasks import registry
    from .. import environment
    from .board import build

    families = {t.split("/")[0] for t in tasks}
    out: dict[tuple[str, ...], dict[str, Any]] = {}
    for task in tasks:
        for budget in registry.get_spec(task).budgets:
            for row in build(task, sources, budget).rows:
                for r in row.group.units.values():
                    if r["partial"] or r["selection"] == "test-clean" or r["provenance"].get("submitted"):
                        continue
                    fresh = {"accepted": {"reason": reason, "at": environment.now()}} if r["source"] == "run" else {}
                    out[r["unit_id"], r["environment_key"]] = {**r, "provenance": {**r["provenance"], **fresh}}
    for r in kept.records():
        if r["task"] not in tasks and r["task"].split("/")[0] in families:
            out[r["unit_id"], r["environment_key"]] = r
    return list(out.values())
