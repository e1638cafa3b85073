"""``scorebench claims``: what papers say, and what the records say to that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...configs.errors import RequestError, unknown
from .common import emit_json, include_folders, include_option, json_option, store_option, store_path

VERDICTS = ("supported", "contradicted", "inconclusive", "not-run")

if TYPE_CHECKING:
    from ...baselines.card import Card
    from ...leaderboards.claims import Claim
    from ...leaderboards.sources import Gathered


def variant_problem(text: str) -> str | None:
    """Return what is wrong with a variant that a claim names, or None."""
    from ...baselines import card

    try:
        variant = card.parse_variant(text)
        known = card.cards()
        if variant.method not in known:
            raise unknown("method", variant.method, known)
        if "=" not in variant.preset:  # settings given with --set make variants of their own
            known[variant.method].preset(variant.preset, "")
    except RequestError as e:
        return str(e)
    return None


def metas() -> dict[str, dict[str, Any]]:
    """Return the declarations of all tasks, as boards read them."""
    from ...tasks.registry import specs
    from .board import meta_of

    return {task: meta_of(spec) for task, spec in specs().items()}


def declared(cards: Iterable[Card], tasks: Mapping[str, Mapping[str, Any]]) -> list[tuple[Claim, tuple[str, ...]]]:
    """Return the claims of cards with the tasks each is about; RequestError with file, line and reason for a wrong one."""
    from ...leaderboards.claims import parse, resolve

    return [(c, resolve(c, tasks, variant_problem)) for card in cards for c in parse(card.claims, card.path, card.id, card.folder)]


def verdicts(gathered: Gathered, method: str | None = None) -> list[dict[str, Any]]:
    """Return the verdict on every claim (of one method): the shape of ``scorebench claims --json``."""
    from ...baselines import card
    from ...leaderboards.board import Board
    from ...leaderboards.evidence import evaluate
    from .board import build

    tasks = metas()
    chosen = list(card.cards().values()) if method is None else [card.get(method)]
    built: dict[tuple[str, str], Board] = {}

    def board(task: str, budget: str) -> Board:
        if (task, budget) not in built:
            built[task, budget] = build(task, gathered, budget)
        return built[task, budget]

    return evaluate(declared(chosen, tasks), board, tasks)


def sentence(v: Mapping[str, Any]) -> str:
    """Return what came of a claim: ``supported: 0.83 [0.61, 1.05]``."""
    text = v["verdict"]
    if v["effect"] is not None:
        text += f": {v['effect']:+.4g}"
        text += f" [{v['low']:+.4g}, {v['high']:+.4g}]" if v["low"] is not None else ""
    scale = v["scale"] + (f", {v['parity']}" if v["parity"] != "none" else "")
    return f"{text} ({scale})" if v["effect"] is not None else text


def lines(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return claims in words, each with its inequality, verdict, note and number of records."""
    out = []
    for v in found:
        out.append(f"{v['method']}/{v['claim']}  {sentence(v)}")
        out.append(f"    {v['statement']}" + (f" ({v['where']})" if v["where"] else ""))
        if v["inequality"]:
            tasks = f"{', '.join(v['tasks'][:3])}{' ...' if len(v['tasks']) > 3 else ''}"
            out.append(f"    tested: {v['inequality']} on {tasks}; {len(v['records'])} records")
        if v["note"]:
            out.append(f"    {v['note']}")
    return out


@click.command("claims")
@click.argument("method", required=False)
@click.option("--verdict", "only", multiple=True, type=click.Choice(VERDICTS), help="Only claims of this verdict; repeatable.")
@click.option("--accepted", is_flag=True, help="Only the accepted records that ship with the package.")
@store_option
@include_option
@json_option
def claims(method: str | None, only: tuple[str, ...], accepted: bool, store: Path | None, include: tuple[Path, ...], as_json: bool) -> None:
    """Test the claims of METHOD, or of all methods, against the records: supported, contradicted, inconclusive or not-run."""
    include_folders(include)
    from ...leaderboards.sources import gather
    from .board import gathered

    where = store_path(store)
    if store is not None and not where.is_dir():
        raise RequestError(f"{where} is no store: there is no such folder.")
    found = [v for v in verdicts(gather([]) if accepted else gathered(where), method) if not only or v["verdict"] in only]
    if as_json:
        emit_json(found)
        return
    if not found:
        click.echo(f"No claim{f' of {method}' if method else ''}{f' is {only[0]}' if only else ''}.")
        return
    click.echo("\n".join(lines(found)))
    counts = Counter(v["verdict"] for v in found)
    click.echo(f"\n{len(found)} claim{'s' * (len(found) != 1)}: {', '.join(f'{n} {v}' for v, n in counts.most_common())}.")
