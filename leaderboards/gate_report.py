"""A night as text: for the terminal and Markdown (one renderer), and as JUnit XML for a CI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree as xml

from .gate_night import ALARMS, MEANING, Cost, Finding, Night

QUIET = ("equal", "cached")
"""Verdicts that are counted and not listed."""
MOST = 30
"""Findings of one verdict that a report lists."""
_CONTROL = {c: None for c in range(32) if c not in (9, 10, 13)}


def number(value: float | None, near: float | None = None) -> str:
    """Return a value with the digits its margin makes sensible."""
    if value is None or math.isnan(value):
        return "-"
    places = 4 if not near else max(2, min(6, 2 - math.floor(math.log10(near))))
    return f"{value:.{places}f}"


def sentence(f: Finding) -> str:
    """Return a finding in words: what was, what is, by how much, how sure, and which samples moved."""
    if f.was is None or f.now is None or f.metric is None:
        return f"{f.cell}{f' ({f.metric})' if f.metric else ''}: {f.why}" if f.why else f.cell
    unit = f" {f.unit}" if f.unit else ""
    layer = "" if f.against == "last accepted" else f" of the {f.against}"
    text = f"{f.cell}: {f.metric} {number(f.was, f.margin)} -> {number(f.now, f.margin)}{unit}"
    text += f" ({f.change:+.{_places(f)}f}, margin {f.margin:.3g}){layer}"
    if f.tier == "frozen":
        text += f"; same weights, {f.moved} of {f.n} values moved"
    elif f.tier in ("retrained", "redrawn"):
        text += f"; {f.tier}, {f.seeds[0]} seeds against {f.seeds[1]}"
        text += f", p {f.p:.2g}" if f.p is not None else ", spread between seeds unknown"
    if f.fresh:
        seeds = f"{len(f.fresh['seeds'])} fresh seeds"
        text += f"; {seeds}: {f.fresh['change']:+.{_places(f)}f}, p {f.fresh['p']:.2g}"
    if f.samples and f.verdict not in QUIET:
        text += "; most moved: " + ", ".join(f"{i} {number(a, f.margin)} -> {number(b, f.margin)}" for i, a, b in f.samples[:3])
    if f.settings:
        text += f"; settings changed: {', '.join(f.settings[:4])}"
    return text + (f"; {f.why}" if f.why else "")


def _places(f: Finding) -> int:
    return max(2, min(6, 2 - math.floor(math.log10(f.margin)))) if f.margin else 4


def cost_sentence(c: Cost) -> str:
    """Return a cost in words."""
    budget = "" if c.budget == "default" else f" {c.budget}"
    text = f"{c.variant} on {c.task}{budget}: {c.what} {c.was:.4g} -> {c.now:.4g}, {c.ratio:.2f} times"
    return text if c.counted else f"{text} after the machine's pace (bar {c.bar:.2f})"


def lines(night: Night, markdown: bool = False) -> list[str]:
    """Return the report: headline, counts, then what was found, verdict by verdict."""
    head, bullet = ("# ", "- ") if markdown else ("", "  ")
    out = [f"{head}{night.headline()}", ""]
    counts = ", ".join(f"{n} {v}" for v, n in night.counts().items())
    out += [f"{counts or 'Nothing to compare'}.", *night.notes]
    if night.pace is not None and not 0.9 < night.pace < 1.1:
        out.append(f"The median cell takes {night.pace:.2f} times the reference's seconds: that is the machine's pace, and taken out.")
    for verdict, meaning in MEANING.items():
        if verdict == "slower":
            entries = [cost_sentence(c) for c in sorted(night.slower, key=lambda c: -c.ratio)]
        elif verdict in QUIET:
            continue
        else:
            entries = [sentence(f) for f in night.of(verdict)]
        if entries:
            title = meaning[0].upper() + meaning[1:]
            out += ["", f"## {title}" if markdown else title, *(["" ] if markdown else [])]
            out += [bullet + (escape(e) if markdown else e) for e in entries[:MOST]]
            if len(entries) > MOST:
                out.append(f"{bullet}and {len(entries) - MOST} more")
    if quicker := [c for c in night.costs if not c.slower]:
        title = "Quicker or cheaper"
        out += ["", f"## {title}" if markdown else title, *([""] if markdown else []), *(bullet + cost_sentence(c) for c in quicker[:MOST])]
    return out


def escape(text: str) -> str:
    """Return ``text`` with what Markdown and HTML would interpret made plain."""
    for sign, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("*", "\\*"), ("_", "\\_"), ("`", "\\`"), ("[", "\\[")):
        text = text.replace(sign, instead)
    return text


def markdown(night: Night) -> str:
    """Return the report in Markdown."""
    return "\n".join(lines(night, markdown=True)) + "\n"


def junit(night: Night, also: Sequence[str] = ()) -> str:
    """Return JUnit XML: a suite per task, a case per cell, metric and layer; alarms are failures, suspicions are skipped."""
    root = xml.Element("testsuites", name=night.suite)
    tasks: dict[str, list[tuple[str, str, str, str]]] = {}
    for f in night.findings:
        parts = (f.variant, "" if f.budget == "default" else f.budget, f.metric or "", "" if f.against == "last accepted" else f.against)
        name = " ".join(x for x in parts if x)
        kind = "failure" if f.verdict in (*ALARMS, *also) else "skipped" if f.verdict in ("suspect", "new", "incomparable") else ""
        tasks.setdefault(f.task, []).append((name, f.verdict, kind, sentence(f)))
    for c in night.slower:
        kind = "failure" if "slower" in also else ""
        tasks.setdefault(c.task, []).append((f"{c.variant} {c.what}", "slower", kind, cost_sentence(c)))
    for task, cases in sorted(tasks.items()):
        kinds = [k for _, _, k, _ in cases]
        counts = {"tests": len(cases), "failures": kinds.count("failure"), "skipped": kinds.count("skipped"), "errors": 0}
        suite = xml.SubElement(root, "testsuite", {"name": clean(task), **{k: str(v) for k, v in counts.items()}})
        for name, verdict, kind, text in cases:
            case = xml.SubElement(suite, "testcase", classname=clean(task), name=clean(name))
            if kind:
                xml.SubElement(case, kind, {"message": clean(f"{verdict}: {text}"), **({"type": verdict} if kind == "failure" else {})})
            else:
                xml.SubElement(case, "system-out").text = clean(f"{verdict}: {text}")
    xml.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def clean(text: str) -> str:
    """Return ``text`` without the control characters that XML cannot hold."""
    return text.translate(_CONTROL)
