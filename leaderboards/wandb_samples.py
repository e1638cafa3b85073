"""The per-sample table of a row, with pictures or sounds where the dataset's licence allows, and the arrays that may leave the machine."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np

from ..configs.errors import RunError
from . import pictures
from .arrays import pack
from .board import Board, Row
from .record import Record
from .wandb_plan import MOST_ROWS, Cell, Content, Picture, Sound, TablePlan

ROLES = ("given", "answer", "clean")
LONGEST = 10.0
"""Seconds of a sound that are shown."""


def shows(pixels: str) -> bool:
    """Return whether small pictures and sounds of a dataset may be shown: ``redistribute`` and ``display`` may, ``never`` may not."""
    return pixels in ("redistribute", "display")


def portable(arrays: Mapping[str, np.ndarray], pixels: str) -> dict[str, np.ndarray]:
    """Return the arrays of a samples file that may leave the machine.

    Ids, clusters, metric values and diagnostics always; previews only of datasets that may be redistributed. Whole answers (``sample/``),
    features and intermediates stay at home: they are large, and answers to restricted pictures show them.
    """
    groups = {"ids", "clusters", "metric", "diagnostic"} | ({"preview", "previews", "preview_reasons"} if pixels == "redistribute" else set())
    return {name: array for name, array in arrays.items() if name.partition("/")[0] in groups}


def loaded(board: Board, records: Sequence[Record]) -> list[tuple[Record, dict[str, np.ndarray]]]:
    """Return the records whose samples can be read, with their arrays."""
    out = []
    for record in records:
        try:
            out.append((record, board.gathered.samples(record)))
        except RunError:
            continue  # a failed or damaged one: the board's notes say so, and its summary is published all the same
    return out


def samples_table(board: Board, row: Row, parts: Sequence[tuple[Record, Mapping[str, np.ndarray]]]) -> TablePlan | None:
    """Return one line per sample: id, cluster, metrics (means over the units), and what was given, answered and hidden, of the first unit
    that kept it. Samples with pictures come first; at most `MOST_ROWS` lines, the rest is in the results."""
    if not parts:
        return None
    ids = [str(i) for i in parts[0][1]["ids"]]
    place = {i: k for k, i in enumerate(ids)}
    clusters = [str(c) for c in parts[0][1]["clusters"]]
    metrics = [m for m in board.metrics if any(f"metric/{m}" in a for _, a in parts)]
    values = {m: _means(m, parts, place) for m in metrics}
    media = _media(board, parts, place) if shows(board.meta.get("pixels", "never")) else {}
    kinds = [k for k in ("given", "answer", "clean", "given spectrogram", "answer spectrogram", "clean spectrogram", "says") if k in media]
    order = sorted(range(len(ids)), key=lambda k: not any(ids[k] in media[kind] for kind in kinds))[:MOST_ROWS]
    rows: list[tuple[Cell, ...]] = []
    for k in order:
        numbers = [float(values[m][k]) if np.isfinite(values[m][k]) else None for m in metrics]
        rows.append((ids[k], clusters[k], *numbers, *(media[kind].get(ids[k]) for kind in kinds)))
    return TablePlan(("sample", "cluster", *metrics, *kinds), rows)


def _means(metric: str, parts: Sequence[tuple[Record, Mapping[str, np.ndarray]]], place: Mapping[str, int]) -> np.ndarray:
    total, count = np.zeros(len(place)), np.zeros(len(place))
    for _, arrays in parts:
        column = arrays.get(f"metric/{metric}")
        if column is None:
            continue
        at = np.array([place.get(str(i), -1) for i in arrays["ids"]])
        total[at[at >= 0]] += column[at >= 0]
        count[at[at >= 0]] += 1
    return np.divide(total, count, out=np.full(len(place), np.nan), where=count > 0)


def _media(
    board: Board, parts: Sequence[tuple[Record, Mapping[str, np.ndarray]]], place: Mapping[str, int]
) -> dict[str, dict[str, Cell]]:
    """Return cells by column and sample id, of the first unit that has a preview of the sample."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for _, arrays in parts:
        for name, array in arrays.items():
            if name.startswith("preview/"):
                sample_id, _, role = name.removeprefix("preview/").rpartition("/")
                if role in ROLES and sample_id in place:
                    found.setdefault(sample_id, {}).setdefault(role, array)
    out: dict[str, dict[str, Cell]] = {}
    for sample_id, by_role in found.items():
        floats = [by_role[r] for r in ("answer", "clean") if r in by_role and by_role[r].ndim == 3]
        low, high = pictures.span(floats) if floats else (0.0, 1.0)
        for role, array in by_role.items():
            for column, cell in _cells(board, role, array, low, high).items():
                out.setdefault(column, {})[sample_id] = cell
    return out


def _cells(board: Board, role: str, array: np.ndarray, low: float, high: float) -> dict[str, Cell]:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        own = pictures.span([array]) if role == "given" else (low, high)
        return {role: Picture(pictures.pixels(array, *own))}
    if array.ndim == 2 and (board.meta.get("returns") or {}).get("kind") == "audio":
        wave = array.reshape(-1)[: int(LONGEST * rate(board))].astype(np.float32)
        return {role: Sound(decoded(pictures.wav(wave, rate(board)))), f"{role} spectrogram": Picture(pictures.spectrogram(wave))}
    if board.meta.get("ability") == "logits" and role == "answer":
        return {"says": str(int(np.argmax(array)))}
    return {}


def rate(board: Board) -> int:
    """Return the sample rate of a task whose answers are sounds."""
    options = (board.meta.get("returns") or {}), (board.meta.get("options") or {})
    return int(next((o["sample_rate"] for o in options if o.get("sample_rate")), 16000))


def decoded(uri: str) -> bytes:
    """Return the bytes of a data URI."""
    return base64.b64decode(uri.partition(",")[2])


def units_table(board: Board, records: Sequence[Record]) -> TablePlan:
    """Return one line per unit: seed, draw, metrics, cost, ids."""
    costs = [c for c in ("nfe", "params", "train_s", "sample_s_median", "peak_mb") if any(r["cost"].get(c) is not None for r in records)]
    rows: list[tuple[Cell, ...]] = []
    for r in records:
        metrics = [(r["metrics"].get(m) or {}).get("value") for m in board.metrics]
        prior = next((a.get("seed") for role, a in r["artifacts"].items() if role != "fit" and isinstance(a, Mapping)), None)
        cost = [None if r["cost"].get(c) is None else float(r["cost"][c]) for c in costs]
        rows.append((int(r["seed"]), int(r["draw"]), prior, *metrics, *cost, r["unit_id"], r["environment_key"], r.get("written") or ""))
    columns = ("seed", "draw", "prior seed", *board.metrics, *costs, "unit_id", "environment", "written")
    keep = [k for k, c in enumerate(columns) if any(row[k] is not None for row in rows)]
    return TablePlan(tuple(columns[k] for k in keep), [tuple(row[k] for k in keep) for row in rows])


def points_picture(board: Board, parts: Sequence[tuple[Record, Mapping[str, np.ndarray]]]) -> Picture | None:
    """Return the density of the answered points of the first unit, for tasks whose answers are points in the plane."""
    if (board.meta.get("returns") or {}).get("kind") != "points" or not shows(board.meta.get("pixels", "never")):
        return None
    for _, arrays in parts:
        features = next((a for n, a in arrays.items() if n.startswith("features/") and a.ndim == 2 and a.shape[1] == 2), None)
        if features is not None:
            points = features.astype(np.float64)
            return Picture(pictures.density(points, pictures.bounds_of([points])), f"density of {len(points):,} points")
    return None


def row_content(board: Board, row: Row, records: Sequence[Record]) -> tuple[Content, dict[str, bytes]]:
    """Return a row's tables and pictures, and the packed arrays of its results by file name."""
    parts = loaded(board, records)
    content = Content(tables={"units": units_table(board, records)})
    table = samples_table(board, row, parts)
    if table is not None:
        content.tables["samples"] = table
    if (density := points_picture(board, parts)) is not None:
        content.media["density"] = density
    pixels = board.meta.get("pixels", "never")
    files = {f"samples/{r['unit_id']}.npz": pack(portable(arrays, pixels)) for r, arrays in parts}
    return content, files
