"""Tracks: what a method may use decides against whom it is ranked. They follow from the facts of the card, never from its claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def track_of(facts: Mapping[str, Any]) -> str:
    """Return the track that the facts (a card's ``uses``) put a method in: its distinguishing facts, joined by ' + ', or 'training-free'.

    The order is fixed, so equal facts give equal names. Knowing the noise level does not part tracks (the task says whether it is given),
    all else does. Clean pictures and labels are both supervision; *noisy pictures* are training pictures with one noisy copy each.
    """
    parts = []
    if facts.get("clean_images") or facts.get("labels"):
        parts.append("supervised")
    elif facts.get("second_noisy_copy"):
        parts.append("noisy pairs")
    elif facts.get("fresh_training_noise"):
        parts.append("fresh noise")
    elif facts.get("noisy_images"):
        parts.append("noisy pictures")
    if facts.get("sees_test_inputs"):
        parts.append("transductive")
    if weights := facts.get("external_weights"):
        names = sorted(map(str, weights)) if isinstance(weights, (list, tuple)) else [str(weights)]
        parts.append(f"external weights ({', '.join(names)})")
    return " + ".join(parts) or "training-free"
