"""The last night of a store, kept as a file, and what publishing makes of it: a W&B run, with an alert when the night was alarming."""

from __future__ import annotations

import json
from pathlib import Path

from ..configs.loader import write_atomic
from .gate_night import Finding, Night
from .gate_report import cost_sentence, markdown, sentence
from .wandb_plan import MOST_ROWS, Content, Output, RunPlan, TablePlan, content_version, digest, scalars, tags

TITLE, TEXT = 63, 1500
"""Characters that W&B takes in an alert's title, and that a mail still shows of its text."""
COLUMNS = ("verdict", "against", "task", "budget", "variant", "metric", "tier", "was", "now", "change", "margin", "p", "in words")


def save(night: Night, store: Path) -> Path:
    """Keep a night as STORE/nightly/last.json, which `last` reads."""
    path = store / "nightly" / "last.json"
    write_atomic(path, json.dumps(night.data(), indent=1, default=str).encode())
    return path


def last(store: Path) -> Night | None:
    """Return the store's last night; None where there was none or its file is damaged."""
    try:
        return Night.read(json.loads((store / "nightly" / "last.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def alert(night: Night) -> tuple[str, str] | None:
    """Return title and text of the alert that a night deserves, None when nothing got worse."""
    if not night.failed():
        return None
    text = "\n".join([*(sentence(f) for f in night.alarms()), *(cost_sentence(c) for c in night.slower)])
    title = night.headline()
    return title if len(title) <= TITLE else title[: TITLE - 3] + "...", text if len(text) <= TEXT else text[: TEXT - 4] + " ..."


def night_plans(store: Path) -> list[RunPlan]:
    """Return the run that publishes the store's last night (none where there was none): counts, findings as a table, the report, the alert.

    ``run.alert`` waits for no answer, so it works offline too, and is sent by ``wandb sync``.
    """
    night = last(store)
    if night is None:
        return []
    mark = digest(night.data(), 16)

    def make() -> Content:
        files: dict[str, bytes | Path] = {"nightly.md": markdown(night).encode(), "nightly.json": json.dumps(night.data(), indent=1).encode()}
        content = Content(tables={"findings": TablePlan(COLUMNS, [_row(f) for f in night.findings][:MOST_ROWS])})
        content.outputs.append(Output(f"nightly-{night.suite}", "nightly", files, night.counts(), content_version(files), night.headline()))
        raised = alert(night)
        content.alerts += [raised] if raised else []
        return content

    summary = scalars({"alarm": night.failed(), "alarms": len(night.alarms()), **{f"count/{k}": n for k, n in night.counts().items()}})
    families = dict.fromkeys(f.task.split("/")[0] for f in night.findings)
    return [
        RunPlan(
            f"nightly-{night.suite}-{mark}"[:64], f"nightly {night.suite}", "nightly", "nightly", tags(*families), {"suite": night.suite},
            summary, (mark,), (), night.headline(), make,
        )
    ]  # fmt: skip


def _row(f: Finding) -> tuple[str | float | None, ...]:
    return (
        f.verdict, f.against, f.task, f.budget, f.variant, f.metric or "", f.tier, f.was, f.now, f.change, f.margin, f.p, sentence(f),
    )  # fmt: skip
