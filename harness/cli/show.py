"""``scorebench show``: one task, method, dataset, prior, metric, suite or sweep in words."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ...configs.errors import RequestError, nearest, unknown
from ..suites import Suite
from .common import emit_json, hint, include_folders, include_option, json_option, store_path
from .listing import declared

Lines = list[tuple[str, str]]
"""(label, text) of one line; the first label of a description is its heading."""


def words(value: Any) -> str:
    """Return a declaration's value as it would be read aloud: no braces, no quotes."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {words(v)}" if v not in ({}, None) else str(k) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(words(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _task(task_id: str) -> tuple[Lines, dict[str, Any]]:
    from ...baselines.card import cards
    from ...tasks.registry import get_spec

    s = get_spec(task_id)
    answer = words({k: v for k, v in s.returns.items() if k not in ("range", "clip")})
    if s.returns.get("range"):
        answer += " in [{}, {}]".format(*s.returns["range"])
    metrics = []
    for name, options in s.metrics.items():
        protocol = {k: v for k, v in options.items() if k != "margin"}
        facts = ["primary"] if name == s.primary else []
        facts += [f"margin {options['margin']}"] if "margin" in options else []
        facts += [words(protocol)] if protocol else []
        metrics.append(name + (f" ({', '.join(facts)})" if facts else ""))
    able = [c.id for c in cards().values() if c.answers(s.id, s.ability)]
    lines: Lines = [
        (f"task {s.id} (version {s.version})", s.title),
        ("family", f"{s.family}: a method answers with its ability `{s.ability}`"),
        ("dataset", s.dataset + (f"; {words(s.options)}" if s.options else "")),
        ("splits", words({k: f"({v} of the dataset)" for k, v in s.splits.items()})),
        ("observed", words(s.observe) or "as it is"),
        ("given", words(s.gives) or "nothing but the number of samples"),
        ("returns", answer),
        ("training", words(s.train) if s.train else "none offered"),
        ("metrics", "; ".join(metrics)),
        ("reference", f"{s.reference or 'none'}; do-nothing row {s.do_nothing}"),
        ("budgets", words(s.budgets)),
        ("methods", ", ".join(able) or "none yet"),
        ("notes", s.notes),
        ("file", str(s.path)),
    ]
    return lines, {**dataclasses.asdict(s), "methods": able}


def _method(text: str) -> tuple[Lines, dict[str, Any]]:
    from ...baselines import card
    from ...tasks.registry import specs

    variant = card.parse_variant(text)
    c = card.get(variant.method)
    c.preset(variant.preset, "")
    paper = ", ".join(str(c.paper[k]) for k in ("title", "authors", "venue", "year") if c.paper.get(k))
    where = ", ".join(f"{k} {c.paper[k]}" for k in ("arxiv", "doi", "code") if c.paper.get(k))
    tasks = [s.id for s in specs().values() if c.answers(s.id, s.ability)]
    lines: Lines = [
        (f"method {c.id}", c.title),
        ("families", ", ".join(c.families) + f" (abilities {', '.join(c.abilities)})"),
        ("paper", "; ".join(p for p in (paper, where) if p)),
        ("uses", words(c.uses) or "nothing beside what the task gives"),
        ("trains on", c.trains_on + (f"; fitted per {c.fit_per}" if c.fit_per else "")),
        ("needs", words(c.needs)),
        ("stochastic", {"none": "no: one seed is run", "inference": "at inference", "fit": "in its fit"}[c.stochastic]),
        *((f"[{name}]", _preset(p or {})) for name, p in c.presets.items()),
        ("published", words(c.published)),
        *_claims(found := _verdicts(c.id)),
        ("tasks", ", ".join(tasks) or "none"),
        ("notes", c.notes),
        ("target", c.target),
        ("file", str(c.path)),
    ]
    return lines, {**dataclasses.asdict(c), "families": c.families, "answers": tasks, "verdicts": found}


def _verdicts(method: str) -> list[dict[str, Any]]:
    """Return what the records (of the default store, and the accepted ones) say to a method's claims."""
    from .board import gathered
    from .claims import verdicts

    return verdicts(gathered(store_path(None)), method)


def _claims(found: list[dict[str, Any]]) -> Lines:
    from .claims import sentence

    out: Lines = []
    for v in found:
        note = f"; {v['note']}" if v["note"] else ""
        out.append(("claim", f"{v['statement'].rstrip('.')}. {sentence(v)}{note}"))
    return out


def _preset(preset: Mapping[str, Any]) -> str:
    parts = [words(preset.get("set") or {})] + [f"on {pattern}: {words(values)}" for pattern, values in (preset.get("tasks") or {}).items()]
    settings = "; ".join(p for p in parts if p)
    return ": ".join(p for p in (preset.get("title"), settings) if p)


def _dataset(dataset_id: str) -> tuple[Lines, dict[str, Any]]:
    from ...datasets import registry
    from ...tasks.registry import specs

    d = registry.get(dataset_id)
    missing = d.missing()
    counts = {s: len(d.ids(s)) for s in d.splits} if missing is None else {}
    rights = {"redistribute": "may be redistributed", "display": "may be displayed in small previews", "never": "never leave the machine"}
    tasks = [s.id for s in specs().values() if s.dataset == dataset_id]
    lines: Lines = [
        (f"dataset {d.id} (version {d.version})", d.title),
        ("kind", d.kind + (", embedded (no download)" if d.embedded else ", read from $SCOREBENCH_DATA")),
        ("here", words(counts) if missing is None else missing),
        ("licence", f"{d.licence}; {'audio' if d.kind == 'audio' else 'pixels'} {rights[d.pixels]}"),
        ("source", d.source),
        ("citation", " ".join(d.citation.split())),
        ("tasks", ", ".join(tasks) or "none"),
    ]
    data = {
        "id": d.id, "version": d.version, "title": d.title, "kind": d.kind, "embedded": d.embedded, "here": missing is None,
        "missing": missing, "samples": counts, "licence": d.licence, "pixels": d.pixels, "source": d.source, "citation": d.citation,
        "tasks": tasks,
    }  # fmt: skip
    return lines, data


def _prior(prior_id: str) -> tuple[Lines, dict[str, Any]]:
    rows = {r["id"]: r for r in declared("priors")}
    if prior_id not in rows:
        raise unknown("prior", prior_id, rows)
    row = rows[prior_id]
    lines: Lines = [(f"prior {prior_id}", str(row.get("title", "")))]
    lines += [(k, words(v)) for k, v in row.items() if k not in ("id", "title")]
    pins = _shipped(prior_id)
    for pin in pins:
        curve = ", ".join(f"{step}: {loss:g}" for step, loss in pin.get("losses") or [])
        lines.append((f"shipped, seed {pin['seed']}", f"{pin['file']}, sha256 {pin['sha256']}; made by `{pin.get('command', '?')}`"))
        facts = f"{pin.get('params', 0):,} parameters, {pin.get('steps', 0):,} steps, {pin.get('train_s', 0):.0f} s"
        lines.append(("", facts + (f"; loss by step {curve}" if curve else "")))
    return lines, {**row, "shipped": pins}


def _shipped(owner: str) -> list[dict[str, Any]]:
    """Return the shipped weights of a prior, by seed."""
    from ...configs.loader import HERE, read

    file = HERE / "pins.yaml"
    entries = (read(file).data.get("pins") or []) if file.is_file() else []
    return sorted((e for e in entries if e.get("owner") == owner and e.get("kind") == "prior"), key=lambda e: e.get("seed", 0))


def _metric(name: str) -> tuple[Lines, dict[str, Any]]:
    from ...tasks.metrics import registry
    from ...tasks.registry import specs

    info = registry.info(name)
    tasks = [s.id for s in specs().values() if name in s.metrics]
    heading, *rest = registry.describe(name).splitlines()
    lines: Lines = [(f"metric {heading}", "")]
    for line in rest:  # "  label   text"
        label, _, text = line.strip().partition("  ")
        lines.append((label, text.strip()))
    facts = {label: text for label, text in lines[1:]}
    return [*lines, ("tasks", ", ".join(tasks) or "none")], {"id": name, "title": info.title, **facts, "tasks": tasks}


def _suite(name: str) -> tuple[Lines, dict[str, Any]]:
    from .. import suites

    s: Suite = suites.get(name)
    cells = [(f"cell {i}", f"{', '.join(c.variants)} on {', '.join(c.tasks)}; seeds {words(c.seeds)}") for i, c in enumerate(s.cells, 1)]
    return [(f"suite {s.id}", s.title), *cells, ("notes", s.notes), ("file", str(s.path))], dataclasses.asdict(s)


def _table(name: str) -> tuple[Lines, dict[str, Any]]:
    from .reproduce import show_table

    return show_table(name)


def _sweep(name: str) -> tuple[Lines, dict[str, Any]]:
    from .. import sweeps

    s = sweeps.get(name)
    size = s.size() if s.search != "bayes" else s.run_cap
    chosen = f"by {s.metric}, {'highest' if s.maximize else 'lowest'}" if s.metric else "nothing is chosen"
    agent = " ".join(s.command) if s.command else "no command: `wandb sweep` would not know what to run"
    lines: Lines = [
        (f"sweep {s.id}", s.notes or s.title),
        ("search", f"{s.search}, {'no bound on' if size is None else size} configurations, on the {s.split} split"),
        ("chosen", chosen),
        *((p.name, f"{p.distribution} {words(p.options) or words({i.name: i.options for i in p.inside})}") for p in s.parameters),
        ("early stop", words(s.early) if s.early else ""),
        ("wandb", agent),
        ("file", str(s.doc.path)),
    ]
    data = {
        "id": s.id, "search": s.search, "points": size, "split": s.split, "metric": s.metric, "tasks": s.tasks, "methods": s.methods,
        "parameters": {p.name: {"distribution": p.distribution, **p.options} for p in s.parameters}, "file": str(s.doc.path),
    }  # fmt: skip
    return lines, data


KINDS: dict[str, Callable[[str], tuple[Lines, dict[str, Any]]]] = {
    "task": _task, "method": _method, "dataset": _dataset, "prior": _prior, "metric": _metric, "suite": _suite, "table": _table,
    "sweep": _sweep,
}  # fmt: skip


def _known(kind: str) -> list[str]:
    if kind == "task":
        from ...tasks.registry import specs

        return list(specs())
    if kind == "method":
        from ...baselines.card import cards

        return list(cards())
    if kind == "dataset":
        from ...datasets import registry as datasets

        return datasets.known()
    if kind == "metric":
        from ...tasks.metrics import registry as metrics

        return metrics.known()
    if kind == "sweep":
        from ..sweeps import known

        return list(known())
    return [str(r["id"]) for r in declared(kind + "s")]


def kind_of(name: str) -> str:
    """Return the kind of thing ``name`` is; RequestError when nothing, or more than one thing, has that id."""
    plain = name.partition("[")[0]
    known = {kind: _known(kind) for kind in KINDS}
    hits = [kind for kind, ids in known.items() if plain in ids]
    hits = [kind for kind in hits if kind != "table"] or hits  # tables are named after methods; `show table ID` shows them
    if name.startswith("folder:"):
        return "dataset"
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise RequestError(
            f"{name!r} is a {' and a '.join(hits)}; say which: {' or '.join(f'`scorebench show {kind} {name}`' for kind in hits)}"
        )
    close = nearest(plain, [i for ids in known.values() for i in ids])
    near = f"did you mean {' or '.join(close)}?" if close else f"accepted: the id of a {', '.join(KINDS)}."
    raise RequestError(f"Unknown id {name!r}; {near}")


def render(lines: Lines, width: int = 120) -> str:
    """Return the description as text, labels in a column."""
    out = [": ".join(p for p in lines[0] if p)]
    pad = max(len(label) for label, _ in lines[1:]) + 2
    for label, text in lines[1:]:
        if text:
            first, rest = "  " + label.ljust(pad), " " * (pad + 2)
            text = " ".join(text.split())
            out.append(textwrap.fill(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False))
    return "\n".join(out)


@click.command("show")
@click.argument("words_", nargs=-1, required=True, metavar="[KIND] ID")
@include_option
@json_option
def show(words_: tuple[str, ...], include: tuple[Path, ...], as_json: bool) -> None:
    """Explain one task, method (or method[preset]), dataset, prior, metric, suite or table. KIND is guessed where it is left out."""
    include_folders(include)
    if len(words_) > 2:
        raise click.UsageError(f"Expected [KIND] ID, got {len(words_)} words: {' '.join(words_)}.")
    kind = words_[0].removesuffix("s") if len(words_) == 2 else kind_of(words_[0])
    if kind not in KINDS:
        raise RequestError(f"Unknown kind {words_[0]!r}; {hint(kind, KINDS)}")
    lines, data = KINDS[kind](words_[-1])
    if as_json:
        emit_json(data)
    else:
        click.echo(render(lines))
