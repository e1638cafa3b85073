"""The last night of a store, kept as a file, and the alert that publishing it raises in Weights & Biases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..configs.loader import write_atomic
from .gate_night import Night
from .gate_report import cost_sentence, sentence

LENGTH = 1500
"""Characters of an alert; mails and Slack cut longer ones."""


def save(night: Night, store: Path) -> Path:
    """Keep a night as STORE/nightly/last.json, which `alert` reads."""
    path = store / "nightly" / "last.json"
    write_atomic(path, json.dumps(night.data(), indent=1, default=str).encode())
    return path


def last(store: Path) -> Night | None:
    """Return the store's last night; None where there was none or its file is damaged."""
    try:
        return Night.read(json.loads((store / "nightly" / "last.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def alert(run: Any, night: Night) -> bool:
    """Raise an alert on a W&B ``run`` when the night is alarming; return whether it was raised.

    ``run.alert`` is queued by the client and needs no answer, so it works offline, and is sent by ``wandb sync``.
    """
    found = [sentence(f) for f in night.alarms()] or []
    if not night.failed():
        return False
    found += [cost_sentence(c) for c in night.slower]
    text = "\n".join(found)
    run.alert(title=night.headline()[:250], text=text if len(text) <= LENGTH else text[:LENGTH] + " ...", level="ERROR")
    return True


def alert_last(run: Any, store: Path) -> bool:
    """Raise the alert of the store's last night, if it was alarming. For `publish`."""
    night = last(store)
    return night is not None and alert(run, night)
