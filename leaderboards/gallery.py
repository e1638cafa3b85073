"""The example pictures and sounds of one board: the same samples across methods, as data for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..configs.errors import RunError
from . import pictures, words
from .board import Board, Row

MOST_ROWS = 8
MOST_SAMPLES = 2
MOST_SECONDS = 6.0


@dataclass
class Figure:
    """One picture (``image``: PNG data URI, with its size in pixels) and, for sound, the ``audio`` it shows."""

    title: str
    caption: str = ""
    image: str = ""
    size: tuple[int, int] = (0, 0)
    audio: str = ""
    good: bool | None = None


@dataclass
class Strip:
    """Figures side by side, of one sample or one set."""

    title: str
    kind: str
    figures: list[Figure] = field(default_factory=list)
    reason: str = ""


@dataclass
class Gallery:
    """All strips of a board; ``note`` says why there is none, or what was left out."""

    strips: list[Strip] = field(default_factory=list)
    note: str = ""


def gallery(board: Board, most_rows: int = MOST_ROWS, most_samples: int = MOST_SAMPLES, extremes: bool = False) -> Gallery:
    """Return the examples of a board from its records' previews; none where the dataset's licence shows nothing.

    ``extremes``: beside ``most_samples`` samples that all rows show, the best row's own best, median and worst.
    """
    if board.meta.get("pixels", "never") == "never":
        return Gallery(note="The licence of this dataset allows no pictures or sounds to be shown.")
    rows = _rows(board, most_rows)
    loaded: list[tuple[Row, dict[str, np.ndarray]]] = []
    for row in rows:
        try:
            arrays = board.gathered.samples(row.group.first)
        except RunError:
            continue  # the board says what is wrong with a store; a page without one picture is still a page
        if any(name.startswith("preview/") for name in arrays):
            loaded.append((row, arrays))
    if not loaded:
        return Gallery(note="No examples: the records shown carry none. Running the task adds them.")
    kind = (board.meta.get("returns") or {}).get("kind") or _kind(loaded[0][1])
    if kind == "points":
        strips = _points(board, loaded)
    elif kind == "logits":
        strips = _logits(board, loaded)
    elif kind != "audio" and board.meta.get("ability") == "sample":
        strips = _samples(board, loaded)
    else:
        chosen = dict.fromkeys(_ids(loaded, most_samples), "")
        if extremes:
            chosen |= {i: f"{why} for {loaded[0][0].variant}" for i, why in _extremes(loaded[0][1]) if i not in chosen}
        strips = [_strip(board, loaded, i, why, kind == "audio") for i, why in chosen.items()]
    left = len(rows) - len(loaded)
    return Gallery(strips, f"{left} accepted row{'s' if left > 1 else ''} without examples." if left and strips else "")


def own_examples(board: Board, row: Row, most: int = 3) -> list[Strip]:
    """Return the best, median and worst sample of one row, each with what was given and the clean original; none where nothing is shown."""
    kind = (board.meta.get("returns") or {}).get("kind")
    shown = kind not in ("points", "logits") and board.meta.get("ability") != "sample"
    if board.meta.get("pixels", "never") == "never" or not shown:
        return []
    try:
        arrays = board.gathered.samples(row.group.first)
    except RunError:
        return []
    kind = kind or _kind(arrays)
    return [_strip(board, [(row, arrays)], i, why, kind == "audio") for i, why in _extremes(arrays)[:most]]


def _extremes(arrays: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Return (sample id, best | median | worst) of one row's stored examples, the best first."""
    ids, reasons = (arrays.get(name, np.array([])).tolist() for name in ("previews", "preview_reasons"))
    order = ("best", "median", "worst")
    found = [(str(i), str(why)) for i, why in zip(ids, reasons, strict=False) if why in order and f"preview/{i}/answer" in arrays]
    return sorted(found, key=lambda x: order.index(x[1]))


def _rows(board: Board, most: int) -> list[Row]:
    """Return the rows worth showing: the best, but always the reference and the do-nothing row."""
    ranked = [r for r in board.rows if not r.unranked]
    must = [r for r in (board.reference_row, board.do_nothing_row) if r is not None]
    keep = [r for r in ranked if all(r is not m for m in must)][: most - len(must)]
    shown = {id(r) for r in [*keep, *must]}
    return [r for r in ranked if id(r) in shown]


def _kind(arrays: Mapping[str, np.ndarray]) -> str:
    answer = next((a for n, a in arrays.items() if n.startswith("preview/") and n.endswith("/answer")), np.zeros((1, 1, 1)))
    return {1: "points", 2: "audio"}.get(answer.ndim, "image")


def _ids(loaded: Sequence[tuple[Row, Mapping[str, np.ndarray]]], most: int) -> list[str]:
    """Return sample ids to show: those most rows have a preview of, in their stored order."""
    count: dict[str, int] = {}
    for _, arrays in loaded:
        for name in arrays:
            if name.startswith("preview/") and name.endswith("/answer"):
                sample_id = name[len("preview/") : -len("/answer")]
                count[sample_id] = count.get(sample_id, 0) + 1
    order = {str(i): k for k, i in enumerate(loaded[0][1].get("previews", np.array([])).tolist())}
    return sorted(count, key=lambda i: (-count[i], order.get(i, len(order))))[:most]


def _preview(loaded: Sequence[tuple[Row, Mapping[str, np.ndarray]]], sample_id: str, role: str) -> np.ndarray | None:
    return next((a[f"preview/{sample_id}/{role}"] for _, a in loaded if f"preview/{sample_id}/{role}" in a), None)


def _score(board: Board, row: Row, arrays: Mapping[str, np.ndarray], sample_id: str) -> str:
    """Return the sample's own value of the primary metric, in words."""
    values = arrays.get(f"metric/{board.primary}")
    at = np.flatnonzero(arrays["ids"] == sample_id)
    if values is None or not len(at):
        return ""
    places = words.digits((board.meta["metrics"][board.primary] or {}).get("margin"), row.mean(board.primary))
    return f"{words.number(float(values[at[0]]), places)} {board.unit(board.primary)}".strip()


def _strip(board: Board, loaded: Sequence[tuple[Row, dict[str, np.ndarray]]], sample_id: str, reason: str, audio: bool) -> Strip:
    make = _sounds if audio else _images
    return Strip(sample_id, "audio" if audio else "image", make(board, loaded, sample_id), reason)


def _images(board: Board, loaded: Sequence[tuple[Row, dict[str, np.ndarray]]], sample_id: str) -> list[Figure]:
    clean, given = (_preview(loaded, sample_id, role) for role in ("clean", "given"))
    answers = [(row, a, a[f"preview/{sample_id}/answer"]) for row, a in loaded if f"preview/{sample_id}/answer" in a]
    low, high = pictures.span([x for x in [clean, *(a for _, _, a in answers)] if x is not None])
    figures = []
    for title, array in (("clean", clean), ("given", given)):
        if array is not None and array.ndim == 3 and array.shape[0] in (1, 3, 4):
            figures.append(_figure(title, "", pictures.pixels(array, low, high)))
    for row, arrays, answer in answers:
        shown = pictures.pixels(answer, low, high)
        given_is_answer = row is board.do_nothing_row and given is not None and given.shape == answer.shape
        if given_is_answer and given is not None and np.abs(pictures.pixels(given, low, high).astype(int) - shown).mean() < 1:
            next(f for f in figures if f.title == "given").caption = _score(board, row, arrays, sample_id)
            continue
        figures.append(_figure(row.variant, _score(board, row, arrays, sample_id), shown))
    return figures


def _figure(title: str, caption: str, image: np.ndarray) -> Figure:
    return Figure(title, caption, pictures.png(image), (image.shape[1], image.shape[0]))


def _summary(board: Board, row: Row) -> str:
    places = words.digits((board.meta["metrics"][board.primary] or {}).get("margin"), row.mean(board.primary))
    return f"{board.primary} {words.number(row.mean(board.primary), places)}"


def _samples(board: Board, loaded: Sequence[tuple[Row, dict[str, np.ndarray]]]) -> list[Strip]:
    strip = Strip("samples", "set")
    for row, arrays in loaded:
        answers = [arrays[f"preview/{i}/answer"] for i in _ids([(row, arrays)], 32)]
        low, high = pictures.span(answers)
        images = [pictures.pixels(a, low, high) for a in answers]
        columns = 8 if len(images) > 16 else 4
        strip.figures.append(_figure(row.variant, _summary(board, row), pictures.montage(images[: columns * 4], columns)))
    return [strip]


def _points(board: Board, loaded: Sequence[tuple[Row, dict[str, np.ndarray]]]) -> list[Strip]:
    sets: list[tuple[Row, np.ndarray]] = []
    for row, arrays in loaded:
        features = next((a for n, a in arrays.items() if n.startswith("features/") and a.ndim == 2 and a.shape[1] == 2), None)
        if features is None:  # without them the few previewed points must do
            features = np.stack([a for n, a in arrays.items() if n.startswith("preview/") and n.endswith("/answer")])
        sets.append((row, features.astype(np.float64)))
    box = pictures.bounds_of([p for _, p in sets])
    figures = [_figure(row.variant, _summary(board, row), pictures.density(p, box)) for row, p in sets]
    return [Strip(f"density of {len(sets[0][1]):,} points", "set", figures)]


def _sounds(board: Board, loaded: Sequence[tuple[Row, dict[str, np.ndarray]]], sample_id: str) -> list[Figure]:
    options = (board.meta.get("returns") or {}), (board.meta.get("options") or {})
    rate = int(next((o["sample_rate"] for o in options if o.get("sample_rate")), 16000))
    clean, given = (_preview(loaded, sample_id, role) for role in ("clean", "given"))
    top = float(pictures.stft_magnitude(clean.reshape(-1)).max()) if clean is not None else None
    parts: list[tuple[str, str, np.ndarray | None]] = [("clean", "", clean), ("given", "", given)]
    for row, arrays in loaded:
        answer = arrays.get(f"preview/{sample_id}/answer")
        if answer is None:
            continue
        if row is board.do_nothing_row and given is not None and np.array_equal(answer, given):
            parts[1] = ("given", _score(board, row, arrays, sample_id), given)
            continue
        parts.append((row.variant, _score(board, row, arrays, sample_id), answer))
    figures = []
    for title, caption, sound in parts:
        if sound is None:
            continue
        wave = sound.reshape(-1)[: int(MOST_SECONDS * rate)].astype(np.float32)
        figure = _figure(title, caption, pictures.spectrogram(wave, top))
        figure.audio = pictures.wav(wave, rate)
        figures.append(figure)
    return figures


def _logits(board: Board, loaded: Sequence[tuple[Row, dict[str, np.ndarray]]]) -> list[Strip]:
    """One strip per method: the pictures given, with the class it says and whether that is right."""
    strips = []
    ids = _ids(loaded, 8)
    for row, arrays in loaded:
        strip = Strip(f"{row.variant}: {_summary(board, row)}", "label")
        right = arrays.get("metric/accuracy")
        for sample_id in ids:
            given, logits = _preview(loaded, sample_id, "given"), arrays.get(f"preview/{sample_id}/answer")
            if given is None or logits is None:
                continue
            figure = _figure(f"says {int(np.argmax(logits))}", "", pictures.pixels(given))
            at = np.flatnonzero(arrays["ids"] == sample_id)
            if right is not None and len(at):
                figure.good = bool(right[at[0]] > 0.5)
                figure.caption = "right" if figure.good else "wrong"
            strip.figures.append(figure)
        strips.append(strip)
    return strips


def note_of(board: Board) -> dict[str, Any]:
    """Return, for the page's overview, the best ranked row and the do-nothing row's value."""
    best = next((r for r in board.rows if r.rank == 1), None)
    nothing = board.do_nothing_row
    return {
        "best": best.variant if best else None,
        "value": best.mean(board.primary) if best else None,
        "nothing": nothing.mean(board.primary) if nothing else None,
    }
