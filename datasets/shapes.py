"""Procedural 32 x 32 RGB scenes with everything known: one or two flat shapes on a plain background.

Every attribute can be read back from the pixels (`datasets.shapes_reader`), so a generated picture can be checked for what it shows, not
only for how it looks. Two objects never have the same size; the larger one is the main object and its kind is the label. Scenes are
assigned to splits by a hash of the scene itself, so no test picture occurs in train.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from .base import Dataset, Sample, as_image
from .keys import keyed, rank

if TYPE_CHECKING:
    import numpy as np

SIDE = 32
KINDS = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220),
    "yellow": (235, 205, 40), "magenta": (200, 60, 200), "cyan": (50, 200, 210),
}  # fmt: skip
BACKGROUNDS = {"dark": (24, 24, 28), "grey": (120, 120, 120), "light": (232, 232, 228)}
SIZES = {"small": 4, "medium": 6, "large": 8}
"""Name to half-width: an object of half-width R lies within (2R+1) x (2R+1) pixels about its centre."""
COUNTS = {"train": 10000, "dev": 1000, "test": 2000}
SHARES = {"train": (0.0, 0.8), "dev": (0.8, 0.9), "test": (0.9, 1.0)}
RELATIONS = {"right": "to the left of", "left": "to the right of", "down": "above", "up": "below"}
WORDS = tuple(sorted({*KINDS, *COLOURS, *BACKGROUNDS, *SIZES, "a", "on", "background", *" ".join(RELATIONS.values()).split()}))
"""Every word a caption can hold."""


@dataclass(frozen=True, order=True)
class Thing:
    """One object; ``x``, ``y`` are the pixel column and row of its centre."""

    kind: str
    colour: str
    size: str
    x: int
    y: int


@dataclass(frozen=True)
class Scene:
    """One picture: its background and its objects, the largest first."""

    background: str
    things: tuple[Thing, ...]

    @property
    def label(self) -> int:
        """The index in `KINDS` of the main object."""
        return KINDS.index(self.things[0].kind)

    def relation(self) -> str | None:
        """Return on which side of the first object the second lies, a key of `RELATIONS`; None unless there are two."""
        if len(self.things) != 2:
            return None
        a, b = self.things
        dx, dy = b.x - a.x, b.y - a.y
        return ("right" if dx > 0 else "left") if abs(dx) >= abs(dy) else ("down" if dy > 0 else "up")

    def caption(self) -> str:
        """Say the scene in words, e.g. 'a large red circle above a small blue cross on a dark background'."""
        words = [f"a {t.size} {t.colour} {t.kind}" for t in self.things]
        if (side := self.relation()) is not None:
            words.insert(1, RELATIONS[side])
        return f"{' '.join(words)} on a {self.background} background"


@cache
def template(kind: str, size: str) -> np.ndarray:
    """Return the coverage of one object, int64 (2R+1, 2R+1) in 0..16: how many of a pixel's 4 x 4 sub-pixels it covers."""
    import numpy as np

    half = SIZES[size]
    r = half - 0.3
    grid = (np.arange((2 * half + 1) * 4) + 0.5) / 4 - (half + 0.5)
    y, x = grid[:, None], grid[None, :]
    inside = {
        "circle": x**2 + y**2 <= r**2,
        "square": (abs(x) <= 0.85 * r) & (abs(y) <= 0.85 * r),
        "triangle": (y <= 0.8 * r) & (abs(x) * 1.8 <= 0.95 * (y + r)),
        "cross": ((abs(x) <= 0.33 * r) | (abs(y) <= 0.33 * r)) & (abs(x) <= r) & (abs(y) <= r),
    }[kind]
    n = 2 * half + 1
    return inside.reshape(n, 4, n, 4).sum((1, 3))


def window(thing: Thing) -> tuple[slice, slice]:
    """Return the rows and columns that the object's template covers."""
    half = SIZES[thing.size]
    return slice(thing.y - half, thing.y + half + 1), slice(thing.x - half, thing.x + half + 1)


def render(scene: Scene) -> np.ndarray:
    """Draw a scene: uint8 (32, 32, 3). Integer arithmetic throughout, so the bits are the same everywhere."""
    import numpy as np

    picture = np.empty((SIDE, SIDE, 3), dtype=np.int64)
    picture[:] = BACKGROUNDS[scene.background]
    for thing in scene.things:
        cover = template(thing.kind, thing.size)[..., None]
        rows, columns = window(thing)
        picture[rows, columns] = (picture[rows, columns] * (16 - cover) + np.array(COLOURS[thing.colour]) * cover + 8) // 16
    return picture.astype(np.uint8)


def masks(scene: Scene) -> np.ndarray:
    """Return which object each pixel belongs to, uint8 (32, 32): 0 background, 1 the first object, 2 the second (half covered counts)."""
    import numpy as np

    out = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for number, thing in enumerate(scene.things, 1):
        out[window(thing)][template(thing.kind, thing.size) >= 8] = number
    return out


def boxes(scene: Scene) -> np.ndarray:
    """Return tight boxes of `masks`, float32 (objects, 4): left, top, right, bottom, the last two exclusive."""
    import numpy as np

    drawn = masks(scene)
    out = []
    for number in range(1, len(scene.things) + 1):
        rows, columns = np.nonzero(drawn == number)
        out.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return np.array(out, dtype=np.float32)


@cache
def _places(*sizes: str) -> np.ndarray:
    """Return every placement of objects of these sizes with two pixels or more between them, int64 (placements, 2 * objects)."""
    import numpy as np

    spans = [range(SIZES[s], SIDE - SIZES[s]) for s in sizes for _ in "xy"]
    grid = np.stack(np.meshgrid(*map(np.array, spans), indexing="ij"), axis=-1).reshape(-1, len(spans))
    if len(sizes) == 2:
        reach = sum(SIZES[s] for s in sizes) + 1 + 2
        grid = grid[(abs(grid[:, :2] - grid[:, 2:]) >= reach).any(1)]
    return grid


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw one scene: one or two objects with equal probability, of different sizes; all other attributes uniform."""
    names, kinds, colours, backgrounds = list(SIZES), KINDS, list(COLOURS), list(BACKGROUNDS)
    n = 1 + int(rng.random() < 0.5)
    first, second, ground, *looks = (int(rng.random() * m) for m in (3, 2, len(backgrounds), *(len(kinds), len(colours)) * n))
    chosen = [first] if n == 1 else [first, (first + 1 + second) % 3]
    sizes = sorted((names[i] for i in chosen), key=lambda s: -SIZES[s])
    places = _places(*sizes)
    place = places[int(rng.random() * len(places))].tolist()
    return Scene(
        backgrounds[ground],
        tuple(
            Thing(kinds[looks[2 * i]], colours[looks[2 * i + 1]], size, *place[2 * i : 2 * i + 2]) for i, size in enumerate(sizes)
        ),
    )


@lru_cache(maxsize=65536)
def scene_of(version: int, split: str, index: int) -> Scene:
    """Return scene ``index`` of a split: the first scene drawn for it whose hash falls in the split's share."""
    rng = keyed("shapes", version, split, index)
    low, high = SHARES[split]
    while True:
        scene = draw_scene(rng)
        if low <= rank("shapes", scene) < high:
            return scene


class Shapes(Dataset):
    """Scenes of flat shapes. Cluster: the scene.

    ``image`` float32 (3, 32, 32); ``label`` int 0..3, index in `KINDS` of the main object; ``caption`` str; ``masks`` uint8 (32, 32);
    ``boxes`` float32 (objects, 4); ``scene`` the `Scene` with all attributes.
    """

    id = "shapes"
    title = "Procedural scenes 32x32 RGB: one or two shapes, all attributes known"
    kind = "image"
    licence = "CC0-1.0 (generated)"
    pixels = "redistribute"
    source = "generated, keyed by (id, version, split, index)"
    classes = len(KINDS)
    shape = (3, SIDE, SIDE)

    def _ids(self, split: str) -> list[str]:
        return [f"{split}-{i:05d}" for i in range(COUNTS[split])]

    def _load(self, split: str, sample_id: str) -> Sample:
        scene = scene_of(self.version, split, int(sample_id.rpartition("-")[2]))
        data = {
            "image": as_image(render(scene)), "label": scene.label, "caption": scene.caption(),
            "masks": masks(scene), "boxes": boxes(scene), "scene": scene,
        }  # fmt: skip
        return Sample(sample_id, sample_id, data)
