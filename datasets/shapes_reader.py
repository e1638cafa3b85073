"""Read a `shapes` picture back: which objects, colours, sizes and places its pixels show.

Exact on every clean picture, and unchanged by small noise. On a generated picture it returns the nearest reading, and ``error`` says how far
the picture is from a clean drawing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from .shapes import BACKGROUNDS, COLOURS, KINDS, SIDE, SIZES, Scene, Thing, render, template

if TYPE_CHECKING:
    import numpy as np

SMALLEST = 12
"""Connected regions of fewer pixels are specks, not objects (the smallest object, a small triangle, covers 27)."""


@dataclass(frozen=True)
class Reading:
    """What was read. ``error``: root mean square difference between the picture and a clean drawing of ``scene``, in [0, 1] units."""

    scene: Scene
    error: float


def read(image: np.ndarray) -> Reading:
    """Read one picture, float (3, 32, 32) in [0, 1]. The scene may hold no object, or more than two, if that is what is shown."""
    import numpy as np
    from scipy.ndimage import binary_erosion, label

    pixels = np.moveaxis(np.asarray(image, dtype=np.float64), 0, -1) * 255
    if pixels.shape != (SIDE, SIDE, 3):
        raise ValueError(f"expected one picture (3, {SIDE}, {SIDE}), got {np.shape(image)}")
    colours = np.array(list(COLOURS.values()), dtype=np.float64)
    background = _background(pixels)
    ground = np.array(BACKGROUNDS[background], dtype=np.float64)
    # coverage of each pixel under each colour: its projection on the line from background to colour
    lines = colours - ground
    cover = np.clip(np.einsum("hwc,kc->khw", pixels - ground, lines) / (lines**2).sum(1)[:, None, None], 0, 1)
    misfit = ((pixels - ground - cover[..., None] * lines[:, None, None]) ** 2).sum(-1)
    best = misfit.argmin(0)
    shown = np.take_along_axis(cover, best[None], 0)[0] >= 0.4
    regions, count = label(shown, structure=np.ones((3, 3)))
    things = []
    for number in range(1, count + 1):
        region = regions == number
        if region.sum() < SMALLEST:
            continue
        core = binary_erosion(region)
        inside = pixels[core if core.any() else region].mean(0)
        colour = int(((colours - inside) ** 2).sum(1).argmin())
        things.append(_fit(region, cover[colour], list(COLOURS)[colour]))
    things.sort(key=lambda t: (-SIZES[t.size], t.y, t.x))
    scene = Scene(background, tuple(things))
    error = float(np.sqrt(((render(scene) - pixels) ** 2).mean())) / 255
    return Reading(scene, error)


def _background(pixels: np.ndarray) -> str:
    """Return the background nearest to most pixels."""
    import numpy as np

    grounds = np.array(list(BACKGROUNDS.values()), dtype=np.float64)
    every = np.concatenate([grounds, np.array(list(COLOURS.values()), dtype=np.float64)])
    nearest = ((pixels[..., None, :] - every) ** 2).sum(-1).argmin(-1)
    votes = np.bincount(nearest.ravel(), minlength=len(every))[: len(grounds)]
    return list(BACKGROUNDS)[int(votes.argmax())]


@cache
def _stack(size: str) -> np.ndarray:
    """Return the coverage of every kind at one size, float64 (kinds, 2R+1, 2R+1) in [0, 1]."""
    import numpy as np

    return np.stack([template(kind, size) for kind in KINDS]) / 16


def _fit(region: np.ndarray, cover: np.ndarray, colour: str) -> Thing:
    """Return the object whose drawn coverage is nearest to what a region shows (least squares over kind, size and place)."""
    import numpy as np

    rows, columns = np.nonzero(region)
    near = np.zeros_like(region)
    near[max(rows.min() - 1, 0) : rows.max() + 2, max(columns.min() - 1, 0) : columns.max() + 2] = True
    seen = np.where(near, cover, 0.0)
    total = (seen**2).sum()
    middle_y, middle_x = (rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2
    best, out = np.inf, None
    for size, half in SIZES.items():
        shapes = _stack(size)
        energy = (shapes**2).sum((1, 2))
        for y in range(max(middle_y - 3, half), min(middle_y + 3, SIDE - half - 1) + 1):
            for x in range(max(middle_x - 3, half), min(middle_x + 3, SIDE - half - 1) + 1):
                patch = seen[y - half : y + half + 1, x - half : x + half + 1]
                distance = total + energy - 2 * (shapes * patch).sum((1, 2))
                kind = int(distance.argmin())
                if distance[kind] < best:
                    best, out = distance[kind], Thing(KINDS[kind], colour, size, int(x), int(y))
    if out is None:  # a region at the rim that no object could be centred in: the nearest place an object can be
        half = SIZES["small"]
        out = Thing(KINDS[0], colour, "small", int(np.clip(middle_x, half, SIDE - half - 1)), int(np.clip(middle_y, half, SIDE - half - 1)))
    return out
