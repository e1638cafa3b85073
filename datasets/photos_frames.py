"""Larger frames of the colour photographs: what the simulated cameras photograph, since noise estimation needs more than 96 pixels a side."""

from __future__ import annotations

from .base import Sample
from .photos import _pixels
from .photos_scenes import PhotosScenes

SIDE = 160
MOST = 4
"""Frames taken of one photograph at most."""


class PhotosFrames(PhotosScenes):
    """The colour photographs in frames. ``image``: float32 (3, 160, 160) in dev and test, (3, H, W) in train. Cluster: the scene.

    Same photographs, same split as ``photos-scenes``. Frames stand on a centred grid that does not overlap; where the grid has more than four
    cells, its first and last rows and columns are taken.
    """

    id = "photos-frames"
    title = "Colour photographs of scikit-image, scikit-learn and matplotlib, frames of 160 x 160"

    def _cells(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        rows, columns = (sorted({0, n // SIDE - 1}) for n in shape[:2])
        return [(r, c) for r in rows for c in columns][:MOST]

    def _ids(self, split: str) -> list[str]:
        photos = self._photos(split)
        if split == "train":
            return [p.name for p in photos]
        cells = {p.name: self._cells(_pixels(p).shape) for p in photos}
        return [f"{n}-f{c[k][0]}{c[k][1]}" for k in range(MOST) for n, c in cells.items() if k < len(c)]

    def _load(self, split: str, sample_id: str) -> Sample:
        name, _, cell = sample_id.partition("-f")
        photo = next(p for p in self._photos(split) if p.name == name)
        pixels = _pixels(photo)
        if cell:
            top, left = ((n % SIDE) // 2 + int(k) * SIDE for n, k in zip(pixels.shape[:2], cell, strict=True))
            pixels = pixels[top : top + SIDE, left : left + SIDE]
        return Sample(sample_id, photo.scene or photo.name, self._data(pixels))
