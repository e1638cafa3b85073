"""Document pages, 160 x 256 grey: headings, paragraphs, lists and tables, set in the fonts of matplotlib (DejaVu, STIX, Computer Modern).

Pages are clean; what ages, folds or photographs them belongs to the task. Sentences of train, dev and test do not overlap.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Dataset, Sample, as_image
from .keys import keyed, rank
from .pages_text import HEADINGS, SENTENCES

if TYPE_CHECKING:
    import numpy as np
    from PIL.ImageFont import FreeTypeFont

HEIGHT, WIDTH = 160, 256
COUNTS = {"train": 120, "dev": 8, "test": 24}
FONTS = (
    "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Italic.ttf", "DejaVuSansMono.ttf",
    "STIXGeneral.ttf", "STIXGeneralItalic.ttf", "cmr10.ttf",
)  # fmt: skip
HEADING_FONTS = ("DejaVuSans-Bold.ttf", "DejaVuSerif-Bold.ttf", "STIXGeneralBol.ttf")


def _folder() -> Path | None:
    spec = find_spec("matplotlib")
    return Path(spec.origin).parent / "mpl-data/fonts/ttf" if spec is not None and spec.origin else None


@cache
def _font(name: str, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    folder = _folder()
    assert folder is not None
    return ImageFont.truetype(str(folder / name), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def sentences(split: str) -> tuple[str, ...]:
    """Return the sentences of a split: by hash, 60 % train, 15 % dev, 25 % test."""
    order = sorted(SENTENCES, key=lambda s: rank("pages", s))
    cuts = {"train": (0.0, 0.6), "dev": (0.6, 0.75), "test": (0.75, 1.0)}[split]
    return tuple(order[round(cuts[0] * len(order)) : round(cuts[1] * len(order))])


class _Sheet:
    """A page being set, line by line."""

    def __init__(self, rng: np.random.Generator) -> None:
        from PIL import Image, ImageDraw

        self.rng = rng
        self.ink = int(rng.integers(0, 60))
        self.image = Image.new("L", (WIDTH, HEIGHT), 255)
        self.pen = ImageDraw.Draw(self.image)
        self.y = float(rng.integers(6, 14))
        self.left, self.right = int(rng.integers(8, 17)), WIDTH - int(rng.integers(8, 17))
        self.lines: list[str] = []

    def pick(self, options: tuple[Any, ...]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def line(self, text: str, font: FreeTypeFont, x: float | None = None, lead: float = 1.25) -> bool:
        """Set one line; False when the page is full."""
        if self.y + font.size > HEIGHT - 4:
            return False
        self.pen.text((self.left if x is None else x, round(self.y)), text, fill=self.ink, font=font)
        self.lines.append(text)
        self.y += font.size * lead
        return True

    def paragraph(self, text: str, font: FreeTypeFont, indent: int = 0) -> bool:
        """Set ``text`` with line breaks between words; False when the page is full."""
        words, line, first = text.split(), "", True
        while words or line:
            room = self.right - self.left - (indent if first else 0)
            while words and self.pen.textlength(f"{line} {words[0]}".strip(), font=font) <= room:
                line = f"{line} {words.pop(0)}".strip()
            if not line:  # one word wider than the column is set anyway
                line = words.pop(0)
            if not self.line(line, font, self.left + (indent if first else 0)):
                return False
            line, first = "", False
        return True

    def rule(self) -> None:
        """Draw a horizontal line across the column."""
        if self.y < HEIGHT - 8:
            self.pen.line((self.left, round(self.y) + 2, self.right, round(self.y) + 2), fill=self.ink)
            self.y += 7

    def table(self, font: FreeTypeFont, rows: int) -> None:
        """Draw a small ruled table of numbers."""
        width = (self.right - self.left) // 4
        for _ in range(rows):
            if self.y + font.size + 6 > HEIGHT - 4:
                break
            top, cells = round(self.y), [f"{self.rng.integers(1, 10000) / 10:.1f}" for _ in range(4)]
            for i, cell in enumerate(cells):
                self.pen.rectangle((self.left + i * width, top, self.left + (i + 1) * width, top + font.size + 5), outline=self.ink)
                self.pen.text((self.left + i * width + 4, top + 2), cell, fill=self.ink, font=font)
            self.lines.append(" ".join(cells))
            self.y += font.size + 5
        self.y += 6


def render(split: str, key: str, version: int) -> tuple[np.ndarray, str]:
    """Set the page ``key``: uint8 (160, 256), white paper 255, and its text, one line per line set."""
    import numpy as np

    sheet = _Sheet(keyed("pages", version, split, key))
    rng = sheet.rng
    body = _font(sheet.pick(FONTS), int(rng.integers(10, 15)))
    if rng.random() < 0.6:
        sheet.line(sheet.pick(HEADINGS), _font(sheet.pick(HEADING_FONTS), int(rng.integers(15, 20))), lead=1.4)
        if rng.random() < 0.4:
            sheet.rule()
    stock = list(sentences(split))
    while sheet.y + body.size <= HEIGHT - 4:
        kind = rng.random()
        if kind < 0.15:
            sheet.table(_font("DejaVuSans.ttf", 10), int(rng.integers(2, 4)))
        elif kind < 0.3:
            for _ in range(int(rng.integers(2, 4))):
                sheet.paragraph("- " + sheet.pick(tuple(stock)), body)
        else:
            chosen = rng.permutation(len(stock))[: int(rng.integers(1, 4))]
            sheet.paragraph(" ".join(stock[i] for i in chosen), body, indent=12)
            sheet.y += 4
    return np.asarray(sheet.image), "\n".join(sheet.lines)


class Pages(Dataset):
    """Clean document pages. ``image``: float32 (1, 160, 256), ink dark on white; ``text``: str, the lines set. Cluster: the page."""

    id = "pages"
    title = "Document pages 160x256 set in bundled fonts"
    kind = "image"
    licence = "CC0-1.0 (text and layout); fonts: DejaVu (Bitstream Vera licence), STIX (OFL-1.1), Computer Modern (public domain, BaKoMa)"
    pixels = "redistribute"
    source = "rendered with Pillow from the fonts in the installed matplotlib (mpl-data/fonts/ttf), keyed by (id, version, split, page)"
    libraries = ("numpy", "pillow", "matplotlib")
    shape = (1, HEIGHT, WIDTH)

    def files(self) -> list[Path]:
        """Return the font files."""
        folder = _folder()
        return [] if folder is None else [p for n in (*FONTS, *HEADING_FONTS) if (p := folder / n).is_file()]

    def missing(self) -> str | None:
        """Return None when all fonts are here, else one sentence."""
        folder = _folder()
        for name in (*FONTS, *HEADING_FONTS):
            if folder is None or not (folder / name).is_file():
                return f"dataset 'pages' needs the font {name} of matplotlib, which is not here; `pip install matplotlib` restores it."
        return None

    def _ids(self, split: str) -> list[str]:
        return [f"{split}-{i:04d}" for i in range(COUNTS[split])]

    def _load(self, split: str, sample_id: str) -> Sample:
        pixels, text = render(split, sample_id, self.version)
        return Sample(sample_id, sample_id, {"image": as_image(pixels), "text": text})
